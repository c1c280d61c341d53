"""The edge of every function: route, caller, body, answer. The only place where errors become answers.

A target is written as a view from a `Call` to a `Reply`; `@endpoint` makes it a plain function that the functions
framework can serve, and looks up its route and caller in the manifest by the view's name.
"""

import functools
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Request, Response
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from shared.errors import (
    InternalError,
    InvalidFieldError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    ServiceError,
    TooLargeError,
)
from shared.records import Caller
from shared.settings import allowed_origins, auth_settings, supabase_settings
from shared.web.auth import Authenticator
from shared.web.logs import write_log
from shared.web.manifest import Function, function_of

# The front door and old clients put this before every route; without it a path follows the function's own URL.
BASE_PATH = "/api/training"
LONGEST_JSON_BYTES = 1 << 20
# Cloud Run takes no larger request: https://cloud.google.com/run/quotas
LONGEST_BODY_BYTES = 32 << 20
# Of a body that is too large; who sends more than that meets a closed connection.
DISCARDED_BYTES = 256 << 20
# Of a field that a client made up.
LONGEST_NAME_SHOWN = 64
_PROBLEM_TYPE = "urn:trainshed:error:"
# What supabase-js and our own client send.
_REQUEST_HEADERS = "Authorization, Content-Type, apikey, x-client-info"
_SAFE_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{8,64}")


@dataclass(frozen=True)
class Reply:
    """What a view answers: the status and the `data` of a success, or a place to go to."""

    status: int
    data: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def redirect(cls, url: str) -> "Reply":
        """Send the client to a short-lived URL, which nobody may keep."""
        return cls(302, {}, {"Location": url, "Cache-Control": "no-store"})


class Call:
    """A request whose route matched and whose caller was verified."""

    def __init__(self, request: Request, caller: Caller, path: Mapping[str, str]) -> None:
        self.request = request
        self.caller = caller
        self.path = path

    def body(self, *required: str, optional: Sequence[str] = ()) -> dict[str, Any]:
        """Return the JSON object of the request.

        Raises:
            InvalidRequestError: The body is missing, not JSON or not an object.
            InvalidFieldError: A field is missing or unknown.
            TooLargeError: It has more than 1 MiB.
        """
        document = self._document()
        for name in required:
            if document.get(name) is None:
                raise InvalidFieldError(name, "is missing")
        for name in document:
            if name not in required and name not in optional:
                raise InvalidFieldError(name[:LONGEST_NAME_SHOWN], "is not a known field")
        return {name: value for name, value in document.items() if value is not None}

    def _document(self) -> dict[str, Any]:
        if (self.request.content_length or 0) > LONGEST_JSON_BYTES:
            raise TooLargeError("A JSON body may have 1 MiB.")
        content = self.request.get_data()
        if len(content) > LONGEST_JSON_BYTES:
            raise TooLargeError("A JSON body may have 1 MiB.")
        if not content.strip():
            raise InvalidRequestError("Send a JSON object as the body.")
        try:
            document = json.loads(content, parse_constant=_refuse_constant)
        # A deeply nested document exhausts the parser's stack before it is any use to us.
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError("The body is not valid JSON.") from error
        if not isinstance(document, dict):
            raise InvalidRequestError("The body must be a JSON object.")
        return document

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the request with whatever fields old clients send.

        Raises:
            InvalidRequestError: The body is missing, not JSON or not an object.
            TooLargeError: It has more than 1 MiB.
        """
        return self._document()

    def optional_body(self, *optional: str) -> dict[str, Any]:
        """Return the JSON object of the request, or an empty one where there is no body."""
        if not self.request.content_length and "chunked" not in self.request.headers.get("Transfer-Encoding", ""):
            return {}
        return self.body(optional=optional)

    def query(self, *known: str) -> dict[str, str]:
        """Return the query parameters that were given.

        Raises:
            InvalidFieldError: One is unknown, or given twice.
        """
        given = self.request.args.to_dict(flat=False)
        for name, values in given.items():
            if name not in known:
                raise InvalidFieldError(name[:LONGEST_NAME_SHOWN], "is not a known parameter")
            if len(values) > 1:
                raise InvalidFieldError(name, "is given more than once")
        return {name: values[0] for name, values in given.items()}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


View = Callable[[Call], Reply]


def endpoint(view: View) -> Callable[[Request], Response]:
    """Make a view a function target.

    Args:
        view: Takes a verified call, returns a reply, raises ServiceErrors.

    Returns:
        A plain function from a Flask request to a response; it answers every path and method itself.
    """

    @functools.wraps(view)
    def target(request: Request) -> Response:
        started = time.monotonic()
        request_id = _request_id(request)
        caller: Caller | None = None
        failure: BaseException | None = None
        try:
            function = function_of(view.__name__)
            if request.method == "OPTIONS":
                response = Response(status=204)
            else:
                path = _match(function, request)
                caller = _authenticator().authenticate(
                    {name.lower(): value for name, value in request.headers.items()}, function.caller
                )
                _check_length(request)
                response = _success(view(Call(request, caller, path)))
        except ServiceError as error:
            failure = error
            response = _problem(error, request, request_id)
        except RequestEntityTooLarge as error:
            failure = error
            response = _problem(TooLargeError("A request may have 32 MiB."), request, request_id)
        except HTTPException as error:
            failure = error
            response = _problem(InvalidRequestError("The request cannot be read."), request, request_id)
        # The one edge: whatever else happens, the client learns nothing but the id that finds the log line.
        except Exception as error:  # noqa: BLE001
            failure = error
            response = _problem(InternalError(), request, request_id)
        if response.status_code == 413:
            _discard_body(request, response)
        _add_headers(response, request, request_id, view.__name__)
        _log(view.__name__, request, response, request_id, caller, failure, time.monotonic() - started)
        return response

    # functions-framework reads the annotations of what it serves; the view's would mislead it.
    target.__annotations__ = {"request": Request, "return": Response}
    del target.__wrapped__
    return target


@functools.cache
def _authenticator() -> Authenticator:
    return Authenticator(auth_settings(os.environ), supabase_settings(os.environ).service_key)


def _match(function: Function, request: Request) -> dict[str, str]:
    path = request.path.removeprefix(BASE_PATH)
    allowed = []
    for route in function.routes:
        variables = route.variables(path)
        if variables is None:
            continue
        if route.method == request.method or (request.method, route.method) == ("HEAD", "GET"):
            return variables
        allowed.append(route.method)
    if allowed:
        raise MethodNotAllowedError(allowed)
    raise NotFoundError("There is nothing at this address.")


def _request_id(request: Request) -> str:
    """Return the platform's trace id, so that the answer's id finds all of its log lines, or a new one."""
    traceparent = request.headers.get("traceparent", "").split("-")
    if len(traceparent) == 4 and re.fullmatch(r"[0-9a-f]{32}", traceparent[1]):  # W3C trace context
        return traceparent[1]
    trace = request.headers.get("X-Cloud-Trace-Context", "").partition("/")[0]
    return trace if _SAFE_REQUEST_ID.fullmatch(trace) else uuid.uuid4().hex


def _check_length(request: Request) -> None:
    # Where the length is not said beforehand, reading stops there.
    request.max_content_length = LONGEST_BODY_BYTES
    if (request.content_length or 0) > LONGEST_BODY_BYTES:
        raise RequestEntityTooLarge


def _discard_body(request: Request, response: Response) -> None:
    """Read on without keeping anything, so that a client that is still sending sees the answer.

    The framework does so for every answer that is no stream, but keeps it all, and fails beyond the allowed length.
    """
    rest = min(request.content_length or 0, DISCARDED_BYTES)
    while rest > 0:
        piece = request.environ["wsgi.input"].read(min(rest, 1 << 20))
        rest = rest - len(piece) if piece else 0
    response.response = iter([response.get_data()])
    response.headers["Connection"] = "close"


def _success(reply: Reply) -> Response:
    if reply.status == 302:  # Found
        return Response(status=302, headers=dict(reply.headers))
    body = json.dumps({"success": True, "data": reply.data}, ensure_ascii=False, allow_nan=False)
    return Response(body, reply.status, dict(reply.headers), content_type="application/json")


def _problem(error: ServiceError, request: Request, request_id: str) -> Response:
    """Write an error as RFC 9457 problem details, with the two fields old callers read."""
    # What a 500 is about stays in the log.
    text = str(InternalError.__doc__) if error.status >= 500 and not error.retryable else error.message
    details = {} if error.status == 500 else dict(error.details)
    body = {
        "type": _PROBLEM_TYPE + error.code,
        "title": (type(error).__doc__ or "").strip().split("\n", 1)[0],
        "status": error.status,
        "detail": text,
        "instance": request.path,
        "code": error.code,
        "retryable": error.retryable,
        "request_id": request_id,
        "details": details,
        "success": False,
        "error": text,
    }
    headers = {}
    if isinstance(error, MethodNotAllowedError):
        headers["Allow"] = ", ".join([*error.allowed, "OPTIONS"])
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:  # RFC 9110 asks for the scheme
        headers["WWW-Authenticate"] = "Bearer"
    # Escaped, because a client's text may hold half a surrogate pair, which is no UTF-8.
    content = json.dumps(body, default=str)
    return Response(content, error.status, headers, content_type="application/problem+json")


def _add_headers(response: Response, request: Request, request_id: str, target: str) -> None:
    response.headers["X-Request-Id"] = request_id
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    origin = request.headers.get("Origin")
    response.headers["Vary"] = "Origin"
    if origin not in allowed_origins(os.environ):
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "Allow, Location, Retry-After, X-Request-Id"
    if request.method == "OPTIONS":
        methods = sorted({route.method for route in function_of(target).routes})
        response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, apikey, x-client-info"
        response.headers["Access-Control-Max-Age"] = "3600"


def _log(
    target: str,
    request: Request,
    response: Response,
    request_id: str,
    caller: Caller | None,
    failure: BaseException | None,
    seconds: float,
) -> None:
    is_ours = response.status_code >= 500
    fields: dict[str, Any] = {
        "function": target,
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "duration_ms": round(seconds * 1000, 1),
        "request_id": request_id,
        "trace": request_id,
        "caller": caller.kind.value if caller else None,
        "user_id": caller.user_id if caller else None,
        "code": getattr(failure, "code", None),
        "detail": str(failure) if failure else None,
    }
    write_log("ERROR" if is_ours else "INFO", "request.done", error=failure if is_ours else None, **fields)
