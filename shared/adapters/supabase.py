"""The way to the database: PostgREST through the client of the `supabase` package.

Only its PostgREST part is imported: the whole package costs 1.4 s of CPU more on a cold start. The HTTP client is
our own: HTTP/1.1, because the stock one's HTTP/2 is not thread-safe, and with time limits, because it has none.
A request builder is made per call with that call's headers, because `.auth()` changes a client others use too.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared import errors
from shared.records import Caller, CallerKind
from shared.settings import SupabaseSettings

if TYPE_CHECKING:
    from httpx import Client
    from postgrest import SyncPostgrestClient

# Hosted Supabase ends a statement of `authenticated` after 8 s; the answer must have its time beyond that.
TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 2.0
# After a passing fault a call is tried again as long as it began so recently. A call then takes 14.5 s at most, and
# two of them, as many as the functions with the shortest time limit make, less than its 30 s. A database that has
# kept us waiting for 10 s is not asked again: that is for the client to decide.
RETRY_WINDOW_S = 2.5
FIRST_PAUSE_S = 0.1
# Every other function answers a repeated call as it did the first one (infra/supabase/migrations); this one answers
# that there is no such session, because it has deleted it.
NOT_REPEATABLE = frozenset({"finish_delete_session_v1"})

_ERRORS: Mapping[str, type[errors.ServiceError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ServiceError)
}


class SupabaseDatabase:
    """Calls SQL functions as the service and reads tables as the user. Thread-safe."""

    def __init__(self, settings: SupabaseSettings) -> None:
        self._settings = settings

    @cached_property
    def _http(self) -> Client:
        import httpx

        return httpx.Client(
            base_url=f"{self._settings.url}/rest/v1",
            http2=False,
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16),
        )

    def _client(self, headers: dict[str, str]) -> SyncPostgrestClient:
        from postgrest import SyncPostgrestClient

        return SyncPostgrestClient(
            f"{self._settings.url}/rest/v1", headers=headers, http_client=self._http, retry_enabled=False
        )

    def call(self, function: str, **arguments: Any) -> Any:
        """Call a SQL function as the service.

        Returns:
            Its JSON result.

        Raises:
            ServiceError: The one the function raised by code, or DatabaseUnavailableError.
        """
        parameters = {f"p_{name}": value for name, value in arguments.items()}
        client = self._client(service_headers(self._settings.service_key))
        builder = client.rpc(function, parameters)
        return self._execute(builder) if function in NOT_REPEATABLE else self._persist(builder)

    def select(self, caller: Caller, table: str, columns: str, **filters: str) -> list[dict[str, Any]]:
        """Read rows as the caller.

        Args:
            columns: PostgREST's `select`.
            filters: PostgREST's other query parameters, for example `id="eq.5"`, `order="id.desc"`.

        Raises:
            UnauthenticatedError: The database refuses the caller's token.
            DatabaseUnavailableError: It does not answer.
        """
        client = self._client(self._headers(caller))
        builder = client.from_(table).select(columns)
        for name, value in filters.items():
            builder.request.params = builder.request.params.add(name, value)
        rows: list[dict[str, Any]] = self._persist(builder)
        return rows

    def _headers(self, caller: Caller) -> dict[str, str]:
        if caller.kind is CallerKind.SERVICE:
            return service_headers(self._settings.service_key)
        return {"apikey": self._settings.publishable_key, "Authorization": f"Bearer {caller.token}"}

    def _persist(self, builder: Any) -> Any:
        """Execute a request that may be repeated, and repeat it while the database is away for a moment.

        Ten lines of our own, because google.api_core.retry costs 0.17 s to import, which functions that use no
        storage need not pay.
        """
        began_at, longest_pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                return self._execute(builder)
            except errors.DatabaseUnavailableError:
                # Jitter keeps callers that failed together from coming back together.
                pause = random.uniform(longest_pause / 2, longest_pause)  # noqa: S311 - no secret
                if time.monotonic() - began_at + pause > RETRY_WINDOW_S:
                    raise
            time.sleep(pause)
            longest_pause *= 2

    @staticmethod
    def _execute(builder: Any) -> Any:
        import httpx
        from postgrest.exceptions import APIError

        try:
            return builder.execute().data
        except APIError as error:
            raise translate(error.code, error.message, error.details) from error
        except httpx.HTTPError as error:
            raise errors.DatabaseUnavailableError from error


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
