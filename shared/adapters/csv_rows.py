"""`RowCounter` in WebAssembly: counts the rows of a delimited table as it streams by, at the speed of the bucket.

The counting itself is in csv_rows.wat, which Wasmtime compiles when the first table is counted. Why neither numpy nor
a parser: docs/decisions/0034-rows-are-counted-in-webassembly.md.
"""

from __future__ import annotations

import atexit
import ctypes
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import DataSetError

if TYPE_CHECKING:
    from wasmtime import Engine, Func, Global, Module

# What csv_rows.wat has for its bytes.
MEMORY_BYTES = 2 << 20
# What it answers beside 0 and 1, which is a record that is too wide.
_OPEN_QUOTE, _NUL, _TOO_LONG = 2, 3, 4


class CsvRowCounter:
    """Counts as `len(pandas.read_csv(...))` does. Thread-safe; memory for two MiB of the table."""

    def count(self, pieces: Iterable[bytes], delimiter: str) -> int:
        """Count data rows.

        The first line that is not blank is the header; blank lines do not count; a quoted field may hold line ends.

        Args:
            pieces: The table's bytes in an encoding that extends ASCII, in pieces of any size.
            delimiter: One ASCII character.

        Returns:
            Rows after the header.

        Raises:
            DataSetError: The bytes are no such table; details.line is the line in the file, from 1.
        """
        table = _Table(delimiter)
        for piece in pieces:
            table.add(piece)
        return table.finish()


@lru_cache(maxsize=1)
def _compiled() -> tuple[Engine, Module]:
    from wasmtime import Config, Engine, Module

    config = Config()
    # In the thread that asks; and without the 4 GiB of addresses that are set aside for a memory that may grow.
    config.parallel_compilation = False
    config.memory_reservation = MEMORY_BYTES
    config.memory_guard_size = 0
    config.memory_may_move = False
    engine = Engine(config)
    # While the library is still there to free them.
    atexit.register(_compiled.cache_clear)
    return engine, Module(engine, Path(__file__).with_suffix(".wat").read_bytes())


class _Table:
    """A table on its way: an instance of csv_rows.wat."""

    def __init__(self, delimiter: str) -> None:
        from wasmtime import Func, Global, Instance, Memory, Store

        engine, module = _compiled()
        self._n_held = 0
        self._store = Store(engine)
        exported = Instance(self._store, module, []).exports(self._store)
        self._functions: dict[str, Func] = {}
        self._globals: dict[str, Global] = {}
        for name, item in exported.items():
            if isinstance(item, Func):
                self._functions[name] = item
            elif isinstance(item, Global):
                self._globals[name] = item
            elif isinstance(item, Memory):
                self._address = ctypes.addressof(item.data_ptr(self._store).contents)
        self._globals["delimiter"].set_value(self._store, ord(delimiter))

    def add(self, piece: bytes) -> None:
        """Take some bytes; they are counted when the memory is full."""
        taken = 0
        while taken < len(piece):
            part = piece[taken : taken + MEMORY_BYTES - self._n_held]
            ctypes.memmove(self._address + self._n_held, part, len(part))
            self._n_held += len(part)
            taken += len(part)
            if self._n_held == MEMORY_BYTES:
                self._scan()

    def _scan(self) -> None:
        # The GIL is free meanwhile, so that the next piece arrives.
        problem = self._functions["scan"](self._store, self._n_held)
        self._n_held = 0
        if problem == _NUL:
            raise _fault(self._value("lines"), "holds a NUL character: this is not text")
        if problem == _TOO_LONG:
            what = "starts a row of more than 16 MiB; is a quote not closed?"
            raise _fault(self._value("lines_before_record"), what)
        if problem:
            raise self._too_wide()

    def finish(self) -> int:
        """Count what is left and return the number of data rows."""
        self._scan()
        problem = self._functions["finish"](self._store)
        if problem == _OPEN_QUOTE:
            raise _fault(self._value("lines_before_quotes"), "opens a quote that is never closed")
        if problem:
            raise self._too_wide()
        n_records = self._value("records")
        if not n_records:
            raise DataSetError("The file is empty: a table needs a header line.", line=1)
        return n_records - 1

    def _too_wide(self) -> DataSetError:
        columns, expected = self._value("delimiters") + 1, self._value("header_fields")
        return _fault(
            self._value("lines_before_record"),
            f"has {columns} columns; the header has {expected}",
            columns=columns,
            expected=expected,
        )

    def _value(self, name: str) -> int:
        return int(self._globals[name].value(self._store))


def _fault(n_lines_before: int, what: str, **details: Any) -> DataSetError:
    """Return the error that names a line."""
    line = n_lines_before + 1
    return DataSetError(f"Line {line} {what}.", line=line, **details)
