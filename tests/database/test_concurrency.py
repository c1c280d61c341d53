"""Two transactions at once, on a real Postgres: who comes second waits, and then sees what the first has done.

The first transaction stays open until the server says that the second one waits for a lock: no test here sleeps and
hopes.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from shared.records.callers import Caller
from tests.local_stack import LocalStack, People

YEARS = 365 * 24


class Race:
    """Calls functions for one user, in a transaction that stays open or in others beside it."""

    def __init__(self, stack: LocalStack, caller: Caller) -> None:
        self.stack = stack
        self.owner = caller.user_id

    def call(self, connection: psycopg.Connection, function: str, *arguments: Any) -> Any:
        """Call a function; return its result, or the code of its error."""
        places = ", ".join(["%s"] * len(arguments))
        try:
            [row] = connection.execute(f"select public.{function}({places}) as result", arguments)
        except psycopg.Error as error:
            if not error.sqlstate.startswith("PT"):
                raise
            return error.diag.message_primary
        return row["result"]

    def once(self, function: str, *arguments: Any) -> Any:
        with self.stack.connect() as connection:
            return self.call(connection, function, *arguments)

    def init(self, name: str = "weather") -> str:
        return self.once("init_session_v1", self.owner, name, Jsonb({}))["id"]

    def create(self, name: str, n_bytes: int = 10, session: str = "weather") -> tuple[Any, ...]:
        return ("create_upload_v1", self.owner, session, name, "text/csv", n_bytes, n_bytes, 10, 1, None, False)

    def opened(self, name: str) -> str:
        return self.once(*self.create(name))["id"]

    @contextmanager
    def first(self, function: str, *arguments: Any) -> Iterator[Any]:
        """Hold a transaction open in which the function was called; it is committed at the end."""
        with self.stack.connect(autocommit=False) as connection:
            yield Held(self, connection, self.call(connection, function, *arguments))

    @contextmanager
    def holding(self, upload_id: str) -> Iterator["Held"]:
        """Hold a transaction open that has locked an upload and done nothing yet."""
        with self.stack.connect(autocommit=False) as connection:
            connection.execute("select from public.uploads where id = %s for update", (upload_id,))
            yield Held(self, connection, None)


class Held:
    """A transaction that has done its work and is not committed."""

    def __init__(self, race: Race, connection: psycopg.Connection, result: Any) -> None:
        self._race = race
        self._connection = connection
        self.result = result

    def second(self, function: str, *arguments: Any) -> "Future[Any]":
        """Begin another transaction that must wait for this one; return when it does."""
        started: Future[int] = Future()

        def run() -> Any:
            with self._race.stack.connect() as connection:
                started.set_result(connection.info.backend_pid)
                return self._race.call(connection, function, *arguments)

        pool = ThreadPoolExecutor(1)
        outcome = pool.submit(run)
        pool.shutdown(wait=False)
        self._wait_until_blocked(started.result(), outcome)
        return outcome

    def _wait_until_blocked(self, pid: int, outcome: "Future[Any]") -> None:
        mine = self._connection.info.backend_pid
        with self._race.stack.connect() as watcher:
            while not outcome.done():
                [row] = watcher.execute("select %s = any(pg_blocking_pids(%s)) as waits", (mine, pid))
                if row["waits"]:
                    return
        raise AssertionError(f"the second transaction did not wait, and answered {outcome.result()}")

    def call(self, function: str, *arguments: Any) -> Any:
        """Go on in the same transaction."""
        return self._race.call(self._connection, function, *arguments)

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()


@pytest.fixture
def race(local_stack, people: People) -> Callable[..., Race]:
    def start(**plan: Any) -> Race:
        race = Race(local_stack, people.add(**plan))
        race.init()
        return race

    return start


@pytest.mark.parametrize(
    ("plan", "error"),
    [({"processing_limit": 2}, "processing_limit_reached"), ({"bytes_stored_limit": 25}, "storage_limit_reached")],
)
def test_the_last_unit_goes_to_who_took_it_first(race, plan, error):
    race = race(**plan)
    race.init("other")
    # With something counted before, there is a row of counters for both to read.
    race.opened("earlier")

    with race.first(*race.create("a")) as first:
        second = first.second(*race.create("b", session="other"))
        first.commit()

    assert first.result["is_new"]
    assert second.result() == error


def test_the_last_unit_is_free_again_if_the_first_gave_up(race):
    race = race(processing_limit=1)
    race.init("other")

    with race.first(*race.create("a")) as first:
        second = first.second(*race.create("b", session="other"))
        first.rollback()

    assert second.result()["is_new"]


def test_an_upload_that_came_before_finalizing_keeps_the_session_open(race):
    race = race()

    with race.first(*race.create("a")) as first:
        second = first.second("finalize_session_v1", race.owner, "weather")
        first.commit()

    assert second.result() == "uploads_unfinished"


def test_an_upload_that_came_after_finalizing_is_refused(race):
    race = race()

    with race.first("finalize_session_v1", race.owner, "weather") as first:
        second = first.second(*race.create("a"))
        first.commit()

    assert second.result() == "session_finalized"


def test_an_upload_that_came_before_a_deletion_is_deleted_with_the_session(race):
    race = race()

    with race.first(*race.create("a")) as first:
        second = first.second("begin_delete_session_v1", race.owner, "weather")
        first.commit()

    assert second.result()["upload_ids"] == [first.result["id"]]


def test_an_upload_that_came_after_a_deletion_is_refused(race):
    race = race()

    with race.first("begin_delete_session_v1", race.owner, "weather") as first:
        second = first.second(*race.create("a"))
        first.commit()

    assert second.result() == "session_not_found"


def test_who_claims_second_finds_it_busy(race):
    race = race()
    upload_id = race.opened("a")

    with race.first("claim_assembly_v1", race.owner, upload_id, str(uuid.uuid4()), 60) as first:
        second = first.second("claim_assembly_v1", race.owner, upload_id, str(uuid.uuid4()), 60)
        first.commit()

    assert (first.result["outcome"], second.result()["outcome"]) == ("claimed", "busy")


def test_who_claims_second_gets_it_if_the_first_gave_up(race):
    race = race()
    upload_id = race.opened("a")

    with race.first("claim_assembly_v1", race.owner, upload_id, str(uuid.uuid4()), 60) as first:
        second = first.second("claim_assembly_v1", race.owner, upload_id, str(uuid.uuid4()), 60)
        first.rollback()

    assert second.result()["outcome"] == "claimed"


def test_an_upload_that_is_just_being_claimed_is_passed_over_by_a_sweep(race):
    race = race()
    upload_id = race.opened("a")
    race.stack.rows("update public.uploads set updated_at = '1990-01-01' where id = %s", upload_id)

    with race.first("claim_assembly_v1", race.owner, upload_id, str(uuid.uuid4()), 60) as first:
        swept = race.once("begin_sweep_v1", 20 * YEARS, 1000, False)
        first.commit()

    assert upload_id not in [upload["id"] for upload in swept]


def test_an_upload_that_is_just_being_swept_cannot_be_claimed(race):
    race = race()
    upload_id = race.opened("a")
    race.stack.rows("update public.uploads set updated_at = '1990-01-01' where id = %s", upload_id)

    with race.first("begin_sweep_v1", 20 * YEARS, 1000, False) as first:
        second = first.second("claim_assembly_v1", race.owner, upload_id, str(uuid.uuid4()), 60)
        first.commit()

    assert second.result() == "wrong_state"


def test_a_session_is_not_deleted_under_an_upload_that_is_just_being_claimed(race):
    race = race()
    upload_id = race.opened("a")

    with race.first("claim_assembly_v1", race.owner, upload_id, str(uuid.uuid4()), 60) as first:
        second = first.second("begin_delete_session_v1", race.owner, "weather")
        first.commit()

    assert second.result() == "session_busy"


@pytest.mark.parametrize(
    "functions",
    [
        ("abort_upload_v1", "abort_upload_v1"),
        ("abort_upload_v1", "begin_delete_session_v1"),
        ("begin_delete_session_v1", "abort_upload_v1"),
        ("begin_delete_session_v1", "begin_delete_session_v1"),
    ],
    ids=" and ".join,
)
def test_two_who_give_an_upload_up_free_its_quota_once(race, functions):
    race = race()
    race.init("other")
    race.once(*race.create("kept", session="other"))
    upload_id = race.opened("a")
    calls = [(name, race.owner, "weather" if "session" in name else upload_id) for name in functions]

    with race.first(*calls[0]) as first:
        second = first.second(*calls[1])
        first.commit()

    assert second.result()["id"]
    [usage] = race.stack.rows("select * from public.usage_counters where user_id = %s", race.owner)
    assert (usage["processing_used"], usage["bytes_stored"]) == (1, 10)


def test_deleting_a_session_of_many_uploads_waits_for_one_that_is_given_up_without_a_deadlock(race):
    race = race()
    upload_ids = sorted(race.opened(f"{number}") for number in range(30))

    # Giving an upload up locks it first, and wants the counters then, as the deletion does.
    with race.holding(upload_ids[-1]) as first:
        second = first.second("begin_delete_session_v1", race.owner, "weather")
        given_up = first.call("abort_upload_v1", race.owner, upload_ids[-1])
        first.commit()

    assert given_up["state"] == "aborted"
    assert sorted(second.result()["upload_ids"]) == upload_ids
    [usage] = race.stack.rows("select * from public.usage_counters where user_id = %s", race.owner)
    assert (usage["processing_used"], usage["bytes_stored"]) == (0, 0)


def test_sessions_of_one_name_begun_at_once_are_one(race):
    race = race()

    with race.first("init_session_v1", race.owner, "new", Jsonb({"n": 1})) as first:
        second = first.second("init_session_v1", race.owner, "new", Jsonb({"n": 2}))
        first.commit()

    assert second.result()["id"] == first.result["id"]
    assert second.result()["metadata"] == {"n": 1}


class BusyClient:
    """Does whatever a die says to the uploads and sessions that all clients of one user share."""

    SESSIONS = ("weather", "s1", "s2")

    def __init__(self, race: Race, upload_ids: list[str], seed: int) -> None:
        self._race = race
        self._upload_ids = upload_ids
        self._seed = seed
        self._dice = random.Random(seed)
        self._lease = str(uuid.uuid4())
        self.deleted_processed = 0

    def run(self, n_steps: int) -> None:
        actions = [self.create] * 4 + [self.change_upload] * 12 + [self.delete]
        with self._race.stack.connect() as connection:
            for step in range(n_steps):
                self._dice.choice(actions)(connection, step)

    def create(self, connection: psycopg.Connection, step: int) -> None:
        call = self._race.create(f"{self._seed}-{step}", session=self._dice.choice(self.SESSIONS))
        answer = self._race.call(connection, *call)
        if isinstance(answer, dict):
            self._upload_ids.append(answer["id"])

    def change_upload(self, connection: psycopg.Connection, _step: int) -> None:
        function, arguments = self._dice.choice(
            [
                ("claim_assembly_v1", (self._lease, 0)),
                ("claim_assembly_v1", (self._lease, 60)),
                ("record_assembly_v1", (self._lease, "datasets/a", 1, 10, "AAAAAA==", None, None)),
                ("fail_assembly_v1", (self._lease, Jsonb({}))),
                ("release_assembly_v1", (self._lease,)),
                ("abort_upload_v1", ()),
                ("extend_upload_v1", ()),
            ]
        )
        if self._upload_ids:
            self._race.call(connection, function, self._race.owner, self._dice.choice(self._upload_ids), *arguments)

    def delete(self, connection: psycopg.Connection, _step: int) -> None:
        name = self._dice.choice(self.SESSIONS)
        begun = self._race.call(connection, "begin_delete_session_v1", self._race.owner, name)
        if not isinstance(begun, dict):
            return
        [processed] = connection.execute(
            "select count(*) as n from public.uploads where session_uuid = %s and state = 'assembled'", (begun["id"],)
        )
        done = self._race.call(connection, "finish_delete_session_v1", self._race.owner, begun["id"])
        if isinstance(done, dict):
            self.deleted_processed += processed["n"]
        self._race.call(connection, "init_session_v1", self._race.owner, name, Jsonb({}))


def test_whatever_happens_at_once_nothing_deadlocks_and_the_books_are_right(race, local_stack):
    """Eight clients of one user do everything at once; afterwards the counters are what the rows say."""
    race = race()
    for name in BusyClient.SESSIONS:
        race.init(name)
    upload_ids: list[str] = []
    clients = [BusyClient(race, upload_ids, seed) for seed in range(8)]

    with ThreadPoolExecutor(8) as pool:
        # A deadlock, or any other error that is none of ours, is raised here.
        list(pool.map(lambda client: client.run(60), clients))

    assert len(upload_ids) > 50
    [books] = local_stack.rows(
        "select processing_used, bytes_stored from public.usage_counters where user_id = %s", race.owner
    )
    [rows] = local_stack.rows(
        "select count(*) as n, coalesce(sum(reserved_bytes), 0) as bytes from public.uploads"
        " where user_id = %s and state in ('open', 'assembling', 'assembled', 'expiring')",
        race.owner,
    )
    assert books["bytes_stored"] == rows["bytes"]
    assert books["processing_used"] == rows["n"] + sum(client.deleted_processed for client in clients)
