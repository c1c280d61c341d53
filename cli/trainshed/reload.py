"""Opens downloaded models without running code from them, and predicts in the units of the data set.

Needs pandas, scikit-learn, skops and, by the file, Keras or onnxruntime, which the rest of this package does without.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io

from trainshed.answers import Model
from trainshed.encoding import NUMBER, encode, fill_window
from trainshed.errors import TrainshedError

# Types of these libraries are what a scikit-learn model is made of; anything else in a file is refused.
_TRUSTED_PACKAGES = ("numpy.", "scipy.", "sklearn.")
_KERAS_ROWS_PER_BATCH = 8192

Predictor = Callable[[Any], Any]


class UntrustedModelError(TrainshedError):
    """The file holds types that do not belong into a model of its framework."""


def load_predictor(path: Path, model: Model, scalers: Sequence[Mapping[str, Any]]) -> Predictor:
    """Open a downloaded .keras, .h5, .skops or .onnx file.

    Args:
        path: The file.
        model: Its record, as the service lists it.
        scalers: The session's scalers; those that the record names are applied around the model.

    Returns:
        A function from raw rows, a data frame with the columns `model["features"]` as pandas.read_csv gives them, to
        numbers in the target's unit, shape (rows,); of a classification to probabilities of `model["classes"]`, shape
        (rows, classes). Of a time series, from a sequence of windows, each a data frame of consecutive rows in order
        of time, to forecasts, shape (windows, horizon).

    Raises:
        UntrustedModelError: The file is a pickle, or asks for types outside of numpy, scipy and scikit-learn.
    """
    match path.suffix:
        case ".skops":
            calculate = _load_skops(path, is_class="classes" in model)
        case ".onnx":
            calculate = _load_onnx(path, model)
        case ".keras" | ".h5":
            calculate = _load_keras(path, model, {scaler["name"]: scaler for scaler in scalers})
        case suffix:
            raise UntrustedModelError(f"{path.name} is not opened: reading a {suffix} file can run code.")
    encoding = model.get("encoding") or [
        {"name": name, "column": name, "kind": NUMBER} for name in model.get("features", [])
    ]
    series = model.get("series")

    def predict(rows: Any) -> Any:
        if series is None:
            return calculate(encode(rows, encoding))
        windows = np.stack([encode(window, encoding).to_numpy("float64") for window in rows])
        return calculate(fill_window(windows, np.array(series["missing_values"]["values"])))

    return predict


def repeats_check(predict: Predictor, model: Model, form: str) -> bool:
    """Say whether a reloaded model repeats the predictions that were published with it.

    Args:
        predict: As `load_predictor` returned it.
        model: Its record.
        form: Of the file that was loaded.
    """
    check, tolerance = model["check"], check_tolerance(model, form)
    columns = model["features"]
    if "series" in model:
        found = predict([pd.DataFrame(window, columns=columns) for window in check["inputs"]])
    else:
        found = predict(pd.DataFrame(check["inputs"], columns=columns))
    expected = np.asarray(check.get("probabilities", check["predictions"]), dtype="float64")
    return found.shape == expected.shape and bool(np.allclose(found, expected, rtol=tolerance, atol=tolerance))


def check_tolerance(model: Model, form: str) -> float:
    """Return how far, relatively, predictions of a file may lie from those that were published."""
    check = model["check"]
    tolerance: float = check.get("relative_tolerance_by_format", {}).get(form, check["relative_tolerance"])
    return tolerance


def _load_skops(path: Path, *, is_class: bool) -> Predictor:
    asked = skops.io.get_untrusted_types(file=path)
    foreign = [name for name in asked if not name.startswith(_TRUSTED_PACKAGES)]
    if foreign:
        raise UntrustedModelError(f"{path.name} is not opened: it asks for {', '.join(foreign)}.")
    pipeline = skops.io.load(path, trusted=asked)
    predict: Predictor = pipeline.predict_proba if is_class else pipeline.predict
    return lambda given: predict(_flat(given))


def _load_onnx(path: Path, model: Model) -> Predictor:
    import onnxruntime  # noqa: PLC0415  (only this format needs it)

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    inputs = model["signature"]["onnx"]["inputs"]

    def predict(given: Any) -> Any:
        feeds = {}
        for entry in inputs:
            columns = given[entry["features"]] if isinstance(given, pd.DataFrame) else _flat(given)
            feeds[entry["name"]] = np.asarray(columns, dtype="float32" if entry["dtype"] == "float32" else object)
        found = session.run(None, feeds)[1 if "classes" in model else 0].astype("float64")
        return found if "classes" in model or "series" in model else found.ravel()

    return predict


def _flat(given: Any) -> Any:
    """Return windows with their rows one after the other, and a table as it is."""
    return given.reshape(len(given), -1) if isinstance(given, np.ndarray) else given


def _load_keras(path: Path, model: Model, scalers: Mapping[str, Mapping[str, Any]]) -> Predictor:
    # Before TensorFlow loads: its banners are of no use to a reader, and one of them is only silent without oneDNN.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import keras  # noqa: PLC0415  (takes seconds, and only a network needs it)

    network = keras.models.load_model(path, compile=False, safe_mode=True)
    signature = model["signature"]
    inputs = scalers[signature["inputs"][0]["scaler"]]
    (output,) = signature["outputs"]

    def predict(given: Any) -> Any:
        filled = given
        if isinstance(given, pd.DataFrame):
            raw = given.to_numpy("float64")
            filled = np.where(np.isnan(raw), inputs["missing_values"]["values"], raw)
        scaled = (filled - inputs["params"]["mean"]) / inputs["params"]["scale"]
        found = network.predict(scaled.astype("float32"), batch_size=_KERAS_ROWS_PER_BATCH, verbose=0).astype("float64")
        if output["unit"] == "probability":
            return found / found.sum(axis=1, keepdims=True)
        target = scalers[output["scaler"]]["params"]
        numbers = found * target["scale"][0] + target["mean"][0]
        return numbers if "series" in model else numbers[:, 0]

    return predict
