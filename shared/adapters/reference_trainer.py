"""`Trainer` on scikit-learn and Keras: regression, classification and time series, evaluated on a held-out part.

What is written here is described in docs/results.md. The frameworks' own steps are in sklearn_models.py and
keras_models.py, series in time_series.py; this module reads and splits rows, and puts the outcome together.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.evaluation import (
    class_table,
    classification_charts,
    classification_metrics,
    demand_finite,
    regression_charts,
    regression_metrics,
)
from shared.adapters.training_tables import Survey, read_rows, survey_tables
from shared.archived.encoding import DATE, DATE_PARTS, FORMULAS, NUMBER, TEXT, encode
from shared.errors import DataSetError
from shared.records.training import (
    TRAINABLE_MODELS,
    CurvePoint,
    LearningTask,
    TrainingOutcome,
    TrainingRequest,
    WrittenFile,
)
from shared.records.uploads import DataFile
from shared.training_requests import LEAST_ROWS_PER_CLASS, check_class_counts

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore, Progress

LEAST_ROWS = 10
# Two held-out rows are the least for which r2 is defined.
LEAST_TEST_ROWS = 2
# Squares of such numbers, and sums of as many squares as there can be rows, are still finite in float64.
LARGEST_NUMBER = 1e140
CHECK_ROWS = 5
_NAMED = 5
_SURVEYED, _READ = 0.05, 0.1

# Rows of the training part as (raw columns, target), in pieces, again and again.
Pieces = Callable[[], Iterator[tuple["pd.DataFrame", "np.ndarray"]]]


@dataclass(frozen=True)
class Split:
    """Training and test part.

    Attributes:
        encoding: How the raw columns become inputs (shared/adapters/encoding.py): numbers first, then texts.
        train, test: Raw columns; numbers are float64, missing values NaN.
        train_target, test_target: float64, or of a classification numbers of classes; shape (rows,).
        classes: Of a classification, sorted as texts.
        pieces: Where `train` is a sample: all rows of the training part, from the tables.
        n_rows_in_files: Rows that `pieces` reads to find those.
    """

    encoding: Sequence[Mapping[str, Any]]
    train: pd.DataFrame
    test: pd.DataFrame
    train_target: np.ndarray
    test_target: np.ndarray
    classes: tuple[str, ...] | None
    pieces: Pieces | None
    n_rows_in_files: int

    @property
    def names(self) -> list[str]:
        """The raw columns."""
        return [str(name) for name in self.train.columns]


@dataclass(frozen=True)
class FittedModel:
    """What a framework made of the training part.

    Attributes:
        predict: What stands for rows to predictions in the target's unit: raw columns to shape (rows,); of a
            classification to probabilities, shape (rows, classes); windows of a series, shape (windows, rows,
            channels), to shape (windows, horizon).
        encoding: Of the files' inputs.
        signature: What the *files* take and give, which may be scaled units.
        tolerance: Relative, of a reloaded model's predictions against the published ones.
        tolerances: The same for formats that calculate otherwise.
        rows: What it learned from: "all", or "sample".
        charts: Beside those that every model has.
    """

    class_name: str
    predict: Callable[[Any], np.ndarray]
    files: tuple[WrittenFile, ...]
    encoding: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any]
    signature: Mapping[str, Any]
    scalers: tuple[Mapping[str, Any], ...]
    packages: tuple[str, ...]
    tolerance: float
    tolerances: Mapping[str, float]
    rows: str
    charts: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """How a fitted model does; `described` is what its task adds to the manifest's entry."""

    metrics: Mapping[str, Mapping[str, float]]
    charts: tuple[Mapping[str, Any], ...]
    tables: tuple[Mapping[str, Any], ...]
    check: Mapping[str, Any]
    described: Mapping[str, Any]


class ReferenceTrainer:
    """Trains the models of TRAINABLE_MODELS."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def train(
        self,
        name: str,
        request: TrainingRequest,
        data_set: Sequence[DataFile],
        folder: Path,
        progress: Progress,
    ) -> TrainingOutcome:
        """Train one model; see the port."""
        import sklearn.ensemble  # noqa: F401  # loads OpenMP
        from threadpoolctl import threadpool_limits

        # On one core the sums are those of any machine, and OpenMP's threads, which wait actively, come nearly to a
        # standstill where they have to share cores. The limit holds for what is loaded: hence scikit-learn first.
        with threadpool_limits(1, user_api="openmp"):
            return self._train(name, request, data_set, folder, progress)

    def _train(
        self,
        name: str,
        request: TrainingRequest,
        data_set: Sequence[DataFile],
        folder: Path,
        progress: Progress,
    ) -> TrainingOutcome:
        survey = survey_tables(self._store, data_set, request, lambda done: progress(done * _SURVEYED))

        def read_part(done: float) -> None:
            progress(_SURVEYED + done * (_READ - _SURVEYED))

        def fitted_part(done: float, point: CurvePoint | None = None, /) -> None:
            progress(_READ + done * (1 - _READ), point)

        if request.task is LearningTask.TIME_SERIES:
            from shared.adapters import time_series

            series, split_json, ignored = time_series.read_series(self._store, survey, request, read_part)
            fitted = time_series.fit(name, series, request, folder, fitted_part)
            evaluation = time_series.evaluate(name, series, fitted, request)
            features = series.names
        else:
            split, split_json, ignored = _split(self._store, survey, request, read_part)
            fitted = _fit(name, split, request, folder, fitted_part)
            evaluation = _evaluate(name, split, fitted, request)
            features = split.names
        demand_finite(evaluation.metrics)
        packages = ("numpy", "pandas", *fitted.packages)
        return TrainingOutcome(
            class_name=fitted.class_name,
            files=fitted.files,
            metrics=evaluation.metrics,
            signature=fitted.signature,
            scalers=fitted.scalers,
            charts=(*evaluation.charts, *fitted.charts),
            tables=evaluation.tables,
            description={
                "task": request.task.value,
                "params": fitted.params,
                "features": features,
                "encoding": [{**entry, "formula": FORMULAS[entry["kind"]]} for entry in fitted.encoding],
                "ignored_columns": dict(ignored),
                "split": split_json | {"learned_from": fitted.rows},
                "check": {
                    **evaluation.check,
                    "relative_tolerance": fitted.tolerance,
                    "relative_tolerance_by_format": dict(fitted.tolerances),
                },
                "environment": {"python": platform.python_version()} | {name: version(name) for name in packages},
                "findings": list(fitted.findings),
                **evaluation.described,
            },
        )


def _fit(name: str, split: Split, request: TrainingRequest, folder: Path, progress: Progress) -> FittedModel:
    if TRAINABLE_MODELS[name].framework == "keras":
        from shared.adapters import keras_models

        return keras_models.fit_dense_network(split, request, folder, progress)
    from shared.adapters import sklearn_models

    return sklearn_models.fit(name, split, request, folder, progress)


def _split(
    store: ObjectStore, survey: Survey, request: TrainingRequest, progress: Callable[[float], None]
) -> tuple[Split, dict[str, Any], dict[str, str]]:
    """Hold out rows by the seed, the same ones for every model of a run."""
    import numpy as np

    target = request.target
    frame, numbers = _read_sample(store, survey, request.seed, progress)
    n_rows = len(frame)
    if n_rows < LEAST_ROWS:
        raise DataSetError(f"At least {LEAST_ROWS} rows with a value of {target!r} are needed; there are {n_rows}.")
    check_range(frame, survey)
    classes, values = None, frame[target].to_numpy() if request.task is LearningTask.REGRESSION else None
    if values is None:
        classes, values = survey.categories[target], frame[target].cat.codes.to_numpy("int64")
        _check_classes(target, survey, np.bincount(values, minlength=len(classes)))
    train_rows, test_rows = _held_out(request, n_rows, values if classes else None, len(classes or ()))
    features = frame.drop(columns=target)
    train, test = features.iloc[train_rows], features.iloc[test_rows]
    ignored = dict(survey.ignored)
    encoding = encoding_of(train, survey, ignored)
    if not encoding:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(ignored.items())[:_NAMED])
        raise DataSetError(f"There is no column beside {target!r} to learn from. {reasons}".rstrip())
    used = list(dict.fromkeys(entry["column"] for entry in encoding))
    pieces = None
    if survey.sample_fraction < 1:
        held_out = np.sort(numbers[test_rows])

        def pieces() -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
            for first, chunk in read_rows(store, survey, [target, *used], lambda _: None):
                rows = chunk[target].notna().to_numpy() & ~np.isin(first + np.arange(len(chunk)), held_out)
                kept = chunk[rows]
                yield kept[used], (kept[target].cat.codes if classes else kept[target]).to_numpy()

    stratify = ", stratify=classes of the rows" if classes else ""
    split_json = {
        "method": "sklearn.model_selection.train_test_split(numpy.arange(n_rows), test_size=n_test, random_state=seed"
        f"{stratify})",
        "rows": "of all files in order, those with numpy.random.RandomState([seed, 1]).random_sample(n_rows_in_files)"
        " < sample_fraction, and of these the ones with a target, counted from 0",
        "sample_fraction": survey.sample_fraction,
        "n_rows_in_files": survey.n_rows,
        "n_rows": n_rows,
        "n_test": len(test_rows),
        "n_train": len(train_rows),
        "seed": request.seed,
    }
    split = Split(
        encoding, train[used], test[used], values[train_rows], values[test_rows], classes, pieces, survey.n_rows
    )
    return split, split_json, ignored


def _read_sample(
    store: ObjectStore, survey: Survey, seed: int, progress: Callable[[float], None]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a random sample of as many rows as fit, those of them that have a target, and their numbers in the files.

    A number is drawn for each row. Every n-th row would be easier, and wrong for whatever comes back every n rows.
    """
    import numpy as np
    import pandas as pd

    # Of numpy's generators this one gives the same numbers in every version. The split draws from the seed alone.
    random = np.random.RandomState([seed, 1])
    frames, numbers = [], []
    for first, chunk in read_rows(store, survey, list(survey.columns), progress):
        sample = chunk[random.random_sample(len(chunk)) < survey.sample_fraction]
        sample = sample[sample[survey.target].notna()]
        frames.append(sample)
        numbers.append(first + sample.index.to_numpy())
    if not frames:
        return pd.DataFrame({survey.target: pd.Series(dtype="float64")}), np.array([], "int64")
    return pd.concat(frames, ignore_index=True), np.concatenate(numbers)


def check_range(frame: pd.DataFrame, survey: Survey) -> None:
    """Refuse numbers whose squares are none.

    Raises:
        DataSetError: A column has such a number.
    """
    for name, kind in survey.columns.items():
        if kind == NUMBER and name in frame and frame[name].abs().max() > LARGEST_NUMBER:
            raise DataSetError(f"Column {name!r} has numbers beyond {LARGEST_NUMBER:g}.")


def _check_classes(target: str, survey: Survey, sampled: np.ndarray) -> None:
    check_class_counts(target, survey.class_counts)
    for name, count in zip(survey.categories[target], sampled, strict=True):
        if count < LEAST_ROWS_PER_CLASS:
            raise DataSetError(
                f"Class {name!r} of {target!r} has {survey.class_counts[name]} of {survey.n_rows} rows:"
                f" too few for a sample of {survey.sample_fraction:.2%} of the rows."
            )


def _held_out(
    request: TrainingRequest, n_rows: int, codes: np.ndarray | None, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    import math

    import numpy as np
    from sklearn.model_selection import train_test_split

    n_test = max(LEAST_TEST_ROWS, n_classes, math.ceil(n_rows * request.test_fraction))
    if n_rows - n_test < n_classes:
        raise DataSetError(
            f"{n_rows} rows are too few for {n_classes} classes: each needs one to learn from and one to measure."
        )
    train, test = train_test_split(np.arange(n_rows), test_size=n_test, random_state=request.seed, stratify=codes)
    return train, test


def encoding_of(train: pd.DataFrame, survey: Survey, ignored: dict[str, str]) -> list[dict[str, Any]]:
    """Decide how raw columns become inputs, by the training part alone; add to `ignored` what teaches nothing."""
    inputs, texts = [], []
    for name in train.columns:
        column, kind = train[name], survey.columns[name]
        if column.isna().all() or (kind == TEXT and (column == "").all()):
            # It has no median either.
            ignored[name] = "no values in the training part"
        elif kind == NUMBER:
            inputs.append({"name": name, "column": name, "kind": NUMBER})
        elif kind == TEXT and len(column.unique()) == 1:
            ignored[name] = "one value only in the training part"
        elif kind == TEXT:
            texts.append({"name": name, "column": name, "kind": TEXT})
        else:
            parts = [{"name": f"{name}.{part}", "column": name, "kind": DATE, "part": part} for part in DATE_PARTS]
            encoded = encode(train[[name]], parts)
            # The hour of days, or the year within one year, is the same everywhere.
            varying = [entry for entry in parts if encoded[entry["name"]].min() < encoded[entry["name"]].max()]
            if not varying:
                ignored[name] = "one value only in the training part"
            inputs += varying
    taken = set(train.columns)
    for entry in inputs:
        # A column of the table may be called as a part of a date is.
        while entry["kind"] == DATE and entry["name"] in taken:
            entry["name"] += "_"
    return inputs + texts


def _evaluate(name: str, split: Split, fitted: FittedModel, request: TrainingRequest) -> Evaluation:
    predicted = fitted.predict(split.test)
    trained = fitted.predict(split.train)
    sample = split.test.iloc[:CHECK_ROWS]
    inputs = raw_rows(sample)
    if split.classes is None:
        return Evaluation(
            metrics={
                "train": regression_metrics(split.train_target, trained),
                "test": regression_metrics(split.test_target, predicted),
            },
            charts=regression_charts(name, request.target, split.test_target, predicted),
            tables=(),
            check={
                "inputs": inputs,
                "predictions": predicted[:CHECK_ROWS].tolist(),
                "actual": split.test_target[:CHECK_ROWS].tolist(),
            },
            described={},
        )
    classes = split.classes
    return Evaluation(
        metrics={
            "train": classification_metrics(split.train_target, trained),
            "test": classification_metrics(split.test_target, predicted),
        },
        charts=classification_charts(name, request.target, classes, split.test_target, predicted),
        tables=(class_table(name, request.target, classes, split.test_target, predicted),),
        check={
            "inputs": inputs,
            "predictions": [classes[code] for code in predicted[:CHECK_ROWS].argmax(axis=1)],
            "probabilities": predicted[:CHECK_ROWS].tolist(),
            "actual": [classes[code] for code in split.test_target[:CHECK_ROWS]],
        },
        described={"classes": list(classes)},
    )


def raw_rows(rows: pd.DataFrame) -> list[list[Any]]:
    """Return rows as JSON has them: numbers, texts, times in ISO 8601; what is missing is null."""
    import pandas as pd

    columns = []
    for name in rows.columns:
        column = rows[name]
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            columns.append([None if pd.isna(value) else value.isoformat() for value in column])
        elif isinstance(column.dtype, pd.CategoricalDtype):
            columns.append([value or None for value in column])
        else:
            columns.append([None if pd.isna(value) else float(value) for value in column])
    return [list(row) for row in zip(*columns, strict=True)]


def standard_scaler_json(
    name: str,
    model: str,
    role: str,
    names: Sequence[str],
    scaler: Any,
    *,
    applied_by: str,
    missing_values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a fitted scikit-learn StandardScaler in numbers, both directions.

    Args:
        role: inputs or target.
        names: Of the encoded inputs.
        applied_by: "model" where the model's file contains the scaling, "caller" where it does not.
        missing_values: What missing values of each input are replaced by before scaling, if anything: {strategy,
            values}.
    """
    described = {
        "name": name,
        "model": model,
        "role": role,
        "type": "standard",
        "feature_names": list(names),
        "params": {"mean": scaler.mean_.tolist(), "scale": scaler.scale_.tolist()},
        "formula": "(x - mean) / scale",
        "inverse": "x * scale + mean",
        "applied_by": applied_by,
        "fitted_on": "train",
        "n_samples_seen": int(scaler.n_samples_seen_),
        "sklearn_version": version("scikit-learn"),
    }
    if missing_values is not None:
        described["missing_values"] = dict(missing_values)
    return described
