"""No call of the upload protocol waits for ever, or for longer than its function may run."""

import pytest

from container.app import load_manifest, url_map
from shared.adapters import gcs, supabase
from tests.resilience.processes import Request
from tests.resilience.test_crash import STORIES, THREE_CHUNKS
from tests.resilience.world import SESSION, World

# Calls to the database, one after the other, of the functions with the shortest time limit.
DATABASE_CALLS = 2
SOURCES_WITH_STORAGE = {"uploads", "results", "training"}


def init_session(world: World) -> Request:
    return world.request("POST", "/init-session", {"sessionId": SESSION})


def get_session(world: World) -> Request:
    world.open_session()
    return world.request("GET", f"/session/{SESSION}")


def list_sessions(world: World) -> Request:
    return world.request("GET", "/list-sessions")


def get_upload(world: World) -> Request:
    upload = world.open_upload(THREE_CHUNKS, sent=[0])
    return world.request("GET", f"/uploads/{upload.id}")


REQUESTS = {
    **{name: story.prepare for name, story in STORIES.items()},
    "init session": init_session,
    "get session": get_session,
    "list sessions": list_sessions,
    "get upload": get_upload,
}


def time_limit_s(request: Request) -> int:
    manifest = load_manifest()
    name, _ = url_map(manifest).bind("localhost").match(request.path, method=request.method)
    return manifest[name]["timeout_s"]


@pytest.mark.parametrize("name", REQUESTS)
def test_every_call_gives_up_before_its_function_is_ended(new_world, name):
    world = new_world()
    request = REQUESTS[name](world)
    outcome = world.send(request)
    assert outcome.calls
    for call, (connect_s, read_s) in zip(outcome.calls, outcome.timeouts, strict=True):
        assert connect_s, call
        assert read_s, call
        assert connect_s + read_s < time_limit_s(request), call
    world.clean_up()


def test_the_tries_of_one_call_together_end_before_any_function_does():
    limits_s = [entry["timeout_s"] for entry in load_manifest().values()]
    database_s = supabase.RETRY_WINDOW_S + supabase.CONNECT_TIMEOUT_S + supabase.TIMEOUT_S
    assert DATABASE_CALLS * database_s < min(limits_s)
    with_storage = [e["timeout_s"] for e in load_manifest().values() if e["source"] in SOURCES_WITH_STORAGE]
    # Functions that only read rows or sign addresses never wait for storage.
    assert gcs.RETRY_DEADLINE_S + sum(gcs.TIMEOUT_S) < min(limit for limit in with_storage if limit > min(limits_s))
