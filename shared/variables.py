"""The rules of variables: what the columns of a session's data sets hold."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidFieldError
from shared.fields import read_existing_session_id, read_number_text
from shared.records.callers import Caller
from shared.records.uploads import data_files

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import TableReader, UploadRepository

DEFAULT_POINTS = 500
POINTS = (10, 5000)


class VariableService:
    """Describes the columns of a session's data sets."""

    def __init__(self, uploads: UploadRepository, reader: TableReader) -> None:
        self._uploads = uploads
        self._reader = reader

    def describe(
        self, caller: Caller, session_id: str, points: str | None, columns: str | None = None
    ) -> list[Mapping[str, Any]]:
        """Return statistics and a downsampled series for each column of each assembled table.

        Args:
            points: Of each series, 10 to 5000, as text; 500 if None.
            columns: Names with commas between them; all if None.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            InvalidFieldError: A number of points that is not allowed.
            DataSetError: A file is not the table it claims to be.
        """
        least, most = POINTS
        n_points = DEFAULT_POINTS if points is None else read_number_text(points, "points", least=least, most=most)
        _, uploads = self._uploads.of_session(caller, read_existing_session_id(session_id))
        chosen = None if columns is None else read_columns(columns)
        return [self._reader.describe(file, n_points, chosen) for file in data_files(uploads)]


def read_columns(text: str) -> frozenset[str]:
    """Return names of columns as a line of CSV has them, so that a quoted name may hold a comma.

    Raises:
        InvalidFieldError: There is none, or a quote is not closed.
    """
    try:
        (names,) = csv.reader([text], strict=True)
    except (ValueError, csv.Error) as error:
        raise InvalidFieldError("columns", "must be names with commas between them") from error
    if not names or not all(names):
        raise InvalidFieldError("columns", "must be names with commas between them")
    return frozenset(names)
