"""The list of functions is true: each has its code, its requirements, its place in the documentation."""

import importlib
import re
import tomllib
from pathlib import Path
from types import FunctionType

import pytest

from shared import errors
from shared.assembly import LEASE_S
from shared.web import endpoint
from shared.web.manifest import Function, functions

ROOT = Path(__file__).resolve().parents[2]
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
CODES = sorted({kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")})
CALLERS = {"user", "user_or_service", "scheduler", "task", "anyone"}


@pytest.fixture(params=functions().values(), ids=lambda function: function.name)
def function(request: pytest.FixtureRequest) -> Function:
    return request.param


def main_of(source: str):
    return importlib.import_module(f"functions.{source}.main")


def is_endpoint(value: object) -> bool:
    is_from_there = isinstance(value, FunctionType) and value.__code__.co_filename == endpoint.__file__
    return is_from_there and value is not endpoint.endpoint


def test_a_function_has_its_target(function):
    assert is_endpoint(getattr(main_of(function.source), function.target))


@pytest.mark.parametrize("source", sorted({function.source for function in functions().values()}))
def test_every_endpoint_of_a_file_is_in_the_manifest(source):
    found = {name for name, value in vars(main_of(source)).items() if is_endpoint(value)}

    assert found == {function.target for function in functions().values() if function.source == source}


def test_import_linter_knows_every_area():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert set(layers[0].split(" | ")) == {f"functions.{function.source}" for function in functions().values()}


def test_no_two_functions_share_a_target_or_a_route():
    targets = [function.target for function in functions().values()]
    routes = [
        (route.method, re.sub(r"{\w+}", "{}", route.pattern))
        for function in functions().values()
        for route in function.routes
    ]

    assert len(set(targets)) == len(targets)
    assert len(set(routes)) == len(routes)


def test_a_functions_requirements_are_compiled_with_hashes_and_without_addresses(function):
    file = ROOT / "requirements" / f"{function.requirements}.txt"

    assert function.requirements in GROUPS
    text = file.read_text()
    pinned = re.findall(r"^[a-z0-9][\w.-]*(?:\[[\w,-]+\])?==[^\s;]+", text, re.MULTILINE | re.IGNORECASE)
    assert pinned
    assert text.count("--hash=sha256:") >= len(pinned)
    assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links", text)


def test_every_bundle_runs_the_versions_that_the_tests_ran(function):
    def versions(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        found = re.findall(r"^([a-z0-9][\w.-]*)(?:\[[\w,-]+\])?==([^\s;\\]+)", text, re.MULTILINE | re.IGNORECASE)
        return dict(found)

    tested = versions("dev")
    assert {name: tested.get(name) for name in versions(function.requirements)} == versions(function.requirements)


def test_a_function_is_called_by_a_known_kind_of_caller_within_the_platforms_limits(function):
    """https://cloud.google.com/run/docs/configuring/request-timeout and .../memory-limits"""
    assert function.caller in CALLERS
    assert 1 <= function.timeout_s <= 3600
    assert 128 <= function.memory_mib <= 32768
    assert 1 <= function.concurrency <= 1000


@pytest.mark.parametrize("name", ["assemble-upload", "upload-chunk", "finalize-session"])
def test_a_lease_outlives_who_holds_it(name):
    assert functions()[name].timeout_s < LEASE_S


@pytest.mark.parametrize("code", CODES)
def test_every_error_is_documented(code):
    assert f"`{code}`" in (ROOT / "docs" / "api.md").read_text()


def test_every_route_is_documented(function):
    text = (ROOT / "docs" / "api.md").read_text()

    for route in function.routes:
        assert f"{route.method} {route.pattern}" in text
