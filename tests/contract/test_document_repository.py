"""What every `DocumentRepository` does: in memory, and on a real Postgres behind a real PostgREST."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from shared.adapters.supabase_documents import SupabaseDocuments
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_training import SupabaseTraining
from shared.errors import LeaseLostError, RunNotFoundError, SessionNotFoundError
from shared.ports import DocumentRepository, SessionRepository, TrainingRepository
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.documents import DocumentStatus
from shared.records.results import ResultKind
from shared.records.training import Run
from tests.factories import BOB, a_caller, a_uuid
from tests.fakes.sessions import InMemorySessions
from tests.legacy_factories import LegacyBench

LEASE_S = 60
REFERENCE = {"object": None, "generation": None, "bytes": 2, "sha256": "0" * 64}
DOCUMENT = {"b": {"a": [1, 2.5, "ä"]}}


@dataclass
class World:
    """A repository with a session, and the hands to bring documents in and to let time pass."""

    documents: DocumentRepository
    runs: TrainingRepository
    sessions: SessionRepository
    alice: Caller
    bob: Caller
    import_results: Callable[..., str]
    advance: Callable[[str, float], None]

    def a_document(self, **fields: Any) -> str:
        self.sessions.init(self.alice.user_id, "weather", {})
        return self.import_results(self.alice.user_id, "weather", **fields or {"document": DOCUMENT})

    def claimed(self) -> tuple[str, str]:
        """Bring a document in and claim it; return the run's id and the lease token."""
        run_id, token = self.a_document(), a_uuid()
        assert self.documents.claim(self.alice.user_id, run_id, token, LEASE_S).outcome is ClaimOutcome.CLAIMED
        return run_id, token

    def record(self, run_id: str, token: str, **fields: Any) -> None:
        self.documents.record(self.alice.user_id, run_id, token, REFERENCE, found(run_id, **fields))

    def run(self, run_id: str) -> Run:
        _, runs = self.runs.of_session(self.alice, "weather")
        return next(run for run in runs if run.id == run_id)


def found(run_id: str, **fields: Any) -> dict[str, Any]:
    """Return what a reading found: a model that is ready and one that is refused, and one of each other kind."""
    file = {
        "role": "model",
        "format": "pkl",
        "object": "models/x.pkl",
        "bytes": 3,
        "sha256": "1" * 64,
        "media_type": "application/octet-stream",
        "loads_code": True,
        "generation": 7,
    }
    common = {"claimed_class": "Claimed", "class": "sklearn.Thing", "framework": "sklearn", "detail": None}
    ids = [str(uuid.uuid5(uuid.UUID(run_id), path)) for path in ("a", "b")]
    ready = {
        "id": ids[0],
        "name": "a",
        "path": "a",
        "status": "ready",
        "files": [file],
        "published": {"params": {"n": 1}},
    }
    refused = {"id": ids[1], "name": "b", "path": "b", "status": "refused", "files": [], "published": {}}
    defaults = {
        "models": [common | ready, common | refused | {"detail": "It is none.", "framework": "other"}],
        "scalers": [{"name": "s"}],
        "charts": [{"name": "c", "kind": "picture"}],
        "tables": [{"name": "t"}],
        "detail": {"models": 2, "findings": []},
    }
    return defaults | fields


def memory_world() -> World:
    bench = LegacyBench()
    return World(
        documents=bench.documents,
        runs=bench.runs,
        sessions=InMemorySessions(bench.database),
        alice=a_caller(),
        bob=a_caller(BOB),
        import_results=bench.documents.import_results,
        advance=lambda _, seconds: bench.database.advance(seconds=seconds),
    )


def supabase_world(stack, people) -> World:
    def import_results(owner, session_id, document=None, object_name=None):
        answer = stack.database.call(
            "import_legacy_results_v1", owner=owner, session_id=session_id, document=document, object=object_name
        )
        return answer["run_id"]

    def advance(run_id, seconds):
        stack.rows(
            "update public.training_results set document_lease_expires_at ="
            " document_lease_expires_at - make_interval(secs => %s) where id = %s",
            seconds,
            run_id,
        )

    return World(
        documents=SupabaseDocuments(stack.database),
        runs=SupabaseTraining(stack.database),
        sessions=SupabaseSessions(stack.database),
        alice=people.add(),
        bob=people.add(),
        import_results=import_results,
        advance=advance,
    )


@pytest.fixture(params=["memory", "supabase"])
def world(request) -> World:
    if request.param == "memory":
        return memory_world()
    return supabase_world(request.getfixturevalue("local_stack"), request.getfixturevalue("people"))


def test_a_document_that_is_brought_in_is_a_completed_run_and_unread(world):
    run = world.run(world.a_document())
    assert (run.status, run.document.status, run.document.detail) == ("completed", DocumentStatus.UNREAD, {})
    assert (run.manifest, run.models) == (None, ())


def test_bringing_the_same_document_in_again_changes_nothing(world):
    first = world.a_document()
    assert world.a_document() == first
    assert world.a_document(document={"other": 1}) != first


def test_a_document_needs_a_session(world):
    with pytest.raises(SessionNotFoundError):
        world.import_results(world.alice.user_id, "none", document={})


def test_a_document_is_streamed_as_it_is(world):
    run_id = world.a_document()
    assert json.loads(b"".join(world.documents.read(world.alice.user_id, run_id))) == DOCUMENT


def test_a_claim_says_where_the_document_lies(world):
    session = world.sessions.init(world.alice.user_id, "weather", {})
    name = f"results/{session.id}/legacy.json"
    run_id = world.import_results(world.alice.user_id, "weather", object_name=name)
    claim = world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S)
    assert (claim.outcome, claim.object_name, claim.busy_s) == (ClaimOutcome.CLAIMED, name, None)


def test_one_of_two_claims_is_told_how_long_the_other_may_take(world):
    run_id, token = world.claimed()
    busy = world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S)
    assert busy.outcome is ClaimOutcome.BUSY
    assert 0 < busy.busy_s <= LEASE_S + 1
    assert world.documents.claim(world.alice.user_id, run_id, token, LEASE_S).outcome is ClaimOutcome.CLAIMED


def test_a_document_is_claimed_again_when_the_lease_ran_out_or_was_given_back(world):
    run_id, token = world.claimed()
    world.documents.release(run_id, a_uuid())
    assert world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S).outcome is ClaimOutcome.BUSY
    world.documents.release(run_id, token)
    assert world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S).outcome is ClaimOutcome.CLAIMED
    world.advance(run_id, LEASE_S + 1)
    assert world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S).outcome is ClaimOutcome.CLAIMED


def test_somebody_elses_document_is_not_found(world):
    run_id, token = world.claimed()
    owner = world.bob.user_id
    for call in (
        lambda: world.documents.claim(owner, run_id, a_uuid(), LEASE_S),
        lambda: world.documents.record(owner, run_id, token, REFERENCE, found(run_id)),
        lambda: world.documents.refuse(owner, run_id, token, {}),
        lambda: world.documents.claim(world.alice.user_id, a_uuid(), a_uuid(), LEASE_S),
    ):
        with pytest.raises(RunNotFoundError):
            call()


def test_what_was_found_is_recorded_at_once(world):
    run_id, token = world.claimed()
    world.record(run_id, token)
    run = world.run(run_id)
    assert (run.document.status, run.document.detail) == (DocumentStatus.READ, {"models": 2, "findings": []})
    assert run.manifest == REFERENCE
    ready, refused = run.models
    assert (ready.path, ready.status, ready.version, ready.origin, ready.claimed_class) == (
        "a",
        "ready",
        1,
        "legacy",
        "Claimed",
    )
    assert [(file.format, file.generation, file.loads_code) for file in ready.files] == [("pkl", 7, True)]
    assert ready.published["params"] == {"n": 1}
    assert (refused.status, refused.status_detail, refused.framework, refused.version) == (
        "refused",
        "It is none.",
        "other",
        None,
    )
    for kind, name in zip(ResultKind, "sct", strict=True):
        assert [item.content["name"] for item in world.runs.results(world.alice, "weather", kind)] == [name]


def test_recording_twice_records_once(world):
    run_id, token = world.claimed()
    world.record(run_id, token)
    world.record(run_id, token)
    assert len(world.run(run_id).models) == 2
    assert world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S).outcome is ClaimOutcome.DONE


def test_who_lost_the_lease_records_and_refuses_nothing(world):
    run_id, token = world.claimed()
    world.advance(run_id, LEASE_S + 1)
    world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S)
    with pytest.raises(LeaseLostError):
        world.record(run_id, token)
    with pytest.raises(LeaseLostError):
        world.documents.refuse(world.alice.user_id, run_id, token, {"code": "x"})
    assert world.run(run_id).models == ()


def test_a_refused_document_stays_refused_with_the_reason(world):
    run_id, token = world.claimed()
    for _ in range(2):
        world.documents.refuse(world.alice.user_id, run_id, token, {"code": "not_json", "path": "a"})
    document = world.run(run_id).document
    assert (document.status, document.detail) == (DocumentStatus.REFUSED, {"code": "not_json", "path": "a"})
    assert world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S).outcome is ClaimOutcome.DONE


def test_equal_models_of_two_documents_have_one_version(world):
    for number in range(2):
        run_id, token = world.a_document(document={"n": number}), a_uuid()
        world.documents.claim(world.alice.user_id, run_id, token, LEASE_S)
        world.record(run_id, token)
        assert world.run(run_id).models[0].version == 1


def test_a_document_of_a_session_that_is_being_deleted_is_gone(world):
    run_id, token = world.claimed()
    world.sessions.begin_delete(world.alice.user_id, "weather")
    with pytest.raises(RunNotFoundError):
        world.record(run_id, token)
    with pytest.raises(RunNotFoundError):
        world.documents.claim(world.alice.user_id, run_id, token, LEASE_S)


def test_of_many_claims_at_once_one_wins(world):
    run_id = world.a_document()
    with ThreadPoolExecutor(8) as pool:
        claims = list(
            pool.map(lambda _: world.documents.claim(world.alice.user_id, run_id, a_uuid(), LEASE_S), range(8))
        )
    assert sorted(claim.outcome for claim in claims) == [*[ClaimOutcome.BUSY] * 7, ClaimOutcome.CLAIMED]
