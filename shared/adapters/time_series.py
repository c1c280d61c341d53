"""Time series: rows in their order, windows over them, forecasts of all steps of the horizon at once.

A window is `window` consecutive rows; from it the `horizon` next values of the target are forecast. The last rows are
held out. Whatever is chosen (season, window, fills, scalers) is chosen by the rows before them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from shared.adapters import training_tables
from shared.adapters.evaluation import forecast_charts, history_chart, regression_metrics
from shared.adapters.reference_trainer import (
    CHECK_ROWS,
    Evaluation,
    FittedModel,
    check_range,
    encoding_of,
    raw_rows,
    standard_scaler_json,
)
from shared.adapters.training_tables import Survey, read_rows
from shared.archived.encoding import DATE, NUMBER, encode, fill_window
from shared.errors import DataSetError
from shared.records.training import TRAINABLE_MODELS, TrainingRequest
from shared.training_requests import LEAST_TRAIN_WINDOWS, check_series_length, n_test_rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore, Progress

# A window that the caller does not choose holds a season, or as much as is forecast, within these rows.
CHOSEN_WINDOWS = (12, 168)
# What repeats itself less than this is no season. Autocorrelation without trend, from -1 to 1.
LEAST_AUTOCORRELATION = 0.3
LONGEST_SEASON = 1000
# All windows at once, as float64: 160 MB.
MOST_WINDOW_CELLS = 20_000_000
PREDICTED_CELLS = 4_000_000
CHECK_CELLS = 2_000
CHART_ROWS = 300
# The penalty of linear forecasts is the one that suits the newest windows before the held-out rows.
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
VALIDATION_FRACTION = 0.2
# Boosting has a model for each step of the horizon; together they may take so many iterations, each at least the least.
BOOSTING_ITERATIONS = 1_600
LEAST_BOOSTING_ITERATIONS = 50
# Times that never come again tell a model nothing about later ones.
_PASSING = ("year", "epoch")
NAIVE, SEASONAL_NAIVE = "naive", "seasonal_naive"
MISSING = "the value of the row before it in the window, else this one"


@dataclass(frozen=True)
class Series:
    """A series with its split.

    Attributes:
        rows: Raw columns in order of time.
        encoding: Of the channels; the target is the first.
        channels: Encoded, shape (rows, channels); NaN where a value is missing.
        fills: What stands for a missing value at the beginning of a window; one per channel.
        scaler: A StandardScaler of the training rows' channels.
        times: Of the rows; of rows without a time column their numbers.
        n_train: Rows of the training part, the first ones.
        season: Rows after which the target repeats itself, where it does.
        train_stride: Every train_stride-th window is learned from.
    """

    rows: pd.DataFrame
    encoding: Sequence[Mapping[str, Any]]
    channels: np.ndarray
    fills: np.ndarray
    scaler: Any
    times: pd.Series
    n_train: int
    window: int
    horizon: int
    season: int | None
    train_stride: int
    findings: tuple[Mapping[str, Any], ...]

    @property
    def names(self) -> list[str]:
        """The raw columns that the channels are made of."""
        return list(dict.fromkeys(str(entry["column"]) for entry in self.encoding))

    def starts(self, *, of_test: bool) -> np.ndarray:
        """Return the first rows of the windows of one part: those whose forecast rows lie in it and have values."""
        import numpy as np

        n_rows, reach = len(self.channels), self.window + self.horizon
        first, end = (self.n_train - self.window, n_rows) if of_test else (0, self.n_train)
        starts = np.arange(first, end - reach + 1)
        complete: np.ndarray = starts[np.isfinite(self.targets(starts)).all(axis=1)]
        return complete

    def windows(self, starts: np.ndarray) -> np.ndarray:
        """Return filled windows, shape (starts, window, channels)."""
        import numpy as np

        return fill_window(self.channels[starts[:, None] + np.arange(self.window)], self.fills)

    def targets(self, starts: np.ndarray) -> np.ndarray:
        """Return what comes after windows, shape (starts, horizon)."""
        import numpy as np

        after: np.ndarray = self.channels[starts[:, None] + self.window + np.arange(self.horizon), 0]
        return after

    def train_windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the windows to learn from, oldest first, and what comes after them."""
        starts = self.starts(of_test=False)[:: self.train_stride]
        return self.windows(starts), self.targets(starts)

    def scalers(self, model: str, *, applied_by: str) -> tuple[dict[str, Any], ...]:
        """Describe the scalers of a model that takes scaled channels and gives a scaled target."""
        names = [str(entry["name"]) for entry in self.encoding]
        target = SimpleNamespace(
            mean_=self.scaler.mean_[:1], scale_=self.scaler.scale_[:1], n_samples_seen_=self.scaler.n_samples_seen_
        )
        return (
            standard_scaler_json(f"{model}.inputs", model, "inputs", names, self.scaler, applied_by=applied_by),
            standard_scaler_json(f"{model}.target", model, "target", names[:1], target, applied_by=applied_by),
        )

    def predict(self, predict: Callable[[np.ndarray], np.ndarray], starts: np.ndarray) -> np.ndarray:
        """Predict from many windows, a bounded number at a time."""
        import numpy as np

        at_once = max(1, PREDICTED_CELLS // (self.window * self.channels.shape[1]))
        parts = [predict(self.windows(starts[at : at + at_once])) for at in range(0, len(starts), at_once)]
        return np.concatenate(parts)


def read_series(
    store: ObjectStore, survey: Survey, request: TrainingRequest, progress: Callable[[float], None]
) -> tuple[Series, dict[str, Any], dict[str, str]]:
    """Read the rows in order of time and hold out the last ones.

    Raises:
        DataSetError: There are too few rows or windows, or rows without a time.
    """
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    target, time_column = request.target, request.time_column
    rows = _newest_rows(store, survey, request, progress)
    check_range(rows, survey)
    check_series_length(request, len(rows))
    n_test = n_test_rows(request, len(rows))
    n_train = len(rows) - n_test
    if rows[target].iloc[:n_train].isna().all():
        raise DataSetError(f"Column {target!r} has no values before the held-out rows.")
    ignored = dict(survey.ignored)
    encoding = _channels_of(rows.iloc[:n_train], survey, request, ignored)
    channels = encode(rows, encoding).to_numpy("float64")
    known = _carried_forward(channels[:, 0])
    season = find_season(known[:n_train])
    window = request.window or _choose_window(request, n_train, season)
    fills = np.nanmedian(channels[:n_train], axis=0)
    train_rows = np.where(np.isnan(channels[:n_train]), fills, channels[:n_train])
    n_cells = n_train * window * len(encoding)
    series = Series(
        rows=rows,
        encoding=encoding,
        channels=channels,
        fills=fills,
        scaler=StandardScaler().fit(train_rows),
        times=rows[time_column] if time_column else rows.index.to_series(),
        n_train=n_train,
        window=window,
        horizon=request.horizon,
        season=season,
        train_stride=max(1, math.ceil(n_cells / MOST_WINDOW_CELLS)),
        findings=tuple(_findings(rows, time_column, season, survey.n_rows)),
    )
    n_windows = {part: len(series.starts(of_test=part == "test")) for part in ("train", "test")}
    if n_windows["train"] < LEAST_TRAIN_WINDOWS or n_windows["test"] < 1:
        raise DataSetError(
            f"Too many values of {target!r} are missing: there are {n_windows['train']} windows to learn from and"
            f" {n_windows['test']} to be measured on; it takes {LEAST_TRAIN_WINDOWS} and 1."
        )
    split = {
        "method": "the last n_test rows are held out; the forecast rows of a window lie all in one part",
        "rows": f"of all files, in order of {time_column!r}" if time_column else "of all files, in their order",
        "n_rows_in_files": survey.n_rows,
        "n_rows": len(rows),
        "n_test": n_test,
        "n_train": n_train,
        "n_train_windows": n_windows["train"],
        "n_test_windows": n_windows["test"],
        "window_stride": series.train_stride,
        "seed": request.seed,
    }
    return series, split, ignored


def _newest_rows(
    store: ObjectStore, survey: Survey, request: TrainingRequest, progress: Callable[[float], None]
) -> pd.DataFrame:
    """Return as many rows as fit into memory, the newest ones, in order of time."""
    import pandas as pd

    most = max(1, training_tables.MOST_CELLS // max(1, survey.width))
    kept: list[pd.DataFrame] = []
    n_kept = 0

    def newest() -> pd.DataFrame:
        rows = pd.concat(kept, ignore_index=True)
        if request.time_column is not None:
            rows = rows.sort_values(request.time_column, kind="stable", ignore_index=True)
        return rows.tail(most).reset_index(drop=True)

    for first, chunk in read_rows(store, survey, list(survey.columns), progress):
        if request.time_column is not None and chunk[request.time_column].isna().any():
            row = first + int(chunk[request.time_column].isna().to_numpy().argmax()) + 1
            raise DataSetError(f"Column {request.time_column!r} has no value in row {row}.")
        kept.append(chunk)
        n_kept += len(chunk)
        if n_kept > 2 * most:
            kept = [newest()]
            n_kept = len(kept[0])
    if not kept:
        return pd.DataFrame({name: pd.Series(dtype="float64") for name in survey.columns})
    return newest()


def _channels_of(
    train: pd.DataFrame, survey: Survey, request: TrainingRequest, ignored: dict[str, str]
) -> list[dict[str, Any]]:
    from shared.adapters.keras_models import one_hot_encoding

    others = train.drop(columns=request.target)
    encoding = one_hot_encoding(train, encoding_of(others, survey, ignored))
    if request.time_column is not None:
        encoding = [
            entry
            for entry in encoding
            if entry["column"] != request.time_column or (entry["kind"] == DATE and entry["part"] not in _PASSING)
        ]
        if all(entry["column"] != request.time_column for entry in encoding):
            ignored[request.time_column] = "orders the rows; its values do not come again"
    return [{"name": request.target, "column": request.target, "kind": NUMBER}, *encoding]


def find_season(values: np.ndarray) -> int | None:
    """Return after how many values a series repeats itself, or None: the first high peak of its autocorrelation."""
    import numpy as np

    n_values = len(values)
    longest = min(n_values // 3, LONGEST_SEASON)
    if longest < 2:
        return None
    at = np.arange(n_values)
    rest = values - np.polyval(np.polyfit(at, values, 1), at)
    spread = float(np.sum(rest**2))
    if spread <= 1e-12 * float(np.sum(values**2)):
        return None
    # Padded, so that the end does not meet the beginning.
    spectrum = np.fft.rfft(rest, 1 << (2 * n_values - 1).bit_length())
    alike = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 2] / spread
    alike *= n_values / (n_values - np.arange(len(alike)))
    peaks = [
        lag for lag in range(2, longest + 1) if alike[lag] >= max(alike[lag - 1], alike[lag + 1], LEAST_AUTOCORRELATION)
    ]
    if not peaks:
        return None
    highest = max(alike[lag] for lag in peaks)
    return next(lag for lag in peaks if alike[lag] >= 0.9 * highest)


def _choose_window(request: TrainingRequest, n_train: int, season: int | None) -> int:
    least, most = CHOSEN_WINDOWS
    room = n_train - request.horizon - LEAST_TRAIN_WINDOWS + 1
    return max(1, min(max(season or 0, request.horizon, least), most, room))


def _carried_forward(values: np.ndarray) -> np.ndarray:
    """Return a series whose missing values are the last one before them, at its beginning the first one there is."""
    import pandas as pd

    carried: np.ndarray = pd.Series(values).ffill().bfill().to_numpy()
    return carried


def _findings(
    rows: pd.DataFrame, time_column: str | None, season: int | None, n_rows: int
) -> Iterator[Mapping[str, Any]]:
    def finding(code: str, detail: str) -> dict[str, Any]:
        return {"level": "info", "code": code, "where": time_column or "rows", "detail": detail}

    if len(rows) < n_rows:
        yield finding("OLDEST_ROWS_LEFT_OUT", f"of {n_rows} rows the {len(rows)} newest are used")
    if season is None:
        yield finding("NO_SEASON", "the series does not repeat itself; there is no seasonal baseline")
    if time_column is None:
        return
    steps = rows[time_column].diff().iloc[1:]
    n_equal = int((steps == steps.dtype.type(0)).sum())
    if n_equal:
        yield finding("EQUAL_TIMES", f"{n_equal} rows have the time of the row before them; they keep their order")
    commonest = steps.mode()
    n_other = int((steps != commonest.iloc[0]).sum())
    if n_other:
        yield finding(
            "UNEVEN_TIMES", f"{n_other} of {len(steps)} steps are not {commonest.iloc[0]}; rows are counted, not time"
        )


def fit(name: str, series: Series, request: TrainingRequest, folder: Path, progress: Progress) -> FittedModel:
    """Fit one model and write its files."""
    if TRAINABLE_MODELS[name].framework == "keras":
        from shared.adapters import keras_models

        return keras_models.fit_recurrent_network(series, request, folder, progress)
    return _fit_sklearn(name, series, request, folder, progress)


def _fit_sklearn(name: str, series: Series, request: TrainingRequest, folder: Path, progress: Progress) -> FittedModel:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from shared.adapters.model_files import write_pipeline
    from shared.adapters.sklearn_models import TOLERANCE, class_name_of

    windows, after = series.train_windows()
    inputs = windows.reshape(len(windows), -1)
    charts: tuple[Mapping[str, Any], ...] = ()
    if name == "linear_regression":
        from sklearn.linear_model import Ridge

        # Neighboring rows are nearly alike: without a penalty their weights would cancel each other out.
        penalties = {}
        n_learned = max(1, int(len(inputs) * (1 - VALIDATION_FRACTION)) - (series.horizon - 1))
        for done, penalty in enumerate(PENALTIES, start=1):
            pipeline = Pipeline([("scale", StandardScaler()), ("model", Ridge(penalty))])
            pipeline.fit(inputs[:n_learned], after[:n_learned])
            found = pipeline.predict(inputs[n_learned:]).reshape(-1, series.horizon)
            penalties[penalty] = regression_metrics(after[-len(found) :], found)["rmse"]
            progress(0.8 * done / len(PENALTIES))
        best = min(penalties, key=lambda penalty: penalties[penalty])
        pipeline = Pipeline([("scale", StandardScaler()), ("model", Ridge(best))]).fit(inputs, after)
        params: dict[str, Any] = {"scaling": "standard", "alpha": best, "n_validation": len(inputs) - n_learned}
    else:
        pipeline, params, points = _boosted(series, request, inputs, after, progress)
        charts = (history_chart(name, request.target, "iteration", "mean squared error", points),)
    sample = series.starts(of_test=True)[:1000]
    files = write_pipeline(pipeline, folder, series.windows(sample).reshape(len(sample), -1), is_class=False)

    def predict(some: np.ndarray) -> np.ndarray:
        found: np.ndarray = pipeline.predict(some.reshape(len(some), -1))
        return found.reshape(len(some), -1)

    return FittedModel(
        class_name=class_name_of(pipeline),
        predict=predict,
        files=files.files,
        encoding=series.encoding,
        params={"imputation": "previous row of the window, else median"} | params,
        signature={
            "inputs": [
                {
                    "name": "window",
                    "dtype": "float64",
                    # Row after row of the window, each with its channels.
                    "shape": [None, series.window * len(series.encoding)],
                    "features": [entry["name"] for entry in series.encoding],
                    "unit": "raw",
                }
            ],
            "outputs": [{"name": request.target, "dtype": "float64", "shape": [None, request.horizon], "unit": "raw"}],
            **files.signature,
        },
        scalers=(),
        packages=("scikit-learn", "skops", *files.packages),
        tolerance=TOLERANCE,
        tolerances=files.tolerances,
        rows="all" if series.train_stride == 1 else "sample",
        charts=charts,
        findings=files.findings,
    )


def _boosted(
    series: Series, request: TrainingRequest, inputs: np.ndarray, after: np.ndarray, progress: Progress
) -> tuple[Any, dict[str, Any], Sequence[tuple[int, float | None, float | None]]]:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.metrics import mean_squared_error
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import Pipeline

    from shared.adapters.sklearn_models import (
        BOOSTING,
        ITERATIONS_PER_STEP,
        MOST_ITERATIONS,
        Steps,
        boost,
        boosting_params,
    )

    models = [HistGradientBoostingRegressor(random_state=request.seed, **BOOSTING) for _ in range(series.horizon)]
    share = BOOSTING_ITERATIONS // series.horizon // ITERATIONS_PER_STEP * ITERATIONS_PER_STEP
    steps = Steps("iteration", min(MOST_ITERATIONS, max(LEAST_BOOSTING_ITERATIONS, share)), progress)

    def loss(model: Any, rows: np.ndarray, actual: np.ndarray) -> float:
        return float(mean_squared_error(actual, model.predict(rows)))

    n_validation = boost(models, inputs, list(after.T), loss, steps)
    together = MultiOutputRegressor(HistGradientBoostingRegressor(random_state=request.seed, **BOOSTING))
    together.estimators_ = models
    together.n_features_in_ = inputs.shape[1]
    params = boosting_params(models[0], steps, n_validation) | {"models": "one per step of the horizon"}
    return Pipeline([("model", together)]), params, steps.points


def evaluate(name: str, series: Series, fitted: FittedModel, request: TrainingRequest) -> Evaluation:
    """Measure forecasts of all held-out windows, and the baselines on the same ones."""
    import numpy as np

    learned, tested = series.starts(of_test=False)[:: series.train_stride], series.starts(of_test=True)
    predicted = series.predict(fitted.predict, tested)
    actual = series.targets(tested)
    metrics = {
        "train": regression_metrics(series.targets(learned), series.predict(fitted.predict, learned)),
        "test": regression_metrics(actual, predicted),
    }
    baselines = {NAIVE: _naive} | ({SEASONAL_NAIVE: _seasonal_naive} if series.season else {})
    baseline_metrics: dict[str, dict[str, Any]] = {}
    errors = {name: _errors_by_step(actual, predicted)}
    for label, forecast in baselines.items():
        found = forecast(series, tested)
        baseline_metrics[label] = {"test": regression_metrics(actual, found)}
        errors[label] = _errors_by_step(actual, found)
        base = baseline_metrics[label]["test"]["rmse"]
        # Above 0 it is better than the baseline, 1 is perfect; nothing is better than a baseline without an error.
        metrics["test"][f"skill_{label}"] = 1 - metrics["test"]["rmse"] / base if base else 0.0
    newest = np.array([len(series.channels) - series.window])
    coming = series.predict(fitted.predict, newest)[0]
    time, times_after = _time_axis(series, request)
    check = tested[: max(1, min(CHECK_ROWS, CHECK_CELLS // (series.window * len(series.names))))]
    return Evaluation(
        metrics=metrics,
        charts=forecast_charts(
            name,
            request.target,
            time,
            _lines(series, tested, predicted, coming, times_after),
            errors,
        ),
        tables=(),
        check={
            "inputs": [raw_rows(series.rows[series.names].iloc[start : start + series.window]) for start in check],
            "predictions": predicted[: len(check)].tolist(),
            "actual": actual[: len(check)].tolist(),
        },
        described={
            "baselines": baseline_metrics,
            "series": {
                "time_column": request.time_column,
                "window": series.window,
                "horizon": series.horizon,
                "season": series.season,
                "missing_values": {"strategy": MISSING, "values": series.fills.tolist()},
            },
            "next": {"times": times_after, "predictions": coming.tolist()},
            "findings": [*fitted.findings, *series.findings],
        },
    )


def _naive(series: Series, starts: np.ndarray) -> np.ndarray:
    """Forecast that nothing changes."""
    import numpy as np

    known = _carried_forward(series.channels[:, 0])
    return np.repeat(known[starts + series.window - 1][:, None], series.horizon, axis=1)


def _seasonal_naive(series: Series, starts: np.ndarray) -> np.ndarray:
    """Forecast that the last season comes again."""
    import numpy as np

    season = series.season or 1
    steps = np.arange(1, series.horizon + 1)
    # As many whole seasons back as lead before the forecast.
    back = steps - season * np.ceil(steps / season).astype(int)
    known = _carried_forward(series.channels[:, 0])
    found: np.ndarray = known[np.maximum(0, (starts + series.window - 1)[:, None] + back)]
    return found


def _errors_by_step(actual: np.ndarray, predicted: np.ndarray) -> list[float]:
    errors: list[float] = (((predicted - actual) ** 2).mean(axis=0) ** 0.5).tolist()
    return errors


def _time_axis(series: Series, request: TrainingRequest) -> tuple[dict[str, Any], list[Any]]:
    """Return title and type of the times, and the times after the last row, at the commonest distance."""
    import pandas as pd

    step = series.times.diff().iloc[1:].mode().iloc[0]
    last = series.times.iloc[-1]
    coming = [last + step * number for number in range(1, series.horizon + 1)]
    if pd.api.types.is_datetime64_any_dtype(series.times.dtype):
        return {"title": request.time_column, "type": "date"}, [time.isoformat() for time in coming]
    return {"title": request.time_column or "row", "type": "number"}, [float(time) for time in coming]


def _lines(
    series: Series, tested: np.ndarray, predicted: np.ndarray, coming: np.ndarray, times_after: Sequence[Any]
) -> dict[str, list[tuple[Any, float | None]]]:
    """Return the newest held-out rows, what was forecast for them one and `horizon` rows before, and what comes."""
    import pandas as pd

    n_rows = len(series.channels)
    first = max(series.n_train, n_rows - CHART_ROWS)
    is_date = pd.api.types.is_datetime64_any_dtype(series.times.dtype)

    def time(row: int) -> Any:
        value = series.times.iloc[row]
        return value.isoformat() if is_date else float(value)

    def present(value: float) -> float | None:
        return float(value) if math.isfinite(value) else None

    lines = {"actual": [(time(row), present(series.channels[row, 0])) for row in range(first, n_rows)]}
    for step in dict.fromkeys((1, series.horizon)):
        rows = tested + series.window + step - 1
        name = f"forecast {step} row{'s' * (step > 1)} ahead"
        lines[name] = [
            (time(row), float(value)) for row, value in zip(rows, predicted[:, step - 1], strict=True) if row >= first
        ]
    lines["what comes"] = [(at, float(value)) for at, value in zip(times_after, coming, strict=True)]
    return lines
