"""The description of the API, OpenAPI 3.1, made of the manifest, the operations, and the types they name.

`make openapi` writes it to docs/openapi.yaml.
"""

import inspect
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from shared import errors
from shared.api.answers import Health, Problem
from shared.api.operations import COMMON_ERRORS, OPERATIONS, Operation
from shared.api.types import SessionName, Uuid
from shared.web.manifest import HEALTH_PATH, Function, Route, functions

VERSION = "1"
_JSON = "application/json"
_PROBLEM = "application/problem+json"
_PRIMITIVES: Mapping[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
_PATH_VARIABLES: Mapping[str, tuple[Any, str]] = {
    "session_id": (SessionName, "The client's own name for the session."),
    "upload_id": (Uuid, "Of the upload."),
}
_SUCCESSES = {
    200: "Done.",
    201: "Made.",
    202: "Accepted; ask again.",
    302: "The file lies at a short-lived address.",
    304: "The client's copy is still right (`If-None-Match`).",
}
_USER, _KEY, _MACHINE = ({name: list[str]()} for name in ("userToken", "secretKey", "machineToken"))
_CALLERS = {
    "user": [_USER],
    "user_or_service": [_USER, _KEY],
    "scheduler": [_MACHINE],
    "task": [_MACHINE],
    "anyone": [],
}
_SECURITY_SCHEMES = {
    "userToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Access token of a signed-in user of Supabase Auth.",
    },
    "secretKey": {
        "type": "apiKey",
        "in": "header",
        "name": "apikey",
        "description": "The project's secret key, for the product's own backend alone.",
    },
    "machineToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "OIDC token of the service account of Cloud Scheduler or Cloud Tasks.",
    },
}
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Finds the lines of this request in the log.",
        "required": True,
        "schema": {"type": "string", "examples": ["4bf92f3577b34da6a3ce929d0e0e4736"]},
    },
    "Retry-After": {
        "description": "When to try again [s], where that is known.",
        "schema": {"type": "integer", "minimum": 0, "examples": [2]},
    },
    "Location": {
        "description": "Where the file is, or the new thing; relative to the address of the request.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "ETag": {
        "description": "Changes when the file does; send it as If-None-Match.",
        "required": True,
        "schema": {"type": "string", "examples": ['"9f86d081884c7d65"']},
    },
    "WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}},
}
# Answers of these can say when to come again.
_RETRIED = {202, 409, 429, 503}
_ABOUT = """\
Trainshed takes in data sets of any size, trains models on them and hands the models out.

* In the cloud each function also has a URL of its own, which the path follows.
* A success is `{"success": true, "data": {...}}`. An error is `application/problem+json` (RFC 9457) with a stable
  `code`; `retryable` says whether the same request can succeed later, after `Retry-After` where it is given.
* `X-Request-Id` of every answer finds its lines in the log.
* Somebody else's session, upload or model answers as one that does not exist.
* Another method than those listed is a 405 with `Allow`, another path a 404. GET also answers HEAD.
* The bytes of files go from the client straight into the bucket and from it, by signed addresses.
"""


def document() -> dict[str, Any]:
    """Return the whole description."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for function in functions().values():
        for route in function.routes:
            described = _operation(function, route, schemas)
            paths.setdefault(route.pattern, {})[route.method.lower()] = described
    paths[HEALTH_PATH] = {"get": _health(schemas)}
    schemas.of(Problem)
    kinds = set().union(*map(refusals, functions().values()))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Trainshed",
            "version": VERSION,
            "summary": "Serverless training of machine-learning models.",
            "description": _ABOUT,
        },
        "servers": [{"url": "/api/training", "description": "The front door, and the local stack."}],
        "tags": [{"name": tag} for tag in dict.fromkeys([*(one.tag for one in OPERATIONS.values()), "Operation"])],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.named.items())),
            "responses": _shared_refusals(paths),
            "examples": {kind.code: _problem_example(kind) for kind in sorted(kinds, key=lambda kind: kind.code)},
            "headers": _HEADERS,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _health(schemas: "Schemas") -> dict[str, Any]:
    return {
        "operationId": "health",
        "tags": ["Operation"],
        "summary": "Ask whether a function takes requests",
        "description": "Every function answers this at its own URL, without a token and without asking anybody else.",
        "servers": [{"url": "https://{function}.example", "variables": {"function": {"default": "get-session"}}}],
        "security": [],
        "parameters": [],
        "responses": {
            "200": _success(200, Health, schemas),
            "500": _refusal(500, [errors.InternalError]),
        },
    }


def operation_id(function: Function, route: Route) -> str:
    """Return the target's name; of a function's further routes with their method."""
    is_first = route == function.routes[0]
    return function.target if is_first else f"{function.target}_by_{route.method.lower()}"


def _operation(function: Function, route: Route, schemas: "Schemas") -> dict[str, Any]:
    operation = OPERATIONS[function.target]
    described: dict[str, Any] = {
        "operationId": operation_id(function, route),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "security": _CALLERS[function.caller],
        "parameters": [*_path_parameters(route, schemas), *_query_parameters(operation, schemas)],
    }
    if operation.body:
        described["requestBody"] = _request_body(operation, operation.body, schemas)
    described["responses"] = _responses(function, route, schemas)
    return described


def _path_parameters(route: Route, schemas: "Schemas") -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_VARIABLES[name][1],
            "schema": schemas.of(_PATH_VARIABLES[name][0]),
        }
        for name in re.findall(r"{(\w+)}", route.pattern)
    ]


def _query_parameters(operation: Operation, schemas: "Schemas") -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    parameters = []
    for name, schema in schemas.members(operation.query).items():
        is_required = name in operation.query.__required_keys__
        described: dict[str, Any] = {"name": name, "in": "query", "required": is_required}
        if "description" in schema:
            described["description"] = schema.pop("description")
        parameters.append({**described, "schema": schema})
    return parameters


def _request_body(operation: Operation, body: Any, schemas: "Schemas") -> dict[str, Any]:
    content = {_JSON: schemas.content(body, is_open=operation.is_lenient)}
    if operation.form:
        content["multipart/form-data"] = schemas.content(operation.form, is_open=True)
    return {"required": bool(body.__required_keys__), "content": content}


def _responses(function: Function, route: Route, schemas: "Schemas") -> dict[str, Any]:
    operation = OPERATIONS[function.target]
    responses: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        responses[str(status)] = _success(status, answer, schemas)
    if operation.files:
        described = responses.setdefault("200", _response(_SUCCESSES[200], 200, {}))
        described.setdefault("content", {})
        for media_type in operation.files:
            content = described["content"]
            # A drawing's specification is JSON of its own, beside the usual answer.
            content[media_type] = (
                {"schema": {"anyOf": [content[media_type]["schema"], {"type": "object"}]}}
                if (media_type in content)
                else {"schema": {}}
            )
        described["headers"]["ETag"] = {**_HEADERS["ETag"], "required": False}
        responses["304"] = _response(_SUCCESSES[304], 304, {}, "ETag")
    if operation.redirects:
        responses["302"] = _response(_SUCCESSES[302], 302, {}, "Location")
    if operation.answers:
        first = responses[str(next(iter(operation.answers)))]
        if operation.is_resource:
            first["headers"]["Location"] = {"$ref": "#/components/headers/Location"}
        if operation.links:
            first["links"] = _links(operation)
    for status, kinds in _refusals(function, route).items():
        responses[str(status)] = _refusal(status, kinds)
    return dict(sorted(responses.items()))


def _success(status: int, answer: Any, schemas: "Schemas") -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["success", "data"],
        "properties": {"success": {"const": True}, "data": schemas.of(answer)},
    }
    return _response(_SUCCESSES[status], status, {_JSON: {"schema": body}})


def _response(description: str, status: int, content: Mapping[str, Any], *headers: str) -> dict[str, Any]:
    names = ["X-Request-Id", *headers, *(["Retry-After"] if status in _RETRIED else [])]
    response: dict[str, Any] = {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    return response | ({"content": dict(content)} if content else {})


def refusals(function: Function) -> set[type[errors.ServiceError]]:
    """Return every error that a function can answer to a request of one of its routes."""
    kinds = {*COMMON_ERRORS, *OPERATIONS[function.target].refuses}
    if function.caller != "anyone":
        kinds.add(errors.UnauthenticatedError)
    if function.caller in {"scheduler", "task"}:
        kinds.add(errors.ForbiddenError)
    if any("{" in route.pattern for route in function.routes):
        # A variable with a slash in it makes another path.
        kinds.add(errors.NotFoundError)
    return kinds


def _refusals(function: Function, route: Route) -> dict[int, list[type[errors.ServiceError]]]:
    by_status: dict[int, list[type[errors.ServiceError]]] = {}
    for kind in sorted(refusals(function), key=lambda kind: (kind.status, kind.code)):
        if kind is errors.NotFoundError and "{" not in route.pattern:
            continue
        by_status.setdefault(kind.status, []).append(kind)
    return by_status


def _refusal(status: int, kinds: Sequence[type[errors.ServiceError]]) -> dict[str, Any]:
    narrowed = {
        "allOf": [
            {"$ref": "#/components/schemas/Problem"},
            {"properties": {"status": {"const": status}, "code": {"enum": [kind.code for kind in kinds]}}},
        ]
    }
    examples = {kind.code: {"$ref": f"#/components/examples/{kind.code}"} for kind in kinds}
    text = "\n".join(f"* `{kind.code}`: {_first_line(kind)}" for kind in kinds)
    headers = ["WWW-Authenticate"] if status == 401 else []
    return _response(text, status, {_PROBLEM: {"schema": narrowed, "examples": examples}}, *headers)


def _shared_refusals(paths: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Put a reference in the place of every refusal that is the same in several operations; return those."""
    found: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for operation in (operation for path in paths.values() for operation in path.values()):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                codes = response["content"][_PROBLEM]["examples"]
                name = "Or".join("".join(word.capitalize() for word in code.split("_")) for code in codes)
                found.setdefault(name, []).append((operation["responses"], status))
    shared = {name: places for name, places in found.items() if len(places) > 1}
    named = {name: places[0][0][places[0][1]] for name, places in shared.items()}
    for name, places in shared.items():
        for responses, status in places:
            responses[status] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(named.items()))


def _problem_example(kind: type[errors.ServiceError]) -> dict[str, Any]:
    text = _first_line(kind)
    value: Problem = {
        "type": f"urn:trainshed:error:{kind.code}",
        "title": text,
        "status": kind.status,
        "detail": text,
        "instance": "/...",
        "code": kind.code,
        "retryable": kind.retryable,
        "request_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "details": {},
        "success": False,
        "error": text,
    }
    return {"value": value}


def _links(operation: Operation) -> dict[str, Any]:
    links = {}
    for target, values in operation.links.items():
        body = OPERATIONS[target].body
        in_body = {name for name in values if body and name in body.__annotations__}
        expressions = {name: f"$response.body#/data/{place}" for name, place in values.items()}
        link: dict[str, Any] = {"operationId": target}
        if parameters := {name: value for name, value in expressions.items() if name not in in_body}:
            link["parameters"] = parameters
        if in_body:
            link["requestBody"] = {name: expressions[name] for name in in_body}
        links[target] = link
    return links


@dataclass
class Schemas:
    """Makes JSON Schemas of Python types; TypedDicts and enumerations are named and made once.

    Attributes:
        named: What `#/components/schemas` holds, so far.
    """

    named: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: Any, *, is_open: bool = False) -> dict[str, Any]:
        """Return the schema of a type.

        Args:
            kind: A primitive, a collection, a union, a literal, an enumeration or a TypedDict, also Annotated.
            is_open: Of a TypedDict of a request: it may have members that are not listed, as every answer may.

        Raises:
            TypeError: There is no schema for such a type.
        """
        if kind is Any:
            return {}
        if kind in _PRIMITIVES:
            return {"type": _PRIMITIVES[kind]}
        if is_typeddict(kind):
            return self._named(kind.__name__, lambda: self._object(kind, is_open=is_open))
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return self._named(kind.__name__, lambda: _enumeration(kind))
        return self._of_parts(kind, get_origin(kind), get_args(kind))

    def _of_parts(self, kind: Any, origin: Any, parts: tuple[Any, ...]) -> dict[str, Any]:
        if origin is Annotated:
            keywords: dict[str, Any] = parts[1].keywords
            return self.of(parts[0]) | keywords
        if origin is NotRequired:
            return self.of(parts[0])
        if origin is Literal:
            return {"const": parts[0]}
        if origin in {Union, types.UnionType}:
            return _union([self.of(part) for part in parts])
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(parts[1])}
        if isinstance(origin, type) and issubclass(origin, Iterable):
            return {"type": "array", "items": self.of(parts[0])}
        raise TypeError(f"There is no schema for {kind}.")

    def content(self, kind: Any, *, is_open: bool) -> dict[str, Any]:
        """Return the schema of a request's TypedDict, with an example made of its members' examples."""
        members = self.members(kind)
        example = {name: schema["examples"][0] for name, schema in members.items() if "examples" in schema}
        schema = self.of(kind, is_open=is_open)
        return {"schema": schema, "example": example} if kind.__required_keys__ <= set(example) else {"schema": schema}

    def members(self, kind: Any) -> dict[str, dict[str, Any]]:
        """Return the schemas of a TypedDict's members, with what its docstring says of them."""
        texts = _attribute_texts(kind)
        described = {}
        for name, hint in get_type_hints(kind, include_extras=True).items():
            schema = self.of(hint)
            if name in texts:
                # Beside a reference, a text says what the reference does not.
                schema = {"description": texts[name]} | schema
            described[name] = schema
        return described

    def _object(self, kind: Any, *, is_open: bool) -> dict[str, Any]:
        is_request = kind.__module__.startswith("shared.api.requests")
        schema: dict[str, Any] = {"type": "object"}
        if text := _about(kind):
            schema["description"] = text
        schema["properties"] = self.members(kind)
        if required := [name for name in schema["properties"] if name in kind.__required_keys__]:
            schema["required"] = required
        if is_request and not is_open:
            schema["additionalProperties"] = False
        return schema

    def _named(self, name: str, make: Any) -> dict[str, Any]:
        if name not in self.named:
            self.named[name] = {}
            self.named[name] = make()
        return {"$ref": f"#/components/schemas/{name}"}


def _union(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join schemas; what is a plain type or null stays one schema."""
    null = {"type": "null"}
    others = [schema for schema in schemas if schema != null]
    if len(others) == 1 and isinstance(others[0].get("type"), str) and len(schemas) == 2:
        merged = others[0] | {"type": [others[0]["type"], "null"]}
        return merged | ({"enum": [*merged["enum"], None]} if "enum" in merged else {})
    return {"anyOf": list(schemas)}


def _enumeration(kind: type[StrEnum]) -> dict[str, Any]:
    return {"type": "string", "description": _about(kind), "enum": [member.value for member in kind]}


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n", 1)[0]


def _about(kind: type) -> str:
    """Return a docstring without the sections of its members."""
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:")[0].replace("\n", " ")


def _attribute_texts(kind: type) -> dict[str, str]:
    """Return what docstrings in Google's form say of members, also those of base classes."""
    texts: dict[str, str] = {}
    for base in [*getattr(kind, "__orig_bases__", ()), kind]:
        if base is not kind and is_typeddict(base):
            texts |= _attribute_texts(base)
    section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    for name, text in re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE):
        texts[name] = re.sub(r"\s+", " ", text)
    return texts
