"""Tables with pandas: describes every column for plots (`TableReader`)."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from shared.adapters.table_chunks import chunks, format_of, options_of, plain, read_at_most, readable
from shared.records.uploads import DataFile
from shared.tables import TableFormat

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore

# A whole table of this size is read; of a larger one, as much in evenly spread pieces. As a data frame it may take four
# times that, and plot-variables serves two requests at once in 1 GiB (functions/manifest.yaml).
MOST_BYTES = 48 << 20
SAMPLED_PIECES = 16
# A wide table is described by shorter series, and by so many of its columns: Cloud Run sends no answer over 32 MiB.
MOST_POINTS = 200_000
LEAST_POINTS = 10
MOST_COLUMNS = 5_000
# Halves are exact in float64 up to here.
LARGEST_BINNED_INTEGER = 2**51
MOST_BINS = 30
LARGEST_HALF_RANGE = 8e307


class PandasTableReader:
    """Describes tables for plots."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def describe(self, file: DataFile, points: int, chosen: Collection[str] | None = None) -> Mapping[str, Any]:
        """Return n_rows, is_sampled, n_rows_read, n_columns and the columns with statistics and series.

        The series of all columns together have at most 200,000 points; of more columns than 5,000, the first are
        described. Columns that are not `chosen` are left out.

        Tables beyond 48 MiB are described by 16 evenly spread pieces of 3 MiB, or by their first 48 MiB where nobody
        can begin to read in the middle: compressed ones, and UTF-16.
        """
        import numpy as np
        import pandas as pd

        with readable(file):
            table_format = format_of(self._store, file)
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
                with chunks(self._store, file) as pieces:
                    frame = pd.concat(list(pieces), ignore_index=True)
                rows = np.arange(len(frame))
        names = [name for name in frame.columns if chosen is None or name in chosen][:MOST_COLUMNS]
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
        for piece in plain(self._store, file, table_format):
            content += piece
            if len(content) > MOST_BYTES:
                break
        is_cut = len(content) > MOST_BYTES
        if is_cut:
            del content[content.rfind(b"\n") + 1 :]
        frame = pd.read_csv(io.BytesIO(content), on_bad_lines="skip", **options_of(table_format))
        return frame.rename(columns=str), is_cut

    def _sample(self, file: DataFile, table_format: TableFormat) -> tuple[list[pd.DataFrame], list[np.ndarray]]:
        import numpy as np
        import pandas as pd

        piece_bytes = MOST_BYTES // SAMPLED_PIECES
        frames: list[pd.DataFrame] = []
        positions: list[np.ndarray] = []
        for index in range(SAMPLED_PIECES):
            start = (file.size_bytes - piece_bytes) * index // (SAMPLED_PIECES - 1)
            content = read_at_most(self._store, file, start, piece_bytes)
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
                **options_of(table_format),
            )
            frames.append(frame.rename(columns=str))
            at = (start + np.linspace(0, piece_bytes, len(frame), endpoint=False)) / file.size_bytes
            positions.append((at * file.n_rows).astype(np.int64))
        return frames, positions


def _describe_column(name: str, column: pd.Series, rows: np.ndarray, points: int) -> dict[str, Any]:
    import numpy as np
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
    # Numbers near the end of float64: what overflows is said to be None.
    with np.errstate(over="ignore", invalid="ignore"):
        quantiles = values.quantile([0.25, 0.5, 0.75])
        described |= {
            "mean": _number(values.mean()),
            "std": _number(values.std()),
            "min": _number(values.min()),
            "q25": _number(quantiles[0.25]),
            "median": _number(quantiles[0.5]),
            "q75": _number(quantiles[0.75]),
            "max": _number(values.max()),
            "histogram": _histogram(values),
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
        # Its second step may drop what is highest or lowest of all; two of the points are for those.
        drawn = MinMaxLTTBDownsampler().downsample(x, y, n_out=points - 2)
        kept = np.unique([*map(int, drawn), int(y.argmin()), int(y.argmax())])
        x, y = x[kept], y[kept]
    return {"x": x.tolist(), "y": y.tolist()}


def _histogram(values: pd.Series) -> dict[str, list[float]]:
    """Return how many values lie between which edges, at most 30 bins of equal width; all empty without values.

    Bins of whole numbers hold equally many of them each, and end between two: none is empty for want of numbers.
    """
    import numpy as np

    present = values.dropna().to_numpy()
    # The difference of two finite numbers need not be finite; half of it is.
    if not len(present) or present.max() / 2 - present.min() / 2 > LARGEST_HALF_RANGE:
        return {"from": [], "to": [], "count": []}
    n_bins = min(MOST_BINS, max(1, math.ceil(math.sqrt(len(present)))))
    least, most = present.min(), present.max()
    if max(abs(least), abs(most)) < LARGEST_BINNED_INTEGER and (present == np.floor(present)).all():
        width = math.ceil((most - least + 1) / n_bins)
        edges = np.arange(least - 0.5, most + width, width)
        counts, _ = np.histogram(present, bins=edges)
        return {"from": edges[:-1].tolist(), "to": edges[1:].tolist(), "count": counts.tolist()}
    # Numbers that lie closer than bins can be told apart have one bin.
    try:
        counts, edges = np.histogram(present, bins=n_bins)
    except ValueError:
        counts, edges = np.array([len(present)]), np.array([present.min(), present.max()])
    return {"from": edges[:-1].tolist(), "to": edges[1:].tolist(), "count": counts.tolist()}


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
