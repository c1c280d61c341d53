"""Opens downloaded models without running code from them, and predicts in the units of the data set.

Needs scikit-learn, skops and Keras, which the rest of this package does without.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skops.io

from cli.answers import Model
from cli.errors import TrainshedError

# Types of these libraries are what a scikit-learn model is made of; anything else in a file is refused.
_TRUSTED_PACKAGES = ("numpy.", "scipy.", "sklearn.")
_KERAS_ROWS_PER_BATCH = 8192

Predictor = Callable[[Any], Any]


class UntrustedModelError(TrainshedError):
    """The file holds types that do not belong into a model of its framework."""


def load_predictor(path: Path, model: Model, scalers: Sequence[Mapping[str, Any]]) -> Predictor:
    """Open a downloaded .keras, .h5 or .skops file.

    Args:
        path: The file.
        model: Its record, as the service lists it.
        scalers: The session's scalers; those that the record names are applied around the model.

    Returns:
        A function from features in raw units, shape (rows, features) with NaN where a value is missing and the columns
        in the order of `model["features"]`, to predictions in the target's unit, shape (rows,).

    Raises:
        UntrustedModelError: The file is a pickle, or asks for types outside of numpy, scipy and scikit-learn.
    """
    match path.suffix:
        case ".skops":
            return _load_skops(path)
        case ".keras" | ".h5":
            return _load_keras(path, model, {scaler["name"]: scaler for scaler in scalers})
        case suffix:
            raise UntrustedModelError(f"{path.name} is not opened: reading a {suffix} file can run code.")


def _load_skops(path: Path) -> Predictor:
    asked = skops.io.get_untrusted_types(file=path)
    foreign = [name for name in asked if not name.startswith(_TRUSTED_PACKAGES)]
    if foreign:
        raise UntrustedModelError(f"{path.name} is not opened: it asks for {', '.join(foreign)}.")
    pipeline = skops.io.load(path, trusted=asked)
    predict: Predictor = pipeline.predict
    return predict


def _load_keras(path: Path, model: Model, scalers: Mapping[str, Mapping[str, Any]]) -> Predictor:
    # Before TensorFlow loads: its banners are of no use to a reader, and one of them is only silent without oneDNN.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import keras  # noqa: PLC0415  (takes seconds, and only a network needs it)

    network = keras.models.load_model(path, compile=False, safe_mode=True)
    signature = model["signature"]
    inputs = scalers[signature["inputs"][0]["scaler"]]
    target = scalers[signature["outputs"][0]["scaler"]]

    def predict(features: Any) -> Any:
        raw = features.to_numpy(dtype="float64")
        filled = np.where(np.isnan(raw), inputs["missing_values"]["values"], raw)
        scaled = (filled - inputs["params"]["mean"]) / inputs["params"]["scale"]
        outputs = network.predict(scaled.astype("float32"), batch_size=_KERAS_ROWS_PER_BATCH, verbose=0)
        return outputs[:, 0].astype("float64") * target["params"]["scale"][0] + target["params"]["mean"][0]

    return predict
