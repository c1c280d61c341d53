"""Archives whose building is killed at any remote call: what remains is a plan, and the next request makes the archive.

The points come from a first run that counts the calls, and every third is tried, with TRAINSHED_EVERY_CRASH=1 each one.
After most of them the request is made again; after every third nobody comes back, and the session is deleted.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from shared.adapters.gcs import GcsObjectStore
from shared.records.objects import archives_prefix
from tests.factories import a_uuid
from tests.resilience.processes import Outcome, Request
from tests.resilience.test_crash import points
from tests.resilience.world import SESSION, World, dying

CONTENT = b"PK\x03\x04" + bytes(3 << 20)


@pytest.fixture
def artifacts(local_stack, services) -> GcsObjectStore:
    return GcsObjectStore(local_stack.env["ARTIFACTS_BUCKET"])


def session_of(world: World) -> str:
    return world.sessions()[0]["id"]


def publish(world: World, artifacts: GcsObjectStore) -> str:
    """Publish a run with one model and return its session's id."""
    world.open_session()
    session, run_id = session_of(world), a_uuid()
    prefix = f"results/{session}/{run_id}/"
    artifacts.write(f"{prefix}forest.skops", CONTENT, "application/zip")
    file = {
        "format": "skops",
        "object": f"{prefix}forest.skops",
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
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


def check_whole(world: World, artifacts: GcsObjectStore) -> None:
    session = session_of(world)
    assert names(artifacts, session) == ["json", "zip"]
    archive = max(one.name for one in artifacts.list(archives_prefix(session)))
    with zipfile.ZipFile(io.BytesIO(b"".join(artifacts.read(archive)))) as members:
        assert members.testzip() is None
        (model,) = [name for name in members.namelist() if name.endswith(".skops")]
        assert members.read(model) == CONTENT


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
