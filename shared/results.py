"""The rules of results: a run's scalers, charts and tables, and the variables of a session's data sets."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.chart_templates import DEFAULT_WIDTH, THEMES, WIDTHS, vega_lite
from shared.charts import PICTURE, ChartError, read_chart
from shared.errors import (
    ChartInvalidError,
    ChartNotFoundError,
    InvalidFieldError,
    ServiceError,
    TableInvalidError,
    TableNotFoundError,
)
from shared.fields import read_existing_session_id, read_number_text
from shared.publication import run_prefix
from shared.records.callers import Caller
from shared.records.objects import pictures_prefix
from shared.records.results import ResultItem, ResultKind
from shared.records.uploads import data_files
from shared.result_tables import ResultTableError, table_csv

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import (
        ChartRenderer,
        ResultRepository,
        SessionRepository,
        TableReader,
        UploadRepository,
        UrlSigner,
    )

CHART_FORMATS: Mapping[str, str] = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "vega-lite": "application/json",
}
TABLE_FORMATS: Mapping[str, str] = {"csv": "text/csv; charset=utf-8"}
JSON = "json"
SCALES = (1, 4)
DEFAULT_SCALE = 2
# Cloud Run sends no answer over 32 MiB. The largest pictures are 2000 x 2000 at fourfold: 64 million pixels, mostly
# of one color, but noise in all of them would pass it.
LARGEST_FILE_BYTES = 30 << 20
# Part of every tag: whoever changes how charts are drawn counts it up, so that no client keeps an old drawing.
DRAWING = 1
DEFAULT_POINTS = 500
POINTS = (10, 5000)


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


@dataclass(frozen=True)
class Drawing:
    """How a chart is to be drawn, as texts of a query; None takes what is usual."""

    form: str
    name: str | None = None
    theme: str | None = None
    width: str | None = None
    scale: str | None = None


class ChartService:
    """Draws the charts of the newest completed run."""

    def __init__(self, results: ResultService, sessions: SessionRepository, renderer: ChartRenderer) -> None:
        self._results = results
        self._sessions = sessions
        self._renderer = renderer

    def draw(
        self, caller: Caller, session_id: str, drawing: Drawing, signer: Callable[[], UrlSigner]
    ) -> str | ResultFile:
        """Return a chart as a file, or, of a stored picture, the short-lived address that it is at.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            ChartNotFoundError: Its newest results have no such chart.
            InvalidFieldError: A format, theme, width or scale that is not allowed, or no name.
            ChartInvalidError: The chart cannot be drawn; the text says why.
        """
        form = read_format(drawing.form, CHART_FORMATS)
        theme = drawing.theme or THEMES[0]
        if theme not in THEMES:
            raise InvalidFieldError("theme", f"must be one of {', '.join(THEMES)}")
        width, scale = (
            default if text is None else read_number_text(text, field, least=least, most=most)
            for field, text, default, (least, most) in (
                ("width", drawing.width, DEFAULT_WIDTH, WIDTHS),
                ("scale", drawing.scale, DEFAULT_SCALE, SCALES),
            )
        )
        item = named(self._results, caller, session_id, ResultKind.VISUALIZATIONS, drawing.name)
        try:
            chart = read_chart(item.content)
        except ChartError as error:
            raise ChartInvalidError(str(error), name=drawing.name) from error
        if chart.kind == PICTURE:
            return self._picture_url(caller, session_id, item, form, signer)
        spec = vega_lite(chart, width=width, theme=theme)
        content = json.dumps(spec, ensure_ascii=False, allow_nan=False).encode()
        makers: Mapping[str, Callable[[], bytes]] = {
            "png": lambda: self._renderer.png(spec, scale),
            "svg": lambda: self._renderer.svg(spec),
            "vega-lite": lambda: content,
        }
        tag = hashlib.sha256(content + f"{form} {scale} {DRAWING}".encode()).hexdigest()[:32]
        suffix = "vl.json" if form == "vega-lite" else form
        return ResultFile(CHART_FORMATS[form], _file_name(chart.name, suffix), tag, _bounded(makers[form], chart.name))

    def _picture_url(
        self, caller: Caller, session_id: str, item: ResultItem, form: str, signer: Callable[[], UrlSigner]
    ) -> str:
        if form != "png":
            raise InvalidFieldError("format", "a stored picture is had as png only")
        session = self._sessions.get(caller, read_existing_session_id(session_id))
        object_name = item.content["object"]
        # A trainer of somebody else's names objects; only those of this session are handed out.
        prefixes = (pictures_prefix(session.id), run_prefix(session.id, item.run_id))
        if not object_name.startswith(prefixes) or "/../" in object_name:
            raise ChartInvalidError(
                "The picture does not lie where those of its session do.", name=item.content["name"]
            )
        name = _file_name(item.content["name"], "png")
        query = {"response-content-type": "image/png", "response-content-disposition": f'inline; filename="{name}"'}
        return signer().sign("GET", object_name, query=query).url


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
        file_name = _file_name(item.content["name"], form)
        return ResultFile(TABLE_FORMATS[form], file_name, tag, _bounded(lambda: content, file_name))


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


def _bounded(make: Callable[[], bytes], name: str) -> Callable[[], bytes]:
    def made() -> bytes:
        content = make()
        if len(content) > LARGEST_FILE_BYTES:
            raise ChartInvalidError("The file is too large to send; ask for a smaller one.", name=name)
        return content

    return made


def _file_name(name: str, suffix: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip(".-")[:80]
    return f"{plain or 'result'}.{suffix}"


class VariableService:
    """Describes the columns of a session's data sets."""

    def __init__(self, sessions: SessionRepository, uploads: UploadRepository, reader: TableReader) -> None:
        self._sessions = sessions
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
        name = read_existing_session_id(session_id)
        self._sessions.get(caller, name)
        chosen = None if columns is None else read_columns(columns)
        return [
            self._reader.describe(file, n_points, chosen) for file in data_files(self._uploads.of_session(caller, name))
        ]
