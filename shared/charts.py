"""What a valid chart is: kind, encodings, and data as columns. Drawing it is the work of shared/chart_templates.py.

A chart is data, never a drawing instruction (docs/results.md). Nothing is imported but the standard library.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

LONGEST_TEXT = 1_000
# 170 MiB are needed to draw as many points; more cannot be told apart on a screen.
MOST_ROWS = 10_000
MOST_COLUMNS = 50
# Edges of a picture [pixels].
LARGEST_EDGE = 16_384
PICTURE = "picture"
PICTURE_TYPES = ("image/png",)
NUMBER, TEXT, DATE = "number", "text", "date"
_ANY = (NUMBER, TEXT, DATE)


class ChartError(ValueError):
    """The chart has not the form that docs/results.md asks for; the text says where."""


@dataclass(frozen=True)
class Channel:
    """One encoding of a kind: the types its column may have, and whether it must be there."""

    types: tuple[str, ...]
    is_required: bool = True


_X_AND_Y = {"x": Channel((NUMBER, DATE)), "y": Channel((NUMBER,)), "series": Channel(_ANY, is_required=False)}
_CELLS = {"x": Channel(_ANY), "y": Channel(_ANY), "color": Channel((NUMBER,))}
# What each kind needs. x of a histogram also names `to`, the column of upper edges.
KINDS: Mapping[str, Mapping[str, Channel]] = {
    "line": _X_AND_Y | {"x": Channel(_ANY)},
    "scatter": _X_AND_Y,
    "bar": {"x": Channel(_ANY), "y": Channel((NUMBER,)), "series": Channel(_ANY, is_required=False)},
    "histogram": {"x": Channel((NUMBER,)), "y": Channel((NUMBER,))},
    "heatmap": _CELLS,
    "confusion": _CELLS,
    "residual": _X_AND_Y,
    PICTURE: {},
}


@dataclass(frozen=True)
class Column:
    """One encoding with its values.

    Attributes:
        type: number, text or date.
        values: float or None; str or None; milliseconds since 1970 in UTC or None.
    """

    title: str
    type: str
    values: Sequence[Any]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return all(value is None for value in self.values)


@dataclass(frozen=True)
class Chart:
    """A valid chart; `columns` are by encoding: x, x2 (upper edges), y, series, color. A picture has none."""

    name: str
    kind: str
    title: str
    columns: Mapping[str, Column]


def read_chart(document: Any) -> Chart:
    """Return a chart after looking at every part of it.

    Args:
        document: {name, kind, title?, x, y, series?, color?, data}; of a picture {name, kind, title?, object,
            media_type, width, height}. An encoding is {field, title?, unit?, type?}, and `field` a column of `data`.

    Raises:
        ChartError: It is no such thing.
    """
    _demand(isinstance(document, Mapping), "a chart must be an object")
    name = _text(document.get("name"), "name of a chart")
    where = f"chart {name[:80]!r}"
    kind = document.get("kind")
    _demand(isinstance(kind, str) and kind in KINDS, f"kind of {where} must be one of {', '.join(KINDS)}")
    title = _text(document.get("title") or name, f"title of {where}")
    if kind == PICTURE:
        _check_picture(document, where)
        return Chart(name, kind, title, {})
    data = _read_data(document.get("data"), where)
    columns: dict[str, Column] = {}
    for channel, form in KINDS[kind].items():
        encoding = document.get(channel)
        if encoding is None and not form.is_required:
            continue
        columns[channel] = _read_column(encoding, form, data, f"{channel} of {where}")
        if kind == "histogram" and channel == "x":
            to = {"field": encoding.get("to")}
            columns["x2"] = _read_column(to, form, data, f"upper edges (x.to) of {where}")
    return Chart(name, str(kind), title, columns)


def _check_picture(document: Mapping[str, Any], where: str) -> None:
    _text(document.get("object"), f"object of {where}")
    is_known = document.get("media_type") in PICTURE_TYPES
    _demand(is_known, f"media_type of {where} must be one of {', '.join(PICTURE_TYPES)}")
    for edge in ("width", "height"):
        size = document.get(edge)
        is_size = isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= LARGEST_EDGE
        _demand(is_size, f"{edge} of {where} must be a whole number from 1 to {LARGEST_EDGE}")


def _read_data(data: Any, where: str) -> Mapping[str, Sequence[Any]]:
    _demand(isinstance(data, Mapping), f"data of {where} must be an object of columns")
    _demand(len(data) <= MOST_COLUMNS, f"data of {where} may have {MOST_COLUMNS} columns")
    for field, values in data.items():
        _demand(isinstance(values, list | tuple), f"column {str(field)[:80]!r} of {where} must be a list")
        _demand(len(values) <= MOST_ROWS, f"{where} may have {MOST_ROWS:,} rows")
    _demand(len({len(values) for values in data.values()}) <= 1, f"columns of {where} must be equally long")
    columns: Mapping[str, Sequence[Any]] = data
    return columns


def _read_column(encoding: Any, form: Channel, data: Mapping[str, Sequence[Any]], where: str) -> Column:
    _demand(isinstance(encoding, Mapping), f"{where} must be an object with a field")
    field = encoding.get("field")
    _demand(isinstance(field, str) and field in data, f"{where} must name a column of data as its field")
    values = data[field]
    kind = encoding.get("type") or _type_of(values, form)
    _demand(kind in form.types, f"{where} must be {' or '.join(form.types)}")
    read = {NUMBER: _number, TEXT: _label, DATE: _date}[kind]
    title = _text(encoding.get("title") or field or " ", f"title of {where}")
    unit = _text(encoding.get("unit") or " ", f"unit of {where}").strip()
    return Column(f"{title} [{unit}]" if unit else title, kind, [read(value, where) for value in values])


def _type_of(values: Sequence[Any], form: Channel) -> str:
    is_number = all(value is None or _is_number(value) for value in values)
    if is_number and NUMBER in form.types:
        return NUMBER
    return TEXT if TEXT in form.types else form.types[-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, where: str) -> float | None:
    """A gap is None; whoever writes Python's JSON may have NaN, which is a gap too."""
    _demand(value is None or _is_number(value), f"{where} must hold numbers")
    try:
        return float(value) if value is not None and math.isfinite(value) else None
    except OverflowError as error:
        raise ChartError(f"{where} holds a number beyond 1.8e308") from error


def _label(value: Any, where: str) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if _is_number(value):
        return f"{value:.6g}" if isinstance(value, float) else str(value)[:LONGEST_TEXT]
    return None if value is None else _text(value, f"a value in {where}", least=0)


def _date(value: Any, where: str) -> float | None:
    """Read ISO 8601; a time without an offset is one in UTC."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    except (TypeError, ValueError, OverflowError) as error:
        raise ChartError(f"{where} must hold numbers, or dates as ISO 8601 writes them") from error


def _text(value: Any, where: str, *, least: int = 1) -> str:
    _demand(isinstance(value, str), f"{where} must be a text")
    _demand(least <= len(value) <= LONGEST_TEXT, f"{where} must have {least} to {LONGEST_TEXT:,} characters")
    # Half a surrogate pair is no character, and a NUL none that the database keeps.
    is_plain = "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    _demand(is_plain, f"{where} holds a character that is none")
    return str(value)


def _demand(condition: bool, text: str) -> None:
    if not condition:
        raise ChartError(text)
