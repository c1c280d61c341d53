"""The repositories in memory and on Supabase, told to do the same things in the same order, whatever it is."""

import random
from typing import Any

import pytest

from shared.errors import ServiceError
from shared.records.callers import Caller
from shared.records.sessions import SessionStatus
from shared.records.uploads import AssembledObject, UploadState
from tests.contract.conftest import Backend, MemoryBackend, SupabaseBackend
from tests.factories import a_new_upload, a_uuid

PLAN = {"processing_limit": 12, "bytes_stored_limit": 200}
SESSIONS = ("weather", "flights")
YEARS = 24 * 365
LEASES = (a_uuid(), a_uuid())
STEPS = 120


class Player:
    """Does what it is told on one backend. Uploads are known by the order in which they were opened."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.alice: Caller = backend.user(**PLAN)
        self._upload_ids: list[str] = []
        self._session_uuids: dict[str, str] = {}
        self.seen_sessions: set[str] = set()
        self.seen_uploads: set[str] = set()

    def do(self, action: str, *arguments: Any) -> Any:
        """Do one thing; return what came of it in words that both backends would use."""
        try:
            return getattr(self, action)(*arguments)
        except ServiceError as error:
            details = {name: value for name, value in error.details.items() if name not in {"uploadId", "resetsAt"}}
            if "uploads" in details:
                details["uploads"] = [(upload["fileName"], upload["state"]) for upload in details["uploads"]]
            return error.code, details

    def books(self) -> Any:
        """Return what is visible and what is counted."""
        sessions = {session.session_id: session for session in self._backend.sessions.page(self.alice, limit=10)}
        uploads = {
            name: [self._facts(upload) for upload in self._backend.uploads.of_session(self.alice, name)[1]]
            for name in sessions
        }
        self.seen_sessions |= {session.status for session in sessions.values()}
        self.seen_uploads |= {facts[1] for shown in uploads.values() for facts in shown}
        shown = {name: (session.status, session.n_dat) for name, session in sessions.items()}
        return shown, uploads, self._backend.usage(self.alice)

    @staticmethod
    def _facts(upload: Any) -> tuple[Any, ...]:
        return (upload.file_name, upload.state, upload.size_bytes, upload.n_rows, upload.is_legacy, upload.failure)

    def init(self, session: str) -> Any:
        made = self._backend.sessions.init(self.alice.user_id, session, {})
        self._session_uuids[session] = made.id
        return made.status

    def create(self, session: str, name: str, size: int, is_legacy: bool) -> Any:
        fields = {"size_bytes": None, "reserved_bytes": size, "total_chunks": 2} if is_legacy else {"size_bytes": size}
        new = a_new_upload(session_id=session, file_name=name, is_legacy=is_legacy, **fields)
        upload, is_new = self._backend.uploads.create(self.alice.user_id, new)
        if is_new:
            self._upload_ids.append(upload.id)
        return self._upload_ids.index(upload.id), is_new, upload.state

    def extend(self, number: int) -> Any:
        return self._backend.uploads.extend(self.alice.user_id, self._id(number)).state

    def claim(self, number: int, lease: str, lease_s: int) -> Any:
        claim = self._backend.uploads.claim(self.alice.user_id, self._id(number), lease, lease_s)
        return claim.outcome, claim.upload.state

    def release(self, number: int, lease: str) -> Any:
        return self._backend.uploads.release(self.alice.user_id, self._id(number), lease)

    def record(self, number: int, lease: str, n_rows: int) -> Any:
        made = AssembledObject("datasets/a", 1, 10 + n_rows, "AAAAAA==", None, n_rows)
        return self._facts(self._backend.uploads.record(self.alice.user_id, self._id(number), lease, made))

    def fail(self, number: int, lease: str) -> Any:
        failed = self._backend.uploads.fail(self.alice.user_id, self._id(number), lease, {"code": "data_set_invalid"})
        return self._facts(failed)

    def abort(self, number: int) -> Any:
        return self._backend.uploads.abort(self.alice.user_id, self._id(number)).state

    def sweep(self, number: int, dry_run: bool) -> Any:
        """Let one upload grow old, and sweep."""
        if self._upload_ids:
            upload_id = self._id(number)
            try:
                self._backend.uploads.get(self.alice, upload_id)
            except ServiceError:
                return "gone"
            self._backend.make_older(upload_id, hours=30 * YEARS)
        mine = set(self._upload_ids)
        swept = self._backend.uploads.begin_sweep(max_age_hours=20 * YEARS, limit=1000, dry_run=dry_run)
        return sorted((self._upload_ids.index(upload.id), upload.state) for upload in swept if upload.id in mine)

    def finish_sweep(self, number: int) -> Any:
        return self._backend.uploads.finish_sweep(self._id(number))

    def finalize(self, session: str) -> Any:
        made = self._backend.sessions.finalize(self.alice.user_id, session)
        return made.status, made.n_dat

    def begin_delete(self, session: str) -> Any:
        _, upload_ids = self._backend.sessions.begin_delete(self.alice.user_id, session)
        return [self._upload_ids.index(upload_id) for upload_id in upload_ids]

    def finish_delete(self, session: str) -> Any:
        return self._backend.sessions.finish_delete(self.alice.user_id, self._session_uuids.get(session, a_uuid()))

    def renew(self) -> Any:
        return self._backend.renew(self.alice)

    def _id(self, number: int) -> str:
        return self._upload_ids[number % len(self._upload_ids)] if self._upload_ids else a_uuid()


def a_move(dice: random.Random) -> tuple[Any, ...]:
    """Return something to do, mostly something sensible."""
    number, session, lease = dice.randrange(100), dice.choice(SESSIONS), dice.choice(LEASES)
    moves = {
        "init": (4, (session,)),
        "create": (12, (session, dice.choice("abcd"), dice.choice([0, 5, 10, 60]), dice.random() < 0.2)),
        "extend": (2, (number,)),
        "claim": (10, (number, lease, dice.choice([0, 60, 60]))),
        "release": (3, (number, lease)),
        "record": (7, (number, lease, dice.randrange(3))),
        "fail": (3, (number, lease)),
        "abort": (3, (number,)),
        "sweep": (2, (number, dice.random() < 0.3)),
        "finish_sweep": (3, (number,)),
        "finalize": (2, (session,)),
        "begin_delete": (1, (session,)),
        "finish_delete": (2, (session,)),
        "renew": (1, ()),
    }
    [name] = dice.choices(list(moves), weights=[weight for weight, _ in moves.values()])
    return name, *moves[name][1]


def test_whatever_they_are_told_they_answer_the_same_and_count_the_same(local_stack, people):
    seen_sessions, seen_uploads = set(), set()
    for seed in range(5):
        dice = random.Random(seed)
        memory, supabase = Player(MemoryBackend()), Player(SupabaseBackend(local_stack, people))
        history = []
        for _ in range(STEPS):
            move = a_move(dice)
            history.append(move)

            answers = [player.do(*move) for player in (memory, supabase)]

            assert answers[0] == answers[1], (seed, history[-12:])
            assert memory.books() == supabase.books(), (seed, history[-12:])
        seen_sessions |= supabase.seen_sessions
        seen_uploads |= supabase.seen_uploads

    # The moves lead everywhere; otherwise agreeing would say little.
    assert seen_uploads == set(UploadState)
    assert seen_sessions >= {SessionStatus.INITIALIZED, SessionStatus.UPLOADING, SessionStatus.FINALIZED}


@pytest.mark.parametrize("seed", range(3))
def test_the_moves_of_a_seed_are_always_the_same(seed):
    first, second = random.Random(seed), random.Random(seed)

    assert [a_move(first) for _ in range(20)] == [a_move(second) for _ in range(20)]
