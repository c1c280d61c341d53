"""What callers send about charts."""

from typing import Annotated, NotRequired, TypedDict

from shared.api.types import Keywords
from shared.chart_templates import DEFAULT_WIDTH, THEMES, WIDTHS
from shared.drawings import CHART_FORMATS, DEFAULT_SCALE, SCALES
from shared.results import JSON


class DrawChart(TypedDict):
    """Query of GET /visualizations/{session_id}.

    Attributes:
        name: Of one chart; needed for a drawing.
        format: As data, or drawn.
        theme: Of a drawing.
        width: Of a drawing [pixels]; the height follows.
        scale: Pixels of a PNG for each pixel of its width.
    """

    name: NotRequired[Annotated[str, Keywords(examples=["linear_regression.residuals"])]]
    format: NotRequired[Annotated[str, Keywords(enum=[JSON, *CHART_FORMATS], default=JSON)]]
    theme: NotRequired[Annotated[str, Keywords(enum=list(THEMES), default=THEMES[0])]]
    width: NotRequired[Annotated[int, Keywords(minimum=WIDTHS[0], maximum=WIDTHS[1], default=DEFAULT_WIDTH)]]
    scale: NotRequired[Annotated[int, Keywords(minimum=SCALES[0], maximum=SCALES[1], default=DEFAULT_SCALE)]]
