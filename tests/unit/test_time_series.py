"""Time series: order, windows, baselines, and files that forecast from raw rows."""

import json

import numpy as np
import pandas as pd
import pytest

from shared.adapters import keras_models, sklearn_models, training_tables
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.adapters.time_series import find_season
from shared.archived.encoding import fill_window
from shared.charts import read_chart
from shared.errors import DataSetError
from shared.records.training import LearningTask, TrainingOutcome
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import a_data_file, a_request
from trainshed.reload import load_predictor, repeats_check

# Keras asks TensorFlow's variables for arrays in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """What a test says here does not depend on how long is trained."""
    monkeypatch.setattr(keras_models, "MOST_EPOCHS", 2)
    monkeypatch.setattr(sklearn_models, "MOST_ITERATIONS", 50)


def a_series(n_rows: int = 240) -> pd.DataFrame:
    """Return hours with a daily rhythm, a second column that runs ahead of the target, and gaps."""
    random = np.random.default_rng(0)
    hours = np.arange(n_rows)
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=n_rows, freq="h")})
    frame["wind"] = random.normal(0, 1, n_rows)
    frame["site"] = random.choice(["north", "south"], n_rows)
    frame["y"] = 20 + 10 * np.sin(hours * 2 * np.pi / 24) + 3 * frame["wind"].shift(1).fillna(0)
    frame.loc[7::40, "y"] = np.nan
    frame.loc[9::30, "wind"] = np.nan
    return frame


def train(frame: pd.DataFrame, folder, name: str = "linear_regression", **fields) -> TrainingOutcome:
    content = frame.to_csv(index=False).encode()
    store = InMemoryObjectStore()
    store.write("datasets/table.csv", content, "text/csv")
    asked = {"task": LearningTask.TIME_SERIES, "time_column": "when", "horizon": 3} | fields
    return ReferenceTrainer(store).train(
        name, a_request(**asked), [a_data_file(content, len(frame))], folder, lambda *_: None
    )


@pytest.mark.parametrize("name", ["linear_regression", "gradient_boosting", "recurrent_network"])
def test_every_file_repeats_the_forecasts_of_the_check_from_raw_rows(name, tmp_path):
    outcome = train(a_series(), tmp_path, name, window=6)
    record = json.loads(json.dumps({**outcome.description, "signature": outcome.signature}))
    assert np.shape(record["check"]["inputs"])[1:] == (6, len(record["features"]))
    assert np.shape(record["check"]["predictions"])[1:] == (3,)
    opened = [file for file in outcome.files if not file.loads_code]
    assert {file.format for file in opened} == ({"keras", "h5"} if "network" in name else {"skops", "onnx"})
    for file in opened:
        assert repeats_check(load_predictor(file.path, record, outcome.scalers), record, file.format), file.format


def test_a_model_is_measured_against_the_baselines_on_the_same_windows(tmp_path):
    frame = a_series()
    outcome = train(frame, tmp_path)
    series, split = outcome.description["series"], outcome.description["split"]
    assert (series["season"], series["window"], split["n_test"]) == (24, 24, 48)
    known = frame["y"].ffill().to_numpy()
    naive, seasonal = [], []
    for origin in range(192, 240 - 2):
        actual = frame["y"].to_numpy()[origin : origin + 3]
        if np.isfinite(actual).all():
            naive.append(known[origin - 1] - actual)
            seasonal.append(known[origin - 24 : origin - 21] - actual)
    assert split["n_test_windows"] == len(naive)
    baselines = outcome.description["baselines"]
    assert baselines["naive"]["test"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(naive))))
    assert baselines["seasonal_naive"]["test"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(seasonal))))
    test = outcome.metrics["test"]
    assert test["skill_naive"] == pytest.approx(1 - test["rmse"] / baselines["naive"]["test"]["rmse"])
    assert test["skill_seasonal_naive"] > 0


def test_the_order_of_the_rows_in_the_file_does_not_matter(tmp_path):
    frame = a_series()
    first = train(frame, tmp_path)
    second = train(frame.sample(frac=1, random_state=1), tmp_path)
    assert first.metrics == second.metrics
    assert first.description["check"] == second.description["check"]


@pytest.mark.parametrize("name", ["linear_regression", "gradient_boosting", "recurrent_network"])
def test_nothing_that_is_chosen_has_seen_the_held_out_rows(name, tmp_path):
    frame = a_series()
    first = train(frame, tmp_path, name)
    changed = frame.copy()
    changed.loc[192:, ["y", "wind"]] *= -100
    changed.loc[192:, "site"] = "nobody's"
    second = train(changed, tmp_path, name)
    assert first.metrics["train"] == second.metrics["train"]
    assert first.scalers == second.scalers
    assert first.description["encoding"] == second.description["encoding"]
    assert first.description["series"] == second.description["series"]
    assert first.metrics["test"] != second.metrics["test"]


def test_channels_are_the_target_the_other_columns_and_times_that_come_again(tmp_path):
    outcome = train(a_series(), tmp_path)
    assert [entry["name"] for entry in outcome.description["encoding"]] == [
        "y",
        "when.weekday",
        "when.hour",
        "wind",
        "site=north",
        "site=south",
    ]


def test_without_a_time_column_the_rows_are_in_order(tmp_path):
    outcome = train(a_series().drop(columns="when"), tmp_path, time_column=None)
    assert "in their order" in outcome.description["split"]["rows"]
    assert outcome.description["next"]["times"] == [240, 241, 242]


def test_a_number_that_counts_the_rows_orders_them_and_is_no_channel(tmp_path):
    outcome = train(a_series().assign(when=range(0, 480, 2)), tmp_path)
    assert outcome.description["ignored_columns"]["when"].startswith("orders the rows")
    assert outcome.description["next"]["times"] == [480, 482, 484]


def test_what_comes_after_the_last_row_is_forecast(tmp_path):
    outcome = train(a_series(), tmp_path)
    coming = outcome.description["next"]
    assert coming["times"][0].startswith("2024-01-11T00:00:00")
    hours = np.arange(240, 243)
    np.testing.assert_allclose(coming["predictions"], 20 + 10 * np.sin(hours * 2 * np.pi / 24), atol=8)


def test_uneven_and_equal_times_are_told(tmp_path):
    frame = a_series()
    frame.loc[50:, "when"] += pd.Timedelta(days=1)
    frame.loc[3, "when"] = frame.loc[2, "when"]
    codes = {finding["code"]: finding["detail"] for finding in train(frame, tmp_path).description["findings"]}
    assert codes["EQUAL_TIMES"].startswith("1 row")
    assert codes["UNEVEN_TIMES"].startswith("3 of 239")


def test_of_more_rows_than_fit_the_newest_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(training_tables, "MOST_CELLS", 900)
    outcome = train(a_series().sample(frac=1, random_state=2), tmp_path)
    split = outcome.description["split"]
    assert (split["n_rows_in_files"], split["n_rows"]) == (240, 100)
    assert outcome.description["next"]["times"][0].startswith("2024-01-11T00:00:00")
    assert "OLDEST_ROWS_LEFT_OUT" in {finding["code"] for finding in outcome.description["findings"]}


def test_charts_are_valid_and_show_forecasts_actual_values_and_baselines(tmp_path):
    outcome = train(a_series(), tmp_path)
    forecast, errors = outcome.charts
    for chart in outcome.charts:
        read_chart(chart)
    assert set(forecast["data"]["of"]) == {"actual", "forecast 1 row ahead", "forecast 3 rows ahead", "what comes"}
    assert errors["data"]["step"] == [1, 2, 3] * 3
    assert list(dict.fromkeys(errors["data"]["of"])) == ["linear_regression", "naive", "seasonal_naive"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.head(18), "need a series of at least"),
        (
            lambda frame: frame.assign(y=np.nan).assign(y=lambda f: f["y"].where(f.index % 7 > 0, 1.0)),
            "Too many values",
        ),
        (lambda frame: frame.assign(when=frame["when"].where(frame.index != 5)), "has no value in row 6"),
        (lambda frame: frame.assign(y=frame["y"].where(frame.index >= 200)), "no values before the held-out rows"),
    ],
)
def test_a_series_that_cannot_be_learned_is_a_fault_of_the_data(change, words, tmp_path):
    with pytest.raises(DataSetError, match=words):
        train(change(a_series()), tmp_path, window=10)


@pytest.mark.parametrize("n_rows", [24, 100, 240])
def test_a_window_is_chosen_that_leaves_enough_to_learn_from(n_rows, tmp_path):
    frame = a_series(n_rows).assign(y=np.arange(n_rows) % 5)
    outcome = train(frame, tmp_path)
    assert outcome.description["split"]["n_train_windows"] >= 10


def test_a_constant_series_is_met_exactly(tmp_path):
    outcome = train(a_series().assign(y=7.0), tmp_path)
    assert outcome.metrics["test"]["rmse"] == pytest.approx(0, abs=1e-9)
    assert outcome.description["series"]["season"] is None


@pytest.mark.parametrize(
    ("values", "season"),
    [
        (np.sin(np.arange(400) * 2 * np.pi / 24), 24),
        (np.arange(300) % 7 + np.arange(300) * 0.5, 7),
        (np.random.default_rng(0).normal(size=300), None),
        (np.arange(300.0), None),
        (np.ones(300), None),
        (np.ones(4), None),
    ],
)
def test_a_season_is_found_where_there_is_one(values, season):
    assert find_season(values) == season


def test_a_gap_in_a_window_is_filled_from_the_row_before():
    window = np.array([[[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan]]])
    assert fill_window(window, np.array([9.0, 8.0])).tolist() == [[[9.0, 1.0], [2.0, 1.0], [2.0, 1.0]]]
