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
MEMORY_BYTES = 1 << 20
# A quote that is never closed would otherwise be noticed only at the end of the file.
LONGEST_RECORD_BYTES = 16 << 20


class CsvRowCounter:
    """Counts as `len(pandas.read_csv(...))` does. Thread-safe; memory for one MiB of the table."""

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
            for start in range(0, len(piece), MEMORY_BYTES):
                table.add(piece[start : start + MEMORY_BYTES])
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
        """Take some bytes, at most as many as the memory has."""
        nul = piece.find(b"\0")
        text = piece if nul < 0 else piece[:nul]
        # The GIL is free in both calls, so that the next piece arrives meanwhile.
        ctypes.memmove(self._address, text, len(text))
        if self._functions["scan"](self._store, len(text)):
            raise self._too_wide()
        if nul >= 0:
            raise _fault(self._value("lines"), "holds a NUL character: this is not text")
        if self._value("bytes") - self._value("record_start") > LONGEST_RECORD_BYTES:
            raise _fault(self._value("lines_before_record"), "starts a row of more than 16 MiB; is a quote not closed?")

    def finish(self) -> int:
        """End the last line and return the number of data rows."""
        problem = self._functions["finish"](self._store)
        if problem == 2:
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
