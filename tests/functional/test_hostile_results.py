"""Every kind of hostile model on the real stack, in a legacy document and published: each is told, the rest is kept."""

import hashlib
import io
import json
import pickle
import uuid
import zipfile

import pytest
from sklearn.linear_model import LinearRegression

from shared.publication import run_prefix
from tests.functional.conftest import Client, done, refused
from tests.hostile_hdf5 import HOSTILE
from tests.hostile_pickles import PROTO_4, hostile_pickles, text
from tests.legacy_factories import a_model_node
from tests.pickled_models import NUMBERS, ROWS
from tests.training_factories import (
    a_keras_archive,
    a_zip,
    an_hdf5_file,
    another_trainers_manifest,
    publish_manifest,
)

LINEAR = pickle.dumps(LinearRegression().fit(ROWS, NUMBERS))
# It holds a scaler, whose lists are described no further than the budget goes; there is nothing hostile in its use.
HARMLESS = "billion laughs"


def a_keras_pickle(**members: str | bytes) -> bytes:
    """Write what Keras 3 writes when it is pickled, around an archive of these members."""
    contents = {"metadata.json": "{}", "config.json": "{}", "model.weights.h5": an_hdf5_file()} | members
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    content = buffer.getvalue()
    loader = text("builtins") + text("getattr") + b"\x93"
    loader += text("keras.src.models.sequential") + text("Sequential") + b"\x93" + text("_unpickle_model") + b"\x86R"
    wrapped = text("_io") + text("BytesIO") + b"\x93)\x81B" + len(content).to_bytes(4, "little") + content
    return PROTO_4 + loader + wrapped + b"K\x00N\x87b\x85R."


def a_layer(**layer: object) -> bytes:
    return a_keras_pickle(**{"config.json": json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}})})


NETWORKS = {
    "vocabulary": (a_layer(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}), "outside_reference"),
    "TFSMLayer": (a_layer(class_name="TFSMLayer", config={"filepath": "x"}), "saved_model"),
    "zip bomb": (a_keras_pickle(**{"model.weights.h5": bytes(4 << 20)}), "too_large"),
    "parent folder": (a_keras_pickle(**{"../escape": "x"}), "members"),
    "absolute path": (a_keras_pickle(**{"/etc/escape": "x"}), "members"),
    "no configuration": (a_keras_pickle(**{"config.json": "nothing"}), "not_json"),
    "no weights": (a_keras_pickle(**{"model.weights.h5": "x"}), "not_hdf5"),
    "a name of a program's": (
        a_layer(class_name="TFSMLayer", config={"a\0b": {"class_name": "TFSMLayer", "half": "\ud800"}}),
        "saved_model",
    ),
    **{
        f"HDF5 {build.__name__}": (a_keras_pickle(**{"model.weights.h5": an_hdf5_file(build)}), code)
        for build, code, _ in HOSTILE
    },
}
NODES = {
    **{f"pickle: {name}": a_model_node(content) for name, content in hostile_pickles().items() if name != HARMLESS},
    **{f"network: {name}": a_model_node(content) for name, (content, _) in NETWORKS.items()},
    "a pickle in a zip": a_model_node(a_zip("model.pkl")),
    "cut short": a_model_node(LINEAR[:-20]),
    "garbage": a_model_node(LINEAR) | {"_model_data": "gASV!!!!"},
    "no data": {"_model_type": "serialized_model"},
}
LAMBDA = a_layer(class_name="Lambda", config={"function": {"class_name": "__lambda__", "config": {"value": "x"}}})


@pytest.fixture
def models(alice: Client, buckets, local_stack) -> dict[str, dict]:
    session = alice.init()
    document = {
        "before": a_model_node(LINEAR, "LinearRegression"),
        **NODES,
        "claimed": a_model_node(LINEAR, "keras.Sequential"),
        "lambda": a_model_node(LAMBDA),
        "laughs": a_model_node(hostile_pickles()[HARMLESS]),
        "after": a_model_node(LINEAR),
    }
    name = f"results/{session['uuid']}/legacy.json"
    content = json.dumps(document)[:-1] + ', "numbers": {"rmse": NaN}, "twice": 1, "twice": 2}'
    buckets.artifacts.write(name, content.encode(), "application/json")
    local_stack.database.call(
        "import_legacy_results_v1", owner=alice.caller.user_id, session_id="weather", document=None, object=name
    )
    done(alice.post("/save-model/weather"))
    listed = done(alice.get("/list-models-database/weather"))
    (read,) = listed["documents"]
    assert read["status"] == "read"
    assert {finding["code"] for finding in read["detail"]["findings"]} >= {"duplicate_key", "not_a_number"}
    # A path of one key that is no plain word is that key in brackets, as JSON.
    names = [model["path"] for model in listed["models"]]
    plain = [json.loads(name)[0] if name.startswith("[") else name for name in names]
    return dict(zip(plain, listed["models"], strict=True))


def test_a_document_of_hostile_models_leaves_each_with_its_reason_and_the_good_ones_ready(models, alice):
    assert set(models) == {"before", "after", "claimed", "lambda", "laughs", *NODES}
    statuses = {name: model["status"] for name, model in models.items()}
    ready = {name for name, status in statuses.items() if status == "ready"}
    assert ready == {"before", "after", "claimed", "lambda", "laughs"}
    for name in NODES:
        assert statuses[name] in {"refused", "unsupported"}, name
        assert models[name]["status_detail"], name
        if statuses[name] == "refused":
            details = refused(
                alice.get("/download-model-h5/weather", query_string={"path": models[name]["path"], "format": "pkl"}),
                409,
                "model_unavailable",
            )
            assert details["available"] == []
            assert details["reason"] == models[name]["status_detail"]
    for name, (_, code) in NETWORKS.items():
        assert models[f"network: {name}"]["status_detail"].endswith(f"({code})"), name
    assert "class_mismatch" in [finding["code"] for finding in models["claimed"]["findings"]]
    assert [file["loads_code"] for file in models["lambda"]["formats"] if file["format"] == "keras"] == [True]
    done(alice.post("/session/weather/delete"))


def test_published_networks_that_do_harm_are_refused_each_with_what_and_where_and_the_good_ones_are_ready(
    alice: Client, buckets
):
    session = alice.init()
    document = another_trainers_manifest(session["uuid"], str(uuid.uuid4()))
    prefix = run_prefix(session["uuid"], document["run_id"])
    files = {f"h5-{build.__name__}": ("h5", an_hdf5_file(build), where) for build, _, where in HOSTILE}
    files |= {
        f"keras-{build.__name__}": ("keras", a_keras_archive(**{"model.weights.h5": an_hdf5_file(build)}), where)
        for build, _, where in HOSTILE
    }
    files |= {"h5-good": ("h5", an_hdf5_file(), ""), "keras-good": ("keras", a_keras_archive(), "")}
    for name, (form, content, _) in files.items():
        stored = buckets.artifacts.write(f"{prefix}{name}/model.{form}", content, "application/octet-stream")
        file = {
            "format": form,
            "object": stored.name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "media_type": "application/octet-stream",
        }
        document["models"].append(document["models"][0] | {"name": name, "framework": "keras", "files": [file]})
    publish_manifest(buckets.artifacts, document)
    saved = done(alice.post("/save-model/weather"))
    assert {model["name"] for model in saved["models"]} == {"gradient_boosting", "h5-good", "keras-good"}
    listed = {model["name"]: model for model in done(alice.get("/list-models-database/weather"))["models"]}
    assert set(listed) == {"gradient_boosting", *files}
    codes = {f"{form}-{build.__name__}": code for build, code, _ in HOSTILE for form in ("h5", "keras")}
    for name, code in codes.items():
        assert listed[name]["status"] == "refused", name
        assert listed[name]["status_detail"].endswith(f"({code})"), name
        assert [finding["code"] for finding in listed[name]["findings"]] == [code], name
        # Of two names of one thing either may be met first.
        assert files[name][2] in listed[name]["findings"][0]["where"] or code == "link", name
    details = refused(
        alice.get("/download-model-h5/weather", query_string={"name": "h5-external", "format": "h5"}),
        409,
        "model_unavailable",
    )
    assert details["available"] == []
    assert "external_dataset" in details["reason"]
    done(alice.post("/session/weather/delete"))
