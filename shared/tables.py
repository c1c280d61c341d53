"""Reads delimited tables: counts rows in one pass with bounded memory, and reads the beginning."""

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING

from shared.errors import DataSetError

if TYPE_CHECKING:
    import _csv

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# A quote that is never closed would swallow the rest of the file; the longest sensible cell ends it.
_LONGEST_CELL_CHARACTERS = 1 << 20
# Read after the last line. It becomes a row of its own, unless a quote was never closed: that swallows it, and
# takes the pair of quotes for an escaped one.
_END = '\0""'
_SWALLOWED_END = '\0"'


def delimiter_of(file_name: str, content_type: str) -> str | None:
    """Return the delimiter of a table by its name or media type, or None where the file is no table."""
    by_name = _DELIMITERS.get(PurePath(file_name.lower()).suffix)
    if by_name:
        return by_name
    return {"text/csv": ",", "text/tab-separated-values": "\t"}.get(content_type)


def count_rows(pieces: Iterable[bytes], delimiter: str) -> int:
    """Count data rows the way `len(pandas.read_csv(...))` does.

    The first line that is not blank is the header; blank lines do not count; a quoted cell may hold line ends.

    Args:
        pieces: The file's bytes, UTF-8, in pieces of any size.
        delimiter: One character.

    Returns:
        Rows after the header.

    Raises:
        DataSetError: The bytes are no such table; details name the line (from 1), where it is known.
    """
    text = io.TextIOWrapper(io.BufferedReader(PieceReader(pieces)), encoding="utf-8-sig", newline="")
    csv.field_size_limit(_LONGEST_CELL_CHARACTERS)
    reader = csv.reader(chain(text, [_END]), delimiter=delimiter)
    try:
        return _count(reader)
    except csv.Error as error:
        raise DataSetError(f"Line {reader.line_num} cannot be read: {error}.", line=reader.line_num) from error
    except UnicodeDecodeError as error:
        raise DataSetError(
            f"The file is not text in UTF-8 (soon after line {reader.line_num}).", line=reader.line_num
        ) from error


def read_head(content: bytes, delimiter: str, *, is_whole: bool) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table's beginning.

    Args:
        content: The first bytes of the file, UTF-8.
        is_whole: The content is the whole file; otherwise its last row is not returned, for it may be cut.

    Raises:
        DataSetError: There is no whole header.
    """
    text = content.decode("utf-8-sig", errors="replace")
    csv.field_size_limit(_LONGEST_CELL_CHARACTERS)
    rows: list[list[str]] = []
    # A damaged row further down is none of the head's business: what came before it counts.
    with suppress(csv.Error):
        rows.extend(row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if not _is_blank(row))
    if not is_whole:
        rows = rows[:-1]
    if not rows:
        raise DataSetError("The table has no header line, or one that is too long.", line=1)
    return rows[0], rows[1:]


def _count(reader: "_csv.Reader") -> int:
    row = header = next(row for row in reader if not _is_blank(row))
    if header == [_END]:
        raise DataSetError("The file is empty: a table needs a header line.", line=1)
    if any("\0" in cell.removesuffix(_SWALLOWED_END) for cell in header):
        raise DataSetError("The file is not text: its header holds NUL characters.", line=reader.line_num)
    n_rows = 0
    widest = len(header)
    for row in reader:
        if len(row) > widest:
            # Where the first row is longer than the header, pandas takes its first columns for an index without names.
            if n_rows == 0:
                widest = len(row)
            else:
                raise DataSetError(
                    f"Line {reader.line_num} has {len(row)} columns; the header has {len(header)}.",
                    line=reader.line_num,
                    columns=len(row),
                    expected=len(header),
                )
        if not _is_blank(row):
            n_rows += 1
    if row != [_END]:
        line = reader.line_num - _n_lines(row[-1])
        raise DataSetError(f"A quote is opened in line {line} and never closed.", line=line)
    return n_rows - 1


def _n_lines(cell: str) -> int:
    """Return how many lines an unclosed cell takes up, the end mark's aside."""
    content = cell.removesuffix(_SWALLOWED_END)
    n_ends = content.count("\n") + content.count("\r") - content.count("\r\n")
    return n_ends if content.endswith(("\n", "\r")) else n_ends + 1


def _is_blank(row: list[str]) -> bool:
    # An empty line is a row without cells; one empty cell stands for a pair of quotes, which pandas counts.
    return not row or (len(row) == 1 and row[0] != "" and not row[0].strip(" \t"))


class PieceReader(io.RawIOBase):
    """Presents an iterable of byte strings as a raw stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]  # narrower than Buffer
        """Fill the buffer from the present piece, or the next."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        n_bytes = min(len(buffer), len(self._rest))
        buffer[:n_bytes] = self._rest[:n_bytes]
        self._rest = self._rest[n_bytes:]
        return n_bytes
