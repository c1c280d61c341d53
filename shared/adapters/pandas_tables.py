"""Tables with pandas: reads numeric columns for training, and describes every column for plots (`TableReader`)."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import DataSetError, ObjectNotFoundError
from shared.ports import ObjectStore
from shared.records import DataFile
from shared.tables import HEAD_BYTES, PieceReader, TableFormat, detect_format, plain_pieces, read_head

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CHUNK_ROWS = 50_000
# 320 MB as float64. Training holds about five copies at its peak (whole, split, scaled): run-training has 4 GiB.
MOST_CELLS = 40_000_000
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class NumericTable:
    """The numeric columns of a session's tables, one below the other.

    Attributes:
        frame: float64; missing and infinite values are NaN; rows with a target only.
        ignored: Why other columns (or whole files, as "file <name>") are not used.
        stride: Every stride-th row was read.
        n_rows: Rows of the files that were used, before striding and dropping.
    """

    frame: pd.DataFrame
    ignored: Mapping[str, str]
    stride: int
    n_rows: int


def read_numeric(
    store: ObjectStore, files: Sequence[DataFile], target: str, progress: Callable[[float], None]
) -> NumericTable:
    """Read the numeric columns that the tables have in common.

    Args:
        files: Read in this order; those without the target are left out.
        target: A column that must be numeric wherever it is.
        progress: Called with 0 to 1 after every 50,000 rows.

    Returns:
        At most MOST_CELLS cells (counting every column of the files): larger tables are thinned evenly.

    Raises:
        DataSetError: A file cannot be read, or the target is not numeric.
    """
    import pandas as pd

    ignored: dict[str, str] = {}
    used, n_cells = [], 0
    for file in files:
        header = _header(store, file)
        if target in header:
            used.append(file)
            n_cells += file.n_rows * len(header)
        else:
            ignored[f"file {file.file_name}"] = f"no column {target!r}"
    if not used:
        raise DataSetError(f"No table has a column {target!r}.")
    stride = max(1, math.ceil(n_cells / MOST_CELLS))
    n_rows = sum(file.n_rows for file in used)
    frames: list[pd.DataFrame] = []
    n_read = 0

    def count(n_more: int) -> None:
        nonlocal n_read
        n_read += n_more
        progress(min(1.0, n_read / max(1, n_rows)))

    frames.extend(_numeric_columns(store, file, target, stride, ignored, count) for file in used)
    common = [name for name in frames[0].columns if all(name in frame.columns for frame in frames)]
    for frame in frames:
        ignored |= {name: "not numeric in every file" for name in frame.columns if name not in common}
    table = pd.concat([frame[common] for frame in frames], ignore_index=True) if len(frames) > 1 else frames[0]
    table = table.replace([math.inf, -math.inf], math.nan).dropna(subset=[target], ignore_index=True)
    return NumericTable(table, ignored, stride, n_rows)


def _header(store: ObjectStore, file: DataFile) -> list[str]:
    with _readable(file):
        first = _read_at_most(store, file, 0, _BUFFER_BYTES)
    table_format = detect_format(file.file_name, file.content_type, first)
    return read_head(first, table_format, is_whole=len(first) == file.size_bytes)[0]


def _numeric_columns(
    store: ObjectStore,
    file: DataFile,
    target: str,
    stride: int,
    ignored: dict[str, str],
    count: Callable[[int], None],
) -> pd.DataFrame:
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    kept: list[pd.DataFrame] = []
    first_row = 0
    with _readable(file), _chunks(store, file) as chunks:
        for chunk in chunks:
            if chunk.empty:
                continue
            numeric = [
                name for name in chunk.columns if is_numeric_dtype(chunk[name]) and not is_bool_dtype(chunk[name])
            ]
            if target not in numeric:
                raise DataSetError(
                    f"Column {target!r} of {file.file_name!r} is not numeric: {_first_text(chunk[target], first_row)}."
                )
            ignored |= {str(name): "not numeric" for name in chunk.columns if name not in numeric}
            kept.append(chunk.iloc[-first_row % stride :: stride][numeric].astype("float64"))
            first_row += len(chunk)
            count(len(chunk))
    if not kept:
        return pd.DataFrame(columns=[target], dtype="float64")
    common = [name for name in kept[0].columns if name not in ignored]
    return pd.concat([frame[common] for frame in kept], ignore_index=True)


def _first_text(column: pd.Series, first_row: int) -> str:
    import pandas as pd

    texts = column.notna() & pd.to_numeric(column.astype(str), errors="coerce").isna()
    at = int(texts.to_numpy().argmax())
    return f"row {first_row + at + 1} holds {str(column.iloc[at])[:40]!r}"


def _format(store: ObjectStore, file: DataFile) -> TableFormat:
    return detect_format(file.file_name, file.content_type, _read_at_most(store, file, 0, HEAD_BYTES))


def _options(table_format: TableFormat) -> dict[str, Any]:
    """Return how pandas is to read plain pieces. A damaged character spoils its cell, not the table."""
    encoding = "latin-1" if table_format.encoding == "latin-1" else "utf-8"
    return {"sep": table_format.delimiter, "encoding": encoding, "encoding_errors": "replace"}


def _plain(store: ObjectStore, file: DataFile, table_format: TableFormat) -> Iterator[bytes]:
    return plain_pieces(store.read(file.object_name, generation=file.generation), table_format)


@contextmanager
def _chunks(store: ObjectStore, file: DataFile) -> Iterator[Iterator[pd.DataFrame]]:
    import pandas as pd

    table_format = _format(store, file)
    stream = io.BufferedReader(PieceReader(_plain(store, file, table_format)), _BUFFER_BYTES)
    with pd.read_csv(stream, chunksize=CHUNK_ROWS, low_memory=False, **_options(table_format)) as chunks:
        yield (chunk.rename(columns=str) for chunk in chunks)


@contextmanager
def _readable(file: DataFile) -> Iterator[None]:
    import pandas as pd

    try:
        yield
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataSetError(f"{file.file_name!r} cannot be read as a table: {error}") from error
    except ObjectNotFoundError as error:
        raise DataSetError(f"The data set {file.file_name!r} is gone from the bucket.") from error


# A whole table of this size is read; of a larger one, as much in evenly spread pieces. As a data frame it may take four
# times that, and plot-variables serves two requests at once in 1 GiB (functions/manifest.yaml).
MOST_BYTES = 48 << 20
SAMPLED_PIECES = 16
# A wide table is described by shorter series, and by so many of its columns: Cloud Run sends no answer over 32 MiB.
MOST_POINTS = 200_000
LEAST_POINTS = 10
MOST_COLUMNS = 5_000


class PandasTableReader:
    """Describes tables for plots."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def describe(self, file: DataFile, points: int) -> Mapping[str, Any]:
        """Return n_rows, is_sampled, n_rows_read, n_columns and the columns with statistics and series.

        The series of all columns together have at most 200,000 points; of more columns than 5,000, the first are
        described.

        Tables beyond 48 MiB are described by 16 evenly spread pieces of 3 MiB, or by their first 48 MiB where nobody
        can begin to read in the middle: compressed ones, and UTF-16.
        """
        import numpy as np
        import pandas as pd

        with _readable(file):
            table_format = _format(self._store, file)
            is_sampled = file.size_bytes > MOST_BYTES
            if table_format.compression or table_format.encoding == "utf-16":
                frame, is_sampled = self._beginning(file, table_format)
                rows = np.arange(len(frame))
            elif is_sampled:
                frames, positions = self._sample(file, table_format)
                frame = pd.concat(frames, ignore_index=True)
                # Which row a sampled one is follows from where in the file it was found.
                rows = np.concatenate(positions)
            else:
                with _chunks(self._store, file) as chunks:
                    frame = pd.concat(list(chunks), ignore_index=True)
                rows = np.arange(len(frame))
        names = list(frame.columns)[:MOST_COLUMNS]
        shown = min(points, max(LEAST_POINTS, MOST_POINTS // max(1, len(names))))
        return {
            "name": file.file_name,
            "n_rows": file.n_rows,
            "n_rows_read": len(frame),
            "is_sampled": is_sampled,
            "n_columns": frame.shape[1],
            "columns": [_describe_column(str(name), frame[name], rows, shown) for name in names],
        }

    def _beginning(self, file: DataFile, table_format: TableFormat) -> tuple[pd.DataFrame, bool]:
        import pandas as pd

        content = bytearray()
        for piece in _plain(self._store, file, table_format):
            content += piece
            if len(content) > MOST_BYTES:
                break
        is_cut = len(content) > MOST_BYTES
        if is_cut:
            del content[content.rfind(b"\n") + 1 :]
        frame = pd.read_csv(io.BytesIO(content), on_bad_lines="skip", **_options(table_format))
        return frame.rename(columns=str), is_cut

    def _sample(self, file: DataFile, table_format: TableFormat) -> tuple[list[pd.DataFrame], list[np.ndarray]]:
        import numpy as np
        import pandas as pd

        piece_bytes = MOST_BYTES // SAMPLED_PIECES
        frames: list[pd.DataFrame] = []
        positions: list[np.ndarray] = []
        for index in range(SAMPLED_PIECES):
            start = (file.size_bytes - piece_bytes) * index // (SAMPLED_PIECES - 1)
            content = _read_at_most(self._store, file, start, piece_bytes)
            # Rows that are cut at either end are left out, and a row that a quoted line end makes look cut.
            content = content[: content.rfind(b"\n") + 1] if index < SAMPLED_PIECES - 1 else content
            if index:
                content = content[content.find(b"\n") + 1 :]
            names = frames[0].columns if frames else None
            frame = pd.read_csv(
                io.BytesIO(content),
                names=names,
                header=0 if names is None else None,
                on_bad_lines="skip",
                **_options(table_format),
            )
            frames.append(frame.rename(columns=str))
            at = (start + np.linspace(0, piece_bytes, len(frame), endpoint=False)) / file.size_bytes
            positions.append((at * file.n_rows).astype(np.int64))
        return frames, positions


def _read_at_most(store: ObjectStore, file: DataFile, start: int, n_bytes: int) -> bytes:
    content = bytearray()
    for piece in store.read(file.object_name, generation=file.generation, start=start):
        content += piece
        if len(content) >= n_bytes:
            break
    return bytes(content[:n_bytes])


def _describe_column(name: str, column: pd.Series, rows: np.ndarray, points: int) -> dict[str, Any]:
    from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

    described: dict[str, Any] = {
        "name": name,
        "count": int(column.count()),
        "missing": int(column.isna().sum()),
        "unique": int(column.nunique()),
    }
    if not is_numeric_dtype(column) or is_bool_dtype(column):
        commonest = column.astype(str).where(column.notna()).value_counts().head(5)
        described["type"] = "boolean" if is_bool_dtype(column) else "text"
        described["commonest"] = [{"value": str(value)[:80], "count": int(n)} for value, n in commonest.items()]
        return described
    described["type"] = "integer" if is_integer_dtype(column) else "number"
    values = column.astype("float64").replace([math.inf, -math.inf], math.nan)
    quantiles = values.quantile([0.25, 0.5, 0.75])
    described |= {
        "mean": _number(values.mean()),
        "std": _number(values.std()),
        "min": _number(values.min()),
        "q25": _number(quantiles[0.25]),
        "median": _number(quantiles[0.5]),
        "q75": _number(quantiles[0.75]),
        "max": _number(values.max()),
        "series": _series(values, rows, points),
    }
    return described


def _series(values: pd.Series, rows: np.ndarray, points: int) -> dict[str, list[float]]:
    """Return at most `points` points that keep the look of the whole: x is the row from 0, y the value."""
    import numpy as np
    from tsdownsample import MinMaxLTTBDownsampler

    is_present = values.notna().to_numpy()
    x, y = rows[is_present], values.to_numpy()[is_present]
    if len(y) > points:
        chosen = np.unique(MinMaxLTTBDownsampler().downsample(x, y, n_out=points))
        x, y = x[chosen], y[chosen]
    return {"x": x.tolist(), "y": y.tolist()}


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
