"""The rules of results: a run's scalers, charts and tables, and the variables of a session's data sets."""

from collections.abc import Mapping
from typing import Any

from shared.fields import read_existing_session_id, read_number_text
from shared.ports import SessionRepository, TableReader, TrainingRepository, UploadRepository
from shared.records import Caller, ResultItem, ResultKind, data_files

DEFAULT_POINTS = 500
POINTS = (10, 5000)


class ResultService:
    """What callers may read of results."""

    def __init__(self, runs: TrainingRepository) -> None:
        self._runs = runs

    def items(self, caller: Caller, session_id: str, kind: ResultKind) -> list[ResultItem]:
        """Return the scalers, charts or tables of the newest completed run; none before the first.

        Raises:
            SessionNotFoundError: The caller has none of this name.
        """
        return self._runs.results(caller, read_existing_session_id(session_id), kind)


class VariableService:
    """Describes the columns of a session's data sets."""

    def __init__(self, sessions: SessionRepository, uploads: UploadRepository, reader: TableReader) -> None:
        self._sessions = sessions
        self._uploads = uploads
        self._reader = reader

    def describe(self, caller: Caller, session_id: str, points: str | None) -> list[Mapping[str, Any]]:
        """Return statistics and a downsampled series for each column of each assembled table.

        Args:
            points: Of each series, 10 to 5000, as text; 500 if None.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            InvalidFieldError: A number of points that is not allowed.
            DataSetError: A file is not the table it claims to be.
        """
        least, most = POINTS
        n_points = DEFAULT_POINTS if points is None else read_number_text(points, "points", least=least, most=most)
        name = read_existing_session_id(session_id)
        self._sessions.get(caller, name)
        return [self._reader.describe(file, n_points) for file in data_files(self._uploads.of_session(caller, name))]
