"""Every route of training, models and results over HTTP: success, each error, repeated call."""

import base64
import hashlib
import json
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import functions_framework
import google_crc32c
import httpx
import pytest
from sklearn import __version__ as sklearn_version

from dev.home import REPOSITORY
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_training import SupabaseTraining
from shared.checksums import encode_crc32c
from shared.publication import run_prefix
from shared.records.callers import Caller
from tests.local_stack import LocalStack, People
from tests.training_factories import a_model_file_content, a_table, another_trainers_manifest, publish_manifest

GET_ROUTES = (
    "train",
    "list-models-database",
    "download-model-h5",
    "plot-variables",
    "visualizations",
    "scalers",
    "evaluation-tables",
)
POST_ROUTES = ("train", "save-model", "train/{}/cancel")
PATIENCE_S = 90
A_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
A_TARGET = {"target": "y", "models": ["linear_regression"]}


@dataclass
class Api:
    """The front door as one user sees it."""

    http: httpx.Client
    caller: Caller

    def get(self, address: str, **query: str) -> httpx.Response:
        return self.http.get(address, params=query)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.http.post(path, json=body) if body is not None else self.http.post(path)

    def a_session(self, *tables: bytes, is_finalized: bool = True) -> str:
        name = f"s-{uuid.uuid4()}"
        assert self.post("init-session", {"sessionId": name}).status_code == 200
        for index, content in enumerate(tables):
            fields = {"sessionId": name, "fileName": f"table{index}.csv", "size": len(content)}
            upload = data(self.post("uploads", fields), 201)
            for chunk in upload["chunks"]:
                assert httpx.put(chunk["url"], headers=chunk["headers"], content=content).status_code == 200
            data(self.post(f"uploads/{upload['uploadId']}/assemble"), 200)
        if is_finalized:
            data(self.post("finalize-session", {"sessionId": name}), 200)
        return name

    def trained(self, session: str) -> dict[str, Any]:
        """Wait for the end of the run and return it."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            run = data(self.get(f"train/{session}"), 200)
            if run["status"] in {"completed", "failed", "cancelled"}:
                return run
            time.sleep(0.2)
        raise AssertionError(f"The training does not end: {run}")


@pytest.fixture
def api(local_stack: LocalStack, people: People) -> Iterator[Api]:
    with an_api(local_stack, people.add()) as client:
        yield client


@pytest.fixture
def other(local_stack: LocalStack, people: People) -> Iterator[Api]:
    with an_api(local_stack, people.add()) as client:
        yield client


class an_api:  # noqa: N801 - reads as a factory
    """An Api whose connections are closed at the end."""

    def __init__(self, stack: LocalStack, caller: Caller) -> None:
        headers = {"Authorization": f"Bearer {caller.token}"}
        url = f"{stack.env['TRAINSHED_URL']}/api/training/"
        self._api = Api(httpx.Client(base_url=url, headers=headers, timeout=60), caller)

    def __enter__(self) -> Api:
        return self._api

    def __exit__(self, *_: object) -> None:
        for session in data(self._api.get("list-sessions"), 200)["sessions"]:
            self._api.post(f"session/{session['session_id']}/delete")
        self._api.http.close()


def data(answer: httpx.Response, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.json()["success"] is True
    return answer.json()["data"]


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the form of an error and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["success"]) == (status, code, False)
    assert body["error"] == body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def address_of(route: str, session: str) -> str:
    return route.format(session) if "{}" in route else f"{route}/{session}"


def test_a_session_is_trained_and_its_results_are_read(api):
    session = api.a_session(a_table(200))
    started = data(api.post(f"train/{session}", A_TARGET), 202)
    assert (started["status"], started["target"], started["seed"], started["testFraction"]) == ("queued", "y", 42, 0.2)
    assert [(model["name"], model["status"]) for model in started["models"]] == [("linear_regression", "queued")]
    run = api.trained(session)
    assert run["run_id"] == started["run_id"]
    assert run["status"] == "completed", run
    saved = data(api.post(f"save-model/{session}"), 200)
    assert saved["models_saved"] == 1
    assert data(api.post(f"save-model/{session}"), 200) == saved
    listed = data(api.get(f"list-models-database/{session}"), 200)
    assert listed == {"models": saved["models"], "count": 1, "unread_documents": 0, "documents": []}
    (model,) = listed["models"]
    assert (model["class"], model["framework"], model["status"]) == (
        "sklearn.linear_model.LinearRegression",
        "sklearn",
        "ready",
    )
    assert {(entry["format"], entry["loads_code"]) for entry in model["formats"]} == {
        ("skops", False),
        ("onnx", False),
        ("pkl", True),
    }
    assert model["size"] == saved["total_size"] == sum(entry["size"] for entry in model["formats"])
    # What will be missing is told before anything is downloaded.
    needs = {need["package"]: need["specifier"] for need in model["requires"]}
    assert needs["numpy"] == ">=2"
    assert needs["scikit-learn"] == f"=={'.'.join(sklearn_version.split('.')[:2])}.*"
    assert f"scikit-learn=={sklearn_version}" in model["requirements"]
    lineage = model["lineage"]
    assert (lineage["run_id"], lineage["request"]["target"]) == (run["run_id"], "y")
    assert lineage["manifest"]["object"].endswith(f"/{run['run_id']}/manifest.json")
    (table,) = lineage["data_set"]
    assert (table["file_name"], table["size"], table["n_rows"]) == ("table0.csv", len(a_table(200)), 200)
    assert table["sha256"] == hashlib.sha256(a_table(200)).hexdigest()
    (table,) = data(api.get(f"evaluation-tables/{session}"), 200)["evaluation_tables"]
    values = {(row["split"], row["metric"]): row["value"] for row in table["rows"]}
    assert len(values) == 6
    assert values["test", "r2"] == model["metrics"]["test"]["r2"]
    (scaler,) = data(api.get(f"scalers/{session}"), 200)["scalers"]
    assert scaler["name"] == "linear_regression.inputs"
    charts = data(api.get(f"visualizations/{session}"), 200)
    assert [chart["kind"] for chart in charts["visualizations"]] == ["scatter", "histogram"]
    assert charts["count"] == 2


def test_a_saved_model_is_downloaded_from_the_bucket_under_a_name_made_by_the_service(api):
    session = api.a_session(a_table(200))
    api.post(f"train/{session}", A_TARGET)
    run = api.trained(session)
    api.post(f"save-model/{session}")
    (model,) = data(api.get(f"list-models-database/{session}"), 200)["models"]
    sizes = {entry["format"]: entry["size"] for entry in model["formats"]}
    for query in ({"type": "sklearn"}, {"path": model["path"]}, {"format": "skops"}):
        answer = api.get(f"download-model-h5/{session}", **query)
        assert answer.status_code == 302
        assert answer.headers["cache-control"] == "no-store"
        file = httpx.get(answer.headers["location"])
        assert len(file.content) == sizes["skops"]
        name = f"linear_regression-{run['run_id'][:8]}.skops"
        assert file.headers["content-disposition"] == f'attachment; filename="{name}"'
    address = data(api.get(f"download-model-h5/{session}", type="sklearn", redirect="false"), 200)["url"]
    assert len(httpx.get(address).content) == sizes["skops"]
    problem(api.get(f"download-model-h5/{session}", type="sklearn", redirect="maybe"), 422, "invalid_field")
    problem(api.get(f"download-model-h5/{session}"), 404, "model_not_found")
    body = problem(
        api.get(f"download-model-h5/{session}", path=model["path"], format="keras"), 409, "model_unavailable"
    )
    assert body["details"]["available"] == ["skops", "onnx", "pkl"]
    assert (
        problem(api.get(f"download-model-h5/{session}", type="x"), 422, "invalid_field")["details"]["field"] == "type"
    )
    problem(api.get(f"download-model-h5/{session}", path="../../x"), 404, "model_not_found")


def test_classes_are_trained_and_listed_with_their_table_and_charts(api):
    rows = "".join(
        f"{row % 7},{'morning' if row % 2 else 'evening'},{'yes' if row % 7 > 3 else 'no'}\n" for row in range(120)
    )
    session = api.a_session(f"a,part,late\n{rows}".encode())
    started = data(api.post(f"train/{session}", {"target": "late", "models": ["logistic_regression"]}), 202)
    assert started["task"] == "classification"
    run = api.trained(session)
    assert run["status"] == "completed", run
    assert run["models"][0]["curve"]["step"]
    (model,) = data(api.get(f"list-models-database/{session}"), 200)["models"]
    assert (model["task"], model["classes"], model["features"]) == ("classification", ["no", "yes"], ["a", "part"])
    assert model["metrics"]["test"]["accuracy"] == 1
    tables = data(api.get(f"evaluation-tables/{session}"), 200)["evaluation_tables"]
    assert [table["name"] for table in tables] == ["evaluation", "logistic_regression.classes"]
    kinds = [chart["kind"] for chart in data(api.get(f"visualizations/{session}"), 200)["visualizations"]]
    assert kinds == ["confusion", "line", "line"]
    for name in ("confusion", "roc", "history"):
        picture = api.get(f"visualizations/{session}", name=f"logistic_regression.{name}", format="png")
        assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")
    onnx = api.get(f"download-model-h5/{session}", format="onnx")
    assert httpx.get(onnx.headers["location"]).content[:1] == b"\x08"


def test_a_series_is_forecast_and_measured_against_its_baselines(api):
    rows = "".join(f"2024-01-{1 + row // 24:02}T{row % 24:02}:00:00,{row % 6}\n" for row in range(240))
    session = api.a_session(f"when,y\n{rows}".encode())
    request = {"target": "y", "timeColumn": "when", "horizon": 3, "models": ["linear_regression"]}
    started = data(api.post(f"train/{session}", request), 202)
    assert (started["task"], started["horizon"]) == ("time_series", 3)
    run = api.trained(session)
    assert run["status"] == "completed", run
    (model,) = data(api.get(f"list-models-database/{session}"), 200)["models"]
    assert (model["series"]["season"], model["series"]["horizon"]) == (6, 3)
    assert len(model["next"]["predictions"]) == 3
    (table,) = data(api.get(f"evaluation-tables/{session}"), 200)["evaluation_tables"]
    assert {row["model"] for row in table["rows"]} == {"linear_regression", "naive", "seasonal_naive"}
    picture = api.get(f"visualizations/{session}", name="linear_regression.forecast", format="png")
    assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")


def test_the_same_request_while_it_is_worked_on_is_the_same_run_and_another_is_refused(api):
    session = api.a_session(a_table(20_000))
    request = {"target": "y", "models": ["random_forest"]}
    first = data(api.post(f"train/{session}", request), 202)
    assert data(api.post(f"train/{session}", request), 202)["run_id"] == first["run_id"]
    body = problem(api.post(f"train/{session}", {**request, "seed": 7}), 409, "training_in_progress")
    assert body["details"] == {"run_id": first["run_id"]}
    body = problem(api.get(f"download-model-h5/{session}", type="sklearn"), 409, "model_unavailable")
    assert body["details"]["available"] == []
    assert data(api.post(f"save-model/{session}"), 200)["models_saved"] == 0
    assert api.trained(session)["status"] == "completed"


def test_the_same_seed_gives_the_same_metrics_and_another_does_not(api):
    session = api.a_session(a_table(300))
    metrics = []
    for seed in (5, 5, 6):
        data(api.post(f"train/{session}", {"target": "b", "models": ["random_forest"], "seed": seed}), 202)
        metrics.append(api.trained(session)["models"][0]["metrics"])
    assert metrics[0] == metrics[1] != metrics[2]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_cancelled_run_ends_at_once_and_the_session_can_be_trained_again(api, method):
    session = api.a_session(a_table(20_000))
    address = f"train/{session}/cancel" if method == "POST" else f"train/{session}"
    problem(api.http.request(method, address), 404, "run_not_found")
    started = data(api.post(f"train/{session}", {"target": "y", "models": ["random_forest", "dense_network"]}), 202)
    cancelled = data(api.http.request(method, address), 200)
    assert (cancelled["run_id"], cancelled["status"]) == (started["run_id"], "cancelled")
    assert {model["status"] for model in cancelled["models"]} <= {"cancelled", "pending"}
    assert data(api.get(f"session/{session}"), 200)["status"] == "finalized"
    assert data(api.http.request(method, address), 200)["run_id"] == started["run_id"]
    again = data(api.post(f"train/{session}", A_TARGET), 202)
    assert again["run_id"] != started["run_id"]
    assert api.trained(session)["status"] == "completed"
    body = problem(api.http.request(method, address), 409, "training_finished")
    assert body["details"] == {"run_id": again["run_id"], "status": "completed"}


def test_a_run_shows_how_far_its_models_are(api):
    session = api.a_session(a_table(200))
    run = data(api.post(f"train/{session}", A_TARGET), 202)
    assert (run["task"], run["stalled"], run["timeColumn"], run["horizon"]) == ("regression", False, None, None)
    (model,) = api.trained(session)["models"]
    assert (model["progress"], model["remaining_s"], model["detail"], model["curve"]) == (1, None, None, None)


def test_deleting_a_session_that_is_being_trained_leaves_nothing(api, local_stack):
    session = api.a_session(a_table(20_000))
    data(api.post(f"train/{session}", {"target": "y", "models": ["random_forest"]}), 202)
    deleted = data(api.post(f"session/{session}/delete"), 200)
    assert deleted["deleted_from_database"]["models"] == 1
    assert deleted["deleted_from_database"]["training_results"] == 1
    problem(api.get(f"train/{session}"), 404, "session_not_found")


@pytest.mark.parametrize("route", GET_ROUTES)
def test_before_a_run_results_are_empty_and_models_not_found(api, route):
    session = api.a_session(is_finalized=False)
    answer = api.get(f"{route}/{session}")
    if route == "train":
        problem(answer, 404, "run_not_found")
    elif route == "download-model-h5":
        problem(answer, 404, "model_not_found")
    else:
        assert [value for value in data(answer, 200).values() if value and value != session] == []


@pytest.mark.parametrize(("method", "route"), [*(("GET", r) for r in GET_ROUTES), *(("POST", r) for r in POST_ROUTES)])
def test_a_session_of_another_user_answers_exactly_like_none(api, other, method, route):
    session = api.a_session(a_table(20))
    bodies = []
    for name in (session, "no-such-session", "not%20a%20name"):
        answer = other.http.request(method, address_of(route, name), json={"target": "y"} if route == "train" else None)
        body = problem(answer, 404, "session_not_found")
        bodies.append({key: value for key, value in body.items() if key not in {"request_id", "instance"}})
    assert bodies[0] == bodies[1] == bodies[2]


@pytest.mark.parametrize(("method", "route"), [*(("GET", r) for r in GET_ROUTES), *(("POST", r) for r in POST_ROUTES)])
def test_a_token_that_is_none_is_refused(api, method, route):
    answer = api.http.request(method, address_of(route, "weather"), headers={"Authorization": "Bearer none"})
    problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize("route", [route for route in GET_ROUTES if route != "train"])
def test_a_wrong_method_is_refused_and_the_right_one_named(api, route):
    answer = api.http.put(f"{route}/weather")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("route", GET_ROUTES)
def test_an_unknown_parameter_is_named(api, route):
    body = problem(api.get(f"{route}/weather", colour="red"), 422, "invalid_field")
    assert body["details"]["field"] == "colour"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_request"),
        (b"{", 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b'{"target": NaN}', 400, "invalid_request"),
        (b"{}", 422, "invalid_field"),
        (b'{"target": null}', 422, "invalid_field"),
        (b'{"target": "y", "colour": "red"}', 422, "invalid_field"),
        (b'{"target": 5}', 422, "invalid_field"),
        (b'{"target": "y\\u0000"}', 422, "invalid_field"),
        (b'{"target": "y", "models": {}}', 422, "invalid_field"),
        (b'{"target": "y", "models": ["oracle"]}', 422, "invalid_field"),
        (b'{"target": "y", "testFraction": 2}', 422, "invalid_field"),
        (b'{"target": "y", "testFraction": 1e999}', 422, "invalid_field"),
        (b'{"target": "y", "seed": -1}', 422, "invalid_field"),
        (b'{"target": "y", "seed": 1e3}', 422, "invalid_field"),
        (b'{"target": "nope"}', 422, "invalid_field"),
        (b'{"target": "word", "task": "regression"}', 422, "invalid_field"),
        (b'{"target": "y", "task": "clustering"}', 422, "invalid_field"),
        (b'{"target": "y", "models": ["logistic_regression"]}', 422, "invalid_field"),
        (b'{"target": "y", "timeColumn": "word"}', 422, "invalid_field"),
        (b'{"target": "y", "horizon": 30}', 422, "data_set_invalid"),
        (b'{"target": "' + b"y" * (1 << 20) + b'"}', 413, "too_large"),
    ],
)
def test_a_bad_request_to_train_gets_its_error_and_changes_nothing(api, content, status, code):
    session = api.a_session(a_table(40).replace(b"a,b,y", b"word,b,y").replace(b"\n0.0,", b"\nzero,"))
    problem(api.http.post(f"train/{session}", content=content), status, code)
    assert data(api.get(f"session/{session}"), 200)["status"] == "finalized"
    problem(api.get(f"train/{session}"), 404, "run_not_found")


def test_a_session_that_is_not_finalized_is_not_trained(api):
    session = api.a_session(a_table(40), is_finalized=False)
    problem(api.post(f"train/{session}", A_TARGET), 409, "session_not_finalized")


def test_a_session_without_a_table_is_not_trained(api):
    session = api.a_session()
    problem(api.post(f"train/{session}", A_TARGET), 422, "data_set_invalid")


def test_without_a_subscription_nothing_is_trained(api, people):
    session = api.a_session(a_table(40))
    people.subscribe(api.caller, status="canceled")
    problem(api.post(f"train/{session}", A_TARGET), 402, "subscription_required")
    assert data(api.get(f"session/{session}"), 200)["status"] == "finalized"


def test_the_variables_of_every_file_are_described(api):
    session = api.a_session(a_table(2_000), b"a,name\n1,x\n,y\n")
    described = data(api.get(f"plot-variables/{session}", points="20"), 200)
    assert described["session_id"] == session
    assert described["variables"] == ["a", "b", "y", "name"]
    first, second = described["files"]
    assert (first["name"], first["n_rows"]) == ("table0.csv", 2_000)
    assert len(first["columns"][0]["series"]["x"]) <= 20
    assert [(column["name"], column["missing"]) for column in second["columns"]] == [("a", 1), ("name", 0)]
    for points in ("0", "-1", "1000000", "ten", ""):
        body = problem(api.get(f"plot-variables/{session}", points=points), 422, "invalid_field")
        assert body["details"]["field"] == "points"


@pytest.fixture
def artifacts(local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsObjectStore]:
    """The bucket as a team's own trainer writes to it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", local_stack.env["STORAGE_INTERNAL_URL"])
    store = GcsObjectStore(local_stack.env["ARTIFACTS_BUCKET"])
    yield store
    store._client.close()


def test_a_team_brings_its_own_trainer(api, artifacts):
    session = api.a_session(a_table(40))
    row = data(api.get(f"session/{session}"), 200)["id"]
    manifest = another_trainers_manifest(row, str(uuid.uuid4()))
    publish_manifest(artifacts, manifest)
    saved = data(api.post(f"save-model/{session}"), 200)
    (model,) = saved["models"]
    assert (model["name"], model["class"], model["status"]) == (
        "gradient_boosting",
        "lightgbm.LGBMRegressor",
        "ready",
    )
    assert data(api.get(f"session/{session}"), 200)["status"] == "trained"
    assert data(api.get(f"train/{session}"), 200)["status"] == "completed"
    assert [item["type"] for item in data(api.get(f"scalers/{session}"), 200)["scalers"]] == ["minmax"]
    location = api.get(f"download-model-h5/{session}", type="sklearn").headers["location"]
    assert httpx.get(location).content == a_model_file_content("skops")
    assert data(api.post(f"save-model/{session}"), 200) == saved


def test_a_manifest_that_does_not_fit_its_files_is_refused_and_changes_nothing(api, artifacts):
    session = api.a_session(a_table(40))
    row = data(api.get(f"session/{session}"), 200)["id"]
    manifest = another_trainers_manifest(row, str(uuid.uuid4()))
    publish_manifest(artifacts, manifest, content=a_model_file_content("skops") + b"more")
    body = problem(api.post(f"save-model/{session}"), 409, "manifest_invalid")
    assert body["details"]["object"] == manifest["models"][0]["files"][0]["object"]
    assert data(api.get(f"list-models-database/{session}"), 200)["count"] == 0
    assert data(api.get(f"session/{session}"), 200)["status"] == "finalized"


@pytest.fixture
def run_training(local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch):
    """Return a client of the private function, which no front door leads to."""
    for name, value in local_stack.functions_env.items():
        monkeypatch.setenv(name, value)
    source = REPOSITORY / "functions/trainer/main.py"
    return functions_framework.create_app(target="run_training", source=str(source)).test_client()


def test_only_the_task_queue_may_run_a_training(run_training, api, local_stack):
    def status(**headers: str) -> int:
        return run_training.post("/run-training", json={"modelId": str(uuid.uuid4())}, headers=headers).status_code

    assert status() == 401
    assert status(Authorization=f"Bearer {api.caller.token}") == 401
    assert status(Authorization=f"Bearer {local_stack.scheduler_token()}") == 403
    assert api.post("run-training", {"modelId": str(uuid.uuid4())}).status_code == 404


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 400), (b"{", 400), (b"{}", 422), (b'{"modelId": 5}', 422), (b'{"modelId": "x"}', 422)]
)
def test_a_task_without_a_model_is_refused(run_training, local_stack, content, status):
    headers = {"Authorization": f"Bearer {local_stack.tasks_token()}"}
    answer = run_training.post("/run-training", data=content, headers=headers)
    assert (answer.status_code, json.loads(answer.data)["success"]) == (status, False)


def test_a_task_whose_model_is_gone_is_done(local_stack):
    """Through the bridge, which adds the token that the emulator does not send."""
    model_id = str(uuid.uuid4())
    url = f"{local_stack.functions_env['TASKS_TARGET_URL']}/run-training"
    assert data(httpx.post(url, json={"modelId": model_id}), 200) == {"model_id": model_id, "status": "gone"}


@pytest.fixture
def published(api, artifacts, local_stack):
    """Return the name of a session whose results are a chart, a broken chart, three pictures and a table."""
    session = api.a_session(a_table(40))
    row, run = data(api.get(f"session/{session}"), 200)["id"], str(uuid.uuid4())
    picture = {"kind": "picture", "media_type": "image/png", "width": 1, "height": 1}
    photo = artifacts.write(f"{run_prefix(row, run)}p.png", A_PNG, "image/png")
    charts = [
        {
            "name": "m.fit",
            "kind": "scatter",
            "x": {"field": "a.b"},
            "y": {"field": "y"},
            "data": {"a.b": [1], "y": [2]},
        },
        {"name": "broken", "kind": "scatter", "x": {"field": "a"}, "y": {"field": "y"}, "data": {}},
        picture | {"name": "photo", "object": photo.name, "generation": photo.generation},
        picture | {"name": "replaced", "object": photo.name, "generation": photo.generation - 1},
        picture | {"name": "foreign", "object": f"pictures/{uuid.uuid4()}/p.png"},
    ]
    table = {"name": "evaluation", "columns": [{"name": "model", "type": "text"}], "rows": [{"model": "=1+1"}]}
    # As rows that older versions let in.
    document = another_trainers_manifest(row, run, charts=charts, tables=[table, {"name": "odd"}])
    publish_results(artifacts, api, local_stack, document)
    return session


def publish_results(artifacts: GcsObjectStore, api: Api, stack: LocalStack, document: dict[str, Any]) -> None:
    """Record a manifest's results as they are, without the checks of save-model."""
    stored = publish_manifest(artifacts, document)
    document["models"][0]["files"][0]["loads_code"] = False
    reference = {"object": stored.name, "generation": stored.generation, "bytes": stored.size_bytes, "sha256": "0" * 64}
    database = SupabaseDatabase(stack.supabase)
    SupabaseTraining(database).record(
        api.caller.user_id, document["session_uuid"], reference, document | {"request": {}, "data_set": []}
    )
    database._http.close()


def test_a_chart_is_drawn_as_png_svg_and_vega_lite(api, published):
    png = api.get(f"visualizations/{published}", name="m.fit", format="png", width="400", scale="1", theme="dark")
    assert (png.status_code, png.headers["content-type"]) == (200, "image/png")
    assert struct.unpack(">II", png.content[16:24]) == (400, 225)
    svg = api.get(f"visualizations/{published}", name="m.fit", format="svg")
    assert svg.headers["content-type"].startswith("image/svg+xml")
    assert svg.text.startswith("<svg")
    for answer in (png, svg):
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "private, no-cache"
    spec = api.get(f"visualizations/{published}", name="m.fit", format="vega-lite").json()
    assert spec["data"]["values"] == [{"x": 1, "y": 2}]
    (chart,) = data(api.get(f"visualizations/{published}", name="m.fit"), 200)["visualizations"]
    assert chart["data"] == {"a.b": [1], "y": [2]}


def test_a_drawing_that_the_client_has_is_not_sent_again(api, published):
    query = {"name": "m.fit", "format": "png"}
    first = api.get(f"visualizations/{published}", **query)
    etag = {"If-None-Match": first.headers["etag"]}
    again = api.http.get(f"visualizations/{published}", params=query, headers=etag)
    assert (again.status_code, again.content) == (304, b"")
    other = api.http.get(f"visualizations/{published}", params=query | {"theme": "dark"}, headers=etag)
    assert other.status_code == 200


def test_a_stored_picture_is_a_short_lived_address_and_one_of_another_session_is_not(api, published):
    answer = api.get(f"visualizations/{published}", name="photo", format="png")
    assert (answer.status_code, answer.headers["cache-control"]) == (302, "no-store")
    picture = httpx.get(answer.headers["location"])
    assert (picture.status_code, picture.content, picture.headers["content-type"]) == (200, A_PNG, "image/png")
    replaced = api.get(f"visualizations/{published}", name="replaced", format="png")
    assert httpx.get(replaced.headers["location"]).status_code == 404
    problem(api.get(f"visualizations/{published}", name="foreign", format="png"), 422, "chart_invalid")
    body = problem(api.get(f"visualizations/{published}", name="photo", format="svg"), 422, "invalid_field")
    assert body["details"]["field"] == "format"


def test_a_chart_that_cannot_be_drawn_says_why(api, published):
    body = problem(api.get(f"visualizations/{published}", name="broken", format="png"), 422, "chart_invalid")
    assert "x of chart 'broken'" in body["detail"]


@pytest.mark.parametrize("route", ["visualizations", "evaluation-tables"])
def test_a_name_that_is_none_is_not_found(api, published, route):
    form, code = {"visualizations": ("png", "chart_not_found"), "evaluation-tables": ("csv", "table_not_found")}[route]
    problem(api.get(f"{route}/{published}", name="nothing", format=form), 404, code)
    problem(api.get(f"{route}/{published}", name="nothing"), 404, code)
    assert problem(api.get(f"{route}/{published}", format=form), 422, "invalid_field")["details"]["field"] == "name"


@pytest.mark.parametrize(
    ("route", "field", "value"),
    [
        ("visualizations", "format", "pdf"),
        ("visualizations", "theme", "blue"),
        ("visualizations", "width", "100"),
        ("visualizations", "width", "wide"),
        ("visualizations", "scale", "5"),
        ("evaluation-tables", "format", "xlsx"),
    ],
)
def test_a_wish_that_is_not_granted_is_named(api, published, route, field, value):
    query = {"name": "m.fit", "format": "png"} | {field: value}
    body = problem(api.get(f"{route}/{published}", **query), 422, "invalid_field")
    assert body["details"]["field"] == field


def test_results_of_another_user_are_not_drawn(api, other, published):
    problem(other.get(f"visualizations/{published}", name="m.fit", format="png"), 404, "session_not_found")
    problem(other.get(f"visualizations/{published}", name="photo", format="png"), 404, "session_not_found")
    problem(other.get(f"evaluation-tables/{published}", name="evaluation", format="csv"), 404, "session_not_found")


def test_several_drawings_at_once_are_all_right(api, published):
    def draw(width: int) -> tuple[int, int]:
        answer = api.get(f"visualizations/{published}", name="m.fit", format="png", width=str(width), scale="1")
        return struct.unpack(">II", answer.content[16:24])

    with ThreadPoolExecutor(4) as pool:
        assert [size[0] for size in pool.map(draw, range(300, 308))] == list(range(300, 308))


def test_a_table_is_had_as_csv_that_no_spreadsheet_runs(api, published):
    answer = api.get(f"evaluation-tables/{published}", name="evaluation", format="csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="evaluation.csv"'
    assert answer.content == b"model\r\n'=1+1\r\n"
    problem(api.get(f"evaluation-tables/{published}", name="odd", format="csv"), 422, "table_invalid")


def test_two_runs_that_are_published_at_once_are_both_taken_in_whole_and_once(api, artifacts):
    session = api.a_session(a_table(40))
    row = data(api.get(f"session/{session}"), 200)["id"]
    run_ids = [str(uuid.uuid4()) for _ in range(2)]

    def publish(run_id: str) -> list[httpx.Response]:
        publish_manifest(artifacts, another_trainers_manifest(row, run_id))
        return [api.post(f"save-model/{session}") for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        answers = [answer for answers in pool.map(publish, run_ids) for answer in answers]
    for answer in answers:
        if answer.status_code != 200:
            body = problem(answer, 409, "session_busy")
            assert body["detail"]
            assert int(answer.headers["retry-after"]) >= 1
    data(api.post(f"save-model/{session}"), 200)
    models = data(api.get(f"list-models-database/{session}"), 200)["models"]
    assert sorted(model["run_id"] for model in models) == sorted(run_ids)
    assert {model["status"] for model in models} == {"ready"}
    # Equal content is one version, whichever was first.
    assert {model["version"] for model in models} == {1}
    assert data(api.get(f"session/{session}"), 200)["status"] == "trained"


def test_of_two_jobs_that_publish_other_results_under_one_run_at_once_one_wins_every_object(api, artifacts):
    session = api.a_session(a_table(40))
    row = data(api.get(f"session/{session}"), 200)["id"]
    run_id = str(uuid.uuid4())
    contents = [a_model_file_content("skops") + bytes([number]) for number in range(2)]
    at_once = threading.Barrier(2)

    def write(name: str, content: bytes) -> int:
        file = {"name": name, "size": len(content), "crc32c": encode_crc32c(google_crc32c.value(content))}
        signed = data(api.post(f"publish/{session}", {"runId": run_id, "files": [file]}), 200)["files"][0]["request"]
        at_once.wait()
        return httpx.put(signed["url"], headers=signed["headers"], content=content).status_code

    def job(content: bytes) -> tuple[int, int]:
        manifest = another_trainers_manifest(row, run_id)
        manifest["models"][0]["files"][0] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        file = write("gradient_boosting/model.skops", content)
        at_once.wait()
        return file, write("manifest.json", json.dumps(manifest).encode())

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(job, contents))
    assert [sorted(statuses) for statuses in zip(*written, strict=True)] == [[200, 412], [200, 412]]
    answers = [api.post(f"save-model/{session}") for _ in range(2)]
    models = data(api.get(f"list-models-database/{session}"), 200)["models"]
    if (200, 200) in written:
        assert [answer.status_code for answer in answers] == [200, 200]
        assert [model["status"] for model in models] == ["ready"]
        return
    # The manifest of the one names the file of the other: refused as a whole, with the name of the object.
    for answer in answers:
        body = problem(answer, 409, "manifest_invalid")
        assert body["details"]["object"] == f"{run_prefix(row, run_id)}gradient_boosting/model.skops"
    assert models == []
    assert data(api.get(f"session/{session}"), 200)["status"] == "finalized"


def test_a_manifest_that_is_refused_keeps_no_other_run_from_being_taken_in(api, artifacts):
    session = api.a_session(a_table(40))
    row = data(api.get(f"session/{session}"), 200)["id"]
    runs = sorted(str(uuid.uuid4()) for _ in range(3))
    bad = f"{run_prefix(row, runs[1])}manifest.json"
    artifacts.write(bad, b"{", "application/json")
    for run_id in (runs[0], runs[2]):
        publish_manifest(artifacts, another_trainers_manifest(row, run_id))
    assert problem(api.post(f"save-model/{session}"), 409, "manifest_invalid")["details"]["manifest"] == bad
    models = data(api.get(f"list-models-database/{session}"), 200)["models"]
    assert {model["run_id"]: model["status"] for model in models} == {runs[0]: "ready", runs[2]: "ready"}


@pytest.mark.parametrize("kind", ["missing", "altered", "foreign"])
def test_a_manifest_that_names_what_is_not_its_own_is_refused_naming_the_object(api, other, artifacts, kind):
    session = api.a_session(a_table(40))
    row = data(api.get(f"session/{session}"), 200)["id"]
    manifest = another_trainers_manifest(row, str(uuid.uuid4()))
    file = manifest["models"][0]["files"][0]
    content = a_model_file_content("skops")
    match kind:
        case "missing":
            file["object"] = file["object"].replace("model.skops", "gone.skops")
        case "altered":
            content = content[:-1] + b"!"
        case "foreign":
            theirs = data(other.get(f"session/{other.a_session(a_table(40))}"), 200)["id"]
            foreign = another_trainers_manifest(theirs, str(uuid.uuid4()))
            publish_manifest(artifacts, foreign)
            file["object"] = foreign["models"][0]["files"][0]["object"]
    publish_manifest(artifacts, manifest, content=content)
    body = problem(api.post(f"save-model/{session}"), 409, "manifest_invalid")
    assert file["object"] in body["detail"]
    assert data(api.get(f"list-models-database/{session}"), 200)["count"] == 0
    assert data(api.get(f"session/{session}"), 200)["status"] == "finalized"


def test_a_manifest_nested_ten_thousand_levels_deep_is_refused(api, artifacts):
    session = api.a_session(a_table(40))
    row = data(api.get(f"session/{session}"), 200)["id"]
    name = f"{run_prefix(row, str(uuid.uuid4()))}manifest.json"
    artifacts.write(name, b'{"models":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "application/json")
    body = problem(api.post(f"save-model/{session}"), 409, "manifest_invalid")
    assert body["details"]["manifest"] == name
    assert data(api.get(f"list-models-database/{session}"), 200)["count"] == 0
