"""Models of Keras: a plain stack of dense layers, written as .keras and as .h5 without an optimizer.

The network works in scaled units, so that its files hold standard layers only and load anywhere without custom code;
the scalers are published beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.reference_trainer import FittedModel, Split, standard_scaler_json
from shared.errors import DataSetError
from shared.records import WrittenFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

UNITS = (64, 32)
LEARNING_RATE = 1e-3
MOST_EPOCHS = 20
PATIENCE_EPOCHS = 3
VALIDATION_FRACTION = 0.1
STEPS_PER_EPOCH = 200
BATCH_ROWS = (32, 4096)
PREDICT_ROWS = 8192
# float32 on another processor: sums of a few hundred products.
TOLERANCE = 1e-4


def batch_size(n_rows: int) -> int:
    """Return the power of two that gives about 200 steps per epoch, within 32 to 4096 rows."""
    least, most = BATCH_ROWS
    return min(most, max(least, 1 << round(math.log2(max(1, n_rows / STEPS_PER_EPOCH)))))


def fit_dense_network(
    split: Split, target: str, seed: int, folder: Path, progress: Callable[[float], None]
) -> FittedModel:
    """Fit two hidden layers on imputed, standardized features and a standardized target, with early stopping."""
    # Before TensorFlow loads: its banner would be an unstructured line in the log.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np
    import tensorflow as tf
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    # One process trains several models one after the other: each starts from the same state.
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()

    inputs = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())]).fit(split.train)
    outputs = StandardScaler().fit(split.train_target[:, None])
    x = inputs.transform(split.train).astype("float32")
    y = outputs.transform(split.train_target[:, None]).astype("float32")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataSetError("The numbers are too large or too small for the 32-bit numbers of a network.")
    n_validation = max(1, int(len(x) * VALIDATION_FRACTION))

    network = keras.Sequential(
        [keras.Input((x.shape[1],)), *(keras.layers.Dense(n, activation="relu") for n in UNITS), keras.layers.Dense(1)],
        name="dense_network",
    )
    # The full names of loss and metric: a .h5 compiled with "mse" does not load (keras-team/keras).
    network.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss="mean_squared_error")
    rows_per_batch = batch_size(len(x) - n_validation)
    stopping = keras.callbacks.EarlyStopping(patience=PATIENCE_EPOCHS, restore_best_weights=True)
    # The rows are shuffled by the split already, so the last ones are as good a validation part as any.
    history = network.fit(
        x[:-n_validation],
        y[:-n_validation],
        validation_data=(x[-n_validation:], y[-n_validation:]),
        epochs=MOST_EPOCHS,
        batch_size=rows_per_batch,
        callbacks=[stopping, _progress_callback(progress, math.ceil((len(x) - n_validation) / rows_per_batch))],
        verbose=0,
    ).history

    def predict(features: pd.DataFrame) -> np.ndarray:
        scaled = network.predict(inputs.transform(features).astype("float32"), batch_size=PREDICT_ROWS, verbose=0)
        predicted: np.ndarray = outputs.inverse_transform(scaled.astype("float64"))[:, 0]
        return predicted

    names = [str(name) for name in split.train.columns]
    keras_path, h5_path = folder / "model.keras", folder / "model.h5"
    network.save(keras_path)
    network.save(h5_path, include_optimizer=False)
    return FittedModel(
        class_name="keras.Sequential",
        predict=predict,
        files=(
            WrittenFile("keras", keras_path, "application/zip", loads_code=False),
            WrittenFile("h5", h5_path, "application/x-hdf5", loads_code=False),
        ),
        params={
            "imputation": "median",
            "scaling": "standard",
            "hidden_units": list(UNITS),
            "activation": "relu",
            "optimizer": "adam",
            "learning_rate": LEARNING_RATE,
            "loss": "mean_squared_error",
            "batch_size": rows_per_batch,
            "max_epochs": MOST_EPOCHS,
            "epochs": len(history["loss"]),
            "early_stopping_patience": PATIENCE_EPOCHS,
            "n_validation": n_validation,
            "n_weights": int(network.count_params()),
            "seed": seed,
        },
        signature={
            "inputs": [
                {
                    "name": "features",
                    "dtype": "float32",
                    "shape": [None, x.shape[1]],
                    "features": names,
                    "unit": "scaled",
                    "scaler": "dense_network.inputs",
                }
            ],
            "outputs": [
                {
                    "name": target,
                    "dtype": "float32",
                    "shape": [None, 1],
                    "unit": "scaled",
                    "scaler": "dense_network.target",
                }
            ],
        },
        scalers=(
            standard_scaler_json(
                "dense_network.inputs",
                "dense_network",
                "inputs",
                names,
                inputs["scale"],
                applied_by="caller",
                medians=inputs["impute"].statistics_,
            ),
            standard_scaler_json(
                "dense_network.target", "dense_network", "target", [target], outputs, applied_by="caller"
            ),
        ),
        packages=("scikit-learn", "keras", "tensorflow-cpu", "h5py"),
        tolerance=TOLERANCE,
        charts=(_history_chart(target, history),),
    )


def _progress_callback(progress: Callable[[float], None], steps: int) -> Any:
    import keras

    class Progress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        """Reports after every batch; whoever listens decides how often that is needed."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del logs
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del logs
            progress((self.epoch + (batch + 1) / steps) / MOST_EPOCHS)

    return Progress()


def _history_chart(target: str, history: dict[str, list[float]]) -> dict[str, Any]:
    """Return the loss over the epochs in long form, one series per part."""
    epochs = list(range(1, len(history["loss"]) + 1))
    return {
        "name": "dense_network.history",
        "model": "dense_network",
        "kind": "line",
        "title": f"{target}: loss while training",
        "x": {"field": "epoch", "title": "epoch"},
        "y": {"field": "loss", "title": "mean squared error, scaled"},
        "series": {"field": "part"},
        "data": {
            "epoch": epochs * 2,
            "loss": [float(value) for value in (*history["loss"], *history["val_loss"])],
            "part": ["train"] * len(epochs) + ["validation"] * len(epochs),
        },
    }
