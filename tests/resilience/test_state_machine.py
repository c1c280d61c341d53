"""Any sequence of what users and the scheduler do, against a small model; in memory, and the same on the real stack.

The model knows no leases, SQL or object names: only the states and what the quota counts (docs/glossary.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.deletion import DeletionService
from shared.errors import ServiceError
from shared.ports import ObjectStore, SessionRepository, UploadRepository
from shared.records.callers import Caller
from shared.records.objects import chunk_name, data_sets_prefix
from shared.records.uploads import Upload
from tests.factories import ALICE, CHUNK_BYTES, Bench, a_caller, a_uuid, some_bytes
from tests.fakes.sessions import InMemorySessions
from tests.fakes.uploads import InMemoryUploads
from tests.local_stack import LocalStack, People
from tests.resilience import processes
from tests.resilience.world import Services
from tests.upload_rules import UploadRules

SESSIONS = st.sampled_from(["spring", "summer"])
FILES = st.sampled_from(["hours.bin", "days.bin"])
N_CHUNKS = st.sampled_from([0, 1, 3])
NUMBERS = st.integers(0, 20)
# What ends much at once happens one time in four that it could, or nothing would ever be finished.
RARELY = st.sampled_from([True, False, False, False])


class Backend(Protocol):
    """The rules on some database and bucket, for one new user."""

    caller: Caller
    chunk_bytes: int
    uploads: UploadRules
    deletions: DeletionService
    upload_rows: UploadRepository
    session_rows: SessionRepository
    store: ObjectStore

    def let_leases_run_out(self) -> None: ...

    def usage(self) -> tuple[int, int]: ...

    def states(self) -> dict[str, str]:
        """Return the states of the user's uploads by id."""


class MemoryBackend:
    chunk_bytes = CHUNK_BYTES

    def __init__(self) -> None:
        self._bench = Bench()
        self.caller = a_caller(ALICE)
        self.uploads, self.deletions = self._bench.upload_service(), self._bench.deletion_service()
        self.upload_rows = InMemoryUploads(self._bench.database)
        self.session_rows = InMemorySessions(self._bench.database)
        self.store = self._bench.store

    def let_leases_run_out(self) -> None:
        for row in self._bench.database.uploads.values():
            if row.lease_expires_at:
                row.lease_expires_at = self._bench.database.now - timedelta(seconds=1)

    def usage(self) -> tuple[int, int]:
        usage = self._bench.database.usage.get(ALICE)
        return (usage.processing_used, usage.bytes_stored) if usage else (0, 0)

    def states(self) -> dict[str, str]:
        return {row.record.id: row.record.state.value for row in self._bench.database.uploads.values()}


class StackBackend:
    chunk_bytes = processes.CHUNK_BYTES

    def __init__(self, stack: LocalStack, people: People, services: Services) -> None:
        self._stack, self._people = stack, people
        self.caller = people.add()
        self.uploads, self.deletions = services.uploads, services.deletions
        self.upload_rows, self.session_rows, self.store = services.upload_rows, services.session_rows, services.store

    def let_leases_run_out(self) -> None:
        self._stack.rows(
            "update public.uploads set lease_expires_at = now() - interval '1 second'"
            " where user_id = %s and lease_expires_at is not null",
            self.caller.user_id,
        )

    def usage(self) -> tuple[int, int]:
        return self._people.usage(self.caller)

    def states(self) -> dict[str, str]:
        rows = self._stack.rows("select id::text, state from public.uploads where user_id = %s", self.caller.user_id)
        return {row["id"]: row["state"] for row in rows}


@dataclass
class ModelUpload:
    """What is known of an upload; `dying` is `assembling` under a lease that has not run out, `dead` after it has."""

    record: Upload
    session: str
    n_chunks: int
    sent: set[int] = field(default_factory=set)
    state: str = "open"

    @property
    def n_bytes(self) -> int:
        return self.record.size_bytes or 0

    @property
    def shown(self) -> str:
        return "assembling" if self.state in {"dying", "dead"} else self.state


IS_GOING_ON = {"open", "dying", "dead"}
IS_FREE = {"open", "dead"}


class Machine(RuleBasedStateMachine):
    """Does things in any order, and knows what each must come to."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self._backend = backend
        self._owner = backend.caller.user_id
        self._sessions: dict[str, bool] = {}
        self._uuids: set[str] = set()
        self._uploads: list[ModelUpload] = []
        self._units = self._bytes = 0

    def _expect(self, code: str | None, act: Callable[[], Any]) -> Any:
        answer, failure = None, None
        try:
            answer = act()
        except ServiceError as error:
            failure = error
        assert (failure.code if failure else None) == code, repr(failure or answer)
        return answer

    def _of(self, session: str) -> list[ModelUpload]:
        return [upload for upload in self._uploads if upload.session == session]

    def _free(self, upload: ModelUpload, state: str) -> None:
        upload.state = state
        self._units -= 1
        self._bytes -= upload.n_bytes

    def _pick(self, number: int) -> ModelUpload:
        return self._uploads[number % len(self._uploads)]

    @initialize()
    def begin(self) -> None:
        self.open_session("spring")
        self.create("spring", "hours.bin", 3)

    @rule(session=SESSIONS)
    def open_session(self, session: str) -> None:
        row = self._expect(None, lambda: self._backend.session_rows.init(self._owner, session, {}))
        self._sessions.setdefault(session, False)
        self._uuids.add(row.id)

    @rule(session=SESSIONS, name=FILES, n_chunks=N_CHUNKS)
    def create(self, session: str, name: str, n_chunks: int) -> None:
        size = n_chunks * self._backend.chunk_bytes
        holder = next((u for u in self._of(session) if u.record.file_name == name and u.state in HOLDS_NAME), None)
        code = None
        if session not in self._sessions:
            code = "session_not_found"
        elif holder and (holder.state != "open" or holder.n_bytes != size):
            code = "file_exists"
        elif not holder and self._sessions[session]:
            code = "session_finalized"
        fields = {"sessionId": session, "fileName": name, "size": size}
        created = self._expect(code, lambda: self._backend.uploads.create(self._owner, fields))
        if created and holder:
            assert (created[0].id, created[2]) == (holder.record.id, False)
        elif created:
            assert created[2]
            self._uploads.append(ModelUpload(created[0], session, n_chunks))
            self._units += 1
            self._bytes += size

    @precondition(lambda self: self._uploads)
    @rule(number=NUMBERS)
    def send_chunks(self, number: int) -> None:
        upload = self._pick(number)
        missing = sorted(set(range(upload.n_chunks)) - upload.sent)
        # A chunk in flight when its upload ends is for the bucket's lifecycle rule.
        if upload.state in IS_GOING_ON:
            for index in missing[: 2 + number % 2]:
                content = some_bytes(self._backend.chunk_bytes, seed=index)
                self._backend.store.write(chunk_name(upload.record.id, index), content, "application/octet-stream")
                upload.sent.add(index)

    @precondition(lambda self: self._sessions)
    @rule(number=NUMBERS, name=FILES, n_chunks=N_CHUNKS)
    def upload_and_assemble(self, number: int, name: str, n_chunks: int) -> None:
        self.create(sorted(self._sessions)[number % len(self._sessions)], name, n_chunks)
        if self._uploads:
            last = len(self._uploads) - 1
            self.send_chunks(last)
            self.send_chunks(last)
            self.assemble(last)

    @precondition(lambda self: self._uploads)
    @rule(number=NUMBERS)
    def assemble(self, number: int) -> None:
        upload = self._pick(number)
        code = None
        if upload.state in {"aborted", "expired"}:
            code = "wrong_state"
        elif upload.state in IS_FREE and len(upload.sent) < upload.n_chunks:
            code = "chunks_missing"
        answer = self._expect(code, lambda: self._backend.uploads.assemble(self._owner, upload.record.id))
        if code == "chunks_missing":
            upload.state = "open"
        elif code is None:
            upload.state = "assembled" if upload.state in IS_FREE else upload.state
            assert answer.state.value == upload.shown

    @precondition(lambda self: self._uploads)
    @rule(number=NUMBERS)
    def die_while_assembling(self, number: int) -> None:
        upload = self._pick(number)
        if upload.state in IS_FREE:
            self._backend.upload_rows.claim(self._owner, upload.record.id, a_uuid(), 330)
            upload.state = "dying"

    @rule()
    def let_leases_run_out(self) -> None:
        self._backend.let_leases_run_out()
        for upload in self._uploads:
            upload.state = "dead" if upload.state == "dying" else upload.state

    @precondition(lambda self: self._uploads)
    @rule(number=NUMBERS)
    def abort(self, number: int) -> None:
        upload = self._pick(number)
        code = None if upload.state in IS_FREE | {"aborted"} else "wrong_state"
        self._expect(code, lambda: self._backend.uploads.abort(self._owner, upload.record.id))
        if code is None and upload.state != "aborted":
            self._free(upload, "aborted")

    @rule(really=RARELY)
    def clean_up(self, really: bool) -> None:
        if really:
            self.sweep()

    def sweep(self) -> None:
        self._backend.uploads.sweep(max_age_hours=0)
        for upload in self._uploads:
            if upload.state in IS_FREE:
                self._free(upload, "expired")

    @rule(session=SESSIONS, really=RARELY)
    def finalize(self, session: str, really: bool) -> None:
        if not really:
            return
        code = None
        if session not in self._sessions:
            code = "session_not_found"
        elif not self._sessions[session] and any(upload.state in IS_GOING_ON for upload in self._of(session)):
            code = "uploads_unfinished"
        self._expect(code, lambda: self._backend.uploads.finalize_session(self._backend.caller, session))
        if code is None:
            self._sessions[session] = True

    @rule(session=SESSIONS, really=RARELY)
    def delete(self, session: str, really: bool) -> None:
        if not really:
            return
        code = None
        if session not in self._sessions:
            code = "session_not_found"
        elif any(upload.state == "dying" for upload in self._of(session)):
            code = "session_busy"
        self._expect(code, lambda: self._backend.deletions.delete(self._owner, session))
        if code is None:
            for upload in self._of(session):
                if upload.state in IS_FREE:
                    self._free(upload, "aborted")
                elif upload.state == "assembled":
                    self._bytes -= upload.n_bytes
                self._uploads.remove(upload)
            del self._sessions[session]

    @invariant()
    def states_and_counters_are_the_models(self) -> None:
        assert self._backend.states() == {upload.record.id: upload.shown for upload in self._uploads}
        assert self._backend.usage() == (self._units, self._bytes)

    def teardown(self) -> None:
        self.let_leases_run_out()
        self.sweep()
        self.states_and_counters_are_the_models()
        store = self._backend.store
        expected = []
        for upload in self._uploads:
            if upload.state == "assembled":
                name = f"{data_sets_prefix(upload.record.session_uuid)}{upload.record.id}/{upload.record.file_name}"
                chunks = [some_bytes(self._backend.chunk_bytes, seed=index) for index in range(upload.n_chunks)]
                assert b"".join(store.read(name)) == b"".join(chunks)
                expected.append(name)
        found = [stored.name for uuid in self._uuids for stored in store.list(data_sets_prefix(uuid))]
        assert sorted(found) == sorted(expected)
        for upload in self._uploads:
            for prefix in ("chunks", "steps"):
                assert store.list(f"{prefix}/{upload.record.id}/") == []


HOLDS_NAME = IS_GOING_ON | {"assembled"}
QUIET = settings(
    derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False, database=None
)


def test_any_sequence_in_memory_ends_as_the_model_says():
    run_state_machine_as_test(
        lambda: Machine(MemoryBackend()), settings=settings(QUIET, max_examples=200, stateful_step_count=40)
    )


def test_any_sequence_on_the_stack_ends_as_the_model_says(local_stack, people, services):
    run_state_machine_as_test(
        lambda: Machine(StackBackend(local_stack, people, services)),
        settings=settings(QUIET, max_examples=12, stateful_step_count=20),
    )
