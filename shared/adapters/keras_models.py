"""Models of Keras: plain stacks of standard layers, written as .keras and as .h5 without an optimizer.

A network works in scaled units, so that its files hold standard layers only and load anywhere without custom code; the
scalers and the encoding of its inputs are published beside it.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.adapters.evaluation import history_chart
from shared.adapters.reference_trainer import FittedModel, Split, standard_scaler_json
from shared.archived.encoding import ONE_HOT, TEXT, encode
from shared.errors import DataSetError
from shared.publication import FORMATS
from shared.records.training import CurvePoint, TrainingRequest, WrittenFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from shared.adapters.time_series import Series

    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import Progress

UNITS = (64, 32)
RECURRENT_UNITS = 32
LEARNING_RATE = 1e-3
# A series has fewer rows than it has to show for them: it is seen more often, in larger steps.
RECURRENT_LEARNING_RATE = 5e-3
MOST_EPOCHS = 20
PATIENCE_EPOCHS = 3
# Times that all rows are read, where they do not fit into memory.
STREAMED_EPOCHS = 3
VALIDATION_FRACTION = 0.1
STEPS_PER_EPOCH = 200
BATCH_ROWS = (32, 4096)
PREDICT_ROWS = 8192
# float32 on another processor: sums of a few hundred products, of recurrent layers one after the other.
TOLERANCE = 1e-4
RECURRENT_TOLERANCE = 1e-3

Batches = Iterable[tuple["np.ndarray", "np.ndarray"]]


def batch_size(n_rows: int) -> int:
    """Return the power of two that gives about 200 steps per epoch, within 32 to 4096 rows."""
    least, most = BATCH_ROWS
    return min(most, max(least, 1 << round(math.log2(max(1, n_rows / STEPS_PER_EPOCH)))))


def fit_dense_network(split: Split, request: TrainingRequest, folder: Path, progress: Progress) -> FittedModel:
    """Fit two hidden layers on imputed, standardized inputs.

    A numeric target is standardized too; of classes the network gives probabilities. It stops early.
    """
    import numpy as np
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    keras = _fresh_keras(request.seed)
    name = "dense_network"
    encoding = one_hot_encoding(split.train, split.encoding)
    inputs = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    outputs = None if split.classes else StandardScaler().fit(split.train_target[:, None])

    def scaled(target: np.ndarray) -> np.ndarray:
        return outputs.transform(target[:, None]).astype("float32") if outputs else target.astype("int32")

    x = inputs.fit_transform(encode(split.train, encoding).to_numpy()).astype("float32")
    y = scaled(split.train_target)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataSetError("The numbers are too large or too small for the 32-bit numbers of a network.")
    last = [keras.layers.Dense(len(split.classes), activation="softmax") if split.classes else keras.layers.Dense(1)]
    network = keras.Sequential(
        [keras.Input((x.shape[1],)), *(keras.layers.Dense(n, activation="relu") for n in UNITS), *last], name=name
    )
    # The full names of loss and metric: a .h5 compiled with "mse" does not load (keras-team/keras).
    loss = "sparse_categorical_crossentropy" if split.classes else "mean_squared_error"
    network.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss=loss)
    n_validation = max(1, int(len(x) * VALIDATION_FRACTION))
    rows_per_batch = batch_size(len(x) - n_validation if split.pieces is None else split.n_rows_in_files)
    # The rows are shuffled by the split already, so the last ones are as good a validation part as any.
    validation = x[-n_validation:], y[-n_validation:]
    if split.pieces is None:
        params = fit_network(network, x[:-n_validation], y[:-n_validation], validation, rows_per_batch, progress)
    else:
        all_pieces = split.pieces

        def batches(epoch: int) -> Batches:
            random = np.random.default_rng((request.seed, epoch))
            for rows, target in all_pieces():
                rows_x = inputs.transform(encode(rows, encoding).to_numpy()).astype("float32")
                rows_y, order = scaled(target), random.permutation(len(target))
                for at in range(0, len(order), rows_per_batch):
                    chosen = order[at : at + rows_per_batch]
                    yield rows_x[chosen], rows_y[chosen]

        n_validation = 0
        params = _fit_streamed(network, batches, split.n_rows_in_files, progress)
    points = params.pop("points")

    def predict(rows: pd.DataFrame) -> np.ndarray:
        given = inputs.transform(encode(rows, encoding).to_numpy()).astype("float32")
        found = network.predict(given, batch_size=PREDICT_ROWS, verbose=0).astype("float64")
        # 32-bit probabilities add up to 1 only nearly.
        predicted: np.ndarray = (
            outputs.inverse_transform(found)[:, 0] if outputs else found / found.sum(1, keepdims=True)
        )
        return predicted

    names = [str(entry["name"]) for entry in encoding]
    scalers = [
        standard_scaler_json(
            f"{name}.inputs",
            name,
            "inputs",
            names,
            inputs["scale"],
            applied_by="caller",
            missing_values={"strategy": "median", "values": inputs["impute"].statistics_.tolist()},
        )
    ]
    output: dict[str, Any] = {"name": request.target, "dtype": "float32"}
    if split.classes:
        output |= {"shape": [None, len(split.classes)], "unit": "probability", "classes": list(split.classes)}
    else:
        output |= {"shape": [None, 1], "unit": "scaled", "scaler": f"{name}.target"}
        scalers.append(
            standard_scaler_json(f"{name}.target", name, "target", [request.target], outputs, applied_by="caller")
        )
    return FittedModel(
        class_name="keras.Sequential",
        predict=predict,
        files=_write(network, folder),
        encoding=encoding,
        params={
            "imputation": "median",
            "scaling": "standard",
            "hidden_units": list(UNITS),
            "activation": "relu",
            "optimizer": "adam",
            "learning_rate": LEARNING_RATE,
            "loss": loss,
            "batch_size": rows_per_batch,
            "n_validation": n_validation,
            "n_weights": int(network.count_params()),
            "seed": request.seed,
            **params,
        },
        signature={
            "inputs": [
                {
                    "name": "features",
                    "dtype": "float32",
                    "shape": [None, x.shape[1]],
                    "features": names,
                    "unit": "scaled",
                    "scaler": f"{name}.inputs",
                }
            ],
            "outputs": [output],
        },
        scalers=tuple(scalers),
        packages=("scikit-learn", "keras", "tensorflow-cpu", "h5py"),
        tolerance=TOLERANCE,
        tolerances={},
        rows="all",
        charts=(history_chart(name, request.target, "epoch", _loss_title(loss), points),),
    )


def fit_recurrent_network(series: Series, request: TrainingRequest, folder: Path, progress: Progress) -> FittedModel:
    """Fit one recurrent layer that reads a window of scaled rows and gives all steps of the horizon at once."""
    import numpy as np

    keras = _fresh_keras(request.seed)
    name = "recurrent_network"
    n_channels = len(series.encoding)
    x, y = series.train_windows()
    x = ((x - series.scaler.mean_) / series.scaler.scale_).astype("float32")
    y = ((y - series.scaler.mean_[0]) / series.scaler.scale_[0]).astype("float32")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataSetError("The numbers are too large or too small for the 32-bit numbers of a network.")
    network = keras.Sequential(
        [
            keras.Input((series.window, n_channels)),
            keras.layers.GRU(RECURRENT_UNITS),
            keras.layers.Dense(request.horizon),
        ],
        name=name,
    )
    loss = "mean_squared_error"
    network.compile(optimizer=keras.optimizers.Adam(RECURRENT_LEARNING_RATE), loss=loss)
    # The newest windows, and none that shares a forecast row with those that are learned from.
    n_validation = max(1, int(len(x) * VALIDATION_FRACTION))
    n_learned = max(1, len(x) - n_validation - (request.horizon - 1))
    rows_per_batch = batch_size(n_learned)
    validation = x[-n_validation:], y[-n_validation:]
    params = fit_network(network, x[:n_learned], y[:n_learned], validation, rows_per_batch, progress)
    points = params.pop("points")

    def predict(windows: np.ndarray) -> np.ndarray:
        given = ((windows - series.scaler.mean_) / series.scaler.scale_).astype("float32")
        found = network.predict(given, batch_size=PREDICT_ROWS, verbose=0).astype("float64")
        predicted: np.ndarray = found * series.scaler.scale_[0] + series.scaler.mean_[0]
        return predicted

    return FittedModel(
        class_name="keras.Sequential",
        predict=predict,
        files=_write(network, folder),
        encoding=series.encoding,
        params={
            "imputation": "previous row of the window, else median",
            "scaling": "standard",
            "recurrent_layer": "GRU",
            "recurrent_units": RECURRENT_UNITS,
            "optimizer": "adam",
            "learning_rate": RECURRENT_LEARNING_RATE,
            "loss": loss,
            "batch_size": rows_per_batch,
            "n_validation": n_validation,
            "n_weights": int(network.count_params()),
            "seed": request.seed,
            **params,
        },
        signature={
            "inputs": [
                {
                    "name": "window",
                    "dtype": "float32",
                    "shape": [None, series.window, n_channels],
                    "features": [entry["name"] for entry in series.encoding],
                    "unit": "scaled",
                    "scaler": f"{name}.inputs",
                }
            ],
            "outputs": [
                {
                    "name": request.target,
                    "dtype": "float32",
                    "shape": [None, request.horizon],
                    "unit": "scaled",
                    "scaler": f"{name}.target",
                }
            ],
        },
        scalers=series.scalers(name, applied_by="caller"),
        packages=("scikit-learn", "keras", "tensorflow-cpu", "h5py"),
        tolerance=RECURRENT_TOLERANCE,
        tolerances={},
        rows="all" if series.train_stride == 1 else "sample",
        charts=(history_chart(name, request.target, "epoch", _loss_title(loss), points),),
    )


def one_hot_encoding(train: pd.DataFrame, encoding: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Replace each text by a column of ones and zeros for every value of the training part, sorted."""
    inputs = [dict(entry) for entry in encoding if entry["kind"] != TEXT]
    for entry in encoding:
        if entry["kind"] == TEXT:
            values = sorted(train[entry["column"]].unique())
            inputs += [
                {"name": f"{entry['name']}={value}", "column": entry["column"], "kind": ONE_HOT, "value": value}
                for value in values
            ]
    return inputs


def _fresh_keras(seed: int) -> Any:
    # Its warning that .h5 is an old format, which is asked for.
    logging.getLogger("absl").setLevel(logging.ERROR)
    # Before TensorFlow loads: its banner would be an unstructured line in the log.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    # One process trains several models one after the other: each starts from the same state.
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return keras


def fit_network(
    network: Any,
    x: np.ndarray,
    y: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    rows_per_batch: int,
    progress: Progress,
) -> dict[str, Any]:
    """Fit until the loss on the validation part falls no more, and return what is told of it, with `points`."""
    import keras

    stopping = keras.callbacks.EarlyStopping(patience=PATIENCE_EPOCHS, restore_best_weights=True)
    history = network.fit(
        x,
        y,
        validation_data=validation,
        epochs=MOST_EPOCHS,
        batch_size=rows_per_batch,
        callbacks=[stopping, _progress_callback(progress, math.ceil(len(x) / rows_per_batch))],
        verbose=0,
    ).history
    losses = zip(history["loss"], history["val_loss"], strict=True)
    return {
        "max_epochs": MOST_EPOCHS,
        "epochs": len(history["loss"]),
        "early_stopping_patience": PATIENCE_EPOCHS,
        "points": [(epoch, float(loss), float(held_back)) for epoch, (loss, held_back) in enumerate(losses, 1)],
    }


def _fit_streamed(
    network: Any,
    batches: Callable[[int], Batches],
    n_rows: int,
    progress: Progress,
) -> dict[str, Any]:
    """Fit on batches that are read anew in every epoch; memory holds one piece of the tables."""
    points = []
    for epoch in range(1, STREAMED_EPOCHS + 1):
        network.reset_metrics()
        done, loss = 0, math.nan
        for rows, target in batches(epoch):
            loss = float(network.train_on_batch(rows, target))
            done += len(target)
            progress((epoch - 1 + min(1.0, done / n_rows)) / STREAMED_EPOCHS)
        points.append((epoch, loss, None))
        progress(epoch / STREAMED_EPOCHS, CurvePoint("epoch", epoch, STREAMED_EPOCHS, loss))
    return {"max_epochs": STREAMED_EPOCHS, "epochs": STREAMED_EPOCHS, "n_rows_learned_from": done, "points": points}


def _progress_callback(progress: Progress, steps: int) -> Any:
    import keras

    class Reporting(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        """Reports after every batch, and the losses after every epoch; whoever listens decides how often is enough."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del logs
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            del logs
            if batch + 1 < steps:
                progress((self.epoch + (batch + 1) / steps) / MOST_EPOCHS)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            point = CurvePoint("epoch", epoch + 1, MOST_EPOCHS, float(logs["loss"]), float(logs["val_loss"]))
            progress((epoch + 1) / MOST_EPOCHS, point)

    return Reporting()


def _write(network: Any, folder: Path) -> tuple[WrittenFile, ...]:
    keras_path, h5_path = folder / "model.keras", folder / "model.h5"
    network.save(keras_path)
    network.save(h5_path, include_optimizer=False)
    return tuple(
        WrittenFile(form, path, FORMATS[form].media_type, FORMATS[form].loads_code)
        for form, path in (("keras", keras_path), ("h5", h5_path))
    )


def _loss_title(loss: str) -> str:
    return {"mean_squared_error": "mean squared error, scaled"}.get(loss, "log loss")
