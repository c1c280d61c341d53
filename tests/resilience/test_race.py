"""Callers at once, on the real database and bucket: two to eight of them, again and again.

Threads in this process share adapters, as the threads of one instance do; processes of their own are what instances
are. A disturber may let leases run out all the while, so that callers take work over from each other anywhere.

TRAINSHED_EVERY_CRASH=1 runs each race 20 times instead of 10.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from shared.errors import ServiceError, SessionNotFoundError
from shared.records.uploads import Upload
from tests.resilience.processes import CHUNK_BYTES
from tests.resilience.world import SESSION, World, a_csv

THREE_CHUNKS = a_csv(2 * CHUNK_BYTES + 100)
FORTY_CHUNKS = bytes(i * 31 % 251 for i in range(39 * CHUNK_BYTES + 17))
ROUNDS = 20 if os.environ.get("TRAINSHED_EVERY_CRASH") else 10

Op = Callable[[], Any]


def at_once(*ops: Op) -> list[Any]:
    """Do all of it at once; return what came of each, errors of ours included. Any other error is a defect."""
    barrier = threading.Barrier(len(ops))

    def run(op: Op) -> Any:
        barrier.wait()
        try:
            return op()
        except ServiceError as error:
            return error

    with ThreadPoolExecutor(len(ops)) as pool:
        return list(pool.map(run, ops))


@contextmanager
def leases_running_out(world: World) -> Iterator[None]:
    """Let every lease run out, again and again, while callers work under it."""
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.01):
            world.let_leases_run_out()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Callers:
    """What callers of one world do."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner = world.caller.user_id

    def assemble(self, upload: Upload) -> Op:
        return lambda: self._world.services.uploads.assemble(self._owner, upload.id).state.value

    def abort(self, upload: Upload) -> Op:
        return lambda: self._world.services.uploads.abort(self._owner, upload.id)[0].state.value

    def clean_up(self) -> Op:
        return lambda: self._world.services.uploads.sweep(max_age_hours=0)

    def create(self, name: str) -> Op:
        fields = {"sessionId": SESSION, "fileName": name, "size": len(THREE_CHUNKS)}
        return lambda: self._world.services.uploads.create(self._owner, fields)[0]

    def finalize(self) -> Op:
        return lambda: self._world.services.uploads.finalize_session(self._world.caller, SESSION).status.value

    def delete(self) -> Op:
        return lambda: self._world.services.deletions.delete(self._owner, SESSION)


def codes(outcomes: Sequence[Any]) -> set[str]:
    return {outcome.code for outcome in outcomes if isinstance(outcome, ServiceError)}


def states(world: World) -> list[str]:
    return [row["state"] for row in world.rows()]


@pytest.fixture
def world(new_world) -> World:
    return new_world()


@pytest.fixture
def callers(world) -> Callers:
    return Callers(world)


@pytest.mark.parametrize("n_callers", [2, 4, 8])
@pytest.mark.parametrize("content", [THREE_CHUNKS, FORTY_CHUNKS, b""], ids=["3 chunks", "40 chunks", "no chunk"])
def test_of_many_assemblies_one_does_the_work_and_the_others_say_so(world, callers, content, n_callers):
    rounds = ROUNDS // 4
    for number in range(rounds):
        upload = world.open_upload(content, f"hours {number}.bin")
        outcomes = at_once(*[callers.assemble(upload)] * n_callers)
        assert set(outcomes) <= {"assembled", "assembling"}
        assert "assembled" in outcomes
        assert world.content(world.row(upload)) == content
    assert states(world) == ["assembled"] * rounds
    assert world.usage() == (rounds, rounds * len(content))
    world.clean_up()
    world.check()


def test_eight_instances_assemble_one_object(world):
    upload = world.open_upload(FORTY_CHUNKS, "hours.bin")
    warm_up = world.request("GET", f"/uploads/{upload.id}")
    request = world.request("POST", f"/uploads/{upload.id}/assemble", warm_up=warm_up, jitter_s=0.01)
    outcomes = world.run(*[request] * 8)
    assert {outcome.status for outcome in outcomes} <= {200, 202}
    assert len([outcome for outcome in outcomes if "POST /storage" in " ".join(outcome.calls)]) == 1
    assert world.content(world.row(upload)) == FORTY_CHUNKS
    world.clean_up()
    world.check()


@pytest.mark.parametrize("content", [THREE_CHUNKS, FORTY_CHUNKS], ids=["3 chunks", "40 chunks"])
def test_assemblies_that_lose_their_leases_to_each_other_make_one_object(world, callers, content):
    for number in range(4):
        upload = world.open_upload(content, f"hours {number}.bin")
        with leases_running_out(world):
            outcomes = at_once(*[callers.assemble(upload)] * 4)
        assert codes(outcomes) <= {"lease_lost"}
        world.let_leases_run_out()
        assert callers.assemble(upload)() == "assembled"
        assert world.content(world.row(upload)) == content
    assert world.usage() == (4, 4 * len(content))
    world.clean_up()
    world.check()


@pytest.mark.parametrize("n_callers", [1, 3])
def test_an_upload_that_is_assembled_and_aborted_at_once_is_one_of_both(world, callers, n_callers):
    for number in range(ROUNDS):
        upload = world.open_upload(THREE_CHUNKS, f"hours {number}.csv")
        outcomes = at_once(*[callers.assemble(upload)] * n_callers, *[callers.abort(upload)] * n_callers)
        assert codes(outcomes) <= {"wrong_state"}
        state = world.row(upload)["state"]
        assert state in {"assembled", "aborted"}
        assert {"assembled": "aborted", "aborted": "assembled"}[state] not in outcomes
        assert state in outcomes
    world.clean_up()
    world.check()


@pytest.mark.parametrize("n_callers", [1, 3])
def test_an_upload_that_is_assembled_and_swept_at_once_is_assembled_or_expires(world, callers, n_callers):
    for number in range(ROUNDS):
        upload = world.open_upload(THREE_CHUNKS, f"hours {number}.csv")
        outcomes = at_once(*[callers.assemble(upload)] * n_callers, *[callers.clean_up()] * n_callers)
        assert codes(outcomes) <= {"wrong_state"}
        state = world.row(upload)["state"]
        assert state in {"assembled", "expired"}
        assert ("assembled" in outcomes) is (state == "assembled")
    world.clean_up()
    world.check()


@pytest.mark.parametrize("end", ["abort", "clean_up", "delete"])
@pytest.mark.parametrize("content", [THREE_CHUNKS, FORTY_CHUNKS, b""], ids=["3 chunks", "40 chunks", "no chunk"])
def test_an_assembly_that_lost_its_lease_leaves_nothing_behind_what_ended_the_upload(world, callers, content, end):
    n_deleted_units = 0
    for number in range(5):
        upload = world.open_upload(content, f"hours {number}.bin")
        world.note(upload)
        ending = callers.abort(upload) if end == "abort" else getattr(callers, end)()

        def end_it(ending: Op = ending, number: int = number) -> Any:
            # At another moment of the assembly each time.
            time.sleep(0.01 * number)
            return ending()

        with leases_running_out(world):
            outcomes = at_once(callers.assemble(upload), callers.assemble(upload), end_it)
        allowed = {"lease_lost", "wrong_state", "upload_not_found", "session_busy"}
        assert codes(outcomes) <= allowed
        if end == "delete":
            n_deleted_units += "assembled" in outcomes[:2]
            delete_for_good(world, callers)
    world.clean_up()
    world.check(deleted_units=n_deleted_units)


def delete_for_good(world: World, callers: Callers) -> None:
    world.let_leases_run_out()
    try:
        callers.delete()()
    except SessionNotFoundError:
        # The race was won by another deletion.
        assert world.sessions() == []


def test_a_session_is_finalized_before_an_upload_is_opened_or_after_never_between(world, callers):
    finalized_first = 0
    for _ in range(ROUNDS):
        world.open_session()
        finalized, created = at_once(callers.finalize(), callers.create("late.csv"))
        if isinstance(finalized, ServiceError):
            assert finalized.code == "uploads_unfinished"
            assert [row["id"] for row in world.rows()] == [created.id]
        else:
            finalized_first += 1
            assert (finalized, created.code) == ("finalized", "session_finalized")
            assert world.rows() == []
        callers.delete()()
        assert world.usage() == (0, 0)
    world.check()


def test_equal_uploads_opened_at_once_are_one_and_counted_once(world, callers):
    for number in range(ROUNDS):
        world.open_session()
        outcomes = at_once(*[callers.create(f"hours {number}.csv")] * 4)
        assert len({upload.id for upload in outcomes}) == 1
    assert world.usage() == (ROUNDS, ROUNDS * len(THREE_CHUNKS))
    world.clean_up()
    world.check()


@pytest.mark.parametrize("other", ["assemble", "abort", "clean_up", "create", "finalize", "delete"])
def test_a_session_that_is_deleted_while_others_work_on_it_goes_whole_or_stays_whole(world, callers, other):
    n_deleted_units = 0
    for _ in range(ROUNDS):
        upload = world.open_upload(THREE_CHUNKS)
        world.note(upload)
        ops = {
            "assemble": callers.assemble(upload),
            "abort": callers.abort(upload),
            "clean_up": callers.clean_up(),
            "create": callers.create("another.csv"),
            "finalize": callers.finalize(),
            "delete": callers.delete(),
        }
        deleted, *others = at_once(callers.delete(), ops[other], ops[other])
        refusals = {"session_not_found", "session_busy", "upload_not_found", "wrong_state", "uploads_unfinished"}
        assert codes([deleted, *others]) <= refusals
        if not isinstance(deleted, ServiceError):
            assert world.sessions() == []
        n_deleted_units += "assembled" in others
        delete_for_good(world, callers)
        assert world.sessions() == []
        assert world.usage() == (n_deleted_units, 0)
    world.check(deleted_units=n_deleted_units)
