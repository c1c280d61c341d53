"""Networks of the kinds that people have, converted by Keras itself: the .h5 predicts what the archive predicts.

One process converts them all, so that TensorFlow is loaded once; the look at the file and the confinement are the real
ones, only the limits of the operating system are left out. What h5py can write is sent this way too: Keras must do as
well for whatever a later Keras writes otherwise.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.adapters.keras_h5 import H5pyConverter
from shared.keras_files import KerasFiles
from tests.fakes.hdf5 import Hdf5InProcess

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

KINDS = (
    "dense",
    "convolution",
    "convolution in one dimension",
    "separable convolution",
    "recurrent",
    "gated",
    "bidirectional",
    "same layer at each step",
    "several inputs",
    "several outputs",
    "shared layer",
    "skipped connection",
    "nested",
    "nested functional",
    "normalized",
    "words",
    "attention",
    "compiled",
)
# Only Keras writes these.
LEFT_TO_KERAS = {
    "separable convolution",
    "bidirectional",
    "same layer at each step",
    "nested",
    "nested functional",
    "attention",
}
# Converts folders one after the other; the hook that confines a process stays, so it may read all of them.
PROGRAM = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from shared.adapters import keras_conversion

import keras

root, *names = sys.argv[1:]
acts = keras_conversion._confine(Path(root))
keras_conversion._confine = lambda folder: acts
for name in names:
    folder = Path(root) / name
    verdict = keras_conversion._with_keras(folder / "model.keras", folder / "model.h5")
    print(json.dumps(asdict(verdict)), flush=True)
"""


def networks(keras):
    """Build one network of each kind."""
    layers = keras.layers
    first, second = keras.Input((4, 3), name="first"), keras.Input((2,), name="second")
    joined = layers.Concatenate()([layers.GRU(3)(first), layers.Dense(3, "relu")(second)])
    flat = keras.Input((3,))
    hidden = layers.Dense(4, "relu")(flat)

    def skipped_connection(name):
        given = keras.Input((3,))
        wide = layers.Dense(4, "relu")(given)
        return keras.Model(given, layers.Add()([wide, layers.Dense(4)(wide)]), name=name)

    shared = layers.Dense(2, name="shared")
    one, other = keras.Input((3,), name="one"), keras.Input((3,), name="other")
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.BatchNormalization()], name="inner")
    part = skipped_connection("part")
    again = keras.Input((3,))
    steps = keras.Input((4, 3))
    compiled = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dense(1)])
    # The short names are those that Keras cannot read back from a .h5 by itself.
    compiled.compile(optimizer="adam", loss="mse", metrics=["mae"])
    compiled.fit(np.ones((8, 3)), np.ones(8), verbose=0)
    return {
        "dense": keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dropout(0.1), layers.Dense(1)]),
        "convolution": keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(4, 3, activation="relu", padding="same"),
                layers.BatchNormalization(),
                layers.MaxPooling2D(),
                layers.Conv2D(2, 3),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2, "softmax"),
            ]
        ),
        "convolution in one dimension": keras.Sequential(
            [keras.Input((8, 3)), layers.Conv1D(4, 3, padding="causal"), layers.GlobalMaxPooling1D(), layers.Dense(1)]
        ),
        "separable convolution": keras.Sequential(
            [keras.Input((8, 8, 2)), layers.SeparableConv2D(3, 3), layers.DepthwiseConv2D(2), layers.Flatten()]
        ),
        "recurrent": keras.Sequential(
            [keras.Input((4, 3)), layers.LSTM(4, return_sequences=True), layers.LSTM(3), layers.Dense(1)]
        ),
        "gated": keras.Sequential([keras.Input((4, 3)), layers.GRU(4, reset_after=False), layers.Dense(1)]),
        "bidirectional": keras.Sequential([keras.Input((4, 3)), layers.Bidirectional(layers.LSTM(4)), layers.Dense(1)]),
        "same layer at each step": keras.Sequential([keras.Input((4, 3)), layers.TimeDistributed(layers.Dense(2))]),
        "several inputs": keras.Model([first, second], layers.Dense(1)(joined)),
        "several outputs": keras.Model(flat, [layers.Dense(1, name="mean")(hidden), layers.Dense(2, name="p")(hidden)]),
        "shared layer": keras.Model([one, other], layers.Subtract()([shared(one), shared(other)])),
        "skipped connection": skipped_connection("whole"),
        "nested": keras.Sequential([keras.Input((3,)), inner, layers.Dense(1)]),
        "nested functional": keras.Model(again, layers.Dense(1)(part(again))),
        "normalized": keras.Sequential(
            [keras.Input((5,)), layers.BatchNormalization(), layers.LayerNormalization(), layers.Dense(1)]
        ),
        "words": keras.Sequential(
            [keras.Input((5,)), layers.Embedding(10, 4), layers.LSTM(3), layers.Dense(1, "sigmoid")]
        ),
        "attention": keras.Model(steps, layers.Dense(1)(layers.MultiHeadAttention(2, 3)(steps, steps))),
        "compiled": compiled,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def built(folder):
    import keras

    keras.utils.set_random_seed(1)
    made = networks(keras)
    chance = np.random.default_rng(1)
    for name, network in made.items():
        # Fresh weights are zeros and ones in many places; these would show a mistaken order.
        network.set_weights([chance.uniform(0.1, 1, weight.shape) for weight in network.get_weights()])
        (folder / name).mkdir()
        network.save(folder / name / "model.keras")
    return made


@pytest.fixture(scope="module")
def verdicts(folder, built):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *built],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(built, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_what_keras_writes_of_a_network_predicts_the_same(built, verdicts, folder, name):
    import keras

    assert verdicts[name] == {"status": "converted", "detail": None, "finding": None}
    loaded = keras.saving.load_model(folder / name / "model.h5", compile=False, safe_mode=True)
    network, chance = built[name], np.random.default_rng(2)
    inputs = [chance.uniform(0, 9, (4, *one.shape[1:])).astype("float32") for one in network.inputs]
    given = inputs if len(inputs) > 1 else inputs[0]
    expected, found = network.predict(given, verbose=0), loaded.predict(given, verbose=0)
    is_many = isinstance(expected, list)
    assert len(expected if is_many else [expected]) == len(network.outputs)
    for one, same in zip(expected if is_many else [expected], found if is_many else [found], strict=True):
        assert np.array_equal(one, same)


@pytest.mark.parametrize("name", KINDS)
def test_which_kinds_need_keras(built, folder, name):
    content = (folder / name / "model.keras").read_bytes()
    assert (H5pyConverter().to_h5(content) is None) is (name in LEFT_TO_KERAS)


@pytest.mark.parametrize("name", KINDS)
def test_no_kind_is_refused_when_it_is_taken_in(built, folder, name):
    files = KerasFiles(Hdf5InProcess())
    built[name].save(folder / name / "own.h5")
    with (folder / name / "model.keras").open("rb") as archive, (folder / name / "own.h5").open("rb") as h5:
        reports = [files.archive(archive), files.h5(h5)]
    assert [(report.class_name, report.findings) for report in reports] == [(type(built[name]).__name__, ())] * 2


def test_networks_whose_weights_or_assets_are_of_other_kinds_are_not_refused(tmp_path):
    import keras

    layers = keras.layers
    words = layers.TextVectorization(max_tokens=9, output_sequence_length=4)
    words.adapt(["one two", "two / three"])
    scaled = layers.Normalization()
    scaled.adapt(np.ones((4, 3)))
    small = keras.Sequential([keras.Input((3,)), scaled, layers.Dense(2, dtype="bfloat16"), layers.Dropout(0.5)])
    network = keras.Sequential([keras.Input((1,), dtype="string"), words, layers.Embedding(9, 2), layers.Flatten()])
    files = KerasFiles(Hdf5InProcess())
    for name, one in (("small", small), ("words", network)):
        one.save(tmp_path / f"{name}.keras")
        one.save_weights(tmp_path / f"{name}.weights.h5")
        with (tmp_path / f"{name}.keras").open("rb") as file:
            assert files.archive(file, may_have_assets=True).findings == ()
        with (tmp_path / f"{name}.weights.h5").open("rb") as file:
            assert files.h5(file).findings == ()


def test_every_kind_is_tried(built):
    assert tuple(built) == KINDS
