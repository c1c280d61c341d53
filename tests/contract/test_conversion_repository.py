"""What every `ConversionRepository` does: in memory, and on a real Postgres behind a real PostgREST."""

import hashlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from shared.adapters.supabase_conversions import SupabaseConversions
from shared.adapters.supabase_documents import SupabaseDocuments
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_training import SupabaseTraining
from shared.errors import ModelNotFoundError
from shared.ports import ConversionRepository, DocumentRepository, SessionRepository, TrainingRepository
from shared.records.callers import Caller
from shared.records.training import Conversion, ConversionStatus, TrainedModel
from tests.factories import BOB, a_caller, a_uuid
from tests.fakes.conversions import InMemoryConversions
from tests.fakes.sessions import InMemorySessions
from tests.legacy_factories import LegacyBench

PATIENCE_S = 60
REFERENCE = {"object": None, "generation": None, "bytes": 2, "sha256": "0" * 64}
H5 = {
    "role": "model",
    "format": "h5",
    "object": "models/x.h5",
    "bytes": 5,
    "sha256": hashlib.sha256(b"bytes").hexdigest(),
    "media_type": "application/x-hdf5",
    "loads_code": False,
    "generation": 9,
}
ENDS = [
    Conversion(ConversionStatus.READY, 1),
    Conversion(ConversionStatus.UNSUPPORTED, 1, "No such layer."),
    Conversion(
        ConversionStatus.REFUSED,
        1,
        "$: No. (lambda)",
        {"code": "lambda", "message": "No.", "where": "config.layers[0]"},
    ),
    Conversion(ConversionStatus.FAILED, 1, "It ended without a word."),
]


@dataclass
class World:
    """A repository with a model to convert, and the hands to let time pass."""

    conversions: ConversionRepository
    runs: TrainingRepository
    documents: DocumentRepository
    sessions: SessionRepository
    alice: Caller
    bob: Caller
    import_results: Callable[[str, str, dict[str, Any]], str]
    advance: Callable[[str, float], None]

    def a_model(self) -> str:
        """Take a model in that has one file, and return its id."""
        owner = self.alice.user_id
        self.sessions.init(owner, "weather", {})
        run_id, token = self.import_results(owner, "weather", {}), a_uuid()
        self.documents.claim(owner, run_id, token, 60)
        model_id = str(uuid.uuid5(uuid.UUID(run_id), "a"))
        found = {
            "models": [
                {
                    "id": model_id,
                    "name": "a",
                    "path": "a",
                    "status": "ready",
                    "claimed_class": None,
                    "class": "keras.Sequential",
                    "framework": "keras",
                    "detail": None,
                    "files": [H5 | {"format": "keras", "object": "models/x.keras"}],
                    "published": {},
                }
            ],
            "scalers": [],
            "charts": [],
            "tables": [],
            "detail": {},
        }
        self.documents.record(owner, run_id, token, REFERENCE, found)
        return model_id

    def begin(self, model_id: str) -> Conversion:
        return self.conversions.begin(self.alice.user_id, model_id, PATIENCE_S)

    def finish(self, model_id: str, ended: Conversion, file: dict[str, Any] | None = None) -> Conversion:
        return self.conversions.finish(self.alice.user_id, model_id, ended, file)

    def model(self, model_id: str) -> TrainedModel:
        _, runs = self.runs.of_session(self.alice, "weather")
        return next(model for run in runs for model in run.models if model.id == model_id)

    def formats(self, model_id: str) -> list[str]:
        return [file.format for file in self.model(model_id).files]


def memory_world() -> World:
    bench = LegacyBench()
    return World(
        conversions=InMemoryConversions(bench.runs),
        runs=bench.runs,
        documents=bench.documents,
        sessions=InMemorySessions(bench.database),
        alice=a_caller(),
        bob=a_caller(BOB),
        import_results=lambda owner, session, document: bench.documents.import_results(
            owner, session, document=document
        ),
        advance=lambda _, seconds: bench.database.advance(seconds=seconds),
    )


def supabase_world(stack, people) -> World:
    def import_results(owner, session_id, document):
        answer = stack.database.call(
            "import_legacy_results_v1", owner=owner, session_id=session_id, document=document, object=None
        )
        return answer["run_id"]

    def advance(model_id, seconds):
        stack.rows(
            "update public.models set conversion = jsonb_set(conversion, '{asked_at}', to_jsonb("
            "(conversion ->> 'asked_at')::timestamptz - make_interval(secs => %s))) where id = %s",
            seconds,
            model_id,
        )

    return World(
        conversions=SupabaseConversions(stack.database),
        runs=SupabaseTraining(stack.database),
        documents=SupabaseDocuments(stack.database),
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


def test_a_model_that_nobody_asked_for_has_no_conversion(world):
    assert world.model(world.a_model()).conversion is None


def test_asking_begins_one_attempt_however_often_it_is_asked(world):
    model_id = world.a_model()
    pending = Conversion(ConversionStatus.PENDING, 1)
    assert [world.begin(model_id) for _ in range(3)] == [pending] * 3
    assert world.model(model_id).conversion == pending
    assert world.formats(model_id) == ["keras"]


def test_of_many_who_ask_at_once_one_attempt_comes(world):
    model_id = world.a_model()
    at_once = threading.Barrier(8)

    def ask(_: int) -> Conversion:
        at_once.wait()
        return world.begin(model_id)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {Conversion(ConversionStatus.PENDING, 1)}


@pytest.mark.parametrize("ended", ENDS, ids=lambda one: str(one.status))
def test_an_attempt_ends_once_and_asking_again_begins_no_other(world, ended):
    model_id = world.a_model()
    world.begin(model_id)
    file = H5 if ended.status is ConversionStatus.READY else None
    assert world.finish(model_id, ended, file) == ended
    assert world.finish(model_id, ended, file) == ended
    world.advance(model_id, PATIENCE_S + 1)
    assert world.begin(model_id) == ended
    assert world.model(model_id).conversion == ended
    assert world.formats(model_id) == (["keras", "h5"] if file else ["keras"])


def test_the_file_is_recorded_as_it_was_read_back(world):
    model_id = world.a_model()
    world.begin(model_id)
    world.finish(model_id, ENDS[0], H5)
    file = world.model(model_id).files[-1]
    assert (file.format, file.object_name, file.generation, file.size_bytes, file.sha256, file.loads_code) == (
        "h5",
        H5["object"],
        9,
        5,
        H5["sha256"],
        False,
    )


def test_the_first_end_counts(world):
    model_id = world.a_model()
    world.begin(model_id)
    world.finish(model_id, ENDS[2])
    assert world.finish(model_id, ENDS[0], H5) == ENDS[2]
    assert world.formats(model_id) == ["keras"]


def test_an_attempt_that_is_not_heard_of_is_followed_by_two_others_then_it_has_failed(world):
    model_id = world.a_model()
    seen = [world.begin(model_id)]
    for _ in range(3):
        world.advance(model_id, PATIENCE_S + 1)
        seen.append(world.begin(model_id))
    assert [(one.status, one.attempt) for one in seen] == [
        (ConversionStatus.PENDING, 1),
        (ConversionStatus.PENDING, 2),
        (ConversionStatus.PENDING, 3),
        (ConversionStatus.FAILED, 3),
    ]
    assert seen[-1].detail
    assert world.begin(model_id) == seen[-1]


def test_an_attempt_that_was_followed_by_another_changes_nothing(world):
    model_id = world.a_model()
    world.begin(model_id)
    world.advance(model_id, PATIENCE_S + 1)
    second = world.begin(model_id)
    assert world.finish(model_id, ENDS[0], H5) == second
    assert world.formats(model_id) == ["keras"]
    assert world.finish(model_id, Conversion(ConversionStatus.READY, 2), H5).status is ConversionStatus.READY
    assert world.formats(model_id) == ["keras", "h5"]


def test_within_the_patience_an_attempt_stays_the_only_one(world):
    model_id = world.a_model()
    world.begin(model_id)
    world.advance(model_id, PATIENCE_S - 30)
    assert world.begin(model_id).attempt == 1


def test_a_model_of_somebody_else_or_of_nobody_is_not_found(world):
    model_id = world.a_model()
    world.begin(model_id)
    for owner, wanted in ((world.bob.user_id, model_id), (world.alice.user_id, a_uuid())):
        with pytest.raises(ModelNotFoundError):
            world.conversions.begin(owner, wanted, PATIENCE_S)
        with pytest.raises(ModelNotFoundError):
            world.conversions.finish(owner, wanted, ENDS[0], H5)
    assert world.model(model_id).conversion.status is ConversionStatus.PENDING


def test_a_model_of_a_session_that_is_being_deleted_is_not_found(world):
    model_id = world.a_model()
    world.begin(model_id)
    world.sessions.begin_delete(world.alice.user_id, "weather")
    with pytest.raises(ModelNotFoundError):
        world.begin(model_id)
    with pytest.raises(ModelNotFoundError):
        world.finish(model_id, ENDS[0], H5)
