"""What every `TrainingRepository` does: in memory, and on a real Postgres behind a real PostgREST."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.supabase_training import SupabaseTraining
from shared.errors import (
    DataSetError,
    LeaseLostError,
    ManifestInvalidError,
    ModelNotFoundError,
    RunNotFoundError,
    SessionNotFinalizedError,
    SessionNotFoundError,
    SubscriptionRequiredError,
    TrainingFinishedError,
    TrainingInProgressError,
)
from shared.ports import TrainingRepository
from shared.publication import manifest_name, run_prefix
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.results import ResultKind
from shared.records.sessions import SessionStatus
from shared.records.training import ModelStatus, Run, RunStatus, TrainingRequest, TrainingTask
from tests.factories import BOB, a_caller, a_uuid
from tests.fakes.sessions import InMemorySessions
from tests.local_stack import LocalStack, People
from tests.training_factories import TrainingBench, a_request, a_table, another_trainers_manifest

LEASE_S = 60


@dataclass
class World:
    """A repository with sessions to train, and the hands to change what a client cannot.

    Attributes:
        alice, bob: Subscribed users; the pauper is not.
        add_session: From owner, number of tables and status to (session_id, row id).
        advance: Lets seconds pass for one session's models.
        status_of: Status of a session by its row id.
        begin_delete: Marks a session by owner and session_id as being deleted.
    """

    runs: TrainingRepository
    alice: Caller
    bob: Caller
    pauper: Caller
    add_session: Callable[[str, int, SessionStatus], tuple[str, str]]
    advance: Callable[[str, float], None]
    status_of: Callable[[str], SessionStatus]
    begin_delete: Callable[[str, str], None]

    def a_session(
        self, *, owner: Caller | None = None, n_tables: int = 1, status: SessionStatus = SessionStatus.FINALIZED
    ) -> tuple[str, str]:
        return self.add_session((owner or self.alice).user_id, n_tables, status)

    def start(self, session_id: str, request: TrainingRequest | None = None, *, owner: Caller | None = None) -> Run:
        request = request or a_request(models=("random_forest",))
        run, _ = self.runs.start((owner or self.alice).user_id, session_id, request)
        return run

    def a_run(self, *models: str) -> Run:
        """Start a run of a new session."""
        session_id, _ = self.a_session()
        return self.start(session_id, a_request(models=models or ("random_forest",)))

    def claimed(self, *models: str) -> tuple[Run, str, str]:
        """Start a run and claim its first model; return the run, the model's id and the lease token."""
        run = self.a_run(*models)
        lease_token = a_token()
        claim = self.runs.claim(run.models[0].id, lease_token, LEASE_S)
        assert claim.outcome is ClaimOutcome.CLAIMED
        return claim.run, run.models[0].id, lease_token

    def report(self, model_id: str, lease_token: str, progress: float, **fields: Any) -> None:
        """Report progress, without a curve unless one is given."""
        self.runs.report(model_id, lease_token, LEASE_S, progress, **{"curve": {}, "remaining_s": None} | fields)

    def published(self, *models: str) -> Run:
        """Start a run and publish the first of its models."""
        run, model_id, lease_token = self.claimed(*models)
        return self.runs.publish(model_id, lease_token, published(run, run.models[0].name))[0]

    def cancel(self, run: Run) -> Run:
        return self.runs.cancel(self.alice.user_id, run.session_id)[0]

    def completed(self, session_id: str, request: TrainingRequest | None = None) -> Run:
        """Start, train and complete a run."""
        run = self.start(session_id, request)
        for model in run.models:
            lease_token = a_token()
            self.runs.claim(model.id, lease_token, LEASE_S)
            self.runs.publish(model.id, lease_token, published(run, model.name))
        return self.runs.complete(run.id, a_reference(run), a_document(run))

    def newest(self, run: Run) -> Run:
        """Return the run as a reader sees it."""
        _, runs = self.runs.of_session(self.alice, run.session_id)
        return next(found for found in runs if found.id == run.id)


def memory_world() -> World:
    bench = TrainingBench()

    def add_session(owner: str, n_tables: int, status: SessionStatus) -> tuple[str, str]:
        session = InMemorySessions(bench.database).init(owner, f"s-{uuid.uuid4()}", {})
        for index in range(n_tables):
            bench.add_upload(session.id, a_table(), file_name=f"table{index}.csv", owner=owner)
        bench.set_status(session.id, status)
        return session.session_id, session.id

    return World(
        runs=bench.runs,
        alice=a_caller(),
        bob=a_caller(BOB),
        pauper=a_caller(a_uuid()),
        add_session=add_session,
        advance=lambda _, seconds: bench.database.advance(seconds=seconds),
        status_of=bench.status_of,
        begin_delete=lambda owner, name: InMemorySessions(bench.database).begin_delete(owner, name) and None,
    )


def supabase_world(stack: LocalStack, people: People) -> World:
    def add_session(owner: str, n_tables: int, status: SessionStatus) -> tuple[str, str]:
        name = f"s-{uuid.uuid4()}"
        (session,) = stack.rows(
            "insert into public.sessions (user_id, session_id, status) values (%s, %s, %s) returning id",
            owner,
            name,
            status.value,
        )
        for index in range(n_tables):
            stack.rows(
                "insert into public.uploads (session_uuid, user_id, file_name, content_type, size_bytes,"
                " reserved_bytes, chunk_size_bytes, total_chunks, state, object_name, generation, crc32c, n_rows,"
                " expires_at) values (%s, %s, %s, 'text/csv', 10, 10, 10, 1, 'assembled', %s, 1, 'AAAAAA==', 40,"
                " now())",
                session["id"],
                owner,
                f"table{index}.csv",
                f"datasets/{session['id']}/table{index}.csv",
            )
        return name, str(session["id"])

    def advance(session_uuid: str, seconds: float) -> None:
        earlier = timedelta(seconds=seconds)
        stack.rows(
            "update public.models set queued_at = queued_at - %s, updated_at = updated_at - %s,"
            " lease_expires_at = lease_expires_at - %s where session_uuid = %s",
            earlier,
            earlier,
            earlier,
            session_uuid,
        )

    def status_of(session_uuid: str) -> SessionStatus:
        (session,) = stack.rows("select status from public.sessions where id = %s", session_uuid)
        return SessionStatus(session["status"])

    return World(
        runs=SupabaseTraining(stack.database),
        alice=people.add(),
        bob=people.add(),
        pauper=people.add(is_subscribed=False),
        add_session=add_session,
        advance=advance,
        status_of=status_of,
        begin_delete=lambda owner, name: (
            stack.rows(
                "update public.sessions set deleting_at = now() where user_id = %s and session_id = %s", owner, name
            )
            and None
        ),
    )


@pytest.fixture(params=["memory", "supabase"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return memory_world()
    return supabase_world(request.getfixturevalue("local_stack"), request.getfixturevalue("people"))


def a_token() -> str:
    return str(uuid.uuid4())


def published(run: Run, name: str) -> dict[str, Any]:
    """Return what a task publishes of a model."""
    file = {
        "role": "model",
        "format": "skops",
        "object": f"{run_prefix(run.session_uuid, run.id)}{name}/attempt-1/model.skops",
        "generation": 5,
        "bytes": 7,
        "crc32c": "AAAAAA==",
        "sha256": "0" * 64,
        "media_type": "application/zip",
        "loads_code": False,
    }
    return {
        "name": name,
        "class": f"sklearn.{name}",
        "framework": "sklearn",
        "status": "completed",
        "files": [file],
        "metrics": {"test": {"rmse": 0.1 + 0.2}},
        "signature": {"inputs": []},
        "environment": {"python": "3.11"},
        "scalers": [{"name": f"{name}.inputs"}],
        "charts": [],
    }


def a_document(run: Run, *, status: str = "completed") -> dict[str, Any]:
    return {
        "status": status,
        "scalers": [{"name": "one", "n": 1}, {"name": "two"}],
        "charts": [{"name": "chart", "kind": "line"}],
        "tables": [{"name": "evaluation", "rows": [{"value": 1.5}], "run": run.id}],
    }


def a_reference(run: Run) -> dict[str, Any]:
    return {"object": manifest_name(run.session_uuid, run.id), "generation": 9, "bytes": 10, "sha256": "0" * 64}


def test_a_new_run_has_a_task_per_model_and_pins_the_tables(world):
    session_id, row = world.a_session(n_tables=2)
    request = a_request(seed=2**32 - 1, test_fraction=0.25)
    run, tasks = world.runs.start(world.alice.user_id, session_id, request)
    assert (run.session_uuid, run.session_id, run.owner, run.status) == (
        row,
        session_id,
        world.alice.user_id,
        RunStatus.QUEUED,
    )
    assert run.request == request.document()
    assert [file.file_name for file in run.data_set] == ["table0.csv", "table1.csv"]
    assert all(file.n_rows == 40 and file.generation for file in run.data_set)
    assert sorted(model.name for model in run.models) == ["dense_network", "linear_regression", "random_forest"]
    assert {model.framework for model in run.models} == {"keras", "sklearn"}
    assert {model.status for model in run.models} == {ModelStatus.QUEUED}
    assert {(task.model_id, task.number) for task in tasks} == {(model.id, 1) for model in run.models}
    assert {model.path for model in run.models} == {f"{run.id}/{model.name}" for model in run.models}
    assert world.status_of(row) is SessionStatus.TRAINING
    assert world.newest(run) == run


def test_an_equal_request_returns_the_run_in_progress_and_the_tasks_nobody_works_on(world):
    session_id, _ = world.a_session()
    request = a_request()
    run, _ = world.runs.start(world.alice.user_id, session_id, request)
    world.runs.claim(run.models[0].id, a_token(), LEASE_S)
    again, tasks = world.runs.start(world.alice.user_id, session_id, request)
    assert again.id == run.id
    assert {task.model_id for task in tasks} == {model.id for model in run.models[1:]}
    assert {task.number for task in tasks} == {1}


def test_another_request_is_refused_while_one_is_in_progress(world):
    session_id, _ = world.a_session()
    run = world.start(session_id)
    with pytest.raises(TrainingInProgressError) as refused:
        world.start(session_id, a_request(seed=7))
    assert refused.value.details == {"run_id": run.id}


def test_tasks_that_seem_lost_come_with_a_new_number(world):
    session_id, row = world.a_session()
    request = a_request(models=("linear_regression", "random_forest"))
    run, _ = world.runs.start(world.alice.user_id, session_id, request)
    world.runs.claim(run.models[0].id, a_token(), LEASE_S)
    world.advance(row, 599)
    _, tasks = world.runs.start(world.alice.user_id, session_id, request)
    assert {task.number for task in tasks} == {1}
    world.advance(row, 2)
    _, tasks = world.runs.start(world.alice.user_id, session_id, request)
    assert {(task.model_id, task.number) for task in tasks} == {(model.id, 2) for model in run.models}
    _, tasks = world.runs.start(world.alice.user_id, session_id, request)
    assert {task.number for task in tasks} == {2}


def test_a_run_whose_models_are_finished_but_which_is_not_complete_gets_its_tasks_again(world):
    session_id, _ = world.a_session()
    run = world.start(session_id)
    lease_token = a_token()
    world.runs.claim(run.models[0].id, lease_token, LEASE_S)
    world.runs.publish(run.models[0].id, lease_token, published(run, "random_forest"))
    _, tasks = world.runs.start(world.alice.user_id, session_id, a_request(models=("random_forest",)))
    assert [task.model_id for task in tasks] == [run.models[0].id]


def test_an_abandoned_run_makes_room_for_another_request(world):
    session_id, row = world.a_session()
    abandoned = world.start(session_id)
    world.advance(row, 3601)
    run = world.start(session_id, a_request(seed=7))
    assert run.id != abandoned.id
    old = world.newest(abandoned)
    assert old.status is RunStatus.FAILED
    assert old.failure
    assert [model.status for model in old.models] == [ModelStatus.FAILED]
    assert world.status_of(row) is SessionStatus.TRAINING


@pytest.mark.parametrize("status", [SessionStatus.INITIALIZED, SessionStatus.UPLOADING])
def test_a_session_that_takes_uploads_is_not_trained(world, status):
    session_id, row = world.a_session(status=status)
    with pytest.raises(SessionNotFinalizedError) as refused:
        world.start(session_id)
    assert refused.value.details == {"status": status.value}
    assert world.status_of(row) is status


def test_a_session_without_tables_is_not_trained(world):
    session_id, row = world.a_session(n_tables=0)
    with pytest.raises(DataSetError):
        world.start(session_id)
    assert world.status_of(row) is SessionStatus.FINALIZED


def test_without_a_subscription_nothing_is_trained(world):
    session_id, row = world.a_session(owner=world.pauper)
    with pytest.raises(SubscriptionRequiredError):
        world.start(session_id, owner=world.pauper)
    assert world.status_of(row) is SessionStatus.FINALIZED


def test_sessions_of_others_do_not_exist(world):
    session_id, row = world.a_session()
    run = world.start(session_id)
    with pytest.raises(SessionNotFoundError):
        world.start(session_id, owner=world.bob)
    with pytest.raises(SessionNotFoundError):
        world.runs.of_session(world.bob, session_id)
    with pytest.raises(SessionNotFoundError):
        world.runs.newest(world.bob, session_id)
    with pytest.raises(SessionNotFoundError):
        world.runs.record(
            world.bob.user_id, row, a_reference(run), another_trainers_manifest(row, a_token(), request={})
        )
    for kind in ResultKind:
        with pytest.raises(SessionNotFoundError):
            world.runs.results(world.bob, session_id, kind)


def test_a_session_without_a_run_has_none(world):
    session_id, row = world.a_session()
    assert world.runs.of_session(world.alice, session_id) == (row, [])
    assert world.runs.newest(world.alice, session_id) is None
    for kind in ResultKind:
        assert world.runs.results(world.alice, session_id, kind) == []


def test_a_claim_starts_the_run_and_counts_an_attempt(world):
    run, model_id, _ = world.claimed()
    assert run.status is RunStatus.RUNNING
    (model,) = run.models
    assert (model.id, model.status, model.attempts, model.progress) == (model_id, ModelStatus.TRAINING, 1, 0)


def test_a_claimed_model_is_busy_for_others_and_not_for_its_holder(world):
    _, model_id, lease_token = world.claimed()
    busy = world.runs.claim(model_id, a_token(), LEASE_S)
    assert busy.outcome is ClaimOutcome.BUSY
    assert 0 < busy.busy_s <= LEASE_S + 1
    again = world.runs.claim(model_id, lease_token, LEASE_S)
    assert again.outcome is ClaimOutcome.CLAIMED
    assert again.run.models[0].attempts == 1


def test_of_many_claims_at_once_exactly_one_wins(world):
    model_id = world.a_run().models[0].id
    barrier = threading.Barrier(8)

    def claim(_: int) -> ClaimOutcome:
        barrier.wait()
        return world.runs.claim(model_id, a_token(), LEASE_S).outcome

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(claim, range(8)))
    assert sorted(outcomes) == [ClaimOutcome.BUSY] * 7 + [ClaimOutcome.CLAIMED]


def test_of_many_requests_at_once_exactly_one_starts_a_run(world):
    session_id, _ = world.a_session()
    barrier = threading.Barrier(6)

    def start(seed: int) -> str:
        barrier.wait()
        try:
            return world.start(session_id, a_request(seed=seed)).id
        except TrainingInProgressError as refused:
            return f"refused for {refused.details['run_id']}"

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(start, range(6)))
    assert len(set(answers)) == 2
    assert answers[1:] == [f"refused for {answers[0]}"] * 5


def test_when_a_lease_runs_out_another_task_takes_over_and_the_old_one_can_change_nothing(world):
    run, model_id, old = world.claimed()
    world.advance(run.session_uuid, LEASE_S + 1)
    new = a_token()
    claim = world.runs.claim(model_id, new, LEASE_S)
    assert claim.outcome is ClaimOutcome.CLAIMED
    assert claim.run.models[0].attempts == 2
    with pytest.raises(LeaseLostError):
        world.report(model_id, old, 0.5)
    with pytest.raises(LeaseLostError):
        world.runs.publish(model_id, old, published(run, "random_forest"))
    with pytest.raises(LeaseLostError):
        world.runs.fail(model_id, old, "No.")
    world.runs.release(model_id, old)
    assert world.newest(run).models[0].status is ModelStatus.TRAINING
    world.report(model_id, new, 0.5)


def test_progress_extends_the_lease_and_never_goes_back(world):
    run, model_id, lease_token = world.claimed()
    world.report(model_id, lease_token, 0.5)
    world.advance(run.session_uuid, LEASE_S - 10)
    world.report(model_id, lease_token, 0.25)
    assert world.newest(run).models[0].progress == 0.5
    world.advance(run.session_uuid, LEASE_S - 10)
    assert world.runs.claim(model_id, a_token(), LEASE_S).outcome is ClaimOutcome.BUSY


def test_a_released_model_is_claimed_at_once(world):
    _, model_id, lease_token = world.claimed()
    world.runs.release(model_id, lease_token)
    world.runs.release(model_id, lease_token)
    assert world.runs.claim(model_id, a_token(), LEASE_S).outcome is ClaimOutcome.CLAIMED


def test_after_five_attempts_that_came_to_nothing_a_model_is_failed(world):
    run = world.a_run()
    model_id = run.models[0].id
    for _ in range(5):
        assert world.runs.claim(model_id, a_token(), LEASE_S).outcome is ClaimOutcome.CLAIMED
        world.advance(run.session_uuid, LEASE_S + 1)
    claim = world.runs.claim(model_id, a_token(), LEASE_S)
    assert claim.outcome is ClaimOutcome.DONE
    assert claim.are_models_finished
    assert claim.run.models[0].status is ModelStatus.FAILED
    assert claim.run.models[0].status_detail == "The training was interrupted 5 times."


def test_a_published_model_is_pending_and_the_last_one_brings_what_the_others_published(world):
    run = world.a_run("linear_regression", "random_forest")
    documents = {}
    for model, is_last in zip(run.models, (False, True), strict=True):
        lease_token = a_token()
        world.runs.claim(model.id, lease_token, LEASE_S)
        documents[model.name] = published(run, model.name)
        found, are_finished = world.runs.publish(model.id, lease_token, documents[model.name])
        assert are_finished is is_last
    assert {model.name: model.published for model in found.models} == documents
    for model in found.models:
        assert (model.status, model.progress) == (ModelStatus.PENDING, 1)
        assert model.class_name == f"sklearn.{model.name}"
        assert model.metrics == {"test": {"rmse": 0.1 + 0.2}}
        assert model.files[0].generation == 5
    assert world.runs.claim(run.models[0].id, a_token(), LEASE_S).outcome is ClaimOutcome.DONE


def test_publishing_and_failing_twice_changes_nothing(world):
    run, model_id, lease_token = world.claimed("linear_regression", "random_forest")
    document = published(run, "linear_regression")
    first = world.runs.publish(model_id, lease_token, document)
    assert world.runs.publish(model_id, lease_token, document) == first
    with pytest.raises(LeaseLostError):
        world.runs.publish(model_id, lease_token, document | {"class": "another"})
    other = run.models[1].id
    world.runs.claim(other, lease_token, LEASE_S)
    first = world.runs.fail(other, lease_token, "No.")
    assert world.runs.fail(other, lease_token, "Still no.") == first
    assert first[0].models[1].status_detail == "No."
    assert first[1] is True


def test_a_run_is_not_complete_before_its_last_model_is(world):
    run, _, _ = world.claimed()
    with pytest.raises(TrainingInProgressError):
        world.runs.complete(run.id, a_reference(run), a_document(run))


def test_completing_records_the_results_once_and_moves_the_session_on(world):
    session_id, row = world.a_session()
    run = world.completed(session_id)
    assert (run.status, run.manifest, run.failure) == (RunStatus.COMPLETED, a_reference(run), None)
    assert run.finished_at is not None
    assert world.status_of(row) is SessionStatus.TRAINED
    assert world.runs.complete(run.id, {}, a_document(run, status="failed")) == run
    results = {kind: world.runs.results(world.alice, session_id, kind) for kind in ResultKind}
    document = a_document(run)
    assert [item.content for item in results[ResultKind.SCALERS]] == document["scalers"]
    assert [item.content for item in results[ResultKind.VISUALIZATIONS]] == document["charts"]
    assert [item.content for item in results[ResultKind.EVALUATION_TABLES]] == document["tables"]
    assert {item.run_id for items in results.values() for item in items} == {run.id}
    assert len({item.id for items in results.values() for item in items}) == 4


def test_a_failed_run_fails_the_session_and_leaves_the_results_of_the_last_completed_one(world):
    session_id, row = world.a_session()
    completed = world.completed(session_id)
    run = world.start(session_id, a_request(seed=7, models=("random_forest",)))
    lease_token = a_token()
    world.runs.claim(run.models[0].id, lease_token, LEASE_S)
    world.runs.fail(run.models[0].id, lease_token, "No.")
    document = {"status": "failed", "scalers": [], "charts": [], "tables": []}
    failed = world.runs.complete(run.id, a_reference(run), document)
    assert failed.status is RunStatus.FAILED
    assert failed.failure
    assert world.status_of(row) is SessionStatus.FAILED
    scalers = world.runs.results(world.alice, session_id, ResultKind.SCALERS)
    assert {item.run_id for item in scalers} == {completed.id}


def test_runs_are_listed_newest_first(world):
    session_id, row = world.a_session()
    first = world.completed(session_id)
    second = world.completed(session_id, a_request(seed=7, models=("random_forest",)))
    found_row, runs = world.runs.of_session(world.alice, session_id)
    assert found_row == row
    assert [run.id for run in runs] == [second.id, first.id]
    assert runs[0].models[0].published == {"signature": {"inputs": []}, "environment": {"python": "3.11"}}
    newest = world.runs.newest(world.alice, session_id)
    assert newest.id == second.id
    assert (newest.models[0].id, newest.models[0].published) == (runs[0].models[0].id, {})
    scalers = world.runs.results(world.alice, session_id, ResultKind.SCALERS)
    assert {item.run_id for item in scalers} == {second.id}


def test_checked_models_become_ready_or_refused_once(world):
    session_id, _ = world.a_session()
    run = world.completed(session_id, a_request(models=("linear_regression", "random_forest")))
    good, bad = (model.id for model in run.models)
    marked = world.runs.mark(run.id, {good: None, bad: "model.skops is missing"})
    assert [(model.status, model.status_detail) for model in marked.models] == [
        (ModelStatus.READY, None),
        (ModelStatus.REFUSED, "model.skops is missing"),
    ]
    assert world.runs.mark(run.id, {good: "changed my mind", bad: None}) == marked


def publish(world: World, session_uuid: str, digest: str, name: str = "boosting") -> Run:
    """Take in a run with one model whose file has this sha256."""
    run_id = a_token()
    document = another_trainers_manifest(session_uuid, run_id, request={}, data_set=[])
    model = document["models"][0]
    model["name"] = name
    model["files"][0] |= {"sha256": digest * 64, "loads_code": False}
    reference = {"object": manifest_name(session_uuid, run_id), "generation": 9, "bytes": 10, "sha256": "0" * 64}
    return world.runs.record(world.alice.user_id, session_uuid, reference, document)


def version_of(world: World, run: Run, reason: str | None = None) -> int | None:
    (model,) = world.runs.mark(run.id, {run.models[0].id: reason}).models
    return model.version


def test_versions_count_ready_models_of_a_name_and_equal_content_has_an_equal_version(world):
    _, row = world.a_session()
    assert version_of(world, publish(world, row, "a")) == 1
    assert version_of(world, publish(world, row, "b"), "damaged") is None
    assert version_of(world, publish(world, row, "b")) == 2
    assert version_of(world, publish(world, row, "a")) == 1
    assert version_of(world, publish(world, row, "c")) == 3
    assert version_of(world, publish(world, row, "a", name="other")) == 1


def test_models_that_become_ready_at_once_get_different_versions(world):
    _, row = world.a_session()
    runs = [publish(world, row, digest) for digest in "0123456789"]
    with ThreadPoolExecutor(len(runs)) as pool:
        versions = list(pool.map(lambda run: version_of(world, run), runs))
    assert sorted(versions) == list(range(1, len(runs) + 1))


def test_a_model_says_who_made_it(world):
    session_id, row = world.a_session()
    ours = world.completed(session_id, a_request(models=("random_forest",)))
    assert [model.origin for model in ours.models] == ["trained"]
    assert [model.origin for model in publish(world, row, "a").models] == ["published"]


def test_a_deleted_session_takes_its_models_out_of_every_hand(world):
    run, model_id, lease_token = world.claimed()
    world.begin_delete(world.alice.user_id, run.session_id)
    with pytest.raises(ModelNotFoundError):
        world.runs.claim(model_id, a_token(), LEASE_S)
    with pytest.raises(ModelNotFoundError):
        world.report(model_id, lease_token, 0.5)
    with pytest.raises(ModelNotFoundError):
        world.runs.publish(model_id, lease_token, published(run, "random_forest"))
    with pytest.raises(ModelNotFoundError):
        world.runs.fail(model_id, lease_token, "No.")
    with pytest.raises(RunNotFoundError):
        world.runs.complete(run.id, a_reference(run), a_document(run))
    with pytest.raises(SessionNotFoundError):
        world.runs.of_session(world.alice, run.session_id)
    with pytest.raises(SessionNotFoundError):
        world.start(run.session_id)


def test_unknown_models_and_runs_are_not_found(world):
    run = world.a_run()
    with pytest.raises(ModelNotFoundError):
        world.runs.claim(a_token(), a_token(), LEASE_S)
    with pytest.raises(RunNotFoundError):
        world.runs.complete(a_token(), a_reference(run), a_document(run))


def test_the_manifest_of_another_trainer_becomes_a_run_once(world):
    session_id, row = world.a_session()
    run_id = a_token()
    document = another_trainers_manifest(row, run_id, request={"target": "y"}, data_set=[])
    document["models"][0]["files"][0]["loads_code"] = False
    failed = {"name": "prophet", "framework": "sklearn", "status": "failed", "detail": "No.", "files": []}
    document["models"].append(failed)
    reference = {"object": manifest_name(row, run_id), "generation": 9, "bytes": 10, "sha256": "0" * 64}
    run = world.runs.record(world.alice.user_id, row, reference, document)
    assert (run.id, run.status, run.manifest) == (run_id, RunStatus.COMPLETED, reference)
    assert [(model.name, model.status, model.status_detail) for model in run.models] == [
        ("gradient_boosting", ModelStatus.PENDING, None),
        ("prophet", ModelStatus.FAILED, "No."),
    ]
    assert run.models[0].class_name == "lightgbm.LGBMRegressor"
    assert run.models[0].metrics == {"test": {"rmse": 1.5}}
    assert world.status_of(row) is SessionStatus.TRAINED
    assert world.runs.record(world.alice.user_id, row, reference, document).models == run.models
    scalers = world.runs.results(world.alice, session_id, ResultKind.SCALERS)
    assert [item.content for item in scalers] == document["scalers"]


def test_the_run_of_another_session_cannot_be_taken_in(world):
    theirs = world.a_run()
    _, row = world.a_session(owner=world.bob)
    document = another_trainers_manifest(row, theirs.id, request={}, data_set=[], models=[])
    with pytest.raises(ManifestInvalidError):
        world.runs.record(world.bob.user_id, row, {}, document)
    assert world.status_of(row) is SessionStatus.FINALIZED


def test_another_trainers_manifest_leaves_a_run_in_progress_alone(world):
    session_id, row = world.a_session()
    world.start(session_id)
    document = another_trainers_manifest(row, a_token(), request={}, data_set=[], models=[])
    world.runs.record(world.alice.user_id, row, {}, document)
    assert world.status_of(row) is SessionStatus.TRAINING


def test_a_curve_and_the_time_left_are_shown_while_a_model_is_trained(world):
    run, model_id, lease_token = world.claimed()
    curve = {"unit": "epoch", "n_steps": 20, "step": [1, 2], "train": [0.9, 0.1 + 0.2], "validation": [None, 1e-30]}
    world.report(model_id, lease_token, 0.5, curve=curve, remaining_s=12)
    (model,) = world.runs.newest(world.alice, run.session_id).models
    assert (model.curve, model.remaining_s) == (curve, 12)
    assert world.newest(run).models[0].curve == {}
    world.runs.publish(model_id, lease_token, published(run, "random_forest"))
    assert world.runs.newest(world.alice, run.session_id).models[0].curve == curve


def test_cancelling_ends_every_model_and_the_session_can_be_trained_again_at_once(world):
    session_id, row = world.a_session()
    run = world.start(session_id, a_request(models=("linear_regression", "random_forest")))
    world.runs.claim(run.models[0].id, a_token(), LEASE_S)
    cancelled, tasks = world.runs.cancel(world.alice.user_id, session_id)
    assert (cancelled.id, cancelled.status, cancelled.failure) == (run.id, RunStatus.CANCELLED, None)
    assert cancelled.finished_at is not None
    assert {model.status for model in cancelled.models} == {ModelStatus.CANCELLED}
    assert list(tasks) == []
    assert world.status_of(row) is SessionStatus.FINALIZED
    assert world.start(session_id).id != run.id


def test_cancelling_twice_answers_the_same_run(world):
    run = world.a_run()
    first = world.cancel(run)
    assert world.cancel(run) == first


def test_a_task_of_a_cancelled_run_can_change_nothing(world):
    run, model_id, lease_token = world.claimed()
    world.cancel(run)
    with pytest.raises(LeaseLostError):
        world.report(model_id, lease_token, 0.5)
    with pytest.raises(LeaseLostError):
        world.runs.publish(model_id, lease_token, published(run, "random_forest"))
    with pytest.raises(LeaseLostError):
        world.runs.fail(model_id, lease_token, "No.")
    world.runs.release(model_id, lease_token)
    claim = world.runs.claim(model_id, a_token(), LEASE_S)
    assert (claim.outcome, claim.are_models_finished) == (ClaimOutcome.DONE, True)
    assert world.newest(run).models[0].status is ModelStatus.CANCELLED


def test_what_was_finished_before_a_run_was_cancelled_is_published_by_a_new_task(world):
    run = world.published("linear_regression", "random_forest")
    cancelled, tasks = world.runs.cancel(world.alice.user_id, run.session_id)
    assert {model.name: model.status for model in cancelled.models} == {
        "linear_regression": ModelStatus.PENDING,
        "random_forest": ModelStatus.CANCELLED,
    }
    finished = next(model for model in run.models if model.status is ModelStatus.PENDING)
    assert list(tasks) == [TrainingTask(finished.id, 2)]
    assert world.runs.cancel(world.alice.user_id, run.session_id)[1] == tasks
    claim = world.runs.claim(finished.id, a_token(), LEASE_S)
    assert (claim.outcome, claim.are_models_finished) == (ClaimOutcome.DONE, True)
    assert claim.run.models[0].published == published(run, "linear_regression")
    completed = world.runs.complete(run.id, a_reference(run), a_document(run))
    assert (completed.status, completed.manifest) == (RunStatus.CANCELLED, a_reference(run))
    assert completed.finished_at == cancelled.finished_at
    assert world.status_of(run.session_uuid) is SessionStatus.TRAINED
    assert world.runs.complete(run.id, {}, a_document(run)) == completed
    scalers = world.runs.results(world.alice, run.session_id, ResultKind.SCALERS)
    assert {item.run_id for item in scalers} == {run.id}
    assert list(world.runs.cancel(world.alice.user_id, run.session_id)[1]) == []


def test_publishing_a_cancelled_run_leaves_the_run_after_it_alone(world):
    run = world.published("linear_regression", "random_forest")
    world.cancel(run)
    world.start(run.session_id)
    world.runs.complete(run.id, a_reference(run), a_document(run))
    assert world.status_of(run.session_uuid) is SessionStatus.TRAINING


def test_cancelling_leaves_the_results_of_the_run_before(world):
    session_id, row = world.a_session()
    completed = world.completed(session_id)
    world.cancel(world.start(session_id, a_request(seed=7)))
    assert world.status_of(row) is SessionStatus.TRAINED
    scalers = world.runs.results(world.alice, session_id, ResultKind.SCALERS)
    assert {item.run_id for item in scalers} == {completed.id}


def test_a_run_that_has_ended_by_itself_cannot_be_cancelled(world):
    session_id, _ = world.a_session()
    run = world.completed(session_id)
    with pytest.raises(TrainingFinishedError) as refused:
        world.cancel(run)
    assert refused.value.details == {"run_id": run.id, "status": "completed"}


def test_only_the_owner_of_a_trained_session_can_cancel(world):
    session_id, _ = world.a_session()
    with pytest.raises(RunNotFoundError):
        world.runs.cancel(world.alice.user_id, session_id)
    run = world.start(session_id)
    with pytest.raises(SessionNotFoundError):
        world.runs.cancel(world.bob.user_id, session_id)
    assert world.newest(run).status is RunStatus.QUEUED
    world.begin_delete(world.alice.user_id, session_id)
    with pytest.raises(SessionNotFoundError):
        world.cancel(run)


def test_of_cancelling_and_publishing_at_once_one_comes_first(world):
    for _ in range(5):
        run, model_id, lease_token = world.claimed()
        barrier = threading.Barrier(2)

        def publish(barrier=barrier, run=run, model_id=model_id, lease_token=lease_token) -> bool:
            barrier.wait()
            try:
                world.runs.publish(model_id, lease_token, published(run, "random_forest"))
            except LeaseLostError:
                return False
            return True

        def cancel(barrier=barrier, run=run) -> int:
            barrier.wait()
            return len(world.runs.cancel(world.alice.user_id, run.session_id)[1])

        with ThreadPoolExecutor(2) as pool:
            is_published, n_tasks = (future.result() for future in (pool.submit(publish), pool.submit(cancel)))
        found = world.newest(run)
        assert found.status is RunStatus.CANCELLED
        assert found.models[0].status is (ModelStatus.PENDING if is_published else ModelStatus.CANCELLED)
        assert n_tasks == is_published


def test_of_cancelling_and_completing_at_once_the_results_are_kept_either_way(world):
    for _ in range(5):
        run = world.published("random_forest")
        barrier = threading.Barrier(2)

        def complete(barrier=barrier, run=run) -> RunStatus:
            barrier.wait()
            return world.runs.complete(run.id, a_reference(run), a_document(run)).status

        def cancel(barrier=barrier, run=run) -> RunStatus:
            barrier.wait()
            try:
                return world.cancel(run).status
            except TrainingFinishedError:
                return RunStatus.COMPLETED

        with ThreadPoolExecutor(2) as pool:
            ends = {future.result() for future in (pool.submit(complete), pool.submit(cancel))}
        assert ends in ({RunStatus.CANCELLED}, {RunStatus.COMPLETED})
        assert world.newest(run).manifest == a_reference(run)
        assert world.status_of(run.session_uuid) is SessionStatus.TRAINED
        assert world.runs.results(world.alice, run.session_id, ResultKind.SCALERS)
