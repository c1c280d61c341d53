"""Every kind of hostile model in one legacy document, on the real stack: each is told, and the rest is kept."""

import io
import json
import pickle
import zipfile

import pytest
from sklearn.linear_model import LinearRegression

from tests.functional.conftest import Client, done, refused
from tests.hostile_pickles import PROTO_4, hostile_pickles, text
from tests.legacy_factories import a_model_node
from tests.pickled_models import NUMBERS, ROWS
from tests.training_factories import a_zip

LINEAR = pickle.dumps(LinearRegression().fit(ROWS, NUMBERS))
# It holds a scaler, whose lists are described no further than the budget goes; there is nothing hostile in its use.
HARMLESS = "billion laughs"


def a_keras_pickle(**members: str | bytes) -> bytes:
    """Write what Keras 3 writes when it is pickled, around an archive of these members."""
    contents = {"metadata.json": "{}", "config.json": "{}", "model.weights.h5": "x"} | members
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
