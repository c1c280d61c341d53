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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Request, Response, current_app, has_app_context, request
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
from shared.logs import lines_about, write_log
from shared.records.callers import Caller, CallerKind
from shared.settings import allowed_origins, auth_settings
from shared.tracing import request_span
from shared.web.auth import Authenticator
from shared.web.manifest import HEALTH_PATH, Function, function_of

if TYPE_CHECKING:
    from shared.api import answers

# The front door and old clients put this before every route; without it a path follows the function's own URL.
BASE_PATH = "/api/training"
LONGEST_JSON_BYTES = 1 << 20
# Cloud Run takes no larger request: https://cloud.google.com/run/quotas
LONGEST_BODY_BYTES = 32 << 20
# Of a body that is too large; who sends more than that meets a closed connection.
DISCARDED_BYTES = 256 << 20
# Of a field that a client made up.
LONGEST_NAME_SHOWN = 64
LONGEST_SESSION_SHOWN = 128
_PROBLEM_TYPE = "urn:trainshed:error:"
# What supabase-js and our own client send.
_REQUEST_HEADERS = "Authorization, Content-Type, apikey, traceparent, x-client-info"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}.*")
_GOOGLE_TRACE = re.compile(r"([0-9A-Za-z-]{8,64})(?:/([0-9]{1,20}))?(?:;|$)")
_LARGEST_SPAN = (1 << 64) - 1


@dataclass(frozen=True)
class Reply:
    """What a view answers: the status and the `data` of a success, a place to go to, or a file.

    Attributes:
        content: Of a file; its type is the header Content-Type. None where the answer is `data`.
    """

    status: int
    data: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    @classmethod
    def redirect(cls, url: str) -> "Reply":
        """Send the client to a short-lived URL, which nobody may keep."""
        return cls(302, {}, {"Location": url, "Cache-Control": "no-store"})

    @classmethod
    def unchanged(cls, tag: str) -> "Reply":
        """Say that the client's copy is still right."""
        return cls(304, {}, {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"})


class Call:
    """A request whose route matched and whose caller was verified."""

    def __init__(self, request: Request, caller: Caller, path: Mapping[str, str]) -> None:
        self.request = request
        self.caller = caller
        self.path = path
        # What the log says that the request was about.
        self.session = path.get("session_id")
        self.upload = path.get("upload_id")

    def body(self, form: type[Any] | None = None) -> dict[str, Any]:
        """Return the JSON object of the request; only names are checked, values are for the rules.

        Args:
            form: A TypedDict of `shared/api/requests/`; without one, the request may bring an empty object or nothing.
                One without required members may be left out as a whole.

        Raises:
            InvalidRequestError: The body is missing, not JSON or not an object.
            InvalidFieldError: A field is missing or unknown.
            TooLargeError: It has more than 1 MiB.
        """
        known = form.__annotations__ if form else {}
        required = form.__required_keys__ if form else frozenset()
        document = self.document() if required or self._has_body() else {}
        for name in known:
            if name in required and document.get(name) is None:
                raise InvalidFieldError(name, "is missing")
        for name in document:
            if name not in known:
                raise InvalidFieldError(name[:LONGEST_NAME_SHOWN], "is not a known field")
        session = document.get("sessionId")
        if isinstance(session, str):
            self.session = session[:LONGEST_SESSION_SHOWN]
        return {name: value for name, value in document.items() if value is not None}

    def _has_body(self) -> bool:
        request = self.request
        return bool(request.content_length) or "chunked" in request.headers.get("Transfer-Encoding", "")

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the request with whatever fields old clients send.

        Raises:
            InvalidRequestError: The body is missing, not JSON or not an object.
            TooLargeError: It has more than 1 MiB.
        """
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

    def query(self, form: type[Any] | None = None) -> dict[str, str]:
        """Return the query parameters that were given, as texts.

        Args:
            form: A TypedDict of `shared/api/requests/`; without one, none may be given.

        Raises:
            InvalidFieldError: One is unknown, or given twice.
        """
        known = form.__annotations__ if form else {}
        given = self.request.args.to_dict(flat=False)
        for name, values in given.items():
            if name not in known:
                raise InvalidFieldError(name[:LONGEST_NAME_SHOWN], "is not a known parameter")
            if len(values) > 1:
                raise InvalidFieldError(name, "is given more than once")
        return {name: values[0] for name, values in given.items()}

    def has_copy(self, tag: str) -> bool:
        """Say whether the client has what the tag stands for (If-None-Match)."""
        return bool(self.request.if_none_match.contains_weak(tag))

    def file(self, make: Callable[[], bytes], content_type: str, name: str, tag: str) -> Reply:
        """Answer with a file, which a browser saves or shows as a picture and never takes for a page.

        Args:
            make: Makes it; only called if the client has no copy.
            name: Of ASCII letters, digits, dots and dashes.
            tag: Changes when the content does; the client's copy may be used again after asking with it.
        """
        if self.has_copy(tag):
            return Reply.unchanged(tag)
        headers = {
            "Content-Type": content_type,
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "ETag": f'"{tag}"',
            "Cache-Control": "private, no-cache",
        }
        return Reply(200, {}, headers, make())


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
        trace = _trace(request)
        name = view.__name__
        exchange = _Exchange(name, request, trace)
        with (
            lines_about(
                function=name,
                request_id=trace.id,
                trace=trace.id,
                span_id=trace.span_id,
                execution_id=request.headers.get("Function-Execution-Id"),
            ),
            request_span(name, request.headers.get("traceparent", ""), trace.id) as span,
        ):
            response = exchange.answer(view)
            if response.status_code == 413:
                _discard_body(request, response)
            _add_headers(response, request, trace.id, name)
            if span is not None:
                span.set_attributes({"http.request.method": request.method, "url.path": request.path})
                span.set_attribute("http.response.status_code", response.status_code)
            exchange.log(response, time.monotonic() - started)
        return response

    if has_app_context():
        # The framework loads main.py within its app, whose routes pass on every path but those with a line end.
        current_app.register_error_handler(404, _unrouted)
    # functions-framework reads the annotations of what it serves; the view's would mislead it.
    target.__annotations__ = {"request": Request, "return": Response}
    del target.__wrapped__
    return target


class _Exchange:
    """One request on its way to an answer, and what the log will say of it."""

    def __init__(self, name: str, request: Request, trace: "_Trace") -> None:
        self._name = name
        self._request = request
        self._trace = trace
        self._caller: Caller | None = None
        self._call: Call | None = None
        self._failure: BaseException | None = None

    def answer(self, view: View) -> Response:
        """Return the view's answer, or the one that an error becomes."""
        try:
            return self._answer(view)
        except ServiceError as error:
            self._failure = error
            return _problem(error, self._request, self._trace.id)
        except RequestEntityTooLarge as error:
            self._failure = error
            return _problem(TooLargeError("A request may have 32 MiB."), self._request, self._trace.id)
        except HTTPException as error:
            self._failure = error
            return _problem(InvalidRequestError("The request cannot be read."), self._request, self._trace.id)
        # The one edge: whatever else happens, the client learns nothing but the id that finds the log line.
        except Exception as error:  # noqa: BLE001
            self._failure = error
            return _problem(InternalError(), self._request, self._trace.id)

    def _answer(self, view: View) -> Response:
        request = self._request
        if request.method == "OPTIONS":
            return Response(status=204)
        function = function_of(self._name)
        path = request.path.removeprefix(BASE_PATH)
        if path == HEALTH_PATH:
            return _success(_health(function, request.method))
        variables = _match(function, request.method, path)
        self._caller = _caller_of(request, function.caller)
        _check_length(request)
        self._call = Call(request, self._caller, variables)
        return _success(view(self._call))

    def log(self, response: Response, seconds: float) -> None:
        """Write the line of this request."""
        is_ours = response.status_code >= 500
        caller, call, failure = self._caller, self._call, self._failure
        fields: dict[str, Any] = {
            "method": self._request.method,
            "path": self._request.path,
            "status": response.status_code,
            "duration_ms": round(seconds * 1000, 1),
            "bytes_received": self._request.content_length,
            "bytes_sent": response.content_length,
            "caller": caller.kind.value if caller else None,
            "user_id": caller.user_id or None if caller else None,
            "session": call.session if call else None,
            "upload": call.upload if call else None,
            "code": getattr(failure, "code", None),
            "detail": str(failure) if failure else None,
        }
        write_log("ERROR" if is_ours else "INFO", "request.done", error=failure if is_ours else None, **fields)


def _unrouted(_error: HTTPException) -> Response:
    """Answer what never reached a target in the same form."""
    trace = _trace(request)
    error = NotFoundError("There is nothing at this address.")
    response = _problem(error, request, trace.id)
    _add_headers(response, request, trace.id, "")
    with lines_about(request_id=trace.id, trace=trace.id, span_id=trace.span_id):
        write_log("INFO", "request.done", method=request.method, path=request.path, status=404, code=error.code)
    return response


def _health(function: Function, method: str) -> Reply:
    """Say that this instance takes requests, and of which function and revision it is; asks nobody else."""
    if method not in {"GET", "HEAD"}:
        raise MethodNotAllowedError(["GET"])
    # What every request needs: settings that are wrong show here.
    if function.caller != CallerKind.ANYONE:
        _authenticator()
    health: answers.Health = {
        "status": "ok",
        "function": function.name,
        "revision": os.environ.get("K_REVISION", "local"),
    }
    return Reply(200, health)


def _caller_of(request: Request, allowed: str) -> Caller:
    # A function that answers anyone is deployed without the keys that tokens are checked with.
    if allowed == CallerKind.ANYONE:
        return Caller(CallerKind.ANYONE, user_id="", token="")
    return _authenticator().authenticate(request.headers, allowed)


@functools.cache
def _authenticator() -> Authenticator:
    # The converter has no key of the database, and no caller that would send one.
    return Authenticator(auth_settings(os.environ), os.environ.get("SUPABASE_SERVICE_KEY", ""))


def _match(function: Function, method: str, path: str) -> dict[str, str]:
    allowed = []
    for route in function.routes:
        variables = route.variables(path)
        if variables is None:
            continue
        if route.method == method or (method, route.method) == ("HEAD", "GET"):
            return variables
        allowed.append(route.method)
    if allowed:
        raise MethodNotAllowedError(allowed)
    raise NotFoundError("There is nothing at this address.")


class _Trace(NamedTuple):
    """Under what the platform files a request; its id is also the request id, so that it finds all log lines."""

    id: str
    span_id: str | None


def _trace(request: Request) -> _Trace:
    """Read W3C's trace context, else Google's own, else make up an id.

    https://www.w3.org/TR/trace-context/ and https://docs.cloud.google.com/trace/docs/trace-context
    """
    traceparent = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    if traceparent:
        return _Trace(traceparent[1], traceparent[2])
    google = _GOOGLE_TRACE.match(request.headers.get("X-Cloud-Trace-Context", ""))
    if google:
        return _Trace(google[1], f"{int(google[2]) & _LARGEST_SPAN:016x}" if google[2] else None)
    return _Trace(uuid.uuid4().hex, None)


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
    if reply.status in {302, 304}:  # Found, Not Modified
        return Response(status=reply.status, headers=dict(reply.headers))
    if reply.content is not None:
        return Response(reply.content, reply.status, dict(reply.headers))
    body = json.dumps({"success": True, "data": reply.data}, ensure_ascii=False, allow_nan=False)
    return Response(body, reply.status, dict(reply.headers), content_type="application/json")


def _problem(error: ServiceError, request: Request, request_id: str) -> Response:
    """Write an error as RFC 9457 problem details, with the two fields old callers read."""
    # What a 500 is about stays in the log.
    text = str(InternalError.__doc__) if error.status >= 500 and not error.retryable else error.message
    details = {} if error.status == 500 else dict(error.details)
    body: answers.Problem = {
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
    response.headers["Access-Control-Expose-Headers"] = (
        "Allow, Content-Disposition, ETag, Location, Retry-After, X-Request-Id"
    )
    if request.method == "OPTIONS" and target:
        methods = sorted({route.method for route in function_of(target).routes})
        response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
        response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = "3600"
