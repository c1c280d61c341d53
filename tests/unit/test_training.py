"""The rules of training, on fakes."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from shared.errors import (
    DatabaseUnavailableError,
    DataSetError,
    InvalidFieldError,
    ModelBusyError,
    QueueUnavailableError,
    RunNotFoundError,
    SessionNotFinalizedError,
    SessionNotFoundError,
    StorageUnavailableError,
    SubscriptionRequiredError,
    TrainingFinishedError,
    TrainingInProgressError,
)
from shared.manifests import ManifestIntake
from shared.publication import model_prefix
from shared.records.sessions import SessionStatus
from shared.records.training import CurvePoint, ModelStatus, RunStatus, TrainingTask
from shared.training import LONGEST_TRAINING_S, _Reporter, is_stalled
from tests.factories import ALICE, BOB, a_caller, a_uuid
from tests.fakes.sessions import InMemorySessions
from tests.training_factories import TrainingBench, a_table

MODELS = ["dense_network", "linear_regression", "random_forest"]


class Killed(BaseException):
    """The process ended here; no cleaning up could run."""


def test_starting_queues_one_task_per_model_and_moves_the_session_on():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run = bench.start()
    assert [model.name for model in run.models] == MODELS
    assert {task.model_id for task in bench.queue.tasks} == {model.id for model in run.models}
    assert run.status is RunStatus.QUEUED
    assert bench.status_of(session) is SessionStatus.TRAINING


def test_starting_twice_returns_the_same_run_and_queues_nothing_new():
    bench = TrainingBench()
    bench.a_session(a_table())
    assert bench.start().id == bench.start().id
    assert len(bench.queue.tasks) == 3


def test_the_order_and_form_of_a_request_do_not_make_it_another_one():
    bench = TrainingBench()
    bench.a_session(a_table())
    first = bench.start(models=["random_forest", "linear_regression"], test_fraction=0.2)
    second = bench.start(models=["linear_regression", "random_forest"], seed=42)
    assert first.id == second.id


def test_another_request_while_training_is_refused():
    bench = TrainingBench()
    bench.a_session(a_table())
    run = bench.start()
    with pytest.raises(TrainingInProgressError) as refused:
        bench.start(seed=7)
    assert refused.value.details == {"run_id": run.id}


def test_a_trained_session_can_be_trained_again():
    bench = TrainingBench()
    bench.a_session(a_table())
    first = bench.train()
    assert bench.train(seed=7).id != first.id
    assert len(bench.manifests()) == 2


def test_a_request_that_the_queue_took_half_of_is_healed_by_repeating_it():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.queue.refuses_after = 1
    with pytest.raises(QueueUnavailableError):
        bench.start()
    bench.queue.refuses_after = None
    run = bench.start()
    assert {task.model_id for task in bench.queue.tasks} == {model.id for model in run.models}
    bench.deliver()
    assert bench.run().status is RunStatus.COMPLETED


def test_a_task_that_seems_lost_gets_a_new_number():
    bench = TrainingBench()
    bench.a_session(a_table())
    run = bench.start(models=["random_forest"])
    bench.database.advance(minutes=11)
    bench.start(models=["random_forest"])
    model = run.models[0].id
    assert bench.queue.tasks == [TrainingTask(model, 1), TrainingTask(model, 2)]


def test_a_run_that_nobody_works_on_any_more_makes_room_for_another_request():
    bench = TrainingBench()
    bench.a_session(a_table())
    abandoned = bench.start()
    bench.database.advance(hours=2)
    run = bench.start(seed=7)
    assert run.id != abandoned.id
    _, runs = bench.runs.of_session(a_caller(), "weather")
    assert runs[1].status is RunStatus.FAILED
    assert {model.status for model in runs[1].models} == {ModelStatus.FAILED}


def test_a_session_of_another_user_is_not_found():
    bench = TrainingBench()
    bench.a_session(a_table())
    for name in ("weather", "other", "../weather"):
        with pytest.raises(SessionNotFoundError):
            bench.service().start(a_caller(BOB), name, target="y")
        with pytest.raises(SessionNotFoundError):
            bench.service().get(a_caller(BOB), name)


def test_a_session_that_was_never_trained_has_no_run():
    bench = TrainingBench()
    bench.a_session(a_table())
    with pytest.raises(RunNotFoundError):
        bench.run()


@pytest.mark.parametrize("status", [SessionStatus.INITIALIZED, SessionStatus.UPLOADING])
def test_a_session_that_takes_uploads_is_not_trained(status):
    bench = TrainingBench()
    session = bench.a_session(a_table())
    bench.set_status(session, status)
    with pytest.raises(SessionNotFinalizedError):
        bench.start()


def test_training_needs_a_subscription():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    bench.database.subscriptions[ALICE].is_active = False
    with pytest.raises(SubscriptionRequiredError):
        bench.start()
    assert bench.status_of(session) is SessionStatus.FINALIZED


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"target": ""}, "target"),
        ({"target": 5}, "target"),
        ({"target": "y\n"}, "target"),
        ({"target": "y" * 1001}, "target"),
        ({"models": []}, "models"),
        ({"models": "random_forest"}, "models"),
        ({"models": ["oracle"]}, "models"),
        ({"models": [["random_forest"]]}, "models"),
        ({"models": ["random_forest", "random_forest"]}, "models"),
        ({"test_fraction": 0}, "testFraction"),
        ({"test_fraction": 0.6}, "testFraction"),
        ({"test_fraction": True}, "testFraction"),
        ({"test_fraction": "0.2"}, "testFraction"),
        ({"test_fraction": float("nan")}, "testFraction"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
    ],
)
def test_a_bad_field_is_named(fields, field):
    bench = TrainingBench()
    session = bench.a_session(a_table())
    with pytest.raises(InvalidFieldError) as refused:
        bench.start(**fields)
    assert refused.value.details["field"] == field
    assert bench.status_of(session) is SessionStatus.FINALIZED
    assert bench.queue.tasks == []


@pytest.mark.parametrize(
    ("table", "target", "error", "words"),
    [
        (a_table(), "nope", InvalidFieldError, "a, b, y"),
        (b"a,y\n" + b"x,1\n" * 20, "nope", InvalidFieldError, "a, y"),
        (b"y\n" + b"1\n" * 20, "y", DataSetError, "no column with values beside"),
        (b"a,y\n" + b",1\n" * 20, "y", DataSetError, "no column with values beside"),
        (a_table(9), "y", DataSetError, "there are 9"),
        (b"a,y\n" + b"1,NA\n" * 50 + b"1,2\n" * 9, "y", DataSetError, "there are 9"),
        (b"a,b,y\n", "y", DataSetError, "no column with values|there are 0"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_refused_before_anything_is_queued(table, target, error, words):
    bench = TrainingBench()
    session = bench.a_session(table)
    with pytest.raises(error, match=words):
        bench.start(target=target)
    assert bench.status_of(session) is SessionStatus.FINALIZED
    assert bench.queue.tasks == []
    with pytest.raises(RunNotFoundError):
        bench.run()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"a,y\n" + b"1,yes\n" * 20, "one class only, 'yes'"),
        (b"a,y\n" + b"1,yes\n" * 20 + b"2,no\n", "one row only has 'no'"),
        (b"a,y\n" + b"".join(b"1,name%d\n" % row for row in range(300)), "more than 100 classes"),
        (b"a,y\n1,warm\n" + b"".join(b"1,%d\n" % row for row in range(300)), "Most are numbers, but 'warm' is none"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused_before_anything_is_queued(table, words):
    bench = TrainingBench()
    bench.a_session(table)
    with pytest.raises(DataSetError, match=words):
        bench.start(models=None)
    assert bench.queue.tasks == []


def test_a_regression_that_was_asked_for_needs_numbers():
    bench = TrainingBench()
    bench.a_session(b"a,b,y\n" + b"1,2,3\n" * 5 + b"1,2,warm\n" * 9)
    with pytest.raises(InvalidFieldError, match="row 6 holds 'warm'"):
        bench.start(task="regression")


def test_words_are_classes_without_being_asked():
    bench = TrainingBench()
    bench.a_session(b"a,y\n" + b"1,yes\n2,no\n" * 20)
    run = bench.start(models=None)
    assert run.request["task"] == "classification"
    assert {model.name for model in run.models} >= {"logistic_regression", "gradient_boosting"}


def test_a_session_without_a_table_is_refused():
    bench = TrainingBench()
    bench.a_session(b"\x00\x01", file_name="noise.bin", content_type="application/octet-stream", n_rows=None)
    with pytest.raises(DataSetError, match="no table"):
        bench.start()


def test_a_byte_order_mark_and_tabs_are_no_part_of_names():
    bench = TrainingBench()
    content = b"\xef\xbb\xbf" + a_table().replace(b",", b"\t")
    bench.a_session(content, file_name="table.tsv", content_type="text/tab-separated-values")
    assert bench.start(target="a").status is RunStatus.QUEUED


def test_an_index_without_a_name_moves_no_column():
    bench = TrainingBench()
    bench.a_session(b"a,y\n" + b"".join(b"row%d,%d,3\n" % (row, row) for row in range(20)))
    assert bench.start().status is RunStatus.QUEUED


def test_a_compressed_table_is_looked_into():
    bench = TrainingBench()
    bench.a_session(gzip.compress(a_table(10)), file_name="table.csv.gz", n_rows=10)
    with pytest.raises(InvalidFieldError, match="there are a, b, y"):
        bench.start(target="nope")
    assert bench.start().status is RunStatus.QUEUED


def test_only_the_beginning_of_a_large_table_is_read():
    bench = TrainingBench()
    late_text = b"a,y\n" + b"1,2\n" * 600_000 + b"1,warm\n"
    bench.a_session(late_text)
    assert bench.start().status is RunStatus.QUEUED


def test_missing_cells_and_every_form_of_number_are_numeric():
    bench = TrainingBench()
    cells = ["1", "-2", "+3.", ".5", "1e9", "-1.5E-3", "inf", "NaN", "", "NULL", " 7 ", "1", "1", "1", "1"]
    bench.a_session(b"a,y\n1," + "\n1,".join(cells).encode() + b"\n")
    assert bench.start().status is RunStatus.QUEUED


def test_a_deleted_data_set_is_named():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.store.delete(bench.store.list(""))
    with pytest.raises(DataSetError, match=r"table0\.csv"):
        bench.start()


def test_after_the_last_model_the_run_is_complete_and_the_manifest_fits_the_files():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run = bench.train()
    assert run.status is RunStatus.COMPLETED
    assert bench.status_of(session) is SessionStatus.TRAINED
    (name,) = bench.manifests()
    manifest = json.loads(bench.artifacts.content(name))
    assert run.manifest["object"] == name
    assert [model["name"] for model in manifest["models"]] == MODELS
    for model in manifest["models"]:
        for file in model["files"]:
            assert len(bench.artifacts.content(file["object"])) == file["bytes"]
    assert manifest["seed"] == 42
    assert manifest["data_set"][0]["file_name"] == "table0.csv"
    assert len(manifest["tables"][0]["rows"]) == 3 * 2 * 3
    assert {chart["model"] for chart in manifest["charts"]} == set(MODELS)


def test_the_manifest_is_written_last():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.train()
    by_time = sorted(bench.artifacts.list(""), key=lambda stored: stored.generation)
    assert by_time[-1].name.endswith("manifest.json")


def test_when_a_run_is_complete_its_models_can_be_downloaded():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.start()
    seen = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            if name == "complete":
                seen.extend(model.status for model in bench.run().models)
            return getattr(bench.runs, name)

    results = bench.deliver(bench.runner(runs=Watching(), check=bench.intake().save_run))
    assert seen == [ModelStatus.READY] * 3
    assert results[-1].status == "ready"


def test_a_task_that_is_delivered_again_trains_nothing_again():
    bench = TrainingBench()
    bench.a_session(a_table())
    run = bench.train()
    names = bench.artifacts.names()
    assert [result.status for result in bench.deliver()] == ["pending"] * 3
    assert bench.trainer.trained == [task_name for task_name in bench.trainer.trained if task_name in MODELS]
    assert len(bench.trainer.trained) == 3
    assert bench.artifacts.names() == names
    assert bench.run() == run


def test_a_model_that_fails_leaves_the_others_alone():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    bench.trainer.faults["random_forest"] = DataSetError("Column 'y' is not numeric: row 77 holds 'warm'.")
    run = bench.train()
    states = {model.name: model.status for model in run.models}
    assert states == {
        "dense_network": ModelStatus.PENDING,
        "linear_regression": ModelStatus.PENDING,
        "random_forest": ModelStatus.FAILED,
    }
    assert run.models[2].status_detail == "Column 'y' is not numeric: row 77 holds 'warm'."
    assert run.status is RunStatus.COMPLETED
    assert bench.status_of(session) is SessionStatus.TRAINED
    manifest = json.loads(bench.artifacts.content(bench.manifests()[0]))
    assert {row["model"] for row in manifest["tables"][0]["rows"]} == {"dense_network", "linear_regression"}


def test_when_every_model_fails_the_run_and_the_session_fail():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    bench.trainer.faults = {name: DataSetError("No.") for name in MODELS}
    run = bench.train()
    assert run.status is RunStatus.FAILED
    assert run.failure
    assert bench.status_of(session) is SessionStatus.FAILED
    assert json.loads(bench.artifacts.content(bench.manifests()[0]))["status"] == "failed"


def test_a_model_that_is_being_trained_is_busy_until_its_lease_runs_out():
    bench = TrainingBench()
    bench.a_session(a_table())
    run = bench.start(models=["random_forest"])
    model = run.models[0].id
    bench.runs.claim(model, a_uuid(), 120)
    with pytest.raises(ModelBusyError) as busy:
        bench.runner().run(model)
    assert 0 < busy.value.retry_after_s <= 121
    bench.database.advance(seconds=121)
    assert bench.runner().run(model).status == "pending"


class _Extended:
    """A repository that says when a lease was extended, or fails to extend it so many times first.

    Attributes:
        extensions: Released once for each.
        n_faults: That are still to come.
    """

    def __init__(self, runs: Any, n_faults: int = 0) -> None:
        self._runs = runs
        self.extensions = threading.Semaphore(0)
        self.n_faults = n_faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runs, name)

    def report(self, *arguments: Any, **fields: Any) -> None:
        if self.n_faults:
            self.n_faults -= 1
            raise DatabaseUnavailableError
        self._runs.report(*arguments, **fields)
        self.extensions.release()

    def wait(self) -> None:
        assert self.extensions.acquire(timeout=60)


def a_long_step(bench: TrainingBench, step: Callable[[], None]) -> str:
    """Let training a model have one step without any report; return the model's id."""
    bench.a_session(a_table())
    model = bench.start(models=["random_forest"]).models[0].id
    bench.trainer.while_training = step
    return model


@pytest.mark.parametrize("n_faults", [0, 1])
def test_one_step_longer_than_the_lease_keeps_it(n_faults):
    bench = TrainingBench()
    runs = _Extended(bench.runs, n_faults)

    def step() -> None:
        for _ in range(3):
            runs.wait()
            with pytest.raises(ModelBusyError):
                bench.runner().run(model)
            # It has run out, if nobody extends it.
            bench.database.advance(seconds=2)
        runs.wait()

    model = a_long_step(bench, step)
    # By a clock that stands still, the work itself reports nothing.
    result = bench.runner(runs=runs, lease_s=1, clock=lambda: 0.0).run(model)
    assert (result.status, bench.trainer.trained) == ("pending", ["random_forest"])


@pytest.mark.parametrize("fault", [None, DataSetError("No."), Killed()])
def test_the_thread_that_extends_a_lease_ends_with_the_work(fault):
    bench = TrainingBench()
    runs = _Extended(bench.runs)
    before = threading.active_count()

    def step() -> None:
        runs.wait()
        assert threading.active_count() == before + 1
        if fault is not None:
            raise fault

    model = a_long_step(bench, step)
    with pytest.raises(Killed) if isinstance(fault, Killed) else nullcontext():
        bench.runner(runs=runs, lease_s=1, clock=lambda: 0.0).run(model)
    assert threading.active_count() == before


@pytest.mark.parametrize("end", ["cancelled", "too long"])
def test_the_lease_of_work_that_is_of_no_more_use_is_not_extended(end):
    bench = TrainingBench()
    bench.a_session(a_table())
    model, token = bench.start(models=["random_forest"]).models[0].id, a_uuid()
    bench.runs.claim(model, token, 1)
    now = iter([0.0, 0.0, LONGEST_TRAINING_S + 1.0] if end == "too long" else [0.0] * 1000)
    if end == "cancelled":
        bench.service().cancel(a_caller(), "weather")
    reporter = _Reporter(bench.runs, model, token, 1, lambda: next(now))
    extending = threading.Thread(target=reporter._extend, args=(threading.Event(),), daemon=True)
    extending.start()
    extending.join(60)
    assert not extending.is_alive()
    assert list(now) == [] or end == "cancelled"


def test_a_task_that_lost_its_lease_deletes_what_it_wrote_and_leaves_the_other_ones_files():
    bench = TrainingBench()
    bench.a_session(a_table())
    model = bench.start(models=["random_forest"]).models[0].id

    def be_slow() -> None:
        bench.trainer.while_training = lambda: None
        bench.database.advance(seconds=200)
        assert bench.runner().run(model).status == "pending"

    bench.trainer.while_training = be_slow
    assert bench.runner().run(model).status == "lease lost"
    (published,) = bench.run().models
    kept = {name for name in bench.artifacts.names() if "/random_forest/" in name}
    assert {file.object_name for file in published.files} == kept
    assert "attempt-2" in published.files[0].object_name


def test_deleting_the_session_while_a_model_is_trained_leaves_no_object():
    bench = TrainingBench()
    bench.a_session(a_table())
    model = bench.start(models=["random_forest"]).models[0].id
    bench.trainer.while_training = lambda: InMemorySessions(bench.database).begin_delete(ALICE, "weather") and None
    assert bench.runner().run(model).status == "gone"
    assert bench.artifacts.names() == []
    assert bench.runner().run(model).status == "gone"


def test_an_unknown_model_ends_the_task():
    assert TrainingBench().runner().run(a_uuid()).status == "gone"


@pytest.mark.parametrize("model_id", [None, 5, "", "x", ["a"]])
def test_a_model_id_must_be_a_uuid(model_id):
    with pytest.raises(InvalidFieldError):
        TrainingBench().runner().run(model_id)


def test_a_fault_of_the_service_gives_the_model_back_at_once():
    bench = TrainingBench()
    bench.a_session(a_table())
    model = bench.start(models=["random_forest"]).models[0].id
    bench.trainer.faults["random_forest"] = StorageUnavailableError()
    with pytest.raises(StorageUnavailableError):
        bench.runner().run(model)
    bench.trainer.faults = {}
    assert bench.runner().run(model).status == "pending"


def test_a_model_whose_task_dies_five_times_is_given_up_with_the_reason():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    model = bench.start(models=["random_forest"]).models[0].id
    bench.trainer.faults["random_forest"] = ZeroDivisionError()
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            bench.runner().run(model)
    assert bench.runner().run(model).status == "failed"
    assert bench.run().models[0].status_detail == "The training was interrupted 5 times."
    assert bench.status_of(session) is SessionStatus.FAILED


def test_progress_is_reported_at_most_once_a_second():
    bench = TrainingBench()
    bench.a_session(a_table())
    model = bench.start(models=["random_forest"]).models[0].id
    reported = []
    clock = iter([0.0, 0.4, 1.1, 1.2, 2.5])

    class Counting:
        def __getattr__(self, name: str) -> Any:
            if name == "report":
                return lambda *arguments, **_: reported.append(arguments[-1])
            return getattr(bench.runs, name)

    bench.runner(runs=Counting(), clock=lambda: next(clock)).run(model)
    assert reported == [0.95, 0.95]


def test_a_training_that_takes_too_long_fails_with_the_reason():
    bench = TrainingBench()
    bench.a_session(a_table())
    model = bench.start(models=["random_forest"]).models[0].id
    clock = iter([0.0, 1.0, 2.0, 1501.0])
    assert bench.runner(clock=lambda: next(clock)).run(model).status == "failed"
    assert "longer than 25 minutes" in bench.run().models[0].status_detail
    assert bench.artifacts.names() == bench.manifests()


def test_the_curve_is_stored_while_a_model_is_trained_and_whole_at_its_end():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.trainer.points = [CurvePoint("epoch", step, 4, 1 / step, 2 / step) for step in (1, 2, 3, 4)]
    model = bench.start(models=["dense_network"]).models[0].id
    seen = []
    # At the start, 10 %, then every epoch: the second one is a second later, the others come sooner.
    clock = iter([0.0, 0.1, 0.2, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1])

    class Watching:
        def __getattr__(self, name: str) -> Any:
            if name == "report":
                return self.report
            return getattr(bench.runs, name)

        def report(self, *arguments: Any, **fields: Any) -> None:
            bench.runs.report(*arguments, **fields)
            seen.append(bench.run().models[0])

    bench.runner(runs=Watching(), clock=lambda: next(clock)).run(model)
    assert [len(model.curve["step"]) for model in seen] == [2, 4]
    assert seen[0].curve == {
        "unit": "epoch",
        "n_steps": 4,
        "step": [1, 2],
        "train": [1.0, 0.5],
        "validation": [2.0, 1.0],
    }
    # 0.475 of the whole took 1.5 s.
    assert seen[0].remaining_s == 2
    assert bench.run().models[0].curve["step"] == [1, 2, 3, 4]


def test_cancelling_makes_the_task_at_work_delete_what_it_wrote():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run = bench.start(models=["random_forest"])

    def cancel() -> None:
        assert bench.service().cancel(a_caller(), "weather").status is RunStatus.CANCELLED

    bench.trainer.while_training = cancel
    assert [result.status for result in bench.deliver()] == ["lease lost"]
    assert bench.artifacts.names() == []
    assert bench.run().models[0].status is ModelStatus.CANCELLED
    assert bench.status_of(session) is SessionStatus.FINALIZED
    assert bench.runner().run(run.models[0].id).status == "cancelled"
    assert bench.manifests() == []


def test_a_cancelled_task_notices_at_its_next_report():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.trainer.points = [CurvePoint("epoch", step, 9, 0.5) for step in range(1, 10)]
    bench.trainer.while_training = lambda: bench.service().cancel(a_caller(), "weather") and None
    model = bench.start(models=["dense_network"]).models[0].id
    seconds = iter(range(1000))
    assert bench.runner(clock=lambda: float(next(seconds))).run(model).status == "lease lost"
    assert bench.trainer.trained == []


def test_what_was_finished_before_cancelling_is_published_while_the_session_is_trained_again():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    cancelled = bench.start()
    bench.runner().run(bench.queue.tasks[0].model_id)
    bench.service().cancel(a_caller(), "weather")
    again = bench.start(models=["linear_regression"], seed=7)
    bench.deliver(bench.runner(check=bench.intake().save_run))
    assert bench.run().id == again.id
    _, runs = bench.runs.of_session(a_caller(), "weather")
    found = next(run for run in runs if run.id == cancelled.id)
    assert found.status is RunStatus.CANCELLED
    assert {model.name: model.status for model in found.models} == {
        "dense_network": ModelStatus.CANCELLED,
        "linear_regression": ModelStatus.READY,
        "random_forest": ModelStatus.CANCELLED,
    }
    manifest = json.loads(bench.artifacts.content(found.manifest["object"]))
    assert manifest["status"] == "completed"
    assert {model["name"]: model["status"] for model in manifest["models"]} == {
        "dense_network": "cancelled",
        "linear_regression": "completed",
        "random_forest": "cancelled",
    }
    assert {row["model"] for row in manifest["tables"][0]["rows"]} == {"linear_regression"}
    assert bench.status_of(session) is SessionStatus.TRAINED


def test_what_a_dead_task_of_a_cancelled_model_left_is_deleted_when_the_queue_delivers_it_again():
    bench = TrainingBench()
    bench.a_session(a_table())
    run = bench.start(models=["random_forest"])
    bench.runs.claim(run.models[0].id, a_uuid(), 60)
    left = f"{model_prefix(run.session_uuid, run.id, 'random_forest')}attempt-1/model.skops"
    bench.artifacts.write(left, b"half", "application/zip")
    bench.service().cancel(a_caller(), "weather")
    assert bench.runner().run(run.models[0].id).status == "cancelled"
    assert bench.artifacts.names() == []


def test_cancelling_twice_answers_the_same_run_and_queues_nothing_new():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.start()
    bench.runner().run(bench.queue.tasks[0].model_id)
    first = bench.service().cancel(a_caller(), "weather")
    n_tasks = len(bench.queue.tasks)
    assert bench.service().cancel(a_caller(), "weather") == first
    assert len(bench.queue.tasks) == n_tasks


def test_a_run_that_was_cancelled_and_not_published_is_healed_by_cancelling_again():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.start()
    bench.runner().run(bench.queue.tasks[0].model_id)
    bench.queue.refuses_after = 0
    with pytest.raises(QueueUnavailableError):
        bench.service().cancel(a_caller(), "weather")
    assert bench.run().status is RunStatus.CANCELLED
    bench.queue.refuses_after = None
    bench.service().cancel(a_caller(), "weather")
    bench.deliver()
    assert len(bench.manifests()) == 1


def test_nothing_to_cancel_is_said():
    bench = TrainingBench()
    bench.a_session(a_table())
    with pytest.raises(RunNotFoundError):
        bench.service().cancel(a_caller(), "weather")
    bench.train()
    with pytest.raises(TrainingFinishedError):
        bench.service().cancel(a_caller(), "weather")
    for name in ("weather", "other", "../weather"):
        with pytest.raises(SessionNotFoundError):
            bench.service().cancel(a_caller(BOB), name)


def test_a_run_is_stalled_when_nobody_has_worked_on_it_for_ten_minutes():
    bench = TrainingBench()
    bench.a_session(a_table())
    run = bench.start(models=["random_forest"])
    assert not is_stalled(run, bench.database.now)
    bench.database.advance(minutes=9)
    bench.runs.claim(run.models[0].id, a_uuid(), 60)
    bench.database.advance(minutes=9)
    assert not is_stalled(bench.run(), bench.database.now)
    bench.database.advance(minutes=2)
    assert is_stalled(bench.run(), bench.database.now)
    assert not is_stalled(bench.service().cancel(a_caller(), "weather"), bench.database.now)


def _killing(target: Any, at: int, when: str, calls: Iterator[int]) -> Any:
    """Wrap a port: the call number `at` (over all wrapped ports) kills the process before or after its effect."""

    class Killing:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            method = getattr(target, name)

            def call(*arguments: Any, **options: Any) -> Any:
                number = next(calls)
                # The dead do not tidy up: whatever is called later has no effect either.
                if number > at or (number == at and when == "before"):
                    raise Killed
                result = method(*arguments, **options)
                if number == at:
                    raise Killed
                return result

            return call

    return Killing()


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_and_delivered_again_the_tasks_end_in_one_manifest(when):
    for at in range(100):
        bench = TrainingBench()
        session = bench.a_session(a_table())
        bench.start(models=["linear_regression", "random_forest"])
        calls = iter(range(10_000))
        runs = _killing(bench.runs, at, when, calls)
        artifacts = _killing(bench.artifacts, at, when, calls)
        runner = bench.runner(runs=runs, artifacts=artifacts, check=ManifestIntake(runs, artifacts).save_run)
        was_killed = False
        for task in bench.queue.tasks:
            try:
                runner.run(task.model_id)
            except Killed:
                was_killed = True
        # The queue comes again; by then the lease of the dead task has run out.
        bench.database.advance(seconds=121)
        bench.deliver(bench.runner(check=bench.intake().save_run))
        run = bench.run()
        assert run.status is RunStatus.COMPLETED, at
        assert {model.status for model in run.models} == {ModelStatus.READY}, at
        assert bench.status_of(session) is SessionStatus.TRAINED
        assert len(bench.manifests()) == 1
        published = {file.object_name for model in run.models for file in model.files}
        assert published == {name for name in bench.artifacts.names() if not name.endswith("manifest.json")}, at
        if not was_killed:
            assert at > 8
            return
    pytest.fail("the run never got through")
