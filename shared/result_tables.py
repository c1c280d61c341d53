"""What a valid table of results is, and how it is written as CSV."""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

COLUMN_TYPES = ("text", "number", "integer", "boolean", "date")
MOST_COLUMNS = 1_000
# With these a spreadsheet begins a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n")


class ResultTableError(ValueError):
    """The table has not the form that docs/results.md asks for; the text says where."""


def check_table(document: Any) -> None:
    """Look at every part of a table: {name, title?, columns: [{name, type, unit?}], rows: [{column: value}]}.

    Raises:
        ResultTableError: It is no such thing.
    """
    _demand(isinstance(document, Mapping), "a table must be an object")
    name = document.get("name")
    _demand(isinstance(name, str) and bool(name), "name of a table must be a text")
    where = f"table {str(name)[:80]!r}"
    columns, rows = document.get("columns"), document.get("rows")
    _demand(isinstance(columns, list) and 1 <= len(columns) <= MOST_COLUMNS, f"{where} must have columns, as a list")
    for column in columns or []:
        is_named = isinstance(column, Mapping) and isinstance(column.get("name"), str)
        _demand(is_named, f"each column of {where} must have a name")
        shown = repr(column["name"][:80])
        is_typed = column.get("type") in COLUMN_TYPES
        _demand(is_typed, f"type of column {shown} of {where} must be one of {', '.join(COLUMN_TYPES)}")
        _demand(isinstance(column.get("unit") or "", str), f"unit of column {shown} of {where} must be a text")
    types = {column["name"]: column["type"] for column in columns or []}
    _demand(len(types) == len(columns or []), f"columns of {where} must have different names")
    _demand(isinstance(rows, list), f"rows of {where} must be a list")
    for number, row in enumerate(rows or [], 1):
        _demand(isinstance(row, Mapping), f"row {number} of {where} must be an object")
        for field, value in row.items():
            _demand(field in types, f"row {number} of {where} has no column {str(field)[:80]!r} to belong to")
            _demand(_fits(value, types[field]), f"row {number} of {where}: {field[:80]!r} is no {types[field]}")


def _fits(value: Any, kind: str) -> bool:
    if value is None:
        return True
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str)


def table_csv(document: Mapping[str, Any]) -> bytes:
    """Return a table as RFC 4180 writes it, in UTF-8 with a header of the columns' names.

    A missing value is an empty cell. A text, or a name, that a spreadsheet would take for a formula gets an apostrophe
    before it; numbers stay as they are.

    Raises:
        ResultTableError: It is no table.
    """
    check_table(document)
    names = [column["name"] for column in document["columns"]]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in names])
    writer.writerows([_cell(row.get(name)) for name in names] for row in document["rows"])
    # Half a surrogate pair has no place in UTF-8.
    return stream.getvalue().encode(errors="replace")


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_BEGINS) else value
    return repr(value)


def _demand(condition: bool, text: str) -> None:
    if not condition:
        raise ResultTableError(text)
