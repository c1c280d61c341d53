"""docs/openapi.yaml is what `make openapi` writes, is valid, and says everything about every operation."""

import re
import typing
from pathlib import Path

import pytest
import yaml
from openapi_spec_validator import validate

from dev.openapi import DOCUMENT, text
from shared import errors
from shared.api.operations import COMMON_ERRORS, OPERATIONS
from shared.web.manifest import functions
from shared.web.openapi import Schemas, document, refusals
from trainshed import answers as client_answers

DESCRIBED = yaml.safe_load(DOCUMENT.read_text())
API_PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()
OPERATIONS_BY_ROUTE = {
    f"{method.upper()} {path}": operation
    for path, operations in DESCRIBED["paths"].items()
    for method, operation in operations.items()
}


def resolved(node):
    """Follow a reference inside the document."""
    if "$ref" not in node:
        return node
    found = DESCRIBED
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text() == text(), "run `make openapi`"


def test_the_document_is_valid():
    validate(DESCRIBED)


def test_every_function_has_an_operation_and_none_is_left_over():
    assert set(OPERATIONS) == {function.target for function in functions().values()}


def test_every_route_is_described_once():
    routes = {f"{route.method} {route.pattern}" for function in functions().values() for route in function.routes}
    assert set(OPERATIONS_BY_ROUTE) == routes | {"GET /_health"}
    ids = [operation["operationId"] for operation in OPERATIONS_BY_ROUTE.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("route", OPERATIONS_BY_ROUTE)
def test_an_operation_says_everything(route):
    operation = OPERATIONS_BY_ROUTE[route]
    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert "security" in operation
    for parameter in operation["parameters"]:
        assert parameter["description"].endswith(".")
    for status, answer in operation["responses"].items():
        response = resolved(answer)
        assert response["description"]
        assert "X-Request-Id" in response["headers"]
        if int(status) >= 400:
            problem = response["content"]["application/problem+json"]
            codes = problem["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert codes
            assert set(problem["examples"]) == set(codes)


def test_every_member_of_a_request_is_described():
    schemas = DESCRIBED["components"]["schemas"]
    bodies = {kind.__name__ for one in OPERATIONS.values() for kind in (one.body, one.form) if kind}
    for name in bodies:
        for member, schema in schemas[name]["properties"].items():
            assert schema.get("description", "").endswith("."), f"{name}.{member}"


def test_every_error_can_be_answered_by_some_operation():
    answered = set().union(*map(refusals, functions().values()))

    def kinds(kind):
        return {kind}.union(*map(kinds, kind.__subclasses__()))

    # What is the parent of others, and what the platform answers to another method.
    never = {errors.ServiceError, errors.ConflictError, errors.MethodNotAllowedError}
    assert kinds(errors.ServiceError) - never == answered


class TestThePageInWords:
    """docs/api.md names, for each route, the errors that the description does."""

    HEADING = re.compile(r"^### (.+)$", re.MULTILINE)

    def test_errors_of_a_route_are_those_of_the_description(self):
        common = {kind.code for kind in COMMON_ERRORS}
        parts = self.HEADING.split(API_PAGE)[1:]
        for heading, part in zip(parts[::2], parts[1::2], strict=True):
            named = set()
            for sentence in re.findall(r"Errors(?: of all three)?: ([^\n]+(?:\n(?!\n|```)[^\n]+)*)", part):
                named |= set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", sentence.partition("; `invalid_field`")[0]))
            for route in heading.split(", "):
                operation = OPERATIONS[route_target(route)]
                own = {kind.code for kind in operation.refuses}
                assert named <= own | common, (route, named - own)


def route_target(route):
    method, pattern = route.split(" ", 1)
    return next(
        function.target
        for function in functions().values()
        for one in function.routes
        if (one.method, one.pattern) == (method, pattern)
    )


class TestThePythonClient:
    """The client stands alone, so it has types of its own; what they promise is what the description says."""

    @pytest.mark.parametrize("name", [name for name, kind in vars(client_answers).items() if typing.is_typeddict(kind)])
    def test_its_answers_are_those_of_the_description(self, name):
        promised = getattr(client_answers, name)
        described = DESCRIBED["components"]["schemas"][name]
        members = described["properties"]
        hints = typing.get_type_hints(promised)
        assert set(hints) <= set(members)
        assert promised.__required_keys__ <= set(described["required"])
        schemas = Schemas()
        for member, hint in hints.items():
            assert kinds_of(members[member], DESCRIBED) <= kinds_of(
                schemas.of(hint), {"components": {"schemas": schemas.named}}
            ), f"{name}.{member}"


def kinds_of(schema, whole):
    """Return the JSON types that a schema allows, and the values of an enumeration."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        target = whole["components"]["schemas"][name]
        return kinds_of(target, whole)
    if "anyOf" in schema:
        return set().union(*(kinds_of(one, whole) for one in schema["anyOf"]))
    if "const" in schema:
        return kinds_of_values([schema["const"]])
    if "enum" in schema:
        return kinds_of_values(schema["enum"])
    if "type" not in schema:
        return {"string", "integer", "number", "boolean", "null", "object", "array"}
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return set(types) | ({"integer"} if "number" in types else set())


def kinds_of_values(values):
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return {names[type(value)] for value in values}


def test_the_document_made_twice_is_the_same():
    assert document() == document()
