"""What every `Trainer` does: the fake of the unit tests and the reference trainer."""

import json
import math

import pytest

from shared.adapters import keras_models, sklearn_models
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.errors import DataSetError
from shared.publication import FORMATS
from shared.records.training import (
    TRAINABLE_MODELS,
    LearningTask,
    TrainingRequest,
    models_of_task,
    read_training_request,
)
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import FakeTrainer, a_data_file, a_request, a_table

N_ROWS = 200
CASES = [(task, name) for task in LearningTask for name in models_of_task(task)]

# Keras asks TensorFlow's variables for arrays in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """What is promised does not depend on how long is trained."""
    monkeypatch.setattr(keras_models, "MOST_EPOCHS", 2)
    monkeypatch.setattr(sklearn_models, "N_TREES", 10)
    monkeypatch.setattr(sklearn_models, "MOST_ITERATIONS", 50)


def a_request_for(task: LearningTask) -> TrainingRequest:
    series = {"horizon": 2, "window": 4} if task is LearningTask.TIME_SERIES else {}
    return a_request(task=task, target="b" if task is LearningTask.CLASSIFICATION else "y", **series)


@pytest.fixture(params=["fake", "reference"])
def trainer(request):
    """Return a function from a table's bytes to a trainer that can read it as `a_data_file`."""

    def build(content: bytes):
        store = InMemoryObjectStore()
        store.write("datasets/table.csv", content, "text/csv")
        return FakeTrainer() if request.param == "fake" else ReferenceTrainer(store)

    return build


@pytest.mark.parametrize(("task", "name"), CASES)
def test_training_writes_files_of_the_models_formats_and_says_how_good_it_is(trainer, task, name, tmp_path):
    content = a_table(N_ROWS)
    seen: list[float] = []
    outcome = trainer(content).train(
        name, a_request_for(task), [a_data_file(content, N_ROWS)], tmp_path, lambda done, _=None: seen.append(done)
    )
    assert {FORMATS[file.format].framework for file in outcome.files} == {TRAINABLE_MODELS[name].framework}
    framework = TRAINABLE_MODELS[name].framework
    assert {file.format for file in outcome.files} >= ({"keras", "h5"} if framework == "keras" else {"skops", "pkl"})
    for file in outcome.files:
        assert file.path.parent == tmp_path
        assert file.path.read_bytes().startswith(FORMATS[file.format].begins)
        assert file.loads_code is (file.format == "pkl")
    assert set(outcome.metrics) == {"train", "test"}
    for metrics in outcome.metrics.values():
        assert all(math.isfinite(value) for value in metrics.values())
    assert all({"name", "model", "type"} <= set(scaler) for scaler in outcome.scalers)
    assert all({"name", "model", "kind"} <= set(chart) for chart in outcome.charts)
    assert all({"name", "columns", "rows"} <= set(table) for table in outcome.tables)
    assert {"environment", "features"} <= set(outcome.description)
    json.dumps(
        [outcome.signature, outcome.scalers, outcome.charts, outcome.tables, outcome.description], allow_nan=False
    )
    assert seen == sorted(seen)
    assert seen[-1] <= 1


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_request_in_a_manifest_gives_the_same_metrics_and_predictions_again(trainer, task, name, tmp_path):
    content = a_table(N_ROWS)
    files = [a_data_file(content, N_ROWS)]
    request = a_request_for(task)
    again = read_training_request(json.loads(json.dumps(request.document())))
    first = trainer(content).train(name, request, files, tmp_path, lambda *_: None)
    second = trainer(content).train(name, again, files, tmp_path, lambda *_: None)
    assert first.metrics == second.metrics
    # Among them the predictions of some held-out rows.
    assert first.description == second.description
    assert first.charts == second.charts


@pytest.mark.parametrize(("task", "name"), CASES)
def test_what_progress_raises_ends_the_training(trainer, task, name, tmp_path):
    content = a_table(N_ROWS)

    def stop(*_: object) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        trainer(content).train(name, a_request_for(task), [a_data_file(content, N_ROWS)], tmp_path, stop)


def test_nothing_to_train_on_is_a_fault_of_the_data(trainer, tmp_path):
    with pytest.raises(DataSetError):
        trainer(b"").train("linear_regression", a_request(), [], tmp_path, lambda *_: None)
