"""Tables as training reads them: what every column holds, then the rows, in bounded pieces.

Everything is read twice. The first reading decides what a column is; only then can the second one keep texts as the
numbers of their values, and know before it begins whether all rows fit into memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.adapters.table_chunks import chunks, first_text, readable, table_header
from shared.archived.encoding import DATE, DATE_PARTS, NUMBER, TEXT, as_texts, as_times
from shared.errors import DataSetError
from shared.records.training import LearningTask, TrainingRequest
from shared.records.uploads import DataFile
from shared.tables import is_date
from shared.training_requests import MOST_CLASSES, too_many_classes

if TYPE_CHECKING:
    import pandas as pd

    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore

# Of a text column, each becomes a column of ones and zeros; more of them are names, not categories.
MOST_CATEGORIES = 50
# 320 MB as float64. Training holds about five copies at its peak (whole, split, scaled): run-training has 4 GiB.
MOST_CELLS = 40_000_000
_SNIFFED_DATES = 10


@dataclass(frozen=True)
class Survey:
    """What the tables hold.

    Attributes:
        target: Its column.
        files: Those with the target, in order.
        n_rows: Of these files.
        columns: Kind (number, text, date) of every column that can be learned from, target and time column included.
        categories: Of each text column, sorted.
        ignored: Why other columns (or whole files, as "file <name>") are not used.
        class_counts: Of a classification: rows by class.
    """

    target: str
    files: tuple[DataFile, ...]
    n_rows: int
    columns: Mapping[str, str]
    categories: Mapping[str, tuple[str, ...]]
    ignored: Mapping[str, str]
    class_counts: Mapping[str, int]

    @property
    def width(self) -> int:
        """Cells of one row once it is encoded."""
        widths = {NUMBER: 1, DATE: len(DATE_PARTS)}
        return sum(widths.get(kind) or len(self.categories[name]) for name, kind in self.columns.items())

    @property
    def sample_fraction(self) -> float:
        """The part of the rows that fits into memory; 1 if all do."""
        return min(1.0, MOST_CELLS / max(1, self.n_rows * self.width))


@dataclass
class _Column:
    """What has been seen of one column."""

    kinds: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    has_many: bool = False
    n_tables: int = 0
    text_at: str | None = None

    def add(self, part: pd.Series, first_row: int) -> None:
        from pandas.api.types import is_bool_dtype, is_numeric_dtype

        present = part.dropna()
        if present.empty:
            return
        if is_numeric_dtype(part) and not is_bool_dtype(part):
            self.kinds.add(NUMBER)
            return
        kind = DATE if _are_dates(present) else TEXT
        if self.text_at is None:
            self.text_at = first_text(part, first_row)
        self.kinds.add(kind)
        if not self.has_many:
            self.values.update(as_texts(present).unique())
            self.has_many = len(self.values) > MOST_CATEGORIES

    def fault(self, n_tables: int) -> str | None:
        if self.n_tables < n_tables:
            return "not in every file"
        if not self.kinds:
            return "no values"
        if NUMBER in self.kinds and len(self.kinds) > 1:
            return f"numbers in some rows, texts in others: {self.text_at}"
        if self.kind == TEXT and self.has_many:
            return f"more than {MOST_CATEGORIES} different texts"
        return None

    @property
    def kind(self) -> str:
        return next(iter(self.kinds)) if len(self.kinds) == 1 else TEXT


def survey_tables(
    store: ObjectStore, files: Sequence[DataFile], request: TrainingRequest, progress: Callable[[float], None]
) -> Survey:
    """Read the tables once and find out what their columns hold.

    Args:
        files: Those without the target are left out.
        progress: Called with 0 to 1 after every 50,000 rows.

    Raises:
        DataSetError: A file cannot be read, or target or time column are not what the task needs.
    """
    target = request.target
    is_class = request.task is LearningTask.CLASSIFICATION
    ignored: dict[str, str] = {}
    used = []
    for file in files:
        if target in table_header(store, file):
            used.append(file)
        else:
            ignored[f"file {file.file_name}"] = f"no column {target!r}"
    if not used:
        raise DataSetError(f"No table has a column {target!r}.")
    n_expected = max(1, sum(file.n_rows for file in used))
    columns: dict[str, _Column] = {}
    classes: Counter[str] = Counter()
    n_read = n_tables = 0
    for file in used:
        names: set[str] = set()
        for first_row, chunk in _chunks(store, file):
            for name in chunk.columns:
                column = columns.setdefault(name, _Column())
                if name == target and is_class:
                    classes.update(as_texts(chunk[name].dropna()).value_counts().to_dict())
                    _check_class_number(target, classes)
                else:
                    column.add(chunk[name], first_row)
                    _check_number(request, name, column, file)
            names.update(chunk.columns)
            n_read += len(chunk)
            progress(min(1.0, n_read / n_expected))
        for name in names:
            columns[name].n_tables += 1
        n_tables += bool(names)
    faults = {name: column.fault(n_tables) for name, column in columns.items() if name != target}
    kinds = {name: columns[name].kind for name, fault in faults.items() if fault is None}
    ignored |= {name: fault for name, fault in faults.items() if fault is not None}
    if request.time_column is not None and kinds.get(request.time_column) not in {NUMBER, DATE}:
        reason = ignored.get(request.time_column, "texts that are no dates")
        raise DataSetError(f"Column {request.time_column!r} does not order the rows: {reason}.")
    return Survey(
        target=target,
        files=tuple(used),
        n_rows=n_read,
        columns={target: TEXT if is_class else NUMBER} | kinds,
        categories={name: tuple(sorted(columns[name].values)) for name, kind in kinds.items() if kind == TEXT}
        | ({target: tuple(sorted(classes))} if is_class else {}),
        ignored=ignored,
        class_counts=classes,
    )


def read_rows(
    store: ObjectStore, survey: Survey, columns: Sequence[str], progress: Callable[[float], None]
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Read rows in order, 50,000 at a time, as (number of the first one, frame).

    The frame has the columns of the survey that are asked for: numbers as float64 without infinities, dates in UTC,
    texts as categories in which a missing text is the empty one. Of a classification's target, what is missing is NaN.
    """
    first = 0
    for file in survey.files:
        for _, chunk in _chunks(store, file):
            yield first, _typed(chunk, survey, columns)
            first += len(chunk)
            progress(min(1.0, first / max(1, survey.n_rows)))


def _chunks(store: ObjectStore, file: DataFile) -> Iterator[tuple[int, pd.DataFrame]]:
    first = 0
    with readable(file), chunks(store, file) as pieces:
        for chunk in pieces:
            if not chunk.empty:
                yield first, chunk
                first += len(chunk)


def _typed(chunk: pd.DataFrame, survey: Survey, columns: Sequence[str]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    typed = {}
    for name in columns:
        column, kind = chunk[name], survey.columns[name]
        if kind == NUMBER:
            numbers = pd.to_numeric(column, errors="coerce").to_numpy("float64", na_value=np.nan)
            typed[name] = pd.Series(np.where(np.isfinite(numbers), numbers, np.nan))
        elif kind == DATE:
            typed[name] = as_times(column).reset_index(drop=True)
        else:
            is_target = name == survey.target
            texts = as_texts(column).where(column.notna().to_numpy() | (not is_target))
            values = survey.categories[name] if is_target else sorted({"", *survey.categories[name]})
            typed[name] = pd.Series(pd.Categorical(texts, categories=values))
    return pd.DataFrame(typed)


def _are_dates(present: pd.Series) -> bool:
    head = present.iloc[:_SNIFFED_DATES]
    return all(isinstance(value, str) and is_date(value) for value in head) and bool(as_times(present).notna().all())


def _check_number(request: TrainingRequest, name: str, column: _Column, file: DataFile) -> None:
    if name == request.target and column.kinds - {NUMBER}:
        raise DataSetError(f"Column {name!r} of {file.file_name!r} is not numeric: {column.text_at}.")


def _check_class_number(target: str, classes: Counter[str]) -> None:
    if len(classes) > MOST_CLASSES:
        raise DataSetError(too_many_classes(target, classes), classes=len(classes))
