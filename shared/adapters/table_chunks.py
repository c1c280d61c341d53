"""Opens tables as data frames, piece by piece."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shared.errors import DataSetError, ObjectNotFoundError
from shared.records.uploads import DataFile
from shared.tables import HEAD_BYTES, PieceReader, TableFormat, detect_format, plain_pieces, read_head

if TYPE_CHECKING:
    import pandas as pd

    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore

CHUNK_ROWS = 50_000
_BUFFER_BYTES = 1 << 20


def table_header(store: ObjectStore, file: DataFile) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        DataSetError: The file cannot be read as a table.
    """
    with readable(file):
        first = read_at_most(store, file, 0, _BUFFER_BYTES)
    table_format = detect_format(file.file_name, file.content_type, first)
    return read_head(first, table_format, is_whole=len(first) == file.size_bytes)[0]


def first_text(column: pd.Series, first_row: int) -> str:
    """Say in which row, counted from 1, a column that should be numeric first holds a text."""
    import pandas as pd

    texts = column.notna() & pd.to_numeric(column.astype(str), errors="coerce").isna()
    at = int(texts.to_numpy().argmax())
    return f"row {first_row + at + 1} holds {str(column.iloc[at])[:40]!r}"


def format_of(store: ObjectStore, file: DataFile) -> TableFormat:
    """Find out how a table is written."""
    return detect_format(file.file_name, file.content_type, read_at_most(store, file, 0, HEAD_BYTES))


def options_of(table_format: TableFormat) -> dict[str, Any]:
    """Return how pandas is to read plain pieces. A damaged character spoils its cell, not the table."""
    encoding = "latin-1" if table_format.encoding == "latin-1" else "utf-8"
    return {"sep": table_format.delimiter, "encoding": encoding, "encoding_errors": "replace"}


def plain(store: ObjectStore, file: DataFile, table_format: TableFormat) -> Iterator[bytes]:
    """Stream a table as plain pieces."""
    return plain_pieces(store.read(file.object_name, generation=file.generation), table_format)


@contextmanager
def chunks(store: ObjectStore, file: DataFile) -> Iterator[Iterator[pd.DataFrame]]:
    """Open a table as data frames of up to 50,000 rows, in order; names of columns are texts."""
    import pandas as pd

    table_format = format_of(store, file)
    stream = io.BufferedReader(PieceReader(plain(store, file, table_format)), _BUFFER_BYTES)
    with pd.read_csv(stream, chunksize=CHUNK_ROWS, low_memory=False, **options_of(table_format)) as pieces:
        yield (piece.rename(columns=str) for piece in pieces)


@contextmanager
def readable(file: DataFile) -> Iterator[None]:
    """Turn what reading a table can raise into DataSetError that names the file."""
    import pandas as pd

    try:
        yield
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataSetError(f"{file.file_name!r} cannot be read as a table: {error}") from error
    except ObjectNotFoundError as error:
        raise DataSetError(f"The data set {file.file_name!r} is gone from the bucket.") from error


def read_at_most(store: ObjectStore, file: DataFile, start: int, n_bytes: int) -> bytes:
    """Return so many bytes of a table from `start`, or what there is."""
    content = bytearray()
    for piece in store.read(file.object_name, generation=file.generation, start=start):
        content += piece
        if len(content) >= n_bytes:
            break
    return bytes(content[:n_bytes])
