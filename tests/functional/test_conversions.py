"""Keras models that only Keras can write as .h5: asked for, converted by the queue's function, downloaded."""

import hashlib
import io
import json
import pickle
import time
import uuid
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from shared.records.objects import conversions_prefix, models_prefix
from tests.functional.conftest import done, refused
from tests.legacy_factories import a_model_node

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS = np.random.default_rng(3).normal(size=(6, 5, 3)).astype("float32")
# Of one conversion on a machine that does much else; TensorFlow alone is loaded for half a minute then.
PATIENCE_S = 400


@pytest.fixture(scope="module")
def network():
    return keras.Sequential([keras.Input((5, 3)), layers.Bidirectional(layers.LSTM(4)), layers.Dense(1)])


@pytest.fixture(scope="module")
def archive(network, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("networks") / "net.keras"
    network.save(path)
    return path.read_bytes()


def publish(client, buckets, session, archive: bytes) -> str:
    """Publish a run with one Keras model as a team's trainer does; return the run's id."""
    run_id = str(uuid.uuid4())
    prefix = f"results/{session['uuid']}/{run_id}/"
    buckets.artifacts.write(f"{prefix}net.keras", archive, "application/zip")
    file = {
        "format": "keras",
        "object": f"{prefix}net.keras",
        "bytes": len(archive),
        "sha256": hashlib.sha256(archive).hexdigest(),
        "media_type": "application/zip",
    }
    model = {"name": "net", "class": "keras.Sequential", "framework": "keras", "status": "completed", "files": [file]}
    manifest = {
        "schema_version": 1,
        "run_id": run_id,
        "session_uuid": session["uuid"],
        "status": "completed",
        "models": [model],
        "scalers": [],
        "tables": [],
        "charts": [],
    }
    buckets.artifacts.write(f"{prefix}manifest.json", json.dumps(manifest).encode(), "application/json")
    done(client.post("/save-model/weather"))
    return run_id


def ended(client, query="format=h5"):
    """Ask for a file until it is there or refused; return the last answer."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        answer = client.get(f"/download-model-h5/weather?{query}")
        if answer.status_code != 202:
            return answer
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json["data"]["status"] == "pending"
        time.sleep(1)
    pytest.fail("The conversion does not end.")


def with_members(archive: bytes, **members: bytes) -> bytes:
    """Return a .keras archive with other contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.replace(".", "_"), old.read(name)))
    return buffer.getvalue()


def test_a_network_that_only_keras_can_write_is_converted_when_it_is_asked_for(
    alice, buckets, http, network, archive, tmp_path
):
    session = alice.init()
    run_id = publish(alice, buckets, session, archive)
    (model,) = done(alice.get("/list-models-database/weather"))["models"]
    assert (model["status"], model["conversion"], model["version"]) == ("ready", None, 1)
    assert alice.get("/download-model-h5/weather?format=keras").status_code == 302

    first = alice.get("/download-model-h5/weather?type=keras")
    assert first.status_code == 202
    assert {alice.get("/download-model-h5/weather").status_code for _ in range(3)} <= {202, 302}
    assert done(alice.get("/list-models-database/weather"))["models"][0]["conversion"]["status"] == "pending"
    answer = ended(alice, "type=keras")
    assert answer.status_code == 302
    content = http.get(answer.headers["Location"]).content
    (tmp_path / "net.h5").write_bytes(content)
    loaded = keras.saving.load_model(tmp_path / "net.h5", compile=False)
    assert np.array_equal(loaded.predict(ROWS, verbose=0), network.predict(ROWS, verbose=0))

    (model,) = done(alice.get("/list-models-database/weather"))["models"]
    assert (model["run_id"], model["conversion"]["status"], model["version"]) == (run_id, "ready", 1)
    h5 = next(file for file in model["formats"] if file["format"] == "h5")
    assert (h5["size"], h5["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert buckets.artifacts.list(conversions_prefix(session["uuid"])) == []
    assert len(buckets.artifacts.list(models_prefix(session["uuid"]))) == 1

    assert done(alice.post("/session/weather/delete"))["files_deleted"] == 3
    assert buckets.artifacts.list(models_prefix(session["uuid"])) == []


def test_a_legacy_network_that_only_keras_can_write_is_converted(alice, http, local_stack, network):
    alice.init()
    document = {"net": a_model_node(pickle.dumps(network), "Sequential")}
    local_stack.database.call(
        "import_legacy_results_v1",
        owner=alice.caller.user_id, session_id="weather", document=document, object=None,
    )  # fmt: skip
    done(alice.post("/save-model/weather"))
    (model,) = done(alice.get("/list-models-database/weather"))["models"]
    assert [file["format"] for file in model["formats"]] == ["keras", "pkl"]
    answer = ended(alice, "path=net&format=h5")
    assert http.get(answer.headers["Location"]).content.startswith(b"\x89HDF")
    done(alice.post("/session/weather/delete"))


def test_hostile_networks_end_as_refused_with_the_finding_and_the_converter_lives_on(
    alice, bob, buckets, archive, tmp_path
):
    # What points outside is refused when it is taken in; code of its writer is a matter of who opens it.
    config = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {}}]}}
    session = alice.init()
    publish(alice, buckets, session, with_members(archive, config_json=json.dumps(config).encode()))
    details = refused(ended(alice), 409, "model_unavailable")
    assert details["conversion"] == "refused"
    assert details["finding"] == {
        "code": "lambda",
        "message": "It carries code of its writer as bytecode.",
        "where": "config.layers[0]",
    }
    assert details["available"] == ["keras"]
    (model,) = done(alice.get("/list-models-database/weather"))["models"]
    assert model["conversion"]["finding"]["code"] == "lambda"
    done(alice.post("/session/weather/delete"))

    # One that h5py can write takes no TensorFlow.
    plain = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    plain.save(tmp_path / "plain.keras")
    publish(bob, buckets, bob.init(), (tmp_path / "plain.keras").read_bytes())
    assert ended(bob).status_code == 302
    done(bob.post("/session/weather/delete"))


def test_converting_is_for_the_task_queue_alone_and_for_addresses_of_the_bucket(alice, api, local_stack):
    body = {
        "source": {"url": "http://169.254.169.254/latest", "bytes": 5},
        "target": {"url": "http://x/", "headers": {}},
        "report": {"url": "http://x/", "headers": {}},
    }
    assert api.post("/convert-model", alice.caller, json=body).status_code == 401
    token = local_stack.tasks_token()
    refused(api.post("/convert-model", token=token, json=body), 422, "invalid_field")
    for part in ({"source": 5}, {"source": {"url": 5, "bytes": 1}}, {"source": {"url": "x", "bytes": -1}}):
        refused(api.post("/convert-model", token=token, json=body | part), 422, "invalid_field")
    gone = local_stack.env["STORAGE_PUBLIC_URL"] + "/trainshed-artifacts/nothing"
    answer = api.post("/convert-model", token=token, json=body | {"source": {"url": gone, "bytes": 5}})
    assert done(answer)["status"] == "expired"
