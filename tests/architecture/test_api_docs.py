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
