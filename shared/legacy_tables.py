"""Recognizes evaluation tables in what old documents keep under keys like `metrics` and `evaluation`.

Four forms, and only these; everything else stays in the document:

- a list of objects of plain values: a row each;
- an object of lists of equal length of plain values: a column each;
- an object of objects of plain values: a row each, named by its key;
- an object of plain values, of which one is a number: a row each of name and value.

An object or a list that is none of these is looked through for ones that are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

# [columns] and [rows] of one table.
MAX_COLUMNS: Final = 100
MAX_ROWS: Final = 1_000
# [levels] that are looked through.
_MAX_DEPTH: Final = 6
# Postgres keeps whole numbers of any length, but nobody's JavaScript does.
_LARGEST_INTEGER: Final = 2**53


def find_tables(path: str, value: Any) -> Iterator[dict[str, Any]]:
    """Yield the tables in a value, as docs/results.md describes tables."""
    yield from _find(path, value, 0)


def _find(path: str, value: Any, depth: int) -> Iterator[dict[str, Any]]:
    rows = _rows(value)
    if rows:
        yield _table(path, rows)
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        for key, inner in value.items():
            yield from _find(f"{path}.{key}", inner, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _find(f"{path}[{index}]", inner, depth + 1)


def _rows(value: Any) -> list[dict[str, Any]]:
    """Return the rows of a table, or none."""
    if isinstance(value, list):
        rows = value if value and all(_is_row(row) for row in value) else []
    elif not isinstance(value, dict) or not value:
        rows = []
    elif all(_is_row(row) for row in value.values()):
        column = "key" if any("name" in row for row in value.values()) else "name"
        rows = [{**row, column: name} for name, row in value.items()]
    elif all(isinstance(column, list) for column in value.values()):
        rows = _of_columns(value)
    elif _is_row(value) and any(_is_number(cell) for cell in value.values()):
        rows = [{"name": name, "value": cell} for name, cell in value.items()]
    else:
        rows = []
    columns = {name for row in rows for name in row}
    return rows if len(rows) <= MAX_ROWS and len(columns) <= MAX_COLUMNS else []


def _of_columns(value: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    lengths = {len(column) for column in value.values()}
    cells = (cell for column in value.values() for cell in column)
    if len(lengths) > 1 or lengths == {0} or not all(_is_cell(cell) for cell in cells):
        return []
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _table(path: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = []
    for name in names:
        cells = [row.get(name) for row in rows]
        is_number = all(cell is None or _is_number(cell) for cell in cells)
        columns.append({"name": name, "type": "number" if is_number else "text"})
    kinds = {column["name"]: column["type"] for column in columns}
    return {
        "name": path,
        "title": path,
        "path": path,
        "origin": "legacy",
        "columns": columns,
        "rows": [{name: _shown(cell, kinds[name]) for name, cell in row.items()} for row in rows],
    }


def _shown(cell: Any, kind: str) -> Any:
    if cell is None:
        return None
    if kind == "number":
        return cell if isinstance(cell, float) or abs(cell) < _LARGEST_INTEGER else float(cell)
    # NUL is no character for Postgres.
    return str(cell).replace("\0", "\N{SYMBOL FOR NULL}")


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(_is_cell(cell) for cell in value.values())


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
