"""What every `Trainer` does: the fake of the unit tests and the reference trainer."""

import json
import math

import pytest

from shared.adapters.reference_trainer import ReferenceTrainer
from shared.errors import DataSetError
from shared.models import FORMATS
from shared.records import TRAINABLE_MODELS
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import FakeTrainer, a_data_file, a_request, a_table

N_ROWS = 200

# Keras asks TensorFlow's variables for arrays in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


@pytest.fixture(params=["fake", "reference"])
def trainer(request):
    """Return a function from a table's bytes to a trainer that can read it as `a_data_file`."""

    def build(content: bytes):
        store = InMemoryObjectStore()
        store.write("datasets/table.csv", content, "text/csv")
        return FakeTrainer() if request.param == "fake" else ReferenceTrainer(store)

    return build


@pytest.mark.parametrize("name", TRAINABLE_MODELS)
def test_training_writes_files_of_the_models_formats_and_says_how_good_it_is(trainer, name, tmp_path):
    content = a_table(N_ROWS)
    seen: list[float] = []
    outcome = trainer(content).train(name, a_request(), [a_data_file(content, N_ROWS)], tmp_path, seen.append)
    assert {FORMATS[file.format][0] for file in outcome.files} == {TRAINABLE_MODELS[name]}
    assert len(outcome.files) == 2
    for file in outcome.files:
        assert file.path.parent == tmp_path
        assert file.path.read_bytes().startswith(FORMATS[file.format][1])
        assert file.loads_code is (file.format == "pkl")
    assert set(outcome.metrics) == {"train", "test"}
    for metrics in outcome.metrics.values():
        assert set(metrics) == {"rmse", "mae", "r2"}
        assert all(math.isfinite(value) for value in metrics.values())
    assert all({"name", "model", "type"} <= set(scaler) for scaler in outcome.scalers)
    assert all({"name", "model", "kind"} <= set(chart) for chart in outcome.charts)
    assert {"environment", "features"} <= set(outcome.description)
    json.dumps([outcome.signature, outcome.scalers, outcome.charts, outcome.description], allow_nan=False)
    assert seen == sorted(seen)
    assert seen[-1] <= 1


@pytest.mark.parametrize("name", TRAINABLE_MODELS)
def test_the_same_request_gives_the_same_metrics(trainer, name, tmp_path):
    content = a_table(N_ROWS)
    files = [a_data_file(content, N_ROWS)]
    first = trainer(content).train(name, a_request(), files, tmp_path, lambda _: None)
    second = trainer(content).train(name, a_request(), files, tmp_path, lambda _: None)
    assert first.metrics == second.metrics
    assert first.description == second.description


@pytest.mark.parametrize("name", TRAINABLE_MODELS)
def test_what_progress_raises_ends_the_training(trainer, name, tmp_path):
    content = a_table(N_ROWS)

    def stop(_: float) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        trainer(content).train(name, a_request(), [a_data_file(content, N_ROWS)], tmp_path, stop)


def test_nothing_to_train_on_is_a_fault_of_the_data(trainer, tmp_path):
    with pytest.raises(DataSetError):
        trainer(b"").train("linear_regression", a_request(), [], tmp_path, lambda _: None)
