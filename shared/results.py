"""The rules of results: a run's scalers and tables, and what any result is as a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import (
    ChartInvalidError,
    ChartNotFoundError,
    InvalidFieldError,
    ServiceError,
    TableInvalidError,
    TableNotFoundError,
)
from shared.fields import read_existing_session_id
from shared.records.callers import Caller
from shared.records.results import ResultItem, ResultKind
from shared.result_tables import ResultTableError, table_csv

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ResultRepository

TABLE_FORMATS: Mapping[str, str] = {"csv": "text/csv; charset=utf-8"}
JSON = "json"
# Cloud Run sends no answer over 32 MiB. The largest pictures are 2000 x 2000 at fourfold: 64 million pixels, mostly
# of one color, but noise in all of them would pass it.
LARGEST_FILE_BYTES = 30 << 20


class ResultService:
    """What callers may read of results."""

    def __init__(self, repository: ResultRepository) -> None:
        self._repository = repository

    def items(self, caller: Caller, session_id: str, kind: ResultKind) -> list[ResultItem]:
        """Return the scalers, charts or tables of the newest completed run; none before the first.

        Raises:
            SessionNotFoundError: The caller has none of this name.
        """
        return self._repository.results(caller, read_existing_session_id(session_id), kind)


@dataclass(frozen=True)
class ResultFile:
    """A result as a file: its type, a name to save it by, a tag that changes with it, and how to make it."""

    content_type: str
    name: str
    tag: str
    make: Callable[[], bytes]


class TableService:
    """Writes the tables of the newest completed run."""

    def __init__(self, results: ResultService) -> None:
        self._results = results

    def write(self, caller: Caller, session_id: str, form: str, name: str | None) -> ResultFile:
        """Return a table as a file.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            TableNotFoundError: Its newest results have no such table.
            InvalidFieldError: A format that is not known, or no name.
            TableInvalidError: The table cannot be written; the text says why.
        """
        form = read_format(form, TABLE_FORMATS)
        item = named(self._results, caller, session_id, ResultKind.EVALUATION_TABLES, name)
        try:
            content = table_csv(item.content)
        except ResultTableError as error:
            raise TableInvalidError(str(error), name=name) from error
        tag = hashlib.sha256(content).hexdigest()[:32]
        file_name = file_name_of(item.content["name"], form)
        return ResultFile(TABLE_FORMATS[form], file_name, tag, bounded(lambda: content, file_name))


def read_format(form: str, known: Mapping[str, str]) -> str:
    """Return a format that is known.

    Raises:
        InvalidFieldError: It is not.
    """
    if form not in known:
        raise InvalidFieldError("format", f"must be one of {', '.join([JSON, *known])}")
    return form


def named(results: ResultService, caller: Caller, session_id: str, kind: ResultKind, name: str | None) -> ResultItem:
    """Return the chart or table of this name; of several, the first.

    Raises:
        SessionNotFoundError: The caller has none of this name.
        InvalidFieldError: No name is given.
        ChartNotFoundError, TableNotFoundError: There is none.
    """
    if not name:
        raise InvalidFieldError("name", "is missing")
    items = results.items(caller, session_id, kind)
    found = next((item for item in items if item.content.get("name") == name), None)
    if found is None:
        missing: type[ServiceError] = ChartNotFoundError if kind is ResultKind.VISUALIZATIONS else TableNotFoundError
        raise missing
    return found


def bounded(make: Callable[[], bytes], name: str) -> Callable[[], bytes]:
    """Return the same maker, which raises `ChartInvalidError` where a file is larger than an answer may be."""

    def made() -> bytes:
        content = make()
        if len(content) > LARGEST_FILE_BYTES:
            raise ChartInvalidError("The file is too large to send; ask for a smaller one.", name=name)
        return content

    return made


def file_name_of(name: str, suffix: str) -> str:
    """Return what a result of this name is saved as, on any system."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip(".-")[:80]
    return f"{plain or 'result'}.{suffix}"
