"""`Trainer` on scikit-learn and Keras: regression on numeric columns, evaluated on a held-out part.

What is written here is described in docs/results.md. The framework's own steps are in sklearn_models.py and
keras_models.py; this module reads, splits, evaluates and draws.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.pandas_tables import NumericTable, read_numeric
from shared.errors import DataSetError
from shared.ports import ObjectStore
from shared.records import TRAINABLE_MODELS, DataFile, TrainingOutcome, TrainingRequest, WrittenFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEAST_ROWS = 10
# Two held-out rows are the least for which r2 is defined.
LEAST_TEST_ROWS = 2
# Squares of such numbers, and sums of as many squares as there can be rows, are still finite in float64.
LARGEST_NUMBER = 1e140
CHART_POINTS = 1000
RESIDUAL_BINS = 30
CHECK_ROWS = 5
_READ = 0.1


@dataclass(frozen=True)
class Split:
    """Training and test part.

    Attributes:
        train, test: Features, float64, missing values are NaN; shape (rows, features).
        train_target, test_target: float64, shape (rows,).
    """

    train: pd.DataFrame
    test: pd.DataFrame
    train_target: np.ndarray
    test_target: np.ndarray


@dataclass(frozen=True)
class FittedModel:
    """What a framework made of the training part.

    Attributes:
        predict: Features as in Split to predictions in the target's unit, shape (rows,).
        signature: What the *files* take and give, which may be scaled units.
        tolerance: Relative, of a reloaded model's predictions against the published ones.
        charts: Beside those that every model has.
    """

    class_name: str
    predict: Callable[[pd.DataFrame], np.ndarray]
    files: tuple[WrittenFile, ...]
    params: Mapping[str, Any]
    signature: Mapping[str, Any]
    scalers: tuple[Mapping[str, Any], ...]
    packages: tuple[str, ...]
    tolerance: float
    charts: tuple[Mapping[str, Any], ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()


class ReferenceTrainer:
    """Trains linear_regression, random_forest and dense_network."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def train(
        self,
        name: str,
        request: TrainingRequest,
        data_set: Sequence[DataFile],
        folder: Path,
        progress: Callable[[float], None],
    ) -> TrainingOutcome:
        """Train one model; see the port."""
        table = read_numeric(self._store, data_set, request.target, lambda done: progress(done * _READ))
        split, split_json, ignored = _split(table, request)

        def fitted_part(done: float) -> None:
            progress(_READ + done * (1 - _READ))

        fitted = _fit(name, split, request, folder, fitted_part)
        predicted = fitted.predict(split.test)
        metrics = {
            "train": _metrics(split.train_target, fitted.predict(split.train)),
            "test": _metrics(split.test_target, predicted),
        }
        if not all(math.isfinite(value) for values in metrics.values() for value in values.values()):
            raise DataSetError("The model found no finite solution for these numbers.")
        packages = ("numpy", "pandas", *fitted.packages)
        return TrainingOutcome(
            class_name=fitted.class_name,
            files=fitted.files,
            metrics=metrics,
            signature=fitted.signature,
            scalers=fitted.scalers,
            charts=(*_charts(name, request.target, split.test_target, predicted), *fitted.charts),
            description={
                "params": fitted.params,
                "features": [str(column) for column in split.train.columns],
                "ignored_columns": dict(ignored),
                "split": split_json,
                "check": _check(split, predicted, fitted.tolerance),
                "environment": {"python": platform.python_version()} | {name: version(name) for name in packages},
                "findings": list(fitted.findings),
            },
        )


def _fit(
    name: str, split: Split, request: TrainingRequest, folder: Path, progress: Callable[[float], None]
) -> FittedModel:
    if TRAINABLE_MODELS[name] == "keras":
        from shared.adapters import keras_models

        return keras_models.fit_dense_network(split, request.target, request.seed, folder, progress)
    from shared.adapters import sklearn_models

    fit = {"linear_regression": sklearn_models.fit_linear, "random_forest": sklearn_models.fit_forest}[name]
    return fit(split, request.target, request.seed, folder, progress)


def _split(table: NumericTable, request: TrainingRequest) -> tuple[Split, dict[str, Any], dict[str, str]]:
    """Hold out rows by the seed, the same ones for every model of a run."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    n_rows = len(table.frame)
    if n_rows < LEAST_ROWS:
        raise DataSetError(
            f"At least {LEAST_ROWS} rows with a value of {request.target!r} are needed; there are {n_rows}."
        )
    too_large = [str(name) for name in table.frame.columns if table.frame[name].abs().max() > LARGEST_NUMBER]
    if too_large:
        raise DataSetError(f"Column {too_large[0]!r} has numbers beyond {LARGEST_NUMBER:g}.")
    n_test = max(LEAST_TEST_ROWS, math.ceil(n_rows * request.test_fraction))
    train_rows, test_rows = train_test_split(np.arange(n_rows), test_size=n_test, random_state=request.seed)
    features = table.frame.drop(columns=request.target)
    # A column without a value in the training part teaches nothing and has no median.
    empty = [name for name in features.columns if features[name].iloc[train_rows].isna().all()]
    ignored = dict(table.ignored) | {str(name): "no values in the training part" for name in empty}
    features = features.drop(columns=empty)
    if features.shape[1] == 0:
        raise DataSetError(f"There is no numeric column beside {request.target!r} to learn from.")
    target = table.frame[request.target].to_numpy()
    split = Split(features.iloc[train_rows], features.iloc[test_rows], target[train_rows], target[test_rows])
    split_json = {
        "method": "sklearn.model_selection.train_test_split(numpy.arange(n_rows), test_size=n_test, random_state=seed)",
        "rows": "of all files in order, every stride-th, and of these the ones with a target, counted from 0",
        "stride": table.stride,
        "n_rows_in_files": table.n_rows,
        "n_rows": n_rows,
        "n_test": n_test,
        "n_train": n_rows - n_test,
        "seed": request.seed,
    }
    return split, split_json, ignored


def _metrics(actual: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    import numpy as np

    errors = predicted - actual
    spread = float(np.sum((actual - actual.mean()) ** 2))
    squared = float(np.sum(errors**2))
    return {
        "rmse": math.sqrt(squared / len(actual)),
        "mae": float(np.mean(np.abs(errors))),
        # A constant target has no spread to explain: 1 where it is met exactly, else 0, as scikit-learn has it.
        "r2": 1 - squared / spread if spread else float(squared == 0),
    }


def _check(split: Split, predicted: np.ndarray, tolerance: float) -> dict[str, Any]:
    """Return a few held-out rows with the predictions that a reloaded model must repeat, all in raw units."""
    rows = split.test.iloc[:CHECK_ROWS].to_numpy()
    return {
        "inputs": [[None if math.isnan(value) else float(value) for value in row] for row in rows],
        "predictions": [float(value) for value in predicted[:CHECK_ROWS]],
        "actual": [float(value) for value in split.test_target[:CHECK_ROWS]],
        "relative_tolerance": tolerance,
    }


def _charts(name: str, target: str, actual: np.ndarray, predicted: np.ndarray) -> tuple[dict[str, Any], ...]:
    import numpy as np

    shown = np.linspace(0, len(actual) - 1, min(len(actual), CHART_POINTS)).round().astype(int)
    counts, edges = np.histogram(predicted - actual, bins=RESIDUAL_BINS)
    return (
        {
            "name": f"{name}.predicted_vs_actual",
            "model": name,
            "kind": "scatter",
            "title": f"{target}: predicted against actual, held-out rows",
            "x": {"field": "actual", "title": f"actual {target}"},
            "y": {"field": "predicted", "title": f"predicted {target}"},
            "n_rows": len(actual),
            "data": {"actual": actual[shown].tolist(), "predicted": predicted[shown].tolist()},
        },
        {
            "name": f"{name}.residuals",
            "model": name,
            "kind": "histogram",
            "title": f"{target}: residuals (predicted - actual), held-out rows",
            "x": {"field": "from", "to": "to", "title": f"residual of {target}"},
            "y": {"field": "count", "title": "rows"},
            "n_rows": len(actual),
            "data": {"from": edges[:-1].tolist(), "to": edges[1:].tolist(), "count": counts.tolist()},
        },
    )


def standard_scaler_json(
    name: str, model: str, role: str, names: Sequence[str], scaler: Any, *, applied_by: str, medians: Any = None
) -> dict[str, Any]:
    """Describe a fitted scikit-learn StandardScaler in numbers, both directions.

    Args:
        role: inputs or target.
        applied_by: "model" where the model's file contains the scaling, "caller" where it does not.
        medians: What missing values of each feature are replaced by before scaling, if anything.
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
    if medians is not None:
        described["missing_values"] = {"strategy": "median", "values": medians.tolist()}
    return described
