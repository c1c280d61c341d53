"""Models of scikit-learn: pipelines that predict from encoded columns, each with its loss while it is trained.

Where the rows do not fit into memory, linear models learn from all of them, piece by piece; trees learn from a sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.evaluation import history_chart, importance_chart
from shared.adapters.model_files import write_pipeline
from shared.adapters.reference_trainer import FittedModel, Split, standard_scaler_json
from shared.archived.encoding import TEXT, encode
from shared.records.training import CurvePoint, TrainingRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import Progress

# With many columns each split looks at some of them, as Breiman advises: a third for regression, the root for classes.
FEW_FEATURES = 30
# Bounds that keep a forest small enough to download and fast enough for a queue: 100 trees of at most 2**12 leaves.
N_TREES = 100
TREES_PER_STEP = 5
DEEPEST = 12
LEAST_ROWS_PER_LEAF = 3
MOST_ROWS_PER_TREE = 50_000
N_JOBS = 2
# How many iterations boosting takes is decided on rows that are held back from it.
MOST_ITERATIONS = 200
# Each step sorts the rows into bins again and repeats what the trees before it predict: with steps of 10, a table of
# 327,346 rows took 1.7 times the CPU time that it takes with steps of 25.
ITERATIONS_PER_STEP = 25
PATIENCE_STEPS = 1
BOOSTING: Mapping[str, Any] = {
    "learning_rate": 0.1,
    "min_samples_leaf": 20,
    # What it would hold back itself, nobody could watch.
    "early_stopping": False,
    "warm_start": True,
}
LEAST_ROWS_TO_HOLD_BACK = 200
VALIDATION_FRACTION = 0.1
MOST_VALIDATION_ROWS = 20_000
# Of logistic regression, which ends when it has converged.
SOLVER_STEPS = 20
SOLVER_ITERATIONS_PER_STEP = 25
# Times that all rows are read, where they do not fit into memory.
STREAMED_EPOCHS = 3
# Weak, and divided by the inputs' variance, which is 1.
STREAMED_PENALTY = 1e-6
CURVE_ROWS = 5_000
# Writing the files takes the rest.
SHARE_TRAINED = 0.9
# Of a reload in the same version on another machine.
TOLERANCE = 1e-6


@dataclass
class Steps:
    """Reports the steps of one model while it is trained, and keeps their losses for a chart."""

    unit: str
    n_steps: int
    progress: Progress
    points: list[tuple[int, float | None, float | None]] = field(default_factory=list)

    def add(self, step: int, train: float | None, validation: float | None = None) -> None:
        """Note the losses after a step, counted from 1."""
        self.points.append((step, train, validation))
        done = SHARE_TRAINED * step / self.n_steps
        self.progress(done, CurvePoint(self.unit, step, self.n_steps, train, validation))


@dataclass(frozen=True)
class Training:
    """One model's work: encoded columns, the target (numbers, or classes as texts), and whom to tell of progress."""

    split: Split
    columns: Any
    target: np.ndarray
    seed: int
    progress: Progress

    @property
    def is_class(self) -> bool:
        """Whether classes are learned, not numbers."""
        return self.split.classes is not None

    def encoded_pieces(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Read all rows of the training part, piece by piece, encoded."""
        if self.split.pieces is None:
            raise ValueError("all rows are in memory")
        for rows, target in self.split.pieces():
            yield encode(rows, self.split.encoding), classes_of(self.split, target)

    def loss(self, model: Any, inputs: Any, target: np.ndarray) -> float:
        """Return the mean squared error, or the log loss."""
        from sklearn.metrics import log_loss, mean_squared_error

        if self.is_class:
            return float(log_loss(target, model.predict_proba(inputs), labels=model.classes_))
        return float(mean_squared_error(target, model.predict(inputs)))


@dataclass(frozen=True)
class Fitted:
    """A fitted pipeline with what is told of it."""

    pipeline: Pipeline
    params: Mapping[str, Any]
    steps: Steps | None = None
    findings: tuple[Mapping[str, Any], ...] = ()


def fit(name: str, split: Split, request: TrainingRequest, folder: Path, progress: Progress) -> FittedModel:
    """Fit one model and write its files."""
    columns = encode(split.train, split.encoding)
    work = Training(split, columns, classes_of(split, split.train_target), request.seed, progress)
    is_streamed = split.pieces is not None
    fitted = (_STREAMED if is_streamed else _IN_MEMORY)[name](work)
    pipeline = fitted.pipeline
    inputs = input_names(pipeline["encode"], split.encoding)
    charts: list[Mapping[str, Any]] = []
    if fitted.steps is not None:
        title = "log loss" if work.is_class else "mean squared error"
        charts.append(history_chart(name, request.target, fitted.steps.unit, title, fitted.steps.points))
    importances = getattr(pipeline["model"], "feature_importances_", None)
    if importances is not None:
        charts.append(importance_chart(name, request.target, inputs, importances.tolist()))
    predict = pipeline.predict_proba if work.is_class else pipeline.predict
    files = write_pipeline(pipeline, folder, encode(split.test, split.encoding), is_class=work.is_class)
    output = {"name": request.target, "dtype": "float64", "shape": [None], "unit": "raw"}
    if split.classes is not None:
        output |= {"dtype": "text", "unit": "class", "classes": list(split.classes)}
    has_texts = any(entry["kind"] == TEXT for entry in split.encoding)
    return FittedModel(
        class_name=class_name_of(pipeline),
        predict=lambda rows: predict(encode(rows, split.encoding)),
        files=files.files,
        encoding=split.encoding,
        params=dict(fitted.params) | ({} if importances is None else {"feature_importances": importances.tolist()}),
        signature={
            "inputs": [
                {
                    "name": "features",
                    "dtype": "float64 and text" if has_texts else "float64",
                    "shape": [None, columns.shape[1]],
                    "features": [str(column) for column in columns.columns],
                    "unit": "raw",
                }
            ],
            "outputs": [output],
            **files.signature,
        },
        scalers=(_scaler_json(name, pipeline, inputs),) if "scale" in pipeline.named_steps else (),
        packages=("scikit-learn", "skops", *files.packages),
        tolerance=TOLERANCE,
        tolerances=files.tolerances,
        rows="sample" if is_streamed and _STREAMED[name] is _IN_MEMORY[name] else "all",
        charts=tuple(charts),
        findings=(*fitted.findings, *files.findings),
    )


def classes_of(split: Split, target: np.ndarray) -> np.ndarray:
    """Return a target as files give it: classes as texts, numbers as they are."""
    if split.classes is None:
        return target
    import numpy as np

    texts: np.ndarray = np.array(split.classes, dtype=object)[target]
    return texts


def _encoder(work: Training, *, fills: bool = True) -> ColumnTransformer:
    """Return the first step, not fitted: numbers come first, missing ones as the median; texts as ones and zeros.

    A text that the training part had not is zero everywhere.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    encoding = work.split.encoding
    n_numbers = sum(entry["kind"] != TEXT for entry in encoding)
    numbers = SimpleImputer(strategy="median") if fills else "passthrough"
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [("numbers", numbers, list(range(n_numbers))), ("texts", texts, list(range(n_numbers, len(encoding))))]
    return ColumnTransformer([step for step in steps if step[2]])


def input_names(encoder: ColumnTransformer, encoding: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the columns behind the first step are called: `carrier=AA` where carrier is AA."""
    names = [str(entry["name"]) for entry in encoding if entry["kind"] != TEXT]
    texts = [str(entry["name"]) for entry in encoding if entry["kind"] == TEXT]
    if texts:
        values = encoder.named_transformers_["texts"].categories_
        names += [f"{name}={value}" for name, known in zip(texts, values, strict=True) for value in known]
    return names


def _scaler_json(name: str, pipeline: Pipeline, inputs: Sequence[str]) -> dict[str, Any]:
    encoder = pipeline["encode"]
    # Ones and zeros are never missing.
    medians = (
        encoder.named_transformers_["numbers"].statistics_.tolist() if encoder.transformers_[0][0] == "numbers" else []
    )
    return standard_scaler_json(
        f"{name}.inputs",
        name,
        "inputs",
        inputs,
        pipeline["scale"],
        applied_by="model",
        missing_values={"strategy": "median", "values": [*medians, *[0.0] * (len(inputs) - len(medians))]},
    )


def _fit_linear(work: Training) -> Fitted:
    """Fit ordinary least squares on standardized inputs."""
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = Pipeline([("encode", _encoder(work)), ("scale", StandardScaler()), ("model", LinearRegression())])
    pipeline.fit(work.columns, work.target)
    return Fitted(pipeline, {"imputation": "median", "scaling": "standard"})


def _fit_linear_streamed(work: Training) -> Fitted:
    """Fit ordinary least squares by the normal equations, which need one pass and no row twice."""
    import numpy as np
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline

    encoder = _encoder(work).fit(work.columns)
    scaler, n_rows, total = _scaler_of_all(work, encoder, share=SHARE_TRAINED / 2)
    mean = total / n_rows
    width = len(scaler.mean_)
    squares, products = np.zeros((width, width)), np.zeros(width)
    done = 0
    for columns, target in work.encoded_pieces():
        inputs = scaler.transform(encoder.transform(columns))
        squares += inputs.T @ inputs
        products += inputs.T @ (target - mean)
        done += len(target)
        work.progress(SHARE_TRAINED / 2 * (1 + done / n_rows))
    # The least solution where columns depend on each other, as scikit-learn's own solver gives.
    model = LinearRegression()
    model.coef_, _, model.rank_, model.singular_ = np.linalg.lstsq(squares, products)
    model.intercept_ = float(mean)
    model.n_features_in_ = width
    params = {
        "imputation": "median",
        "scaling": "standard",
        "solver": "normal equations",
        "n_rows_learned_from": n_rows,
    }
    return Fitted(Pipeline([("encode", encoder), ("scale", scaler), ("model", model)]), params)


def _scaler_of_all(work: Training, encoder: ColumnTransformer, *, share: float) -> tuple[Any, int, float]:
    """Return a scaler that has seen all rows, how many those are, and the sum of a numeric target."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    n_rows, total = 0, 0.0
    for columns, target in work.encoded_pieces():
        scaler.partial_fit(encoder.transform(columns))
        n_rows += len(target)
        total += 0.0 if work.is_class else float(np.sum(target))
        work.progress(share * min(1.0, n_rows / max(1, work.split.n_rows_in_files)))
    return scaler, n_rows, total


def _fit_logistic(work: Training) -> Fitted:
    """Fit multinomial logistic regression on standardized inputs, some iterations at a time."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    encoder, scaler = _encoder(work), StandardScaler()
    inputs = scaler.fit_transform(encoder.fit_transform(work.columns))
    model = LogisticRegression(max_iter=SOLVER_ITERATIONS_PER_STEP, warm_start=True)
    steps = Steps("iteration", SOLVER_STEPS * SOLVER_ITERATIONS_PER_STEP, work.progress)
    n_iterations = 0
    for _ in range(SOLVER_STEPS):
        with warnings.catch_warnings():
            # That is what the next step is for.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs, work.target)
        n_iterations += int(model.n_iter_.max())
        steps.add(n_iterations, work.loss(model, inputs[:CURVE_ROWS], work.target[:CURVE_ROWS]))
        if has_converged := int(model.n_iter_.max()) < SOLVER_ITERATIONS_PER_STEP:
            break
    model.set_params(warm_start=False)
    params = {
        "imputation": "median",
        "scaling": "standard",
        "C": model.C,
        "solver": model.solver,
        "iterations": n_iterations,
        "has_converged": has_converged,
    }
    return Fitted(Pipeline([("encode", encoder), ("scale", scaler), ("model", model)]), params, steps)


def _fit_logistic_streamed(work: Training) -> Fitted:
    """Fit logistic regression by stochastic gradient descent, one class against the rest, over all rows."""
    import numpy as np
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import Pipeline

    encoder = _encoder(work).fit(work.columns)
    scaler, n_rows, _ = _scaler_of_all(work, encoder, share=SHARE_TRAINED / (STREAMED_EPOCHS + 1))
    model = SGDClassifier(loss="log_loss", alpha=STREAMED_PENALTY, average=True, random_state=work.seed)
    random = np.random.default_rng(work.seed)
    inputs = scaler.transform(encoder.transform(work.columns.iloc[:CURVE_ROWS]))
    steps = Steps("epoch", STREAMED_EPOCHS, lambda done, point=None: work.progress(done, point))
    for epoch in range(1, STREAMED_EPOCHS + 1):
        done = 0
        for columns, target in work.encoded_pieces():
            order = random.permutation(len(target))
            rows = scaler.transform(encoder.transform(columns))[order]
            model.partial_fit(rows, target[order], classes=np.array(work.split.classes, dtype=object))
            done += len(target)
            work.progress(SHARE_TRAINED * (epoch + done / n_rows) / (STREAMED_EPOCHS + 1))
        steps.add(epoch, work.loss(model, inputs, work.target[:CURVE_ROWS]))
    params = {
        "imputation": "median",
        "scaling": "standard",
        "loss": "log_loss",
        "alpha": STREAMED_PENALTY,
        "epochs": STREAMED_EPOCHS,
        "average": True,
        "random_state": work.seed,
        "n_rows_learned_from": n_rows,
    }
    return Fitted(Pipeline([("encode", encoder), ("scale", scaler), ("model", model)]), params, steps)


def _fit_forest(work: Training) -> Fitted:
    """Fit a random forest, a few trees at a time so that progress shows."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.pipeline import Pipeline

    encoder = _encoder(work)
    inputs = encoder.fit_transform(work.columns)
    few = 1.0 if inputs.shape[1] <= FEW_FEATURES else 1 / 3
    forest = (RandomForestClassifier if work.is_class else RandomForestRegressor)(
        n_estimators=0,
        max_depth=DEEPEST,
        min_samples_leaf=LEAST_ROWS_PER_LEAF,
        max_samples=MOST_ROWS_PER_TREE if len(inputs) > MOST_ROWS_PER_TREE else None,
        max_features="sqrt" if work.is_class else few,
        random_state=work.seed,
        warm_start=True,
    )
    steps = Steps("tree", N_TREES, work.progress)
    for n_trees in range(TREES_PER_STEP, N_TREES + 1, TREES_PER_STEP):
        forest.set_params(n_estimators=n_trees, n_jobs=N_JOBS)
        forest.fit(inputs, work.target)
        # Several threads would add the trees' predictions in any order, and the last digits differ from run to run.
        forest.set_params(n_jobs=1)
        steps.add(n_trees, work.loss(forest, inputs[:CURVE_ROWS], work.target[:CURVE_ROWS]))
    forest.set_params(warm_start=False)
    params = {
        "imputation": "median",
        "scaling": "none",
        "n_estimators": N_TREES,
        "max_depth": DEEPEST,
        "min_samples_leaf": LEAST_ROWS_PER_LEAF,
        "max_samples": forest.max_samples,
        "max_features": forest.max_features,
        "random_state": work.seed,
    }
    return Fitted(Pipeline([("encode", encoder), ("model", forest)]), params, steps)


def _fit_boosting(work: Training) -> Fitted:
    """Fit histogram gradient boosting, which takes missing numbers as they are, until held-back rows gain no more."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import Pipeline

    encoder = _encoder(work, fills=False)
    inputs = encoder.fit_transform(work.columns)
    make = HistGradientBoostingClassifier if work.is_class else HistGradientBoostingRegressor
    model = make(random_state=work.seed, **BOOSTING)
    steps = Steps("iteration", MOST_ITERATIONS, work.progress)
    n_validation = boost([model], inputs, [work.target], work.loss, steps)
    return Fitted(Pipeline([("encode", encoder), ("model", model)]), boosting_params(model, steps, n_validation), steps)


def boost(
    models: Sequence[Any],
    inputs: np.ndarray,
    targets: Sequence[np.ndarray],
    loss: Callable[[Any, np.ndarray, np.ndarray], float],
    steps: Steps,
) -> int:
    """Fit boosting models of the same inputs side by side until their mean loss on held-back rows falls no more.

    Returns:
        How many rows were held back.
    """
    import numpy as np

    is_back = _held_back(targets)
    fit_rows, back_rows = inputs[~is_back], inputs[is_back]
    fit_targets = [target[~is_back] for target in targets]
    best, since_best = np.inf, 0
    for step in range(ITERATIONS_PER_STEP, steps.n_steps + 1, ITERATIONS_PER_STEP):
        trained, validated = [], []
        for at, model in enumerate(models):
            model.set_params(max_iter=step)
            model.fit(fit_rows, fit_targets[at])
            trained.append(loss(model, fit_rows[:CURVE_ROWS], fit_targets[at][:CURVE_ROWS]))
            if len(back_rows):
                validated.append(loss(model, back_rows, targets[at][is_back]))
            # With many models a step takes long, and who trains must give signs of life.
            steps.progress(SHARE_TRAINED * (step - ITERATIONS_PER_STEP * (1 - at / len(models))) / steps.n_steps)
        steps.add(step, float(np.mean(trained)), float(np.mean(validated)) if validated else None)
        judged = float(np.mean(validated or trained))
        best, since_best = (judged, 0) if judged < best else (best, since_best + 1)
        if since_best == PATIENCE_STEPS:
            break
    for model in models:
        model.set_params(warm_start=False)
    return int(is_back.sum())


def _held_back(targets: Sequence[np.ndarray]) -> np.ndarray:
    """Say which rows boosting is judged by: the last ones, but the first of every class; of few rows, none."""
    import numpy as np

    n_rows = len(targets[0])
    is_back = np.zeros(n_rows, dtype=bool)
    if n_rows < LEAST_ROWS_TO_HOLD_BACK:
        return is_back
    is_back[-min(MOST_VALIDATION_ROWS, int(n_rows * VALIDATION_FRACTION)) :] = True
    if targets[0].dtype == object:
        # A model that has not seen a class knows nothing of it.
        is_back[np.unique(targets[0].astype(str), return_index=True)[1]] = False
    return is_back


def boosting_params(model: Any, steps: Steps, n_validation: int) -> dict[str, Any]:
    """Describe how a boosting model was fitted."""
    return {
        "imputation": "none",
        "scaling": "none",
        **{name: value for name, value in BOOSTING.items() if name != "warm_start"},
        "max_leaf_nodes": model.max_leaf_nodes,
        "iterations": steps.points[-1][0],
        "max_iterations": steps.n_steps,
        "early_stopping_patience": PATIENCE_STEPS * ITERATIONS_PER_STEP,
        "n_validation": n_validation,
        "random_state": model.random_state,
    }


def class_name_of(pipeline: Pipeline) -> str:
    """Return the public name of the class of a pipeline's last step, `model`."""
    estimator = pipeline["model"]
    return f"{type(estimator).__module__.split('._')[0]}.{type(estimator).__name__}"


_IN_MEMORY: Mapping[str, Callable[[Training], Fitted]] = {
    "linear_regression": _fit_linear,
    "logistic_regression": _fit_logistic,
    "random_forest": _fit_forest,
    "gradient_boosting": _fit_boosting,
}
_STREAMED: Mapping[str, Callable[[Training], Fitted]] = {
    "linear_regression": _fit_linear_streamed,
    "logistic_regression": _fit_logistic_streamed,
    # Trees look at all rows at once: they learn from the sample.
    "random_forest": _fit_forest,
    "gradient_boosting": _fit_boosting,
}
