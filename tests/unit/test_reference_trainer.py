"""The reference trainer on small tables; that every model keeps the port's promises is in tests/contract."""

import pickle

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from shared.adapters.keras_models import batch_size
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.errors import DataSetError
from shared.records import TrainingOutcome
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import a_data_file, a_request, a_table


def train(frame: pd.DataFrame | bytes, folder, name: str = "linear_regression", **fields) -> TrainingOutcome:
    content = frame if isinstance(frame, bytes) else frame.to_csv(index=False).encode()
    store = InMemoryObjectStore()
    store.write("datasets/table.csv", content, "text/csv")
    n_rows = max(0, len(content.splitlines()) - 1)
    trainer = ReferenceTrainer(store)
    return trainer.train(name, a_request(**fields), [a_data_file(content, n_rows)], folder, lambda _: None)


def a_frame(n_rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.normal(5, 3, n_rows), "b": random.normal(-2, 0.1, n_rows)})
    frame["y"] = 3 * frame["a"] - 50 * frame["b"] + random.normal(0, 1, n_rows)
    frame.loc[::10, "a"] = np.nan
    return frame


def test_the_published_split_and_pipeline_repeat_the_published_metrics(tmp_path):
    frame = a_frame()
    outcome = train(frame, tmp_path)
    split = outcome.description["split"]
    _, test = train_test_split(np.arange(split["n_rows"]), test_size=split["n_test"], random_state=split["seed"])
    path = tmp_path / "model.skops"
    pipeline = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    predicted = pipeline.predict(frame[outcome.description["features"]].iloc[test])
    actual = frame["y"].iloc[test]
    assert outcome.metrics["test"] == pytest.approx(
        {
            "rmse": root_mean_squared_error(actual, predicted),
            "mae": mean_absolute_error(actual, predicted),
            "r2": r2_score(actual, predicted),
        }
    )


@pytest.mark.parametrize("name", ["linear_regression", "random_forest"])
def test_a_reloaded_model_repeats_the_published_check(name, tmp_path):
    outcome = train(a_frame(), tmp_path, name)
    check = outcome.description["check"]
    inputs = pd.DataFrame(check["inputs"], columns=outcome.description["features"], dtype="float64")
    pipeline = pickle.loads((tmp_path / "model.pkl").read_bytes())
    np.testing.assert_allclose(pipeline.predict(inputs), check["predictions"], rtol=check["relative_tolerance"])


def test_scalers_are_fitted_on_the_training_part_alone(tmp_path):
    frame = a_frame()
    outcome = train(frame, tmp_path)
    split = outcome.description["split"]
    train_rows, _ = train_test_split(np.arange(split["n_rows"]), test_size=split["n_test"], random_state=split["seed"])
    (scaler,) = outcome.scalers
    medians = frame[["a", "b"]].iloc[train_rows].median()
    filled = frame[["a", "b"]].iloc[train_rows].fillna(medians)
    assert scaler["feature_names"] == ["a", "b"]
    assert scaler["n_samples_seen"] == len(train_rows)
    np.testing.assert_allclose(scaler["missing_values"]["values"], medians)
    np.testing.assert_allclose(scaler["params"]["mean"], filled.mean())
    np.testing.assert_allclose(scaler["params"]["scale"], filled.std(ddof=0))


def test_every_model_of_a_run_holds_out_the_same_rows(tmp_path):
    linear, forest = train(a_frame(), tmp_path), train(a_frame(), tmp_path, "random_forest")
    assert linear.description["split"] == forest.description["split"]
    assert linear.description["check"]["actual"] == forest.description["check"]["actual"]


def test_another_seed_holds_out_other_rows(tmp_path):
    assert train(a_frame(), tmp_path).metrics != train(a_frame(), tmp_path, seed=7).metrics


def test_text_and_empty_columns_are_ignored_and_listed(tmp_path):
    frame = a_frame()
    frame["where"] = "JFK"
    frame["nothing"] = np.nan
    outcome = train(frame, tmp_path)
    assert outcome.description["features"] == ["a", "b"]
    assert outcome.description["ignored_columns"] == {
        "where": "not numeric",
        "nothing": "no values in the training part",
    }


def test_the_least_table_is_ten_rows_with_a_target(tmp_path):
    frame = a_frame(10)
    outcome = train(frame, tmp_path, test_fraction=0.05)
    assert outcome.description["split"]["n_test"] == 2
    frame.loc[0, "y"] = np.nan
    with pytest.raises(DataSetError, match="there are 9"):
        train(frame, tmp_path)


def test_a_table_with_nothing_to_learn_from_is_a_fault_of_the_data(tmp_path):
    with pytest.raises(DataSetError, match="no numeric column beside"):
        train(a_frame()[["y"]].assign(where="JFK"), tmp_path)


def test_a_constant_target_is_met_exactly(tmp_path):
    outcome = train(a_frame().assign(y=7.0), tmp_path)
    assert outcome.metrics["test"] == pytest.approx({"rmse": 0, "mae": 0, "r2": 1}, abs=1e-9)


@pytest.mark.parametrize("name", ["a", "y"])
def test_a_column_of_numbers_too_large_to_square_is_named(name, tmp_path):
    frame = a_frame()
    frame.loc[5, name] = -1e200
    with pytest.raises(DataSetError, match=f"Column '{name}' has numbers beyond 1e\\+140"):
        train(frame, tmp_path)


def test_the_charts_show_the_held_out_part_in_at_most_a_thousand_points(tmp_path):
    outcome = train(a_table(6_000), tmp_path)
    scatter, histogram = outcome.charts
    assert scatter["n_rows"] == 1_200
    assert len(scatter["data"]["actual"]) == len(scatter["data"]["predicted"]) == 1_000
    assert sum(histogram["data"]["count"]) == 1_200
    assert len(histogram["data"]["from"]) == len(histogram["data"]["to"]) == 30


@pytest.mark.parametrize(("n_rows", "rows"), [(8, 32), (6_400, 32), (26_000, 128), (340_000, 2_048), (10**8, 4_096)])
def test_a_batch_is_a_power_of_two_that_gives_about_two_hundred_steps(n_rows, rows):
    assert batch_size(n_rows) == rows
