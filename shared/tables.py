"""What a delimited table is: whether a file is one, how it is written, and what its beginning says.

Counting rows is the work of a `RowCounter` (shared/ports.py); it is given plain UTF-8 by `plain_pieces`.
"""

import codecs
import csv
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from queue import SimpleQueue
from threading import Semaphore

from shared.errors import DataSetError
from shared.threads import RequestThreads

# As much of a table as is read to find out how it is written.
HEAD_BYTES = 1 << 18
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_CONTENT_TYPES = {"text/csv": ",", "text/tab-separated-values": "\t"}
# In the order in which they win where they divide the first lines equally well.
_KNOWN_DELIMITERS = (",", ";", "\t", "|")
_SNIFFED_ROWS = 30
_LONGEST_CELL_CHARACTERS = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# What people upload under a table's name by mistake, by its first bytes.
_OTHER_KINDS = {
    b"PK\x03\x04": "a ZIP archive, perhaps an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
}
# What pandas.read_csv takes for a missing cell, and for a number.
MISSING_CELLS = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|inf|infinity)", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DATE = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?(Z|[+-][0-9:]{4,6})?)?"
)
_BOOLEANS = {"true", "false"}


@dataclass(frozen=True)
class TableFormat:
    """How a table is written.

    Attributes:
        delimiter: Between two fields of a row, one character.
        encoding: utf-8, utf-8-sig (with a byte order mark), utf-16 or latin-1, as Python and pandas call them.
        compression: gzip, or None.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    compression: str | None = None


@dataclass(frozen=True)
class TableColumn:
    """A column by its first rows. `type` is integer, number, boolean, date, text or empty."""

    name: str
    type: str


def is_table(file_name: str, content_type: str) -> bool:
    """Say whether a file is meant to be a table: .csv or .tsv, also compressed (.gz), or a media type that says so."""
    return _named_delimiter(file_name) is not None or content_type in _CONTENT_TYPES


def _named_delimiter(file_name: str) -> str | None:
    name = file_name.lower().removesuffix(".gz")
    return _DELIMITERS.get(PurePath(name).suffix)


def detect_format(file_name: str, content_type: str, head: bytes) -> TableFormat:
    """Find out how a table is written from its first bytes.

    Compression and byte order marks speak for themselves; bytes that are not UTF-8 are taken for latin-1; the delimiter
    is the one that divides the first rows most evenly.

    Args:
        file_name: .tsv settles the delimiter.
        content_type: text/tab-separated-values settles it too.
        head: The first bytes of the file, as stored, best 256 KiB.

    Raises:
        DataSetError: The file is of another kind, or claims to be compressed and is not.
    """
    compression = "gzip" if head.startswith(_GZIP_MAGIC) else None
    plain = _decompressed(head) if compression else head
    for magic, kind in _OTHER_KINDS.items():
        if plain.startswith(magic):
            raise DataSetError(f"The file is {kind}, not text.", line=1)
    encoding = next((name for bom, name in _BOMS if plain.startswith(bom)), None) or _encoding_without_mark(plain)
    if "\t" in {_named_delimiter(file_name), _CONTENT_TYPES.get(content_type)}:
        return TableFormat("\t", encoding, compression)
    text = plain[: len(plain) & ~1].decode(encoding, errors="replace")
    return TableFormat(_sniffed_delimiter(text), encoding, compression)


def _decompressed(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(_GZIP_WINDOW).decompress(head, HEAD_BYTES)
    except zlib.error as error:
        raise DataSetError("The file claims to be compressed with gzip and is not.", line=1) from error


def _encoding_without_mark(plain: bytes) -> str:
    try:
        # The last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(plain)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _sniffed_delimiter(text: str) -> str:
    best, best_score = ",", 0
    for delimiter in _KNOWN_DELIMITERS:
        rows = [row for row in _first_rows(text, delimiter)[:-1] or _first_rows(text, delimiter) if row]
        width = len(rows[0]) if rows else 1
        even = sum(len(row) == width for row in rows)
        # Every row as wide as the header counts most, then the number of columns.
        score = (even == len(rows)) * 1_000_000 + even * 1_000 // max(len(rows), 1) * 100 + min(width, 99)
        if width > 1 and score > best_score:
            best, best_score = delimiter, score
    return best


def _first_rows(text: str, delimiter: str) -> list[list[str]]:
    csv.field_size_limit(_LONGEST_CELL_CHARACTERS)
    rows: list[list[str]] = []
    with suppress(csv.Error):
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            rows.append(row)
            if len(rows) > _SNIFFED_ROWS:
                break
    return rows


def plain_pieces(pieces: Iterable[bytes], table_format: TableFormat) -> Iterator[bytes]:
    """Turn a table's bytes as stored into bytes that extend ASCII: unpacked, without a mark, UTF-16 as UTF-8.

    latin-1 stays as it is: to whom only rows and delimiters matter, it reads the same.

    Raises:
        DataSetError: The compressed data are damaged or cut off, or the UTF-16 is none.
    """
    plain = _unpacked(pieces) if table_format.compression else iter(pieces)
    if table_format.encoding == "utf-16":
        return _recoded(plain)
    if table_format.encoding == "utf-8-sig":
        return _without_mark(plain)
    return plain


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        for piece in pieces:
            rest = piece
            while rest:
                # Several compressed members may follow each other.
                if unpacker.eof:
                    unpacker = zlib.decompressobj(_GZIP_WINDOW)
                yield unpacker.decompress(rest, _PIECE_BYTES)
                rest = unpacker.unconsumed_tail or unpacker.unused_data
    except zlib.error as error:
        raise DataSetError("The file is damaged: its gzip data cannot be unpacked.") from error
    if not unpacker.eof:
        raise DataSetError("The file is cut off: its gzip data end too soon.")


def _recoded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        for piece in pieces:
            yield decoder.decode(piece).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise DataSetError("The file is not text in UTF-16, as its byte order mark claims.") from error


def _without_mark(pieces: Iterable[bytes]) -> Iterator[bytes]:
    head = b""
    rest = iter(pieces)
    for piece in rest:
        head += piece
        if len(head) >= len(codecs.BOM_UTF8):
            break
    yield head.removeprefix(codecs.BOM_UTF8)
    yield from rest


def read_head(head: bytes, table_format: TableFormat, *, is_whole: bool) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table's beginning.

    Args:
        head: The first bytes of the file, as stored.
        table_format: As `detect_format` found it.
        is_whole: The bytes are the whole file; otherwise its last row is not returned, for it may be cut.

    Raises:
        DataSetError: There is no whole header.
    """
    plain = _decompressed(head) if table_format.compression else head
    is_whole = is_whole and not table_format.compression
    if b"\0" in plain and table_format.encoding != "utf-16":
        raise DataSetError(
            "The file is not text: it holds NUL characters.", line=plain[: plain.index(b"\0")].count(b"\n") + 1
        )
    text = plain.decode(table_format.encoding, errors="replace")
    csv.field_size_limit(_LONGEST_CELL_CHARACTERS)
    rows: list[list[str]] = []
    # A damaged row further down is none of the head's business: what came before it counts.
    with suppress(csv.Error):
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=table_format.delimiter)
        rows.extend(row for row in reader if not _is_blank(row))
    if not is_whole:
        rows = rows[:-1]
    if not rows:
        raise DataSetError("The table has no header line, or one that is too long.", line=1)
    header, *body = rows
    # One more cell than names in the first row: pandas takes the first column for an index without a name.
    if body and len(body[0]) == len(header) + 1:
        body = [row[1:] for row in body]
    return header, body


def describe_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[TableColumn]:
    """Return the columns with the narrowest type that all of these rows fit.

    Raises:
        DataSetError: A row has more columns than a table may have.
    """
    widest = max(len(header), len(rows[0]) if rows else 0)
    for number, row in enumerate(rows, 1):
        if len(row) > widest:
            raise DataSetError(f"Row {number} has {len(row)} columns; the header has {len(header)}.", row=number)
    return [
        TableColumn(name, _type_of([row[index].strip() for row in rows if index < len(row)]))
        for index, name in enumerate(header)
    ]


def _type_of(texts: Sequence[str]) -> str:
    present = [text for text in texts if text not in MISSING_CELLS]
    if not present:
        return "empty"
    for name, fits in (("integer", _is_integer), ("number", is_number), ("boolean", _is_boolean), ("date", is_date)):
        if all(map(fits, present)):
            return name
    return "text"


def _is_integer(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Say whether pandas reads this cell, without spaces around it, as a number."""
    return _NUMBER.fullmatch(text) is not None


def _is_boolean(text: str) -> bool:
    return text.lower() in _BOOLEANS


def is_date(text: str) -> bool:
    """Say whether a cell is a date, or a date and a time of day, as ISO 8601 writes them."""
    return _DATE.fullmatch(text) is not None


def _is_blank(row: Sequence[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip(" \t"))


def first_bytes(pieces: Iterator[bytes]) -> bytes:
    """Take pieces until there is enough to see how a table is written."""
    head = bytearray()
    for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    return bytes(head)


def read_ahead(pieces: Iterable[bytes], *, most: int = 4) -> Iterator[bytes]:
    """Fetch up to `most` pieces in another thread while the caller works on one.

    What the source raises is raised here, in its place. A caller that stops early waits for the pieces on their way.
    """
    ready: SimpleQueue[bytes | None] = SimpleQueue()
    room = Semaphore(most)
    is_wanted = True

    def fetch() -> None:
        try:
            for piece in pieces:
                room.acquire()
                if not is_wanted:
                    return
                ready.put(piece)
        finally:
            ready.put(None)

    with RequestThreads(1) as pool:
        fetching = pool.submit(fetch)
        try:
            while (piece := ready.get()) is not None:
                room.release()
                yield piece
        finally:
            is_wanted = False
            room.release()
        fetching.result()


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
