"""What may be asked of training: reads the fields of a request, and checks them against the beginnings of the tables.

What is found here would otherwise fail in the queue, minutes later. Where the caller names no task, the target decides.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import DataSetError, InvalidFieldError
from shared.fields import read_integer, read_list, read_text
from shared.records.training import TRAINABLE_MODELS, LearningTask, TrainingRequest, models_of_task
from shared.tables import MISSING_CELLS, is_date, is_number

DEFAULT_TEST_FRACTION = 0.2
TEST_FRACTIONS = (0.05, 0.5)
DEFAULT_SEED = 42
# numpy, and with it scikit-learn and Keras, takes seeds of 32 bits.
LARGEST_SEED = 2**32 - 1
# With fewer, a held-out part says nothing.
LEAST_ROWS = 10
# Of a classification; more of them are numbers or names.
MOST_CLASSES = 100
# One to learn from, one to be measured on.
LEAST_ROWS_PER_CLASS = 2
# A week of hours; each step more is an output more of every model.
LONGEST_HORIZON = 168
LONGEST_WINDOW = 1000
# Fewer windows to learn from, or to be measured on, say nothing.
LEAST_TRAIN_WINDOWS = 10
_NAMED_COLUMNS = 30
_NAMED_CLASSES = 5
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class TableHead:
    """The beginning of a table.

    Attributes:
        rows: Its first rows, cell by cell; a row may be shorter than the header.
        n_rows: Rows of the whole table.
        is_whole: These are all of its rows.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_rows: int
    is_whole: bool

    def texts(self, column: str) -> list[str]:
        """Return the cells of a column without spaces around them."""
        at = self.header.index(column)
        return [row[at].strip() if at < len(row) else "" for row in self.rows]


@dataclass(frozen=True)
class AskedTraining:
    """The fields of a request, each allowed by itself. None is what the tables will decide."""

    target: str
    task: LearningTask | None
    models: tuple[str, ...] | None
    test_fraction: float
    seed: int
    time_column: str | None
    horizon: int | None
    window: int | None


def read_training_fields(
    *,
    target: Any,
    task: Any = None,
    models: Any = None,
    test_fraction: Any = None,
    seed: Any = None,
    time_column: Any = None,
    horizon: Any = None,
    window: Any = None,
) -> AskedTraining:
    """Read what a caller sent.

    Raises:
        InvalidFieldError: A value that is not allowed, whatever the tables hold.
    """
    asked = AskedTraining(
        target=read_text(target, "target", longest=1000),
        task=None if task is None else _read_task(task),
        models=None if models is None else _read_models(models),
        test_fraction=DEFAULT_TEST_FRACTION if test_fraction is None else _read_fraction(test_fraction),
        seed=DEFAULT_SEED if seed is None else read_integer(seed, "seed", least=0, most=LARGEST_SEED),
        time_column=None if time_column is None else read_text(time_column, "timeColumn", longest=1000),
        horizon=None if horizon is None else read_integer(horizon, "horizon", least=1, most=LONGEST_HORIZON),
        window=None if window is None else read_integer(window, "window", least=1, most=LONGEST_WINDOW),
    )
    if asked.time_column == asked.target:
        raise InvalidFieldError("timeColumn", "must not be the target")
    if asked.task not in {None, LearningTask.TIME_SERIES}:
        for field, value in (("timeColumn", time_column), ("horizon", horizon), ("window", window)):
            if value is not None:
                raise InvalidFieldError(field, f"belongs to the task {LearningTask.TIME_SERIES}, not to {asked.task}")
    return asked


def _read_task(task: Any) -> LearningTask:
    offered = [task.value for task in LearningTask if models_of_task(task)]
    if not isinstance(task, str) or task not in offered:
        raise InvalidFieldError("task", f"must be one of {', '.join(offered)}")
    return LearningTask(task)


def _read_models(models: Any) -> tuple[str, ...]:
    names = read_list(models, "models", longest=len(TRAINABLE_MODELS))
    for name in names:
        if not isinstance(name, str) or name not in TRAINABLE_MODELS:
            raise InvalidFieldError("models", f"must be some of {', '.join(TRAINABLE_MODELS)}")
    if len(set(names)) < len(names):
        raise InvalidFieldError("models", "must not name a model twice")
    return tuple(names)


def _read_fraction(fraction: Any) -> float:
    if not isinstance(fraction, int | float) or isinstance(fraction, bool):
        raise InvalidFieldError("testFraction", "must be a number")
    least, most = TEST_FRACTIONS
    if not least <= fraction <= most:
        raise InvalidFieldError("testFraction", f"must be from {least} to {most}")
    return float(fraction)


def settle_request(asked: AskedTraining, tables: Sequence[TableHead]) -> TrainingRequest:
    """Decide what the caller left open, and check the whole against the tables.

    Without a task, a request that says something about time is for a series; a numeric target is for regression, any
    other one for classification.

    Raises:
        InvalidFieldError: A column that does not exist or does not fit the task, models of another task.
        DataSetError: The tables cannot be trained on.
    """
    columns = list(dict.fromkeys(name for table in tables for name in table.header))
    if not columns:
        raise DataSetError("The session has no table to train on.")
    if asked.target not in columns:
        raise InvalidFieldError("target", f"there is no column {asked.target!r}; there are {_name_some(columns)}")
    used = [table for table in tables if asked.target in table.header]
    task = asked.task or _infer_task(asked, used)
    offered = models_of_task(task)
    for name in asked.models or ():
        if name not in offered:
            raise InvalidFieldError("models", f"{name} is not for the task {task}; there are {', '.join(offered)}")
    request = TrainingRequest(
        target=asked.target,
        models=tuple(name for name in offered if asked.models is None or name in asked.models),
        test_fraction=asked.test_fraction,
        seed=asked.seed,
        task=task,
        time_column=asked.time_column,
        horizon=asked.horizon or 1,
        window=asked.window,
    )
    if task is LearningTask.TIME_SERIES:
        _check_series(request, used)
    else:
        _check_rows(request, used)
    return request


def _infer_task(asked: AskedTraining, tables: Iterable[TableHead]) -> LearningTask:
    is_about_time = any(value is not None for value in (asked.time_column, asked.horizon, asked.window))
    if is_about_time and models_of_task(LearningTask.TIME_SERIES):
        return LearningTask.TIME_SERIES
    if models_of_task(LearningTask.CLASSIFICATION) and not all(
        text in MISSING_CELLS or is_number(text) for table in tables for text in table.texts(asked.target)
    ):
        return LearningTask.CLASSIFICATION
    return LearningTask.REGRESSION


def _check_rows(request: TrainingRequest, tables: Sequence[TableHead]) -> None:
    target = request.target
    if request.task is LearningTask.REGRESSION:
        _check_numeric("target", target, tables)
    others = {name for table in tables for name in table.header if name != target and _has_values(table, name)}
    if not others:
        raise DataSetError(f"There is no column with values beside {target!r} to learn from.")
    n_rows = sum(_count_rows(table, target) for table in tables)
    if n_rows < LEAST_ROWS:
        raise DataSetError(
            f"At least {LEAST_ROWS} rows with a value of {target!r} are needed; there are {n_rows}.", rows=n_rows
        )
    if request.task is LearningTask.CLASSIFICATION:
        _check_classes(target, tables)


def _has_values(table: TableHead, column: str) -> bool:
    """Say whether a column may hold something: what lies beyond the head is not known."""
    return not table.is_whole or any(text not in MISSING_CELLS for text in table.texts(column))


def _check_classes(target: str, tables: Sequence[TableHead]) -> None:
    counts = Counter(_class_of(text) for table in tables for text in table.texts(target) if text not in MISSING_CELLS)
    if len(counts) > MOST_CLASSES:
        raise DataSetError(too_many_classes(target, counts), classes=len(counts))
    if all(table.is_whole for table in tables):
        check_class_counts(target, counts)


def too_many_classes(target: str, classes: Iterable[str]) -> str:
    """Say that a column has more classes than can be told apart, and what may be meant instead."""
    names = sorted(classes)
    numbers = [name for name in names if is_number(name)]
    text = next((name for name in names if not is_number(name)), None)
    # A single text among numbers makes a target that was meant for regression look like classes.
    hint = f" Most are numbers, but {_shown(text)} is none." if text and len(numbers) > len(names) / 2 else ""
    shown = ", ".join(map(_shown, names[:_NAMED_CLASSES]))
    return f"Column {target!r} has more than {MOST_CLASSES} classes: {shown}, ... Numbers are for regression.{hint}"


def check_class_counts(target: str, counts: Mapping[str, int]) -> None:
    """Demand two classes, and two rows of each.

    Args:
        counts: Rows by class.

    Raises:
        DataSetError: There is nothing to tell apart, or a class that cannot be learned and measured.
    """
    if len(counts) == 1:
        raise DataSetError(
            f"Column {target!r} has one class only, {_shown(next(iter(counts)))}: nothing to tell apart."
        )
    rare = [name for name, count in sorted(counts.items()) if count < LEAST_ROWS_PER_CLASS]
    if rare:
        named = ", ".join(map(_shown, rare[:_NAMED_CLASSES])) + (", ..." if len(rare) > _NAMED_CLASSES else "")
        raise DataSetError(
            f"Every class of {target!r} needs {LEAST_ROWS_PER_CLASS} rows, one to learn from and one to be measured on;"
            f" one row only has {named}. Remove these rows, or give them another class.",
            classes=rare[:_NAMED_CLASSES],
        )


def _class_of(text: str) -> str:
    """Return a cell as the trainer reads it: whole numbers without a decimal point, truth values in one spelling."""
    if text.lower() in {"true", "false"}:
        return text.capitalize()
    if is_number(text) and math.isfinite(float(text)) and float(text).is_integer():
        return str(int(float(text)))
    return text


def _check_series(request: TrainingRequest, tables: Sequence[TableHead]) -> None:
    _check_numeric("target", request.target, tables)
    if request.time_column is not None:
        for table in tables:
            _check_times(request.time_column, table)
    n_rows = sum(table.n_rows for table in tables)
    check_series_length(request, n_rows)


def check_series_length(request: TrainingRequest, n_rows: int) -> None:
    """Demand rows for some windows to learn from, and for one to be measured on.

    Raises:
        DataSetError: There are too few; details say how many there are and how many it takes.
    """
    window = request.window or 1
    least = next(
        n
        for n in range(window + 2 * request.horizon, 1 << 20)
        if n - n_test_rows(request, n) >= window + request.horizon + LEAST_TRAIN_WINDOWS - 1
    )
    if n_rows < least:
        raise DataSetError(
            f"A window of {window} and a horizon of {request.horizon} rows need a series of at least {least} rows;"
            f" there are {n_rows}.",
            rows=n_rows,
            least=least,
        )


def n_test_rows(request: TrainingRequest, n_rows: int) -> int:
    """Return how many rows at the end of a series are held out: at least one horizon."""
    return max(request.horizon, math.ceil(n_rows * request.test_fraction))


def _check_times(column: str, table: TableHead) -> None:
    if column not in table.header:
        raise InvalidFieldError("timeColumn", f"there is no column {column!r}; there are {_name_some(table.header)}")
    texts = table.texts(column)
    is_time = is_number if _is_numeric(texts) else is_date
    for row, text in enumerate(texts, start=1):
        if text in MISSING_CELLS:
            raise InvalidFieldError("timeColumn", f"column {column!r} has no value in row {row}")
        if not is_time(text):
            raise InvalidFieldError(
                "timeColumn",
                f"column {column!r} holds no times: row {row} holds {_shown(text)}; dates are written 2026-11-24 or"
                " 2026-11-24 15:00:00, numbers are allowed too",
            )


def _check_numeric(field: str, column: str, tables: Iterable[TableHead]) -> None:
    for table in tables:
        for row, text in enumerate(table.texts(column), start=1):
            if text not in MISSING_CELLS and not is_number(text):
                raise InvalidFieldError(field, f"column {column!r} is not numeric: row {row} holds {_shown(text)}")


def _is_numeric(texts: Sequence[str]) -> bool:
    present = [text for text in texts if text not in MISSING_CELLS]
    return bool(present) and all(is_number(text) for text in present)


def _count_rows(table: TableHead, column: str) -> int:
    """Count the rows with a value, where all rows are known."""
    return sum(text not in MISSING_CELLS for text in table.texts(column)) if table.is_whole else table.n_rows


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")


def _name_some(columns: Sequence[str]) -> str:
    rest = len(columns) - _NAMED_COLUMNS
    return ", ".join(columns[:_NAMED_COLUMNS]) + (f" and {rest} more" if rest > 0 else "")
