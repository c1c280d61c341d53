"""What callers send about variables."""

from typing import Annotated, NotRequired, TypedDict

from shared.api.types import Keywords
from shared.variables import DEFAULT_POINTS, POINTS


class PlotColumns(TypedDict):
    """Query of GET /plot-variables/{session_id}.

    Attributes:
        points: Of each series at most.
        columns: Names with commas between them, as in a line of CSV; all columns without it.
    """

    points: NotRequired[Annotated[int, Keywords(minimum=POINTS[0], maximum=POINTS[1], default=DEFAULT_POINTS)]]
    columns: NotRequired[Annotated[str, Keywords(minLength=1, examples=["x,y"])]]
