"""Keras models in legacy documents, real ones: the archive inside the pickle is the file that Keras wrote."""

import pickle
import zipfile
from io import BytesIO

import numpy as np
import pytest

from shared import legacy
from shared.models import Choice
from shared.records.documents import DocumentStatus
from shared.records.training import ModelStatus
from tests.factories import a_caller
from tests.hostile_hdf5 import HOSTILE
from tests.legacy_factories import LegacyBench, a_model_node
from tests.training_factories import an_hdf5_file

# Keras hands its tensors to numpy in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS = np.random.default_rng(3).normal(size=(32, 3)).astype("float32")


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.fixture(scope="module")
def network(keras):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
    network.compile("adam", "mse")
    return network


@pytest.fixture(scope="module")
def history(network):
    return network.fit(ROWS, ROWS[:, 0], epochs=1, verbose=0)


@pytest.fixture(scope="module")
def bench(network, history):
    bench = LegacyBench()
    bench.import_document(
        {
            "network": a_model_node(pickle.dumps(network), "Sequential"),
            "protocol 2": a_model_node(pickle.dumps(network, 2)),
            "history": a_model_node(pickle.dumps(history), "History"),
            "both": a_model_node(pickle.dumps({"first": network, "second": network})),
        }
    )
    bench.save()
    return bench


def content(bench, path, form):
    (file,) = [file for file in bench.by_path()[path].files if file.format == form]
    return bench.artifacts.content(file.object_name)


@pytest.mark.parametrize("path", ["network", '["protocol 2"]', "history$._model"])
def test_the_archive_in_a_pickle_is_a_keras_file_that_predicts_the_same(keras, bench, network, path, tmp_path):
    model = bench.by_path()[path]
    assert (model.status, model.framework) == (ModelStatus.READY, "keras")
    archive = content(bench, path, "keras")
    assert set(zipfile.ZipFile(BytesIO(archive)).namelist()) == {"metadata.json", "config.json", "model.weights.h5"}
    (tmp_path / "model.keras").write_bytes(archive)
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    assert np.allclose(loaded.predict(ROWS, verbose=0), network.predict(ROWS, verbose=0), atol=1e-6)


def test_a_keras_model_has_both_files(bench, network):
    model = bench.by_path()["network"]
    assert model.class_name == "keras.src.models.sequential.Sequential"
    assert [(file.format, file.loads_code) for file in model.files] == [("keras", False), ("h5", False), ("pkl", True)]
    assert content(bench, "network", "pkl")[:2] == b"\x80\x04"
    assert bench.models().download(a_caller(), "weather", Choice(framework="keras", form="keras")).url


def test_models_inside_something_else_are_models_of_their_own(bench):
    models = bench.by_path()
    assert models["history"].status is ModelStatus.UNSUPPORTED
    assert [file.format for file in models["history"].files] == ["pkl"]
    inner = {path: model for path, model in models.items() if "$" in path}
    assert len(inner) >= 2
    for path, model in inner.items():
        assert [file.format for file in model.files] == ["keras", "h5"]
        assert model.published["findings"][0]["code"] == "inner_model"
        assert model.published["findings"][0]["message"].endswith(path.partition("$")[0] + ".")


def test_models_inside_something_else_count_as_models(history, monkeypatch):
    monkeypatch.setattr(legacy, "MAX_MODELS", 1)
    bench = LegacyBench()
    bench.import_document({"history": a_model_node(pickle.dumps(history))})
    bench.save()
    (document,) = bench.listing().documents.values()
    assert document.status is DocumentStatus.REFUSED
    assert (document.detail["code"], document.detail["path"]) == ("too_much", "history$._model")
    assert bench.artifacts.names() == []


class Forged:
    """Pickles as a Keras model whose archive is another one."""

    def __init__(self, model_class, archive):
        self.model_class = model_class
        self.archive = archive

    def __reduce__(self):
        return self.model_class._unpickle_model, (BytesIO(self.archive),)


@pytest.fixture(scope="module")
def forged(keras):
    def make(**members):
        contents = {"metadata.json": "{}", "config.json": "{}", "model.weights.h5": "x"} | members
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return pickle.dumps(Forged(keras.Sequential, buffer.getvalue()))

    return make


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"config.json": '{"config": {"layers": [{"config": {"vocabulary": "/etc/passwd"}}]}}'}, "outside_reference"),
        ({"config.json": '{"config": {"layers": [{"class_name": "TFSMLayer"}]}}'}, "saved_model"),
        ({"model.weights.h5": bytes(1 << 20)}, "too_large"),
        ({"../escape": "x"}, "members"),
        ({"config.json": "nothing"}, "not_json"),
    ],
)
def test_a_hostile_archive_is_refused_and_the_rest_is_taken_in(forged, network, members, code):
    bench = LegacyBench()
    pickled = forged(**members)
    bench.import_document({"bad": a_model_node(pickled), "good": a_model_node(pickle.dumps(network))})
    bench.save()
    bad, good = bench.by_path()["bad"], bench.by_path()["good"]
    assert (bad.status, bad.files) == (ModelStatus.REFUSED, ())
    assert bad.status_detail.endswith(f"({code})")
    assert code in [finding["code"] for finding in bad.published["findings"]]
    assert good.status is ModelStatus.READY


@pytest.mark.parametrize(("build", "code", "where"), HOSTILE)
def test_an_archive_whose_weights_do_harm_is_refused_with_the_place_in_them(forged, build, code, where):
    bench = LegacyBench()
    bench.import_document({"bad": a_model_node(forged(**{"model.weights.h5": an_hdf5_file(build)}))})
    bench.save()
    bad = bench.by_path()["bad"]
    assert (bad.status, bad.files) == (ModelStatus.REFUSED, ())
    # The class that the document claims is told too.
    (finding,) = [one for one in bad.published["findings"] if one["code"] == code]
    # Of two names of one thing either may be met first.
    assert finding["where"] == f"$: model.weights.h5:{where}" or code == "link"
    assert bad.status_detail.endswith(f"({code})")
    assert bench.artifacts.names() == []


def test_a_network_with_code_in_it_is_flagged(keras):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)])
    bench = LegacyBench()
    bench.import_document({"m": a_model_node(pickle.dumps(network))})
    bench.save()
    model = bench.by_path()["m"]
    assert [(file.format, file.loads_code) for file in model.files] == [("keras", True), ("pkl", True)]
    assert "lambda" in [finding["code"] for finding in model.published["findings"]]
