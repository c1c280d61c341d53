"""The old HDF5 form of Keras networks, written without Keras and read by Keras."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from shared.adapters.keras_h5 import H5pyConverter
from tests.hostile_hdf5 import HOSTILE

CONVERTER = H5pyConverter()
# Keras hands its tensors to numpy in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.fixture(scope="module")
def networks(keras):
    layers = keras.layers
    first, second = keras.Input((8, 3)), keras.Input((2,), name="second")
    inner = layers.GRU(3, use_bias=False)(layers.LSTM(4, return_sequences=True, dropout=0.1)(first))
    inner = layers.Dense(2, "relu", use_bias=False)(layers.Dropout(0.1)(layers.BatchNormalization(scale=False)(inner)))
    joined = layers.Dense(1)(layers.Concatenate()([inner, second]))
    return {
        "dense": keras.Sequential(
            [keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(4, keras.activations.gelu), layers.Dense(1)]
        ),
        "branches": keras.Model([first, second], joined),
        "images": keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(3, 2, activation="relu"),
                layers.BatchNormalization(),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.LayerNormalization(),
                layers.Dense(2, "softmax"),
            ]
        ),
        "words": keras.Sequential(
            [keras.Input((5,)), layers.Embedding(10, 3), layers.SimpleRNN(2), layers.PReLU(), layers.Dense(1)]
        ),
    }


def archive_of(network, tmp_path):
    path = tmp_path / "model.keras"
    network.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["dense", "branches", "images", "words"])
def test_keras_reads_it_and_predicts_the_same(keras, networks, tmp_path, name):
    network = networks[name]
    # Fresh weights are zeros and ones in many places; these would show a mistaken order.
    chance = np.random.default_rng(1)
    network.set_weights([chance.uniform(0.1, 1, weight.shape) for weight in network.get_weights()])
    h5 = CONVERTER.to_h5(archive_of(network, tmp_path))
    (tmp_path / "model.h5").write_bytes(h5)
    loaded = keras.saving.load_model(tmp_path / "model.h5", safe_mode=True, compile=False)
    inputs = [chance.uniform(0, 9, (4, *one.shape[1:])).astype("float32") for one in network.inputs]
    expected = network.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    assert np.array_equal(loaded.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0), expected)


def test_the_same_archive_gives_the_same_bytes(networks, tmp_path):
    archive = archive_of(networks["dense"], tmp_path)
    assert CONVERTER.to_h5(archive) == CONVERTER.to_h5(archive)


def test_a_network_of_other_layers_is_left_to_keras(keras, tmp_path):
    layers = keras.layers
    for layer in (layers.Bidirectional(layers.LSTM(2)), layers.TimeDistributed(layers.Dense(2))):
        assert CONVERTER.to_h5(archive_of(keras.Sequential([keras.Input((4, 3)), layer]), tmp_path)) is None
    nested = keras.Sequential([keras.Input((3,)), keras.Sequential([keras.Input((3,)), layers.Dense(1)])])
    assert CONVERTER.to_h5(archive_of(nested, tmp_path)) is None


def forged(archive, change):
    """Return an archive whose weights were changed."""
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        contents = {name: members.read(name) for name in members.namelist()}
    weights = io.BytesIO(contents["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        change(file)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as members:
        for name, content in (contents | {"model.weights.h5": weights.getvalue()}).items():
            members.writestr(name, content)
    return buffer.getvalue()


def replace_kernel(**options):
    def change(file):
        group = file["layers/dense/vars"]
        del group["0"]
        group.create_dataset("0", (3, 4), "float32", **options)

    return change


def link(target):
    def change(file):
        group = file["layers/dense/vars"]
        del group["0"]
        group["0"] = target

    return change


def make_virtual(file):
    layout = h5py.VirtualLayout((3, 4), "float32")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 4))
    group = file["layers/dense/vars"]
    del group["0"]
    group.create_virtual_dataset("0", layout)


@pytest.mark.parametrize(
    "change",
    [
        replace_kernel(external=[("/etc/passwd", 0, 48)]),
        replace_kernel(chunks=(1, 4), compression="gzip"),
        # Never written: a few bytes that would become many.
        replace_kernel(),
        link(h5py.SoftLink("/layers/dense_1/vars/0")),
        link(h5py.ExternalLink("/etc/passwd", "/x")),
        make_virtual,
        lambda file: file.create_group("extra"),
        lambda file: file["layers/dense"].create_group("inner"),
    ],
)
def test_weights_that_lie_elsewhere_or_appear_from_nothing_are_not_read(networks, tmp_path, change):
    archive = archive_of(networks["dense"], tmp_path)
    assert CONVERTER.to_h5(forged(archive, lambda _: None)) is not None
    assert CONVERTER.to_h5(forged(archive, change)) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing"])
def test_what_is_no_archive_is_not_converted(content):
    assert CONVERTER.to_h5(content) is None


@pytest.mark.parametrize(
    "config", [{}, [], {"class_name": "Sequential"}, {"class_name": "Sequential", "config": {"layers": 3}}]
)
def test_an_odd_configuration_is_not_converted(config):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as members:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            members.writestr(name, json.dumps(config) if name == "config.json" else "{}")
    assert CONVERTER.to_h5(buffer.getvalue()) is None


@pytest.mark.parametrize("build", [build for build, _, _ in HOSTILE])
def test_weights_that_must_not_be_loaded_are_not_converted_whatever_part_of_them_is_needed(networks, tmp_path, build):
    networks["dense"].save(tmp_path / "model.keras")
    content = (tmp_path / "model.keras").read_bytes()
    assert CONVERTER.to_h5(content) is not None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        file.pop("optimizer", None)
        build(file.create_group("optimizer"))
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as archive:
        for name, member in (members | {"model.weights.h5": weights.getvalue()}).items():
            archive.writestr(name, member)
    assert CONVERTER.to_h5(changed.getvalue()) is None
