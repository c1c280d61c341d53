"""Everything of a session as one zip: downloaded, unpacked, and checked by its own program in a process of its own."""

import hashlib
import io
import json
import pickle
import subprocess
import sys
import time
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor

import keras
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import RandomForestRegressor
from sklearn.preprocessing import StandardScaler

from shared.archives import BUILT_AT_ONCE_BYTES
from shared.records.objects import archives_prefix
from tests.functional.conftest import done, refused
from tests.legacy_factories import a_model_node, a_png, in_base64
from tests.pickled_models import NUMBERS, ROWS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = ["a", "b", "c"]
N_CHECKED = 4


class Publisher:
    """Publishes a run as a team's trainer does."""

    def __init__(self, client, buckets, session_uuid: str) -> None:
        self.client = client
        self.store = buckets.artifacts
        self.session_uuid = session_uuid
        self.run_id = str(uuid.uuid4())
        self.prefix = f"results/{session_uuid}/{self.run_id}/"
        self.models: list[dict] = []
        self.scalers: list[dict] = []
        self.pictures: list[dict] = []

    def add_picture(self, name: str, content: bytes) -> None:
        self.store.write(f"{self.prefix}{name}.png", content, "image/png")
        chart = {"name": name, "kind": "picture", "object": f"{self.prefix}{name}.png", "media_type": "image/png"}
        self.pictures.append(chart | {"width": 3, "height": 2})

    def add(self, name: str, framework: str, form: str, content: bytes, **described) -> None:
        self.store.write(f"{self.prefix}{name}.{form}", content, "application/octet-stream")
        file = {
            "format": form,
            "object": f"{self.prefix}{name}.{form}",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "media_type": "application/octet-stream",
        }
        self.models.append(
            {"name": name, "class": "x", "framework": framework, "status": "completed", "files": [file], **described}
        )

    def publish(self) -> None:
        manifest = {
            "schema_version": 1,
            "run_id": self.run_id,
            "session_uuid": self.session_uuid,
            "status": "completed",
            "models": self.models,
            "scalers": self.scalers,
            "tables": [
                {
                    "name": "../evil",
                    "columns": [{"name": "m", "type": "text"}, {"name": "v", "type": "number"}],
                    "rows": [{"m": "rmse", "v": 1.5}],
                }
            ],
            "charts": [
                {
                    "name": "c",
                    "kind": "line",
                    "title": "C",
                    "x": {"field": "x", "type": "number"},
                    "y": {"field": "y"},
                    "data": {"x": [1, 2], "y": [3, None]},
                },
                *self.pictures,
            ],
        }
        self.store.write(f"{self.prefix}manifest.json", json.dumps(manifest).encode(), "application/json")
        done(self.client.post("/save-model/weather"))


def a_check(predictions) -> dict:
    return {
        "inputs": ROWS[:N_CHECKED].tolist(),
        "predictions": [float(one) for one in predictions],
        "relative_tolerance": 1e-5,
    }


def scaler_json(name: str, scaler: StandardScaler, **more) -> dict:
    return {
        "name": name,
        "type": "standard",
        "params": {"mean": scaler.mean_.tolist(), "scale": scaler.scale_.tolist()},
        "formula": "(x - mean) / scale",
        "inverse": "x * scale + mean",
        **more,
    }


def add_forest(publisher: Publisher, *, shift: float = 0.0) -> None:
    forest = RandomForestRegressor(3, max_depth=3, random_state=1).fit(pd.DataFrame(ROWS, columns=NAMES), NUMBERS)
    check = a_check(forest.predict(pd.DataFrame(ROWS[:N_CHECKED], columns=NAMES)) + shift)
    environment = {"python": "3.11", "scikit-learn": "1.9.1", "skops": "0.16.0"}
    publisher.add(
        "forest", "sklearn", "skops", skops.io.dumps(forest), features=NAMES, check=check, environment=environment
    )


def add_network(publisher: Publisher, path) -> None:
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
    network.save(path)
    inputs, target = StandardScaler().fit(ROWS), StandardScaler().fit(NUMBERS[:, None])
    scaled = network.predict(inputs.transform(ROWS[:N_CHECKED]).astype("float32"), verbose=0)
    publisher.scalers = [
        scaler_json("net.inputs", inputs, missing_values={"strategy": "median", "values": [0.0, 0.0, 0.0]}),
        scaler_json("net.target", target),
    ]
    signature = {"inputs": [{"scaler": "net.inputs"}], "outputs": [{"scaler": "net.target"}]}
    publisher.add(
        "net", "keras", "keras", path.read_bytes(),
        features=NAMES, check=a_check(target.inverse_transform(scaled)[:, 0]), signature=signature,
    )  # fmt: skip


def unpacked(content: bytes, folder):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert not [name for name in names if name.startswith("/") or ".." in name.split("/")]
        assert len({name.lower() for name in names}) == len(names)
        archive.extractall(folder)
    return folder


def checked(folder, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "check.py", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def downloaded(client, http) -> bytes:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        answer = client.get("/download-archive/weather")
        if answer.status_code == 302:
            file = http.get(answer.headers["Location"])
            assert "attachment" in file.headers["Content-Disposition"]
            return file.content
        assert answer.status_code == 202, answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(1)
    pytest.fail("The archive is not built.")


def test_an_archive_holds_everything_and_its_own_program_proves_it(alice, buckets, http, local_stack, tmp_path):
    session = alice.init()
    publisher = Publisher(alice, buckets, session["uuid"])
    add_forest(publisher)
    add_network(publisher, tmp_path / "net.keras")
    publisher.add_picture("photo", a_png(5, 5))
    publisher.publish()
    legacy = RandomForestRegressor(2, max_depth=2, random_state=1).fit(ROWS, NUMBERS)
    document = {"old": a_model_node(pickle.dumps(legacy)), "plot": in_base64(a_png())}
    local_stack.database.call(
        "import_legacy_results_v1", owner=alice.caller.user_id, session_id="weather", document=document, object=None
    )
    done(alice.post("/save-model/weather"))

    folder = unpacked(downloaded(alice, http), tmp_path / "archive")
    run8 = publisher.run_id[:8]
    models = {path.name for path in (folder / "models").iterdir()}
    assert {f"forest-{run8}", f"net-{run8}"} < models
    assert len(models) == 3
    assert (folder / f"models/forest-{run8}/requirements.txt").read_text() == "scikit-learn==1.9.1\nskops==0.16.0\n"
    assert (folder / f"tables/{run8}/evil.csv").read_bytes() == b"m,v\r\nrmse,1.5\r\n"
    assert json.loads((folder / f"charts/{run8}/c.json").read_text())["data"] == {"x": [1, 2], "y": [3, None]}
    assert (folder / f"charts/{run8}/photo.png").read_bytes() == a_png(5, 5)
    assert sorted(path.read_bytes() for path in folder.glob("charts/*/*.png")) == sorted([a_png(), a_png(5, 5)])
    readme = (folder / "README.md").read_text()
    assert "runs code" in readme
    assert "model.pkl" in readme

    result = checked(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "predicts 4 check inputs as published" in result.stdout
    assert result.stdout.count("as published") == 2
    assert "no file that can be opened without running code" in result.stdout
    assert "opened; nothing was published" in checked(folder, "--run-pickles").stdout
    (folder / f"models/net-{run8}/model.json").write_text("{}")
    assert f"WRONG models/net-{run8}/model.json" in checked(folder).stdout

    deleted = done(alice.post("/session/weather/delete"))
    assert deleted["files_deleted"] >= 7
    assert buckets.artifacts.list(archives_prefix(session["uuid"])) == []


def test_a_model_that_predicts_something_else_is_told(alice, buckets, http, tmp_path):
    publisher = Publisher(alice, buckets, alice.init()["uuid"])
    add_forest(publisher, shift=1.0)
    publisher.publish()
    result = checked(unpacked(downloaded(alice, http), tmp_path / "archive"))
    assert result.returncode == 1
    assert "WRONG forest" in result.stdout
    done(alice.post("/session/weather/delete"))


def test_a_model_that_cannot_be_opened_is_told_and_the_others_are_checked(alice, buckets, http, tmp_path):
    publisher = Publisher(alice, buckets, alice.init()["uuid"])
    publisher.add("broken", "sklearn", "skops", b"PK\x03\x04 and nothing more")
    add_forest(publisher)
    publisher.models.append(publisher.models[-1] | {"name": "odd", "check": [1]})
    publisher.publish()
    result = checked(unpacked(downloaded(alice, http), tmp_path / "archive"))
    run8 = publisher.run_id[:8]
    assert (result.returncode, result.stderr) == (1, "")
    assert f"WRONG broken-{run8}: cannot be opened, or does not predict: BadZipFile" in result.stdout
    assert f"WRONG odd-{run8}: cannot be opened, or does not predict: TypeError" in result.stdout
    assert f"ok    forest-{run8}: predicts 4 check inputs as published" in result.stdout
    assert "2 things are wrong." in result.stdout
    done(alice.post("/session/weather/delete"))


def test_equal_content_is_one_archive_whoever_asks_and_other_content_another(alice, bob, buckets, http):
    session = alice.init()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: alice.get("/download-archive/weather"), range(4)))
    assert [answer.status_code for answer in answers] == [302] * 4
    contents = {http.get(answer.headers["Location"]).content for answer in answers}
    assert len(contents) == 1
    archives = [one.name for one in buckets.artifacts.list(archives_prefix(session["uuid"]))]
    assert [name.rpartition(".")[2] for name in archives] == ["json", "zip"]
    refused(bob.get("/download-archive/weather"), 404, "session_not_found")
    publisher = Publisher(alice, buckets, session["uuid"])
    add_forest(publisher)
    publisher.publish()
    assert downloaded(alice, http) not in contents
    assert len(buckets.artifacts.list(archives_prefix(session["uuid"]))) == 4
    done(alice.post("/session/weather/delete"))


def test_a_large_archive_is_built_by_the_queue(alice, buckets, http):
    publisher = Publisher(alice, buckets, alice.init()["uuid"])
    large = b"PK\x03\x04" + bytes(BUILT_AT_ONCE_BYTES)
    publisher.add("large", "sklearn", "skops", large)
    publisher.publish()
    assert alice.get("/download-archive/weather").status_code == 202
    content = downloaded(alice, http)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read(f"models/large-{publisher.run_id[:8]}/model.skops") == large
    done(alice.post("/session/weather/delete"))


def test_building_is_for_the_task_queue_and_for_plans_that_are_there(alice, api, local_stack):
    assert api.post("/build-archive", alice.caller, json={"plan": "archives/a/b.json"}).status_code == 401
    token = local_stack.tasks_token()
    for plan in (5, "results/x.json", "archives/../x.json", "archives/x.zip"):
        refused(api.post("/build-archive", token=token, json={"plan": plan}), 422, "invalid_field")
    assert done(api.post("/build-archive", token=token, json={"plan": "archives/a/b.json"}))["status"] == "gone"


def test_what_changed_under_a_plan_makes_no_archive(alice, buckets):
    session = alice.init()
    publisher = Publisher(alice, buckets, session["uuid"])
    add_forest(publisher)
    publisher.publish()
    name = publisher.models[0]["files"][0]["object"]
    buckets.artifacts.delete([buckets.artifacts.stat(name)])
    refused(alice.get("/download-archive/weather"), 409, "session_busy")
    assert not [one for one in buckets.artifacts.list(archives_prefix(session["uuid"])) if one.name.endswith(".zip")]
    done(alice.post("/session/weather/delete"))
