"""Draws columns of a data set and charts of a training as text, for the terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import plotille
from rich.cells import cell_len, set_cell_size

_HEIGHT = 16
_NARROWEST = 20
_LONGEST_LABEL = 24
_MOST_BARS = 40
_WIDEST_HEAD = 12
# Differences of such numbers are finite.
_LARGEST = 1e300
# Eighths of a character cell, from one to seven.
_EIGHTHS = "▏▎▍▌▋▊▉"
_SPARKS = "▁▂▃▄▅▆▇█"
# Ticks and margins around what plotille draws [characters].
_AROUND = 18


def sparkline(counts: Sequence[float]) -> str:
    """Return a histogram as one character per bin."""
    most = max(counts, default=0)
    if most <= 0:
        return ""
    return "".join(
        " " if not count else _SPARKS[min(len(_SPARKS) - 1, int(count / most * len(_SPARKS)))] for count in counts
    )


def bars(labels: Sequence[str], values: Sequence[float | None], width: int) -> str:
    """Return one horizontal bar per value."""
    shown = [0.0 if value is None else float(value) for value in values]
    most = max(map(abs, shown), default=0.0)
    numbers = ["no value" if value is None else _number(value) for value in values]
    label_width = min(_LONGEST_LABEL, max(map(cell_len, labels), default=0))
    room = max(_NARROWEST, width - label_width - max(map(len, numbers), default=0) - 3)
    lines = []
    for label, value, number in zip(labels, shown, numbers, strict=True):
        eighths = round(abs(value) / most * room * 8) if most else 0
        whole, rest = divmod(eighths, 8)
        bar = "█" * whole + (_EIGHTHS[rest - 1] if rest else "")
        lines.append(f"{set_cell_size(label, label_width)} {bar} {number}")
    return "\n".join(lines)


def draw_column(column: Mapping[str, Any], width: int) -> str:
    """Draw a column as `plot_variables` describes it: numbers as histogram and series, anything else as its counts."""
    histogram, series = column.get("histogram"), column.get("series")
    parts = []
    if histogram and histogram["count"]:
        labels = _ranges(histogram["from"], histogram["to"])
        parts.append(bars(labels, histogram["count"], width))
    if series and any(value is not None for value in series["y"]):
        points = [(x, y) for x, y in zip(series["x"], series["y"], strict=True) if y is not None]
        parts.append(_curves({"": points}, "row", str(column["name"]), width, are_lines=True))
    commonest = column.get("commonest") or column.get("top")
    if not parts and commonest:
        parts.append(bars([str(one["value"]) for one in commonest], [one["count"] for one in commonest], width))
    return "\n\n".join(parts) or "This column has no values to draw."


def draw_chart(chart: Mapping[str, Any], width: int) -> str:
    """Draw a chart of docs/results.md.

    Returns:
        The drawing, or a sentence where a terminal cannot show this kind.
    """
    kind, data = chart.get("kind"), chart.get("data") or {}
    match kind:
        case "line" | "scatter" | "residual":
            x, y, series = (_column(chart, data, channel) for channel in ("x", "y", "series"))
            groups: dict[str, list[tuple[Any, float]]] = {}
            for index, (at, value) in enumerate(zip(_positions(x), y, strict=True)):
                if at is not None and value is not None:
                    groups.setdefault(str(series[index]) if series else "", []).append((at, float(value)))
            if not groups:
                return "no data"
            return _curves(groups, _title(chart, "x"), _title(chart, "y"), width, are_lines=kind == "line")
        case "histogram":
            ends = data.get((chart.get("x") or {}).get("to"), [])
            labels = _ranges(_column(chart, data, "x"), ends)
            return bars(labels, _column(chart, data, "y"), width) or "no data"
        case "bar":
            names = [str(name) for name in _column(chart, data, "x")]
            series = _column(chart, data, "series")
            labels = [f"{name} {part}" for name, part in zip(names, series, strict=True)] if series else names
            return bars(labels[:_MOST_BARS], _column(chart, data, "y")[:_MOST_BARS], width) or "no data"
        case "heatmap" | "confusion":
            return _cells(chart, data, width)
    return f"A terminal cannot show a {kind}; write it with --to FILE.png."


def _curves(
    groups: Mapping[str, Sequence[tuple[Any, float]]], x_title: str, y_title: str, width: int, *, are_lines: bool
) -> str:
    if any(abs(y) > _LARGEST for points in groups.values() for _, y in points):
        return f"A terminal cannot show numbers beyond {_LARGEST:g}."
    figure = plotille.Figure()
    figure.width, figure.height = max(_NARROWEST, width - _AROUND), _HEIGHT
    figure.with_colors = False
    figure.origin = False
    figure.x_label, figure.y_label = x_title, y_title
    figure.register_label_formatter(float, _tick)
    figure.register_label_formatter(int, _tick)
    for name, points in groups.items():
        xs, ys = [x for x, _ in points], [y for _, y in points]
        draw = figure.plot if are_lines else figure.scatter
        draw(xs, ys, label=name)
    drawn = str(figure.show(legend=False))
    named = [name for name in groups if name]
    # Without colors, several curves of one plot cannot be told apart; each gets a plot of its own.
    if len(named) > 1:
        return "\n\n".join(
            f"{name}\n{_curves({'': groups[name]}, x_title, y_title, width, are_lines=are_lines)}" for name in named
        )
    return drawn


def _cells(chart: Mapping[str, Any], data: Mapping[str, Any], width: int) -> str:
    x, y, color = (_column(chart, data, channel) for channel in ("x", "y", "color"))
    columns, rows = (list(dict.fromkeys(str(value) for value in values)) for values in (x, y))
    values = {(str(at), str(of)): value for at, of, value in zip(x, y, color, strict=True)}
    cells = [[_number(values.get((column, row))) for column in columns] for row in rows]
    label_width = min(_LONGEST_LABEL, max(map(cell_len, rows), default=0))
    widths = [len(cell) for line in cells for cell in line] + [min(cell_len(name), _WIDEST_HEAD) for name in columns]
    cell_width = max(widths, default=0)
    fitting = max(1, (width - label_width) // (cell_width + 2))
    head = " " * label_width + "".join(f"  {set_cell_size(name, cell_width)}" for name in columns[:fitting])
    lines = [
        set_cell_size(row, label_width) + "".join(f"  {cell:>{cell_width}}" for cell in line[:fitting])
        for row, line in zip(rows, cells, strict=True)
    ]
    cut = f"\n({len(columns) - fitting} more columns do not fit.)" if len(columns) > fitting else ""
    return f"{_title(chart, 'y')} down, {_title(chart, 'x')} across\n" + "\n".join([head, *lines]) + cut


def _column(chart: Mapping[str, Any], data: Mapping[str, Any], channel: str) -> list[Any]:
    field = (chart.get(channel) or {}).get("field")
    return list(data.get(field) or []) if field else []


def _ranges(lows: Sequence[float], highs: Sequence[float]) -> list[str]:
    return [f"{_number(low)} to {_number(high)}" for low, high in zip(lows, highs, strict=True)]


def _positions(values: Sequence[Any]) -> list[Any]:
    """Return numbers and dates as they are, texts by their place."""
    if all(value is None or isinstance(value, int | float) for value in values):
        return list(values)
    try:
        return [None if value is None else datetime.fromisoformat(value).replace(tzinfo=None) for value in values]
    except (TypeError, ValueError):
        return list(range(len(values)))


def _title(chart: Mapping[str, Any], channel: str) -> str:
    encoding = chart.get(channel) or {}
    title = str(encoding.get("title") or encoding.get("field") or channel)
    return f"{title} [{encoding['unit']}]" if encoding.get("unit") else title


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def _tick(value: float, chars: int, delta: float, left: bool = False) -> str:  # noqa: ARG001 - plotille's signature
    text = f"{value:.4g}"
    return text.ljust(chars) if left else text.rjust(chars)
