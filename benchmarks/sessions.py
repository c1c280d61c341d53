"""list-sessions against the bare select under it, with 100,000 sessions: `python -m benchmarks.sessions`."""

import statistics
import time
from typing import Any

import httpx

from benchmarks.measuring import Figure, running_stack, show
from shared.records.callers import Caller
from tests.local_stack import LocalStack, People
from tests.scale.many_rows import N_SESSIONS, SESSIONS_OF_ONE, many_rows

N_CALLS = 300
LIMIT = 50
# What the function asks PostgREST: one row more tells whether there is another page.
COLUMNS = "id,session_id,user_id,status,metadata,n_dat,created_at,updated_at"


def measured(stack: LocalStack, user: Caller) -> list[Figure]:
    """Call the function and PostgREST in turns, through the same gateway, as the same user."""
    token = {"Authorization": f"Bearer {user.token}"}
    keyed = token | {"apikey": stack.env["SUPABASE_PUBLISHABLE_KEY"]}
    with httpx.Client(base_url=stack.env["TRAINSHED_URL"], timeout=30) as client:
        first = client.get("/api/training/list-sessions", params={"limit": LIMIT}, headers=token).json()["data"]
        figures = []
        for page, page_token in (("first", ""), ("second", first["next_page_token"])):
            select: dict[str, Any] = {
                "select": COLUMNS,
                "order": "created_at.desc,id.desc",
                "limit": LIMIT + 1,
                "user_id": f"eq.{user.user_id}",
                "deleting_at": "is.null",
            }
            if page_token:
                last = first["sessions"][-1]
                select["created_at"] = f"lte.{last['created_at']}"
                select["or"] = f'(created_at.lt."{last["created_at"]}",id.lt.{last["id"]})'
            asked = {"limit": LIMIT, "page_token": page_token}
            whole, bare = [], []
            for _ in range(N_CALLS):
                whole.append(timed(client, "/api/training/list-sessions", asked, token))
                bare.append(timed(client, "/rest/v1/sessions", select, keyed))
            ratio = statistics.median(whole) / statistics.median(bare)
            figures.append(
                Figure(
                    f"p50 of list-sessions, {page} page of {LIMIT}, at {N_SESSIONS:,} sessions",
                    f"{milliseconds(whole)}",
                    f"bare PostgREST select of the same page: {milliseconds(bare)}",
                    f"{ratio:.2f} times",
                    "2.0 or less",
                    ratio <= 2.0,
                )
            )
    return figures


def timed(client: httpx.Client, path: str, query: dict[str, Any], headers: dict[str, str]) -> float:
    begun = time.perf_counter()
    client.get(path, params=query, headers=headers).raise_for_status()
    return time.perf_counter() - begun


def milliseconds(values: list[float]) -> str:
    """Return median and 99th percentile."""
    return f"{statistics.median(values) * 1e3:.1f} ms (p99 {statistics.quantiles(values, n=100)[98] * 1e3:.1f} ms)"


def main() -> None:
    """Fill the database, measure, and take the rows out again."""
    stack = running_stack()
    with People(stack) as people:
        user = people.add()
        with many_rows(stack, user.user_id):
            figures = measured(stack, user)
    show(f"Sessions, {SESSIONS_OF_ONE:,} of them the caller's", figures)


if __name__ == "__main__":
    main()
