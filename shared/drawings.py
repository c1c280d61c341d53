"""The rules of charts: one of a run's, as data or drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.chart_templates import DEFAULT_WIDTH, THEMES, WIDTHS, vega_lite
from shared.charts import PICTURE, ChartError, read_chart
from shared.errors import ChartInvalidError, InvalidFieldError
from shared.fields import read_existing_session_id, read_number_text
from shared.pictures import is_own_picture
from shared.records.callers import Caller
from shared.records.results import ResultItem, ResultKind
from shared.results import ResultFile, ResultService, bounded, file_name_of, named, read_format

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ChartRenderer, SessionRepository, UrlSigner

CHART_FORMATS: Mapping[str, str] = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "vega-lite": "application/json",
}
SCALES = (1, 4)
DEFAULT_SCALE = 2
# Part of every tag: whoever changes how charts are drawn counts it up, so that no client keeps an old drawing.
DRAWING = 1


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
        return ResultFile(CHART_FORMATS[form], file_name_of(chart.name, suffix), tag, bounded(makers[form], chart.name))

    def _picture_url(
        self, caller: Caller, session_id: str, item: ResultItem, form: str, signer: Callable[[], UrlSigner]
    ) -> str:
        if form != "png":
            raise InvalidFieldError("format", "a stored picture is had as png only")
        session = self._sessions.get(caller, read_existing_session_id(session_id))
        object_name = item.content["object"]
        if not is_own_picture(object_name, session.id, item.run_id):
            raise ChartInvalidError(
                "The picture does not lie where those of its session do.", name=item.content["name"]
            )
        name = file_name_of(item.content["name"], "png")
        query = {"response-content-type": "image/png", "response-content-disposition": f'inline; filename="{name}"'}
        if item.content.get("generation") is not None:
            query["generation"] = str(item.content["generation"])
        return signer().sign("GET", object_name, query=query).url
