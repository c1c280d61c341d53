"""Every call to the database and to storage meets every fault that networks and servers have, once and for good.

Met once, a fault is got over, or answered with an error that says "try again". Met for good, it is answered so, in
bounded time. Either way the same request without faults then ends well, and nothing is lost, left or counted twice.

TRAINSHED_EVERY_CRASH=1 tries every fault at every call; without it, one at each, another at the next.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from shared.adapters import gcs, supabase
from shared.errors import ObjectExistsError, ServiceError, SessionNotFoundError, StorageUnavailableError
from shared.legacy_chunks import LegacyChunk
from tests.local_stack import LocalStack
from tests.resilience.processes import CHUNK_BYTES
from tests.resilience.proxy import Fault, Plan, proxy_before
from tests.resilience.world import SESSION, Services, World, a_csv

THREE_CHUNKS = a_csv(2 * CHUNK_BYTES + 100)
N_ROWS = THREE_CHUNKS.count(b"\n") - 1 + (not THREE_CHUNKS.endswith(b"\n"))
FORTY_CHUNKS = bytes(i * 31 % 251 for i in range(39 * CHUNK_BYTES + 17))
FAULTS = list(Fault)
EVERY_FAULT = bool(os.environ.get("TRAINSHED_EVERY_CRASH"))
# Limits of the adapters, small enough to be run into, and large enough for what is only slow.
TIMEOUT_S, LATE_S = 1.0, 1.3


@dataclass(frozen=True)
class Faulty:
    """The services behind proxies, and the proxies' plan."""

    services: Services
    plan: Plan


@pytest.fixture(scope="module")
def faulty(local_stack: LocalStack, services: Services) -> Iterator[Faulty]:
    plan = Plan(late_s=LATE_S)
    with (
        pytest.MonkeyPatch.context() as patch,
        proxy_before(local_stack.env["SUPABASE_URL"], plan) as database_url,
        proxy_before(local_stack.functions_env["STORAGE_EMULATOR_HOST"], plan) as storage_url,
    ):
        patch.setattr(supabase, "TIMEOUT_S", TIMEOUT_S)
        patch.setattr(supabase, "RETRY_WINDOW_S", 2.0)
        patch.setattr(gcs, "TIMEOUT_S", (TIMEOUT_S, TIMEOUT_S))
        patch.setattr(gcs, "RETRY_DEADLINE_S", 3.5)
        patch.setattr(gcs, "READ_TRIES", 3)
        patch.setenv("STORAGE_EMULATOR_HOST", storage_url)
        environment = {**local_stack.functions_env, "SUPABASE_URL": database_url}
        through = replace(local_stack, env={**local_stack.env, "SUPABASE_URL": database_url})
        through.__dict__["functions_env"] = environment
        yield Faulty(Services.on(through), plan)
        through.database._http.close()


@dataclass(frozen=True)
class Story:
    """What somebody does, what precedes it, and how it ends.

    Attributes:
        prepare: Sets the scene and returns what is to be done with the services it is given.
        ends: Checks the end, which cleanup has followed.
        gets_over: Faults that happen once are got over without an error.
    """

    prepare: Callable[[World], Callable[[Services], Any]]
    ends: Callable[[World], None]
    gets_over: bool = True


def only(state: str, content: bytes = b"", n_rows: int | None = None) -> Callable[[World], None]:
    def check(world: World) -> None:
        assert [row["state"] for row in world.rows()] == [state]
        if state == "assembled":
            (row,) = world.rows()
            assert row["n_rows"] == n_rows
            assert world.content(row) == content
            assert world.usage() == (1, len(content))
        else:
            assert world.usage() == (0, 0)

    return check


def create(world: World) -> Callable[[Services], Any]:
    world.open_session()
    fields = {"sessionId": SESSION, "fileName": "hours.csv", "size": 600}
    return lambda services: services.uploads.create(world.caller.user_id, fields)


def sign(world: World) -> Callable[[Services], Any]:
    upload = world.open_upload(THREE_CHUNKS, sent=[0])
    return lambda services: services.uploads.sign_chunks(world.caller, upload.id, [{"index": 1}])


def get(world: World) -> Callable[[Services], Any]:
    upload = world.open_upload(THREE_CHUNKS, sent=[0])
    return lambda services: services.uploads.get(world.caller, upload.id)


def assemble(content: bytes, name: str) -> Callable[[World], Callable[[Services], Any]]:
    def prepare(world: World) -> Callable[[Services], Any]:
        upload = world.open_upload(content, name)
        return lambda services: services.uploads.assemble(world.caller.user_id, upload.id)

    return prepare


def send_the_old_way(world: World) -> Callable[[Services], Any]:
    world.open_session()
    chunk = LegacyChunk(SESSION, "hours.csv", 0, 1)
    return lambda services: services.uploads.store_legacy_chunk(world.caller.user_id, chunk, THREE_CHUNKS)


def finalize(world: World) -> Callable[[Services], Any]:
    upload = world.open_upload(THREE_CHUNKS)
    world.services.uploads.assemble(world.caller.user_id, upload.id)
    return lambda services: services.uploads.finalize_session(world.caller, SESSION)


def finalized(world: World) -> None:
    assert [(row["status"], row["n_dat"]) for row in world.sessions()] == [("finalized", N_ROWS)]
    assembled(world)


def abort(world: World) -> Callable[[Services], Any]:
    upload = world.open_upload(THREE_CHUNKS)
    return lambda services: services.uploads.abort(world.caller.user_id, upload.id)


def clean_up(world: World) -> Callable[[Services], Any]:
    world.open_upload(THREE_CHUNKS)
    return lambda services: services.uploads.sweep(max_age_hours=0)


def delete(world: World) -> Callable[[Services], Any]:
    upload = world.open_upload(THREE_CHUNKS)
    world.services.uploads.assemble(world.caller.user_id, upload.id)
    world.note(upload)
    return lambda services: services.deletions.delete(world.caller.user_id, SESSION)


def deleted(world: World) -> None:
    assert world.sessions() == []
    assert world.usage() == (1, 0)


assembled = only("assembled", THREE_CHUNKS, N_ROWS)

STORIES = {
    "create": Story(create, only("expired")),
    "sign": Story(sign, only("expired")),
    "get": Story(get, only("expired")),
    "assemble a table": Story(assemble(THREE_CHUNKS, "hours.csv"), assembled),
    "assemble 40 chunks": Story(assemble(FORTY_CHUNKS, "hours.bin"), only("assembled", FORTY_CHUNKS)),
    "assemble nothing": Story(assemble(b"", "hours.bin"), only("assembled")),
    "send the old way": Story(send_the_old_way, assembled),
    "finalize": Story(finalize, finalized),
    "abort": Story(abort, only("aborted")),
    "clean up": Story(clean_up, only("expired")),
    # The last of its calls is the one that is not repeated.
    "delete": Story(delete, deleted, gets_over=False),
}


def count_calls(world: World, faulty: Faulty, story: Story) -> list[str]:
    act = story.prepare(world)
    faulty.plan.clear()
    act(faulty.services)
    calls = list(faulty.plan.calls)
    world.clean_up()
    story.ends(world)
    return calls


def cases(n_calls: int, name: str) -> Iterator[tuple[int, Fault]]:
    step = 11 if name == "assemble 40 chunks" and not EVERY_FAULT else 1
    for at in range(1, n_calls + 1, step):
        yield from (
            (at, fault) for fault in FAULTS if EVERY_FAULT or fault is FAULTS[(3 * at + len(name)) % len(FAULTS)]
        )


@pytest.mark.parametrize("name", STORIES)
def test_a_fault_that_happens_once_does_no_harm(new_world, faulty, name):
    story = STORIES[name]
    calls = count_calls(new_world(), faulty, story)
    for at, fault in cases(len(calls), name):
        act_under(story, new_world(), faulty, partial(faulty.plan.hurt, at, fault), f"{fault} at {at}, {calls[at - 1]}")


@pytest.mark.parametrize("name", STORIES)
def test_a_fault_that_stays_is_answered_with_try_again_and_then_it_ends_well(new_world, faulty, name):
    story = replace(STORIES[name], gets_over=False)
    calls = count_calls(new_world(), faulty, story)
    step = 1 if EVERY_FAULT else 11 if name == "assemble 40 chunks" else 3
    for at in range(1, len(calls) + 1, step):
        fault = FAULTS[at % len(FAULTS)]
        where = f"{fault} since {at}, {calls[at - 1]}"
        act_under(story, new_world(), faulty, partial(faulty.plan.hurt, at, fault, for_good=True), where)


def error_of(act: Callable[[], Any]) -> ServiceError | None:
    try:
        act()
    except ServiceError as error:
        return error
    return None


def act_under(story: Story, world: World, faulty: Faulty, hurt: Callable[[], None], where: str) -> None:
    act = story.prepare(world)
    hurt()
    try:
        error = error_of(partial(act, faulty.services))
        assert error is None or (error.retryable and not story.gets_over), repr(error)
        faulty.plan.clear()
        world.let_leases_run_out()
        # A session that is gone is what a deletion asked for.
        allowed = (SessionNotFoundError,) if story.ends is deleted else ()
        error = error_of(partial(act, faulty.services))
        assert error is None or isinstance(error, allowed), repr(error)
        faulty.plan.settle()
        world.clean_up()
        story.ends(world)
        world.check(deleted_units=0 if world.sessions() else 1)
    except Exception as failure:
        failure.add_note(where)
        raise
    finally:
        faulty.plan.clear()
        faulty.plan.settle()


class TestStorage:
    """What the adapter alone must do."""

    @pytest.fixture
    def world(self, new_world):
        return new_world()

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("content", [b"some bytes", b""], ids=["bytes", "nothing"])
    def test_a_write_whose_answer_was_lost_is_ours(self, faulty, world, fault, content):
        name = f"chunks/{world.open_upload(b'').id}/00000"
        faulty.plan.hurt(1, fault)
        stored = faulty.services.store.write(name, content, "text/plain")
        faulty.plan.settle()
        assert world.services.store.stat(name) == stored

    def test_a_write_that_met_somebody_elses_object_is_refused_whatever_else_happened(self, faulty, world):
        name = f"chunks/{world.open_upload(b'').id}/00000"
        world.services.store.write(name, b"their bytes", "text/plain")
        faulty.plan.hurt(1, Fault.CUT_REQUEST)
        with pytest.raises(ObjectExistsError):
            faulty.services.store.write(name, b"other bytes", "text/plain")
        assert b"".join(world.services.store.read(name)) == b"their bytes"

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_read_that_breaks_goes_on_where_it_was(self, faulty, world, fault):
        content = bytes(range(256)) * 20_000
        name = f"chunks/{world.open_upload(b'').id}/00000"
        stored = world.services.store.write(name, content, "application/octet-stream")
        faulty.plan.hurt(1, fault)
        assert b"".join(faulty.services.store.read(name, generation=stored.generation, start=7)) == content[7:]
        faulty.plan.settle()

    def test_a_read_that_always_breaks_ends(self, faulty, world):
        name = f"chunks/{world.open_upload(b'').id}/00000"
        stored = world.services.store.write(name, bytes(100), "application/octet-stream")
        faulty.plan.hurt(1, Fault.AWAY, for_good=True)
        with pytest.raises(StorageUnavailableError):
            list(faulty.services.store.read(name, generation=stored.generation))
        assert len(faulty.plan.calls) == gcs.READ_TRIES
        faulty.plan.clear()

    def test_a_broken_read_of_no_certain_generation_is_not_patched_together(self, monkeypatch):
        # How much of a cut reply arrives is for the kernels to say; here exactly one piece does.
        def broken(_self, _name, _generation, start):
            yield b"a piece"
            if start == 0:
                raise StorageUnavailableError

        monkeypatch.setattr(gcs.GcsObjectStore, "_read_once", broken)
        store = gcs.GcsObjectStore("bucket")

        with pytest.raises(StorageUnavailableError):
            list(store.read("name"))
        assert list(store.read("name", generation=1)) == [b"a piece", b"a piece"]
