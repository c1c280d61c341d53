"""Turns raw rows of a table into the columns that a model's file takes, by the member `encoding` of its record.

Whoever trains and whoever reloads a model do it here: archives hold this file, and the package `trainshed` has it under
the same name, so nothing of ours is imported. What the kinds mean: FORMULAS, and docs/results.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

DATE_PARTS = ("year", "month", "weekday", "hour", "epoch")
NUMBER, TEXT, DATE, ONE_HOT = "number", "text", "date", "one_hot"
FORMULAS: Mapping[str, str] = {
    NUMBER: "the number; missing and infinite ones are NaN",
    TEXT: "the text; a missing one is the empty text",
    DATE: "this part of the time in UTC, weekday from 0 (Monday), epoch in seconds since 1970; missing ones are NaN",
    ONE_HOT: "1 where the text is this value, else 0; a missing text is the empty text",
}


def encode(rows: pd.DataFrame, encoding: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the columns that `encoding` describes, in its order: float64, or texts for the kind `text`.

    Args:
        rows: Raw columns as pandas.read_csv gives them, under their own names; others are left alone.
        encoding: Entries with `name`, `column`, `kind` and, by kind, `part` or `value`.
    """
    import numpy as np
    import pandas as pd

    texts: dict[str, pd.Series] = {}
    times: dict[str, pd.Series] = {}
    encoded: dict[str, Any] = {}
    for entry in encoding:
        name, kind = entry["column"], entry["kind"]
        if kind == NUMBER:
            numbers = pd.to_numeric(rows[name], errors="coerce").to_numpy("float64", na_value=np.nan)
            encoded[entry["name"]] = np.where(np.isfinite(numbers), numbers, np.nan)
        elif kind == DATE:
            if name not in times:
                times[name] = as_times(rows[name])
            encoded[entry["name"]] = _part(times[name], entry["part"])
        else:
            if name not in texts:
                texts[name] = as_texts(rows[name])
            # Compared as they are: a text is never taken for a pattern or a number.
            is_value = kind == ONE_HOT and texts[name].to_numpy(object) == entry["value"]
            encoded[entry["name"]] = (
                np.asarray(is_value, "float64") if kind == ONE_HOT else texts[name].to_numpy(object)
            )
    return pd.DataFrame(encoded, index=rows.index)


def as_texts(column: pd.Series) -> pd.Series:
    """Return a column as texts; what is missing is the empty text, and a whole number has no decimal point."""
    import numpy as np
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        values = pd.Index([_as_text(value) for value in column.cat.categories], dtype=object)
        taken = np.where(column.cat.codes >= 0, values.to_numpy(object)[column.cat.codes], "")
        return pd.Series(taken, index=column.index, dtype=object)
    # As many texts are made as there are values, not as there are rows.
    codes, values = pd.factorize(column, use_na_sentinel=True)
    taken = np.array([*(_as_text(value) for value in values), ""], dtype=object)[codes]
    return pd.Series(taken, index=column.index, dtype=object)


def _as_text(value: Any) -> str:
    import numpy as np

    is_float = isinstance(value, float | np.floating)
    return str(int(value)) if is_float and float(value).is_integer() else str(value)


def as_times(column: pd.Series) -> pd.Series:
    """Return dates and times (ISO 8601) in UTC; what is missing, or none, is NaT."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column
    return pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce").dt.as_unit("us")


def _part(times: pd.Series, part: str) -> np.ndarray:
    import numpy as np

    if part == "epoch":
        micros = times.dt.as_unit("us").astype("int64").to_numpy("float64")
        return np.where(times.isna(), np.nan, micros / 1e6)
    column = times.dt.day_of_week if part == "weekday" else getattr(times.dt, part)
    values: np.ndarray = column.to_numpy("float64", na_value=np.nan)
    return values


def fill_window(windows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Fill what is missing in windows of a series with the value before it in the window, else with `values`.

    Args:
        windows: Shape (windows, rows, channels); NaN where a value is missing.
        values: One per channel.
    """
    import numpy as np

    is_missing = np.isnan(windows)
    if not is_missing.any():
        return windows
    rows = np.arange(windows.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(is_missing, -1, rows), axis=1)
    filled = np.take_along_axis(windows, np.maximum(last, 0), axis=1)
    return np.where(last < 0, values, filled)
