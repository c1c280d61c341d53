"""`KerasConverter` on h5py alone: the old HDF5 form of plain Keras 3 networks, without Keras and TensorFlow.

A `.keras` archive holds the configuration and, in `model.weights.h5`, the weights of each layer by number. The old form
holds the same configuration in an older spelling, and the same weights by name. Layers outside the lists below keep
their weights in other ways, so a network with one of them is left to Keras.

Source:
    keras/src/legacy/saving/legacy_h5_format.py and keras/src/saving/saving_lib.py of Keras 3.15; research/models.md,
    section 5 (E10).
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from shared.adapters.keras_weights import inspect_weights

# [bytes] of all names of layers; an attribute of fixed length has room for 64 KiB in an object's header.
_MAX_NAME_BYTES = 60_000
# For each kind of layer the names of its weights, in the order in which Keras numbers them.
_CELL_WEIGHTS = ("kernel", "recurrent_kernel", "bias")
_WEIGHTS: Mapping[str, Sequence[str]] = {
    "Dense": ("kernel", "bias"),
    "Conv1D": ("kernel", "bias"),
    "Conv2D": ("kernel", "bias"),
    "Conv3D": ("kernel", "bias"),
    "Conv1DTranspose": ("kernel", "bias"),
    "Conv2DTranspose": ("kernel", "bias"),
    "DepthwiseConv1D": ("kernel", "bias"),
    "DepthwiseConv2D": ("kernel", "bias"),
    "Embedding": ("embeddings",),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": ("gamma", "beta"),
    "PReLU": ("alpha",),
}
_CELLS: Mapping[str, str] = {"LSTM": "lstm_cell", "GRU": "gru_cell", "SimpleRNN": "simple_rnn_cell"}
_WITHOUT_WEIGHTS = frozenset(
    [
        "InputLayer",
        "Activation",
        "ReLU",
        "LeakyReLU",
        "ELU",
        "Softmax",
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "GaussianNoise",
        "GaussianDropout",
        "Flatten",
        "Reshape",
        "Permute",
        "RepeatVector",
        "Masking",
        "Concatenate",
        "Add",
        "Subtract",
        "Multiply",
        "Average",
        "Maximum",
        "Minimum",
        "Dot",
        "MaxPooling1D",
        "MaxPooling2D",
        "MaxPooling3D",
        "AveragePooling1D",
        "AveragePooling2D",
        "AveragePooling3D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "ZeroPadding1D",
        "ZeroPadding2D",
        "Cropping1D",
        "Cropping2D",
        "UpSampling1D",
        "UpSampling2D",
    ]
)
# Members of a configuration that the old spelling does not have; of layers also where they come from.
_NEW_MEMBERS = frozenset({"build_config", "compile_config", "shared_object_id"})
_NEW_LAYER_MEMBERS = _NEW_MEMBERS | {"module", "registered_name"}
# Nested lists and objects of a configuration; a layer's activation may be an object in an object.
_MAX_DEPTH = 60


class H5pyConverter:
    """Writes what it can, and says nothing of the rest."""

    def to_h5(self, archive: bytes) -> bytes | None:
        """Return the HDF5 file of a `.keras` archive, or None if that takes Keras or its weights must not be loaded."""
        try:
            with zipfile.ZipFile(io.BytesIO(archive)) as members:
                config = json.loads(members.read("config.json"))
                metadata = json.loads(members.read("metadata.json"))
                weights = members.read("model.weights.h5")
            if inspect_weights(io.BytesIO(weights), len(weights)) is not None:
                return None
            return _convert(config, str(metadata.get("keras_version", "3")), weights)
        except _NotPlainError:
            return None
        # What h5py raises for broken files, and what odd configurations do to plain code: none of it is a network.
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error):
            return None


class _NotPlainError(Exception):
    """Only Keras can do this."""


def _convert(config: Mapping[str, Any], keras_version: str, weights: bytes) -> bytes:
    import h5py

    if config["class_name"] not in {"Sequential", "Functional"}:
        raise _NotPlainError
    layers = config["config"]["layers"]
    names = [layer["config"]["name"] for layer in layers]
    if len(set(names)) != len(names) or sum(len(name.encode()) for name in names) > _MAX_NAME_BYTES:
        raise _NotPlainError
    # A name is the name of a group, and none may lead elsewhere.
    if any("/" in name or name in {"", ".", "..", "top_level_model_weights"} for name in names):
        raise _NotPlainError
    old = {"class_name": config["class_name"], "config": _old_config(config["config"])}
    written = io.BytesIO()
    with h5py.File(io.BytesIO(weights), "r") as source, h5py.File(written, "w") as target:
        stored = _Weights(source, len(weights))
        target.attrs["model_config"] = json.dumps(old).encode()
        target.attrs["backend"] = b"tensorflow"
        target.attrs["keras_version"] = keras_version.encode()
        group = target.create_group("model_weights")
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = keras_version.encode()
        group.attrs["layer_names"] = [name.encode() for name in names]
        for layer, name in zip(layers, names, strict=True):
            _write_layer(group.create_group(name), _weight_names(layer, name), stored.of(name))
        group.create_group("top_level_model_weights").attrs["weight_names"] = []
    return written.getvalue()


def _weight_names(layer: Mapping[str, Any], name: str) -> Sequence[str]:
    """Return the names of a layer's weights, all that there may be."""
    kind = layer["class_name"]
    if kind in _CELLS:
        return [f"{name}/{_CELLS[kind]}/{one}" for one in _CELL_WEIGHTS]
    if kind in _WEIGHTS:
        settings = layer["config"]
        # A layer can be told to do without some of its weights.
        left_out = {"gamma": "scale", "beta": "center", "bias": "use_bias"}
        return [f"{name}/{one}" for one in _WEIGHTS[kind] if settings.get(left_out.get(one, ""), True)]
    if kind in _WITHOUT_WEIGHTS:
        return []
    raise _NotPlainError


def _write_layer(group: Any, weight_names: Sequence[str], weights: Sequence[Any]) -> None:
    names = list(weight_names)
    if names and names[0].count("/") == 2 and len(weights) == len(names) - 1:
        # A cell without a bias.
        names.pop()
    if len(names) != len(weights):
        raise _NotPlainError
    group.attrs["weight_names"] = [one.encode() for one in names]
    for one, value in zip(names, weights, strict=True):
        group.create_dataset(one, data=value)


class _Weights:
    """The weights of a `model.weights.h5`, by the names of their layers."""

    def __init__(self, file: Any, n_bytes: int) -> None:
        self._room = n_bytes
        self._of: dict[str, Sequence[Any]] = {}
        # The old form has room for an optimizer's state too; nobody who predicts needs it.
        if set(file) - {"layers", "vars", "optimizer"} or ("vars" in file and len(_group(file, "vars"))):
            raise _NotPlainError
        layers = _group(file, "layers")
        for key in layers:
            layer = _group(layers, key)
            if set(layer) - {"vars", "cell", "seed_generator"}:
                raise _NotPlainError
            own = _group(layer, "vars")
            name = own.attrs["name"]
            values = self._read(own)
            if "cell" in layer:
                cell = _group(layer, "cell")
                if set(cell) - {"vars", "seed_generator"}:
                    raise _NotPlainError
                values += self._read(_group(cell, "vars"))
            if name in self._of:
                raise _NotPlainError
            self._of[name] = values

    def of(self, name: str) -> Sequence[Any]:
        """Return the weights of a layer, none if it has none."""
        return self._of.get(name, ())

    def _read(self, group: Any) -> list[Any]:
        values = []
        for number in range(len(group)):
            dataset = _linked(group, str(number))
            # Bytes that are not in this file, or that appear by unpacking or by default.
            if (
                dataset.is_virtual
                or dataset.external
                or dataset.chunks is not None
                or dataset.dtype.kind not in "fiub"
                or dataset.id.get_storage_size() != dataset.nbytes
            ):
                raise _NotPlainError
            # The same bytes could be claimed by many.
            self._room -= dataset.nbytes
            if self._room < 0:
                raise _NotPlainError
            values.append(dataset[()])
        return values


def _group(parent: Any, name: str) -> Any:
    import h5py

    group = _linked(parent, name)
    if not isinstance(group, h5py.Group):
        raise _NotPlainError
    return group


def _linked(parent: Any, name: str) -> Any:
    """Return a member that lies in this file: links to elsewhere are not followed."""
    import h5py

    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise _NotPlainError
    return parent[name]


def _old_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a network in the old spelling."""
    old = {key: _without(value, _NEW_MEMBERS, 0) for key, value in config.items() if key not in _NEW_MEMBERS}
    old["layers"] = [
        {key: value for key, value in one.items() if key not in _NEW_LAYER_MEMBERS} for one in old["layers"]
    ]
    return old


def _without(value: Any, members: frozenset[str], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise _NotPlainError
    if isinstance(value, dict):
        return {key: _without(one, members, depth + 1) for key, one in value.items() if key not in members}
    if isinstance(value, list):
        return [_without(one, members, depth + 1) for one in value]
    return value
