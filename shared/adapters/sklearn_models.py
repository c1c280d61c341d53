"""Models of scikit-learn: pipelines that predict from raw columns, written as .skops and as an opaque .pkl."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.reference_trainer import FittedModel, Split, standard_scaler_json
from shared.records import WrittenFile

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

# With many columns each split looks at a third of them, as Breiman advises for regression; with few, at all.
FEW_FEATURES = 30
# Bounds that keep a forest small enough to download and fast enough for a queue: 100 trees of at most 2**12 leaves.
N_TREES = 100
TREES_PER_STEP = 5
DEEPEST = 12
LEAST_ROWS_PER_LEAF = 3
MOST_ROWS_PER_TREE = 50_000
N_JOBS = 2
# Of a reload in the same version on another machine.
TOLERANCE = 1e-6


def fit_linear(split: Split, target: str, seed: int, folder: Path, progress: Callable[[float], None]) -> FittedModel:
    """Fit ordinary least squares on imputed, standardized features."""
    del seed  # nothing is random
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = Pipeline(
        [("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler()), ("model", LinearRegression())]
    )
    pipeline.fit(split.train, split.train_target)
    progress(0.9)
    scaler = standard_scaler_json(
        "linear_regression.inputs",
        "linear_regression",
        "inputs",
        [str(name) for name in split.train.columns],
        pipeline["scale"],
        applied_by="model",
        medians=pipeline["impute"].statistics_,
    )
    return _fitted(pipeline, split.train, target, folder, {"imputation": "median", "scaling": "standard"}, (scaler,))


def fit_forest(split: Split, target: str, seed: int, folder: Path, progress: Callable[[float], None]) -> FittedModel:
    """Fit a random forest on imputed features, a few trees at a time so that progress shows."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    imputer = SimpleImputer(strategy="median").fit(split.train)
    features = imputer.transform(split.train)
    forest = RandomForestRegressor(
        n_estimators=0,
        max_depth=DEEPEST,
        min_samples_leaf=LEAST_ROWS_PER_LEAF,
        max_samples=MOST_ROWS_PER_TREE if len(features) > MOST_ROWS_PER_TREE else None,
        max_features=1.0 if features.shape[1] <= FEW_FEATURES else 1 / 3,
        random_state=seed,
        n_jobs=N_JOBS,
        warm_start=True,
    )
    for n_trees in range(TREES_PER_STEP, N_TREES + 1, TREES_PER_STEP):
        forest.set_params(n_estimators=n_trees)
        forest.fit(features, split.train_target)
        progress(0.9 * n_trees / N_TREES)
    # Several threads would add the trees' predictions in any order, and the last digits would differ from run to run.
    forest.set_params(n_jobs=1, warm_start=False)
    params = {
        "imputation": "median",
        "scaling": "none",
        "n_estimators": N_TREES,
        "max_depth": DEEPEST,
        "min_samples_leaf": LEAST_ROWS_PER_LEAF,
        "max_samples": forest.max_samples,
        "max_features": forest.max_features,
        "random_state": seed,
        "feature_importances": forest.feature_importances_.tolist(),
    }
    return _fitted(Pipeline([("impute", imputer), ("model", forest)]), split.train, target, folder, params, ())


def _fitted(
    pipeline: Pipeline,
    train: pd.DataFrame,
    target: str,
    folder: Path,
    params: Mapping[str, Any],
    scalers: tuple[Mapping[str, Any], ...],
) -> FittedModel:
    import skops.io

    skops_path, pickle_path = folder / "model.skops", folder / "model.pkl"
    # A third of the size for a second of work.
    skops.io.dump(pipeline, skops_path, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    with pickle_path.open("wb") as file:
        pickle.dump(pipeline, file, protocol=5)
    estimator = pipeline["model"]
    untrusted = skops.io.get_untrusted_types(file=skops_path)
    finding = {
        "level": "info",
        "code": "SKOPS_TYPES",
        "where": "model.skops",
        "detail": "skops asks to confirm these types when it loads the file",
        "types": untrusted,
    }
    return FittedModel(
        class_name=f"{type(estimator).__module__.split('._')[0]}.{type(estimator).__name__}",
        predict=pipeline.predict,
        files=(
            WrittenFile("skops", skops_path, "application/zip", loads_code=False),
            WrittenFile("pkl", pickle_path, "application/octet-stream", loads_code=True),
        ),
        params=params,
        signature={
            "inputs": [
                {
                    "name": "features",
                    "dtype": "float64",
                    "shape": [None, train.shape[1]],
                    "features": [str(name) for name in train.columns],
                    "unit": "raw",
                }
            ],
            "outputs": [{"name": target, "dtype": "float64", "shape": [None], "unit": "raw"}],
        },
        scalers=scalers,
        packages=("scikit-learn", "skops"),
        tolerance=TOLERANCE,
        findings=(finding,) if untrusted else (),
    )
