"""docs/api.md names every route and every error code, and no other."""

import re
from pathlib import Path

import yaml

from shared import errors

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docs/api.md").read_text()


def routes_of_the_manifest():
    entries = yaml.safe_load((REPOSITORY / "functions/manifest.yaml").read_text()).values()
    return {
        route
        for entry in entries
        for route in ([entry["route"]] if isinstance(entry["route"], str) else entry["route"])
    }


def all_subclasses(kind):
    return {kind}.union(*map(all_subclasses, kind.__subclasses__()))


def test_every_route_has_a_heading():
    headings = re.findall(r"^### (.+)$", TEXT, re.MULTILINE)
    assert {route for heading in headings for route in heading.split(", ")} == routes_of_the_manifest()


def test_every_error_code_is_listed_with_its_status():
    listed = {}
    for codes, status, *_ in re.findall(r"^\| (`.+?`) \| (\d{3})(, retryable)? \|", TEXT, re.MULTILINE):
        listed |= dict.fromkeys(re.findall(r"`([a-z_]+)`", codes), int(status))
    assert listed == {kind.code: kind.status for kind in all_subclasses(errors.ServiceError)}


def test_errors_that_pass_are_listed_as_retryable():
    rows = re.findall(r"^\| (`.+?`) \| \d{3}, retryable \|", TEXT, re.MULTILINE)
    listed = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row)}
    assert listed == {kind.code for kind in all_subclasses(errors.ServiceError) if kind.retryable}


def test_routes_name_only_codes_there_are():
    codes = {kind.code for kind in all_subclasses(errors.ServiceError)}
    for paragraph in re.findall(r"Errors: ([^\n]+(?:\n[^\n]+)*)", TEXT):
        named = re.findall(r"`([a-z]+_[a-z_]+)`", paragraph.partition("; `invalid_field`")[0])
        assert named
        assert set(named) <= codes


def test_every_operation_is_shown_with_curl():
    blocks = "\n".join(re.findall(r"^```sh.*?\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    # From one curl to the next, or to the end of the block: a body may go over several lines.
    commands = re.split(r"\bcurl ", blocks)[1:]
    shown = set()
    for words in commands:
        address = re.search(r"(?:\$api|localhost:\d+)(/[^\s\"?|)]*)", words)
        # A signed address has no path here.
        if address:
            named = re.search(r"-X (\w+)", words)
            method = named[1] if named else "POST" if re.search(r" -[dF] ", words) else "GET"
            shown.add((method, re.sub(r"\$\w+|to-be-deleted|nothing-here", "{}", address[1])))
    paths = yaml.safe_load((REPOSITORY / "docs/openapi.yaml").read_text())["paths"]
    assert shown == {
        (method.upper(), re.sub(r"{\w+}", "{}", path))
        for path, operations in paths.items()
        for method in operations.keys() & {"get", "post", "put", "patch", "delete"}
    }
