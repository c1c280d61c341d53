"""Makes our own Vega-Lite of a valid chart.

Nothing of a user's becomes an instruction: columns are renamed to x, x2, y, series and color, so that no field name of
theirs is ever in a specification; their texts are titles and values only; expressions and addresses are none but ours.
Colors: Okabe and Ito, https://jfly.uni-koeln.de/color/ (told apart with any color vision); series also differ in dash
or shape.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.charts import DATE, NUMBER, TEXT, Chart, Column

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
DEFAULT_WIDTH = 640
WIDTHS = (200, 2000)
THEMES = ("light", "dark")
# Bars lie on their side where their names need room.
_LONGEST_UPRIGHT_LABEL = 12
_MOST_UPRIGHT_BARS = 12
_BAR_PIXELS = 24
_TALLEST = 2000
# Every point of a short line is marked.
_MARKED_POINTS = 50
_LABELED_CELLS = 15
_LONGEST_LEGEND = 20
_MOST_TITLE_LINES = 3
_CHARACTER_PIXELS = 8.5
# A line of an axis's labels, across: what stands closer overlaps.
_LEAST_LABEL_PIXELS = 12


@dataclass(frozen=True)
class _Theme:
    background: str
    text: str
    muted: str
    grid: str
    palette: Sequence[str]


_THEMES: Mapping[str, _Theme] = {
    "light": _Theme(
        "#ffffff",
        "#1f2328",
        "#57606a",
        "#e4e7eb",
        ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a8a8a"),
    ),
    "dark": _Theme(
        "#16191d",
        "#e6e8eb",
        "#a3abb5",
        "#30363d",
        ("#56b4e9", "#e69f00", "#2bc79b", "#e59ac4", "#f0e442", "#ff8a3d", "#ffffff", "#9aa0a6"),
    ),
}


def vega_lite(chart: Chart, *, width: int = DEFAULT_WIDTH, theme: str = "light") -> dict[str, Any]:
    """Return the specification that draws a chart, its data inside.

    Args:
        chart: Of any kind but picture.
        width: Of the whole picture [pixels], in WIDTHS; the height follows from the kind.
        theme: One of THEMES.
    """
    colors = _THEMES[theme]
    is_empty = any(column.is_empty for column in chart.columns.values() if column.type == NUMBER)
    draw = _no_data if is_empty else _TEMPLATES[chart.kind]
    rows = [] if is_empty else _rows(chart)
    return {
        "$schema": SCHEMA,
        "background": colors.background,
        "width": width,
        "height": round(width * 9 / 16),
        "padding": 12,
        "autosize": {"type": "fit", "contains": "padding"},
        "title": {"text": _lines(chart.title, width - 40), "anchor": "start", "frame": "group", "offset": 12},
        "config": _config(colors),
        "data": {"values": rows},
        **draw(chart, colors, width),
    }


def _rows(chart: Chart) -> list[dict[str, Any]]:
    names = list(chart.columns)
    rows = [
        dict(zip(names, values, strict=True))
        for values in zip(*(column.values for column in chart.columns.values()), strict=True)
    ]
    if chart.kind == "line":
        _mark_lone_points(rows)
    return rows


def _mark_lone_points(rows: Sequence[dict[str, Any]]) -> None:
    """Set `dot` where a line would not show a value: it has gaps on both sides, or the whole line is short."""
    series: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        series.setdefault(row.get("series"), []).append(row)
    for line in series.values():
        present = [row["y"] is not None for row in line]
        for index, row in enumerate(line):
            is_lone = not any(present[max(0, index - 1) : index]) and not any(present[index + 1 : index + 2])
            row["dot"] = present[index] and (is_lone or len(line) <= _MARKED_POINTS)


def _lines(text: str, pixels: float) -> list[str]:
    """Break a text where it would leave the picture; of a very long one the beginning is shown."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    per_line = max(10, int(pixels / _CHARACTER_PIXELS))
    return textwrap.wrap(shown, per_line, max_lines=_MOST_TITLE_LINES, placeholder=" …", break_on_hyphens=False) or [
        " "
    ]


def _config(colors: _Theme) -> dict[str, Any]:
    return {
        "font": "sans-serif",
        "view": {"stroke": None},
        "title": {"color": colors.text, "fontSize": 15, "fontWeight": 600},
        "axis": {
            "labelColor": colors.muted,
            "titleColor": colors.text,
            "gridColor": colors.grid,
            "domainColor": colors.muted,
            "tickColor": colors.muted,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "titlePadding": 10,
            "labelLimit": 220,
            "labelFlush": False,
        },
        "legend": {
            "labelColor": colors.text,
            "titleColor": colors.text,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "labelLimit": 160,
            "symbolLimit": _LONGEST_LEGEND,
        },
        "range": {"category": list(colors.palette)},
    }


def _no_data(chart: Chart, colors: _Theme, width: int) -> dict[str, Any]:
    del chart, width
    return {
        "data": {"values": [{}]},
        "mark": {"type": "text", "text": "no data", "fontSize": 16, "color": colors.muted},
    }


def _encoding(field: str, column: Column, pixels: float, **more: Any) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": _lines(column.title, pixels)}
    encoding: dict[str, Any] = {"field": field, **more}
    if column.type == NUMBER:
        encoding["type"] = "quantitative"
        if (form := _number_format(column)) is not None:
            axis["format"] = form
    elif column.type == DATE:
        encoding |= {"type": "temporal", "scale": {"type": "utc"}}
    else:
        # In the order in which they come: classes and features were ordered by who published them.
        encoding |= {"type": "nominal", "sort": None}
        axis["labelOverlap"] = "greedy"
        # Vega looks at each pair of labels: of thousands for seconds, and for what nobody could read.
        names = list(dict.fromkeys(value for value in column.values if value is not None))
        if len(names) > (most := max(1, round(pixels / _LEAST_LABEL_PIXELS))):
            axis["values"] = names[:: math.ceil(len(names) / most)]
    return encoding | {"axis": axis}


def _number_format(column: Column) -> str | None:
    """Leave usual numbers to the axis, which groups thousands; very large ones become 1.2M, tiny ones 1.2e-7."""
    largest = max((abs(value) for value in column.values if value is not None), default=0.0)
    if largest >= 1e15 or 0 < largest < 1e-4:
        return ".3~e"
    return ".4~s" if largest >= 1e6 else None


def _series(chart: Chart) -> dict[str, Any]:
    column = chart.columns.get("series")
    if column is None:
        return {}
    legend = {"title": _lines(column.title, 170), "orient": "bottom", "columns": 3}
    return {"field": "series", "type": "nominal", "sort": None, "legend": legend}


def _heights(width: int) -> float:
    return width * 9 / 16 - 80


def _axes(chart: Chart, width: int, *, zero: bool = False) -> dict[str, Any]:
    x, y = chart.columns["x"], chart.columns["y"]
    axes = {"x": _encoding("x", x, width - 100), "y": _encoding("y", y, _heights(width))}
    for name, column in (("x", x), ("y", y)):
        if column.type == NUMBER:
            axes[name]["scale"] = {"zero": zero and name == "y"}
    return axes


def _line(chart: Chart, colors: _Theme, width: int) -> dict[str, Any]:
    series = _series(chart)
    color: dict[str, Any] = {"color": series} if series else {"color": {"value": colors.palette[0]}}
    dash = {"strokeDash": series} if series else {}
    axes = _axes(chart, width)
    # A gap in x or y breaks the line.
    return {
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}, "encoding": axes | color | dash},
            {
                "transform": [{"filter": "datum.dot"}],
                "mark": {"type": "point", "filled": True, "size": 30, "opacity": 1},
                # Without the dash, which dots have not, there would be two legends.
                "encoding": axes | color | dash,
            },
        ]
    }


def _scatter(chart: Chart, colors: _Theme, width: int) -> dict[str, Any]:
    series = _series(chart)
    n_points = len(chart.columns["x"].values)
    mark = {"type": "point", "filled": True, "size": 36 if n_points <= 500 else 18}
    encoding: dict[str, Any] = {"opacity": {"value": 0.75 if n_points <= 500 else 0.5}}
    encoding |= {"color": series, "shape": series} if series else {"color": {"value": colors.palette[0]}}
    return {"mark": mark, "encoding": _axes(chart, width) | encoding}


def _residual(chart: Chart, colors: _Theme, width: int) -> dict[str, Any]:
    rule = {
        "data": {"values": [{"zero": 0}]},
        "mark": {"type": "rule", "strokeDash": [4, 3], "color": colors.text},
        "encoding": {"y": {"field": "zero", "type": "quantitative"}},
    }
    return {"layer": [_scatter(chart, colors, width), rule]}


def _bar(chart: Chart, colors: _Theme, width: int) -> dict[str, Any]:
    x, y = chart.columns["x"], chart.columns["y"]
    series = _series(chart)
    color: dict[str, Any] = {"color": series} if series else {"color": {"value": colors.palette[0]}}
    if x.type == NUMBER:
        x = Column(x.title, TEXT, x.values)
    n_bars = len(set(x.values))
    longest = max((len(value) for value in x.values if isinstance(value, str)), default=0)
    lies = x.type == TEXT and (longest > _LONGEST_UPRIGHT_LABEL or n_bars > _MOST_UPRIGHT_BARS)
    across, along = ("y", "x") if lies else ("x", "y")
    height = min(_TALLEST, max(240, _BAR_PIXELS * n_bars + 110)) if lies else round(width * 9 / 16)
    offset = {f"{across}Offset": {"field": "series", "sort": None}} if series and x.type == TEXT else {}
    rooms = {"x": width - 100, "y": height - 80}
    encoding = {across: _encoding("x", x, rooms[across]), along: _encoding("y", y, rooms[along])}
    if not lies and x.type == TEXT:
        encoding["x"]["axis"]["labelAngle"] = 0
    # Bars of a grouped chart stand beside each other; stacked, they would claim sums.
    encoding[along]["stack"] = None
    return {"height": height, "mark": {"type": "bar"}, "encoding": encoding | color | offset}


def _histogram(chart: Chart, colors: _Theme, width: int) -> dict[str, Any]:
    axes = _axes(chart, width, zero=True)
    return {
        "mark": {"type": "bar", "color": colors.palette[0], "stroke": colors.background, "strokeWidth": 1},
        "encoding": axes | {"x2": {"field": "x2"}, "y2": {"datum": 0}},
    }


def _cells(chart: Chart, width: int, *, is_count: bool) -> dict[str, Any]:
    cells: dict[str, dict[str, Any]] = {}
    title = chart.columns["color"].title
    height = max(260, min(_TALLEST, round(width * 0.7)))
    for name, pixels in (("x", width - 100), ("y", height - 80)):
        column = chart.columns[name]
        if column.type == NUMBER:
            column = Column(column.title, TEXT, column.values)
        cells[name] = _encoding(name, column, pixels)
        # A date is one cell, not a point in time.
        cells[name]["type"] = "ordinal" if column.type == DATE else "nominal"
        cells[name]["axis"]["labelOverlap"] = len(set(column.values)) > _LABELED_CELLS
    n_x, n_y = (len(set(chart.columns[name].values)) for name in ("x", "y"))
    longest = max((len(str(value)) for value in chart.columns["x"].values if value is not None), default=0)
    cells["x"]["axis"]["labelAngle"] = 0 if longest * 7 * n_x < width - 200 else -45
    numbers = [value for value in chart.columns["color"].values if value is not None]
    low, high = (0.0 if is_count else min(numbers)), max(numbers)
    shown = {
        "field": "color",
        "type": "quantitative",
        "scale": {"scheme": "blues" if is_count else "viridis", "domain": [low, high if high > low else low + 1]},
        "legend": {"title": _lines(title, 100)},
    }
    layers: list[dict[str, Any]] = [{"mark": {"type": "rect"}, "encoding": cells | {"color": shown}}]
    if max(n_x, n_y) <= _LABELED_CELLS:
        # Dark cells carry light figures: blues darken with the number, viridis lightens.
        is_high = {"test": f"datum.color > {(low + high) / 2!r}"}
        above, below = ("#ffffff", "#1f2328") if is_count else ("#1f2328", "#ffffff")
        figure = {"field": "color", "type": "quantitative", "format": ",.4~g"}
        if is_count:
            figure["format"] = ",.6~g"
        layers.append(
            {
                "mark": {"type": "text", "fontSize": 12},
                "encoding": cells
                | {"text": figure, "color": {"condition": is_high | {"value": above}, "value": below}},
            }
        )
    return {"height": height, "layer": layers}


def _heatmap(chart: Chart, colors: _Theme, width: int) -> dict[str, Any]:
    del colors
    return _cells(chart, width, is_count=False)


def _confusion(chart: Chart, colors: _Theme, width: int) -> dict[str, Any]:
    del colors
    return _cells(chart, width, is_count=True)


_TEMPLATES = {
    "line": _line,
    "scatter": _scatter,
    "bar": _bar,
    "histogram": _histogram,
    "heatmap": _heatmap,
    "confusion": _confusion,
    "residual": _residual,
}
