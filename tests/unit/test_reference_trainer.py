"""The reference trainer on small tables; that every model keeps the port's promises is in tests/contract."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LinearRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.model_selection import train_test_split

from shared.adapters import keras_models, model_files, sklearn_models, table_chunks, training_tables
from shared.adapters.keras_models import batch_size
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.archived.encoding import encode
from shared.charts import read_chart
from shared.errors import DataSetError
from shared.records.training import CurvePoint, LearningTask, TrainingOutcome
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import a_data_file, a_request, a_table
from trainshed.reload import load_predictor, repeats_check

CLASSES = LearningTask.CLASSIFICATION

# Keras asks TensorFlow's variables for arrays in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


@pytest.fixture
def few_steps(monkeypatch):
    """What a test says here does not depend on how long is trained."""
    monkeypatch.setattr(keras_models, "MOST_EPOCHS", 2)
    monkeypatch.setattr(sklearn_models, "N_TREES", 10)
    monkeypatch.setattr(sklearn_models, "MOST_ITERATIONS", 50)


def train(frame: pd.DataFrame | bytes, folder, name: str = "linear_regression", points=None, **fields):
    content = frame if isinstance(frame, bytes) else frame.to_csv(index=False).encode()
    store = InMemoryObjectStore()
    store.write("datasets/table.csv", content, "text/csv")
    n_rows = max(0, len(content.splitlines()) - 1)

    def progress(_: float, point: CurvePoint | None = None, /) -> None:
        if point is not None and points is not None:
            points.append(point)

    trainer = ReferenceTrainer(store)
    return trainer.train(name, a_request(**fields), [a_data_file(content, n_rows)], folder, progress)


def record_of(outcome: TrainingOutcome) -> dict:
    """Return a model's record as the service lists it, through JSON as it comes."""
    return json.loads(json.dumps({**outcome.description, "signature": outcome.signature}))


def assert_files_repeat_the_check(outcome: TrainingOutcome) -> None:
    record = record_of(outcome)
    opened = [file for file in outcome.files if not file.loads_code]
    assert len(opened) == 2
    for file in opened:
        assert repeats_check(load_predictor(file.path, record, outcome.scalers), record, file.format), file.format


def a_frame(n_rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.normal(5, 3, n_rows), "b": random.normal(-2, 0.1, n_rows)})
    frame["y"] = 3 * frame["a"] - 50 * frame["b"] + random.normal(0, 1, n_rows)
    frame.loc[::10, "a"] = np.nan
    return frame


def a_mixed_frame(n_rows: int = 300) -> pd.DataFrame:
    """Return a table with every kind of column, each with gaps."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": random.normal(5, 3, n_rows),
            "carrier": random.choice(["AA", "UA", "é,x"], n_rows),
            "ok": random.choice([True, False], n_rows),
            "when": pd.date_range("2024-01-01", periods=n_rows, freq="7min"),
        }
    )
    frame["y"] = 30 * frame["a"] + (frame["carrier"] == "AA") * 10 + frame["when"].dt.hour + random.normal(0, 1, n_rows)
    frame.loc[::50, "a"] = np.nan
    frame.loc[::11, "carrier"] = None
    frame.loc[::13, "when"] = pd.NaT
    return frame


def a_class_frame(classes, n_rows: int = 300) -> pd.DataFrame:
    """Return a table whose classes follow from `a`, each as often as the others."""
    random = np.random.default_rng(0)
    codes = random.permutation(np.arange(n_rows) % len(classes))
    frame = pd.DataFrame({"a": codes + random.normal(0, 0.2, n_rows), "b": random.normal(0, 1, n_rows)})
    frame["y"] = [classes[code] for code in codes]
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


def test_columns_that_teach_nothing_are_ignored_and_listed(tmp_path):
    frame = a_frame()
    frame["where"] = "JFK"
    frame["nothing"] = np.nan
    frame["code"] = [f"code{row}" for row in range(len(frame))]
    frame["day"] = "2024-01-01"
    outcome = train(frame, tmp_path)
    assert outcome.description["features"] == ["a", "b"]
    assert outcome.description["ignored_columns"] == {
        "where": "one value only in the training part",
        "nothing": "no values",
        "code": "more than 50 different texts",
        "day": "one value only in the training part",
    }


def test_categories_dates_and_gaps_are_encoded_as_the_manifest_says(tmp_path):
    outcome = train(a_mixed_frame(), tmp_path)
    named = [(entry["name"], entry["kind"]) for entry in outcome.description["encoding"]]
    assert named == [
        ("a", "number"),
        ("when.weekday", "date"),
        ("when.hour", "date"),
        ("when.epoch", "date"),
        ("carrier", "text"),
        ("ok", "text"),
    ]
    assert all(entry["formula"] for entry in outcome.description["encoding"])
    (scaler,) = outcome.scalers
    assert scaler["feature_names"][4:] == ["carrier=", "carrier=AA", "carrier=UA", "carrier=é,x", "ok=False", "ok=True"]
    assert outcome.metrics["test"]["r2"] > 0.9


@pytest.mark.parametrize("name", ["linear_regression", "random_forest", "gradient_boosting", "dense_network"])
def test_every_file_repeats_the_check_from_raw_rows(name, tmp_path, few_steps):
    outcome = train(a_mixed_frame(), tmp_path, name)
    assert_files_repeat_the_check(outcome)


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "gradient_boosting", "dense_network"])
def test_every_file_of_a_classification_repeats_the_check_from_raw_rows(name, tmp_path, few_steps):
    outcome = train(a_mixed_frame().rename(columns={"carrier": "y", "y": "carrier"}), tmp_path, name, task=CLASSES)
    assert outcome.description["classes"] == ["AA", "UA", "é,x"]
    assert_files_repeat_the_check(outcome)


def test_a_text_that_training_never_saw_counts_as_none_of_the_known(tmp_path, few_steps):
    outcome = train(a_mixed_frame(), tmp_path)
    record = record_of(outcome)
    rows = pd.DataFrame(record["check"]["inputs"], columns=record["features"])
    predictions = [
        load_predictor(file.path, record, outcome.scalers)(rows.assign(carrier="nobody's", ok=None))
        for file in outcome.files
        if file.format != "pkl"
    ]
    assert len(predictions) == 2
    assert all(np.isfinite(found).all() for found in predictions)
    np.testing.assert_allclose(*predictions, rtol=1e-3)


def test_a_model_that_onnx_cannot_hold_says_why(tmp_path, few_steps, monkeypatch):
    monkeypatch.setattr(model_files, "MOST_ONNX_NODES", 10)
    outcome = train(a_frame(), tmp_path, "random_forest")
    assert [file.format for file in outcome.files] == ["skops", "pkl"]
    (finding,) = (one for one in outcome.description["findings"] if one["code"] == "ONNX_UNAVAILABLE")
    assert "nodes" in finding["detail"]


def test_an_onnx_that_predicts_otherwise_is_not_published(tmp_path):
    frame = a_frame()
    # In 32 bits these numbers are one and the same.
    frame["b"] = 1e15 + frame["b"].rank()
    frame["y"] = frame["b"] - 1e15
    outcome = train(frame, tmp_path)
    assert "onnx" not in {file.format for file in outcome.files}
    (finding,) = (one for one in outcome.description["findings"] if one["code"] == "ONNX_UNAVAILABLE")
    assert "predicts otherwise" in finding["detail"]
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("classes", "least"), [(["no", "yes"], 0.8), ([True, False], 0.8), ([3, 20, 100], 0.6), (["a", "b", ""], 0.8)]
)
def test_texts_truth_values_and_numbers_are_classes(classes, least, tmp_path):
    outcome = train(a_class_frame(classes), tmp_path, "logistic_regression", task=CLASSES)
    names = [str(name) for name in classes if name != ""]
    assert outcome.description["classes"] == sorted(names)
    metrics = outcome.metrics["test"]
    assert set(metrics) == {"accuracy", "balanced_accuracy", "f1_macro", "log_loss", "roc_auc"}
    assert metrics["accuracy"] > least
    # A missing class is no class: those rows teach nothing.
    assert outcome.description["split"]["n_rows"] == (200 if "" in classes else 300)
    (table,) = outcome.tables
    # Numbers by value, all else by text.
    assert [row["class"] for row in table["rows"]] == (names if names[0] == "3" else sorted(names))
    assert sum(row["rows"] for row in table["rows"]) == outcome.description["split"]["n_test"]


def test_metrics_of_classes_are_those_of_scikit_learn(tmp_path):
    frame = a_class_frame(["no", "yes"])
    outcome = train(frame, tmp_path, "logistic_regression", task=CLASSES)
    split = outcome.description["split"]
    _, test = train_test_split(
        np.arange(300), test_size=split["n_test"], random_state=split["seed"], stratify=frame["y"]
    )
    path = tmp_path / "model.skops"
    pipeline = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    rows, actual = frame[["a", "b"]].iloc[test], frame["y"].iloc[test]
    probabilities = pipeline.predict_proba(rows)
    assert outcome.metrics["test"] == pytest.approx(
        {
            "accuracy": accuracy_score(actual, pipeline.predict(rows)),
            "balanced_accuracy": balanced_accuracy_score(actual, pipeline.predict(rows)),
            "f1_macro": f1_score(actual, pipeline.predict(rows), average="macro"),
            "log_loss": log_loss(actual, probabilities),
            "roc_auc": roc_auc_score(actual, probabilities[:, 1]),
        }
    )


def test_classes_are_held_out_in_proportion_and_the_rarest_is_learned_too(tmp_path):
    frame = a_class_frame(["common"])
    frame.loc[:29, "y"] = "rare"
    frame.loc[30:31, "y"] = "rarest"
    outcome = train(frame, tmp_path, "logistic_regression", task=CLASSES)
    held_out = {row["class"]: row["rows"] for row in outcome.tables[0]["rows"]}
    assert held_out == {"common": 54, "rare": 6, "rarest": 0}
    assert outcome.tables[0]["rows"][2]["recall"] is None
    assert outcome.description["classes"] == ["common", "rare", "rarest"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["yes"] * 300, "one class only, 'yes'"),
        (["yes"] * 299 + ["no"], "one row only has 'no'"),
        ([f"c{row % 8}" for row in range(16)], "too few for 8 classes"),
    ],
)
def test_classes_that_cannot_be_learned_and_measured_are_a_fault_of_the_data(values, words, tmp_path):
    frame = a_class_frame(["a"]).iloc[: len(values)].assign(y=values)
    with pytest.raises(DataSetError, match=words):
        train(frame, tmp_path, "logistic_regression", task=CLASSES, test_fraction=0.6)


def test_confusion_and_roc_charts_are_valid_and_count_every_held_out_row(tmp_path):
    outcome = train(a_class_frame([2, 10]), tmp_path, "logistic_regression", task=CLASSES)
    kinds = {chart["name"].partition(".")[2]: read_chart(chart) for chart in outcome.charts}
    assert {"confusion", "roc", "history"} <= set(kinds)
    confusion = outcome.charts[0]["data"]
    assert sum(confusion["rows"]) == 60
    assert list(dict.fromkeys(confusion["actual"])) == ["2", "10"]


def test_of_many_classes_the_rare_ones_share_a_row_of_the_confusion(tmp_path):
    frame = a_class_frame([f"c{number:02}" for number in range(50)])
    outcome = train(frame, tmp_path, "logistic_regression", task=CLASSES)
    confusion = outcome.charts[0]["data"]
    assert len(set(confusion["actual"])) == 30
    assert "(others)" in confusion["actual"]
    assert sum(confusion["rows"]) == outcome.description["split"]["n_test"]


@pytest.mark.parametrize(
    ("name", "unit"),
    [("random_forest", "tree"), ("gradient_boosting", "iteration"), ("dense_network", "epoch")],
)
def test_the_loss_is_reported_while_a_model_is_trained_and_kept_as_a_chart(name, unit, tmp_path, few_steps):
    points = []
    outcome = train(a_frame(), tmp_path, name, points=points)
    assert len(points) >= 2
    assert {point.unit for point in points} == {unit}
    assert [point.step for point in points] == sorted({point.step for point in points})
    assert points[-1].train < points[0].train
    (chart,) = (chart for chart in outcome.charts if chart["name"] == f"{name}.history")
    assert chart["data"][unit][: len(points)] == [point.step for point in points]


@pytest.mark.parametrize("name", ["linear_regression", "random_forest", "gradient_boosting", "dense_network"])
def test_of_more_rows_than_fit_all_are_learned_from_where_that_is_possible(name, tmp_path, few_steps, monkeypatch):
    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 100)
    whole = train(a_mixed_frame(1_000), tmp_path, name)
    monkeypatch.setattr(training_tables, "MOST_CELLS", 3_000)
    outcome = train(a_mixed_frame(1_000), tmp_path, name)
    split = outcome.description["split"]
    assert whole.description["split"]["sample_fraction"] == 1
    assert 0 < split["sample_fraction"] < 0.4
    assert split["n_rows"] == len(sampled_rows(split))
    is_streamed = name in {"linear_regression", "dense_network"}
    assert split["learned_from"] == ("all" if is_streamed else "sample")
    if is_streamed:
        assert outcome.description["params"]["n_rows_learned_from"] == 1_000 - split["n_test"]
    assert_files_repeat_the_check(outcome)


def sampled_rows(split) -> np.ndarray:
    """Draw the sample again, as the manifest says."""
    drawn = np.random.RandomState([split["seed"], 1]).random_sample(split["n_rows_in_files"])
    return np.flatnonzero(drawn < split["sample_fraction"])


@pytest.mark.parametrize("period", [2, 5, 6, 24])
def test_a_sample_is_fair_to_what_comes_back_every_few_rows(period, tmp_path, few_steps, monkeypatch):
    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 100)
    n_rows = 6_000
    frame = pd.DataFrame({"a": np.arange(n_rows) % period, "b": np.random.default_rng(0).normal(size=n_rows)})
    frame["y"] = 10.0 * frame["a"]
    # Every period-th row would fit: all of one kind.
    monkeypatch.setattr(training_tables, "MOST_CELLS", n_rows * 3 / period)
    outcome = train(frame, tmp_path, "random_forest")
    again = train(frame, tmp_path, "random_forest")
    other = train(frame, tmp_path, "random_forest", seed=7)
    split = outcome.description["split"]
    counts = np.bincount(frame["a"].to_numpy()[sampled_rows(split)], minlength=period)
    assert split["learned_from"] == "sample"
    # Binomial: four standard deviations.
    assert abs(split["n_rows"] - n_rows / period) < 4 * (n_rows / period) ** 0.5
    assert counts.min() > 0
    assert outcome.metrics == again.metrics
    assert outcome.description["check"] == again.description["check"] != other.description["check"]


def test_the_normal_equations_solve_what_least_squares_solves(tmp_path, monkeypatch):
    frame = a_mixed_frame(1_000)
    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 64)
    monkeypatch.setattr(training_tables, "MOST_CELLS", 3_000)
    outcome = train(frame, tmp_path)
    split = outcome.description["split"]
    sample = sampled_rows(split)
    _, test = train_test_split(np.arange(len(sample)), test_size=split["n_test"], random_state=split["seed"])
    path = tmp_path / "model.skops"
    pipeline = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    # As scikit-learn solves it, on the same encoded rows at once.
    rows = frame.drop(index=sample[test])
    inputs = pipeline["scale"].transform(pipeline["encode"].transform(encode(rows, outcome.description["encoding"])))
    peer = LinearRegression().fit(inputs, rows["y"])
    np.testing.assert_allclose(pipeline["model"].predict(inputs), peer.predict(inputs), rtol=1e-6)


def test_classes_are_learned_from_all_rows_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 100)
    monkeypatch.setattr(training_tables, "MOST_CELLS", 1_000)
    outcome = train(a_class_frame(["no", "yes"], 1_000), tmp_path, "logistic_regression", task=CLASSES)
    assert outcome.class_name == "sklearn.linear_model.SGDClassifier"
    assert outcome.description["params"]["n_rows_learned_from"] == 1_000 - outcome.description["split"]["n_test"]
    assert outcome.metrics["test"]["accuracy"] > 0.9
    assert_files_repeat_the_check(outcome)


def test_the_least_table_is_ten_rows_with_a_target(tmp_path):
    frame = a_frame(10)
    outcome = train(frame, tmp_path, test_fraction=0.05)
    assert outcome.description["split"]["n_test"] == 2
    frame.loc[0, "y"] = np.nan
    with pytest.raises(DataSetError, match="there are 9"):
        train(frame, tmp_path)


def test_a_table_with_nothing_to_learn_from_is_a_fault_of_the_data(tmp_path):
    with pytest.raises(DataSetError, match=r"no column beside 'y' to learn from\. where: one value only"):
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
