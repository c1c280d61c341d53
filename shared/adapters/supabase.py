"""The way to the database: PostgREST over one pool of HTTP/1.1 connections.

PostgREST is plain HTTP, and two requests of it are all that is needed: a select and a function call. The client of the
`supabase` package costs 0.4 s of CPU on a cold start and half of the requests per second, has no time limits, and
changes its headers in place (docs/decisions/0020-postgrest-over-urllib3.md).
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from shared import errors
from shared.logs import write_log
from shared.records.callers import Caller, CallerKind
from shared.settings import SupabaseSettings
from shared.tracing import span

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

# Hosted Supabase ends a statement of `authenticated` after 8 s; the answer must have its time beyond that.
TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 2.0
# After a passing fault a call is tried again as long as it began so recently. A call then takes 14.5 s at most, and
# two of them, as many as the functions with the shortest time limit make, less than its 30 s. A database that has
# kept us waiting for 10 s is not asked again: that is for the client to decide.
RETRY_WINDOW_S = 2.5
FIRST_PAUSE_S = 0.1
# As many requests as an instance serves at once, and some that ask for several things.
POOLED_CONNECTIONS = 16
_PIECE_BYTES = 1 << 20
# Every other function answers a repeated call as it did the first one (infra/supabase/migrations); this one answers
# that there is no such session, because it has deleted it.
NOT_REPEATABLE = frozenset({"finish_delete_session_v1"})

# These change no state; a report comes every second or two.
SILENT = frozenset(
    {"deletions_to_finish_v1", "extend_upload_v1", "find_assembled_v1", "report_progress_v2", "report_verified_v1"}
)

_ERRORS: Mapping[str, type[errors.ServiceError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ServiceError)
}


class SupabaseDatabase:
    """Calls SQL functions as the service and reads tables as the user. Thread-safe."""

    def __init__(self, settings: SupabaseSettings) -> None:
        self._settings = settings
        self._rest_path = f"{urlsplit(settings.url).path}/rest/v1"

    @cached_property
    def _http(self) -> HTTPConnectionPool:
        import urllib3

        options: dict[str, Any] = {"maxsize": POOLED_CONNECTIONS, "retries": False}
        if self._settings.url.startswith("https:"):
            import certifi

            options["ca_certs"] = certifi.where()
        return urllib3.connection_from_url(self._settings.url, **options)

    def call(self, function: str, **arguments: Any) -> Any:
        """Call a SQL function as the service.

        Returns:
            Its JSON result.

        Raises:
            ServiceError: The one the function raised by code, or DatabaseUnavailableError.
        """
        path, body, headers = self._function_call(function, arguments)
        send = self._exchange if function in NOT_REPEATABLE else self._persist
        result = send("POST", path, headers, body)
        if function not in SILENT:
            _log_change(function, arguments, result)
        return result

    def select(self, caller: Caller, table: str, columns: str, **filters: str) -> list[dict[str, Any]]:
        """Read rows as the caller.

        Args:
            columns: PostgREST's `select`.
            filters: PostgREST's other query parameters, for example `id="eq.5"`, `order="id.desc"`.

        Raises:
            UnauthenticatedError: The database refuses the caller's token.
            DatabaseUnavailableError: It does not answer.
        """
        query = urlencode({"select": columns, **filters})
        rows: list[dict[str, Any]] = self._persist("GET", f"{self._rest_path}/{table}?{query}", self._headers(caller))
        return rows

    def stream(self, function: str, timeout_s: float, **arguments: Any) -> Iterator[bytes]:
        """Call a SQL function as the service and stream its JSON result, in pieces of up to 1 MiB.

        Args:
            timeout_s: That the database may be silent.

        Raises:
            ServiceError: As `call` does. A result that breaks off raises DatabaseUnavailableError.
        """
        path, body, headers = self._function_call(function, arguments)
        with _translated(), self._send("POST", path, headers, body, timeout_s=timeout_s) as answer:
            if answer.status >= 400:
                raise _read_error(answer.data, answer.status)
            yield from answer.stream(_PIECE_BYTES)

    def _function_call(self, function: str, arguments: Mapping[str, Any]) -> tuple[str, bytes, dict[str, str]]:
        body = json.dumps({f"p_{name}": value for name, value in arguments.items()}).encode()
        headers = service_headers(self._settings.service_key) | {"Content-Type": "application/json"}
        return f"{self._rest_path}/rpc/{function}", body, headers

    def _headers(self, caller: Caller) -> dict[str, str]:
        if caller.kind is CallerKind.SERVICE:
            return service_headers(self._settings.service_key)
        return {"apikey": self._settings.publishable_key, "Authorization": f"Bearer {caller.token}"}

    def _persist(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Any:
        """Send a request that may be repeated, and repeat it while the database is away for a moment."""
        began_at, longest_pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return self._exchange(method, path, headers, body)
            except errors.DatabaseUnavailableError:
                # Jitter keeps callers that failed together from coming back together.
                pause = random.uniform(longest_pause / 2, longest_pause)  # noqa: S311 - no secret
                if time.monotonic() - began_at + pause > RETRY_WINDOW_S:
                    raise
            time.sleep(pause)
            longest_pause *= 2

    def _exchange(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Any:
        with span(f"database {path.partition('?')[0].rpartition('/')[2]}"), _translated():
            answer = self._send(method, path, headers, body, timeout_s=TIMEOUT_S)
            content = answer.data
        if answer.status >= 400:
            raise _read_error(content, answer.status)
        # A function that returns nothing has an empty answer.
        return json.loads(content) if content else None

    def _send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, *, timeout_s: float
    ) -> BaseHTTPResponse:
        import urllib3

        return self._http.urlopen(
            method,
            path,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
            redirect=False,
            # The body is read by who asks for it: at once, or in pieces.
            preload_content=False,
        )


def _log_change(function: str, arguments: Mapping[str, Any], result: Any) -> None:
    """Write the line of a change of state: what was asked for, and the state that came of it."""
    # Claims hold what they claimed.
    parts = [result, *result.values()] if isinstance(result, dict) else []
    known = [part for part in parts if isinstance(part, dict)]
    found = {
        name: next((part[name] for part in known if isinstance(part.get(name), str)), None)
        for name in ("outcome", "state", "status", "session_id")
    }
    is_of_upload = isinstance(result, dict) and "chunk_size_bytes" in result
    write_log(
        "INFO",
        function.rpartition("_")[0],
        session=arguments.get("session_id") or found["session_id"],
        session_uuid=arguments.get("session_uuid"),
        upload=arguments.get("upload_id") or (result["id"] if is_of_upload else None),
        run=arguments.get("run_id"),
        model=arguments.get("model_id"),
        user_id=arguments.get("owner"),
        outcome=found["outcome"],
        state=found["state"] or found["status"],
    )


@contextmanager
def _translated() -> Iterator[None]:
    import urllib3

    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise errors.DatabaseUnavailableError from error


def _read_error(content: bytes, status: int) -> errors.ServiceError:
    """Make ours of an error as PostgREST answers it."""
    try:
        error = json.loads(content)
        return translate(error.get("code"), error.get("message"), error.get("details"))
    except (ValueError, AttributeError):
        return translate(str(status), None, None)


def service_headers(key: str) -> dict[str, str]:
    """Return the headers that prove the service to Supabase.

    New secret keys are not tokens and travel as `apikey` alone; a legacy service_role key is a token, sent as both.
    https://supabase.com/docs/guides/api/api-keys
    """
    if key.startswith("sb_"):
        return {"apikey": key}
    return {"apikey": key, "Authorization": f"Bearer {key}"}


def translate(code: str | None, message: str | None, details: Any) -> errors.ServiceError:
    """Turn PostgREST's error into ours.

    Our SQL functions raise SQLSTATE `PT<status>` with one of our codes as message and JSON as detail; everything
    else comes from PostgREST or Postgres itself.
    """
    if code and message and code.startswith("PT") and message in _ERRORS:
        members = json.loads(details) if isinstance(details, str) and details else {}
        text = members.pop("message", "")
        retry_after_s = members.pop("retry_after_s", None)
        error = _ERRORS[message](text, **members)
        error.retry_after_s = retry_after_s
        return error
    # PGRST301-303: the token is not valid (any more) for the database.
    # https://docs.postgrest.org/en/latest/references/errors.html
    if code in {"PGRST301", "PGRST302", "PGRST303"}:
        return errors.UnauthenticatedError("The access token is not valid or has expired.")
    # SQLSTATE (five characters) of class 08: connection; 40: serialization, deadlock; 53: out of resources;
    # 57: operator intervention and time-outs; 55P03: lock not available. PGRST000-003: PostgREST cannot reach the
    # database. An HTTP status of 429 or from 500: something before it answered, without JSON. The rest is a defect of
    # ours.
    is_state = code is not None and len(code) == 5
    if code and (
        (is_state and (code[:2] in {"08", "40", "53", "57"} or code == "55P03"))
        or code.startswith("PGRST00")
        or re.fullmatch("429|5[0-9][0-9]", code)
    ):
        return errors.DatabaseUnavailableError()
    return errors.InternalError(f"The database refused a call: {code} {message}")
