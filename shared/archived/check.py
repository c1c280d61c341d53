"""Checks this archive: `python check.py`. Every file is the one that was published, every model predicts the same.

Needs what the models' requirements.txt name, and nothing of the service. `--run-pickles` also opens .pkl files, which
runs code that their writers chose.
"""

import hashlib
import importlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Check everything, say what was found, and return how many things were wrong."""
    n_wrong = 0
    for is_right, text in (*files(), *models()):
        n_wrong += is_right is False
        sys.stdout.write(f"{ {True: 'ok   ', False: 'WRONG', None: '-    '}[is_right] } {text}\n")
    sys.stdout.write("Everything is right.\n" if n_wrong == 0 else f"{n_wrong} things are wrong.\n")
    return n_wrong


def files() -> Iterator[tuple[bool, str]]:
    """Compare the checksums of all files."""
    for line in (FOLDER / "SHA256SUMS").read_text().splitlines():
        wanted, name = line.split("  ", 1)
        path = FOLDER / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        yield found == wanted, name


def models() -> Iterator[tuple[bool | None, str]]:
    """Open every model and let it predict its check inputs."""
    scalers = [json.loads(path.read_text()) for path in sorted((FOLDER / "scalers").glob("*/*.json"))]
    for path in sorted((FOLDER / "models").glob("*/model.json")):
        try:
            is_right, text = checked(path, scalers)
        except Exception as error:  # noqa: BLE001 - libraries raise what they like; the other models are checked too
            is_right, text = False, f"cannot be opened, or does not predict: {type(error).__name__}: {error}"
        yield is_right, f"{path.parent.name}: {text}"


def checked(path: Path, scalers: Sequence[Mapping[str, Any]]) -> tuple[bool | None, str]:
    """Open the model that a record belongs to and let it predict its check inputs."""
    may_run_code = "--run-pickles" in sys.argv
    record = json.loads(path.read_text())
    load = importlib.import_module("load")
    try:
        model = load.load(path.parent, may_run_code=may_run_code)
    except load.NothingToOpenError as error:
        return None, str(error)
    check = record.get("check")
    if not check:
        return True, "opened; nothing was published to compare its predictions with"
    found = predict(model, record, check, [one for one in scalers if one.get("run_id") == record["run_id"]])
    is_equal = are_equal(found, check.get("probabilities", check["predictions"]), check["relative_tolerance"])
    return is_equal, f"predicts {len(check['predictions'])} check inputs as published"


def predict(
    model: Any, record: Mapping[str, Any], check: Mapping[str, Any], scalers: Sequence[Mapping[str, Any]]
) -> list[Any]:
    """Return predictions for a record's check inputs; of a classification probabilities, where they were published."""
    import numpy as np

    given = inputs_of(record, check)
    if record["framework"] != "keras":
        if "series" in record:
            forecasts: list[Any] = model.predict(given.reshape(len(given), -1)).reshape(len(given), -1).tolist()
            return forecasts
        found: list[Any] = (model.predict_proba if "probabilities" in check else model.predict)(given).tolist()
        return found
    by_name = {scaler["name"]: scaler for scaler in scalers}
    inputs, (output,) = by_name[record["signature"]["inputs"][0]["scaler"]], record["signature"]["outputs"]
    x = np.asarray(given, dtype="float64")
    if "missing_values" in inputs:
        x = np.where(np.isnan(x), inputs["missing_values"]["values"], x)
    x = (x - inputs["params"]["mean"]) / inputs["params"]["scale"]
    y = model.predict(x.astype("float32"), verbose=0).astype("float64")
    if "scaler" in output:
        target = by_name[output["scaler"]]["params"]
        y = y * target["scale"][0] + target["mean"][0]
    predictions: list[Any] = (y if "series" in record or "probabilities" in check else y[:, 0]).tolist()
    return predictions


def inputs_of(record: Mapping[str, Any], check: Mapping[str, Any]) -> Any:
    """Turn raw rows into what the files take: a table, or of a time series windows, shape (windows, rows, columns)."""
    import numpy as np
    import pandas as pd

    encoding = importlib.import_module("encoding")
    names = record["features"]
    entries = record.get("encoding") or [{"name": name, "column": name, "kind": "number"} for name in names]
    if "series" not in record:
        return encoding.encode(pd.DataFrame(check["inputs"], columns=names), entries)
    tables = [encoding.encode(pd.DataFrame(window, columns=names), entries) for window in check["inputs"]]
    windows = np.stack([table.to_numpy("float64") for table in tables])
    return encoding.fill_window(windows, np.array(record["series"]["missing_values"]["values"]))


def are_equal(found: Any, wanted: Any, tolerance: float) -> bool:
    """Compare numbers within a relative tolerance, lists entry by entry, and all else exactly."""
    if isinstance(found, list) and isinstance(wanted, list):
        pairs = zip(found, wanted, strict=False)
        return len(found) == len(wanted) and all(are_equal(one, other, tolerance) for one, other in pairs)
    if isinstance(found, float | int) and isinstance(wanted, float | int):
        return math.isclose(found, wanted, rel_tol=tolerance, abs_tol=tolerance)
    return bool(found == wanted)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
