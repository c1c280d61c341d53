"""Archives whose building is killed at any remote call: what remains is a plan, and the next request makes the archive.

The points come from a first run that counts the calls, and every third is tried, of large archives every fifth, with
TRAINSHED_EVERY_CRASH=1 each one. After most of them the request is made again; after every third nobody comes back, and
the session is deleted. Small archives are built by the request, large ones by the queue, which comes again by itself
when its task is killed.
"""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from shared.adapters.gcs import GcsObjectStore
from shared.archives import BUILT_AT_ONCE_BYTES
from shared.records.objects import archives_prefix
from tests.factories import a_uuid
from tests.resilience.processes import Outcome, Request
from tests.resilience.test_crash import points
from tests.resilience.world import SESSION, World, dying

CONTENT = b"PK\x03\x04" + bytes(3 << 20)
LARGE = b"PK\x03\x04" + bytes(BUILT_AT_ONCE_BYTES)
# Of the queue on a machine that does much else.
PATIENCE_S = 120


@pytest.fixture
def artifacts(local_stack, services) -> GcsObjectStore:
    return GcsObjectStore(local_stack.env["ARTIFACTS_BUCKET"])


def session_of(world: World) -> str:
    return world.sessions()[0]["id"]


def publish(world: World, artifacts: GcsObjectStore, content: bytes = CONTENT) -> str:
    """Publish a run with one model and return its session's id."""
    world.open_session()
    session, run_id = session_of(world), a_uuid()
    prefix = f"results/{session}/{run_id}/"
    artifacts.write(f"{prefix}forest.skops", content, "application/zip")
    file = {
        "format": "skops",
        "object": f"{prefix}forest.skops",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "media_type": "application/zip",
    }
    model = {"name": "forest", "class": "x", "framework": "sklearn", "status": "completed", "files": [file]}
    manifest = {
        "schema_version": 1,
        "run_id": run_id,
        "session_uuid": session,
        "status": "completed",
        "models": [model],
        "scalers": [],
        "tables": [],
        "charts": [],
    }
    artifacts.write(f"{prefix}manifest.json", json.dumps(manifest).encode(), "application/json")
    saved = world.send(world.request("POST", f"/save-model/{SESSION}"))
    assert saved.data["models_saved"] == 1
    return session


def names(artifacts: GcsObjectStore, session: str) -> list[str]:
    return sorted(one.name.rpartition(".")[2] for one in artifacts.list(archives_prefix(session)))


def ask(world: World, artifacts: GcsObjectStore) -> Request:
    publish(world, artifacts)
    return world.request("GET", f"/download-archive/{SESSION}")


def build(world: World, artifacts: GcsObjectStore) -> Request:
    """Leave a plan in the bucket, as a request does whose archive the queue is to build."""
    session = publish(world, artifacts)
    assert world.send(world.request("GET", f"/download-archive/{SESSION}")).status == 302
    plan, archive = sorted(artifacts.list(archives_prefix(session)), key=lambda one: one.name)
    artifacts.delete([archive])
    return Request("POST", "/build-archive", world._stack.tasks_token(), {"plan": plan.name})


def check_whole(world: World, artifacts: GcsObjectStore, content: bytes = CONTENT) -> str:
    """Check the archive in the bucket and return its sha256."""
    session = session_of(world)
    assert names(artifacts, session) == ["json", "zip"]
    archive = max(one.name for one in artifacts.list(archives_prefix(session)))
    found = b"".join(artifacts.read(archive))
    with zipfile.ZipFile(io.BytesIO(found)) as members:
        assert members.testzip() is None
        (model,) = [name for name in members.namelist() if name.endswith(".skops")]
        assert members.read(model) == content
    return hashlib.sha256(found).hexdigest()


def delete(world: World, artifacts: GcsObjectStore) -> None:
    session = session_of(world)
    assert world.send(world.request("POST", f"/session/{SESSION}/delete")).status == 200
    assert names(artifacts, session) == []
    assert artifacts.list(f"results/{session}/") == []


Prepare = Callable[[World, GcsObjectStore], Request]


def first_run(new_world: Callable[[], World], artifacts: GcsObjectStore, prepare: Prepare) -> Outcome:
    world = new_world()
    outcome = world.send(prepare(world, artifacts))
    assert outcome.is_success or outcome.status == 302, outcome
    check_whole(world, artifacts)
    delete(world, artifacts)
    return outcome


@pytest.mark.parametrize("prepare", [ask, build])
def test_killed_at_any_call_an_archive_is_whole_or_not_there_and_the_next_request_makes_it(
    new_world, artifacts, prepare: Any
):
    calls = first_run(new_world, artifacts, prepare).calls
    assert len(calls) >= 5, calls
    for number, (at, is_after) in enumerate(points(len(calls), step=3)):
        world = new_world()
        request = prepare(world, artifacts)
        killed = world.send(dying(request, at, is_after_effect=is_after))
        assert killed.status is None, killed
        where = f"killed {'after' if is_after else 'before'} call {at} of {len(calls)}, {calls[at - 1]}"
        try:
            # Half an archive is never an object.
            if "zip" in names(artifacts, session_of(world)):
                check_whole(world, artifacts)
            if number % 3:
                again = world.send(world.request("GET", f"/download-archive/{SESSION}"))
                assert again.status == 302
                check_whole(world, artifacts)
            delete(world, artifacts)
        except AssertionError as error:
            error.add_note(where)
            raise


def ask_until_there(world: World) -> None:
    until = time.monotonic() + PATIENCE_S
    while (answer := world.send(world.request("GET", f"/download-archive/{SESSION}"))).status == 202:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert answer.status == 302, answer


def ask_for_large(world: World, artifacts: GcsObjectStore) -> Request:
    publish(world, artifacts, LARGE)
    return world.request("GET", f"/download-archive/{SESSION}")


def test_killed_at_any_call_a_request_for_a_large_archive_made_again_ends_in_the_one_that_the_queue_builds(
    new_world, artifacts
):
    world = new_world()
    first = world.send(ask_for_large(world, artifacts))
    assert first.status == 202
    ask_until_there(world)
    check_whole(world, artifacts, LARGE)
    delete(world, artifacts)
    assert "CreateTask" in first.calls[-1], first.calls
    last = len(first.calls)
    # Always also where the task is in the queue and nobody was told.
    for at, is_after in {*points(last, step=5), (last, True)}:
        world = new_world()
        killed = world.send(dying(ask_for_large(world, artifacts), at, is_after_effect=is_after))
        assert killed.status is None, killed
        try:
            ask_until_there(world)
            check_whole(world, artifacts, LARGE)
            delete(world, artifacts)
        except AssertionError as error:
            error.add_note(f"killed {'after' if is_after else 'before'} call {at}, {first.calls[at - 1]}")
            raise


def task_of_large(world: World, artifacts: GcsObjectStore) -> tuple[Request, str]:
    """Have the queue build a large archive and take it away again; return its task, and the sha256 of what it built."""
    world.send(ask_for_large(world, artifacts))
    ask_until_there(world)
    built = check_whole(world, artifacts, LARGE)
    plan, archive = sorted(artifacts.list(archives_prefix(session_of(world))), key=lambda one: one.name)
    artifacts.delete([archive])
    return Request("POST", "/build-archive", world._stack.tasks_token(), {"plan": plan.name}), built


def test_killed_at_any_call_the_task_that_builds_a_large_archive_comes_again_and_builds_the_same_one(
    new_world, artifacts
):
    world = new_world()
    task, built = task_of_large(world, artifacts)
    first = world.send(task)
    assert first.is_success, first
    assert check_whole(world, artifacts, LARGE) == built
    delete(world, artifacts)
    for number, (at, is_after) in enumerate(points(len(first.calls), step=5)):
        world = new_world()
        task, built = task_of_large(world, artifacts)
        killed = world.send(dying(task, at, is_after_effect=is_after))
        assert killed.status is None, killed
        try:
            # Half an archive is never an object.
            if "zip" in names(artifacts, session_of(world)):
                assert check_whole(world, artifacts, LARGE) == built
            if number % 3:
                assert world.send(task).is_success
                assert check_whole(world, artifacts, LARGE) == built
                ask_until_there(world)
            delete(world, artifacts)
        except AssertionError as error:
            error.add_note(f"killed {'after' if is_after else 'before'} call {at}, {first.calls[at - 1]}")
            raise
