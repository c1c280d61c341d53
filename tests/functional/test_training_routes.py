"""Every route of training, models and results over HTTP: success, each error, repeated call."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import functions_framework
import httpx
import pytest

from dev.home import REPOSITORY
from shared.adapters.gcs import GcsObjectStore
from shared.records import Caller
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
POST_ROUTES = ("train", "save-model")
PATIENCE_S = 90
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
            if run["status"] in {"completed", "failed"}:
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
    assert listed == {"models": saved["models"], "count": 1}
    (model,) = listed["models"]
    assert (model["class"], model["framework"], model["status"]) == (
        "sklearn.linear_model.LinearRegression",
        "sklearn",
        "ready",
    )
    assert {(entry["format"], entry["loads_code"]) for entry in model["formats"]} == {("skops", False), ("pkl", True)}
    assert model["size"] == saved["total_size"] == sum(entry["size"] for entry in model["formats"])
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
    problem(api.get(f"download-model-h5/{session}"), 404, "model_not_found")
    body = problem(
        api.get(f"download-model-h5/{session}", path=model["path"], format="keras"), 409, "model_unavailable"
    )
    assert body["details"]["available"] == ["skops", "pkl"]
    assert (
        problem(api.get(f"download-model-h5/{session}", type="x"), 422, "invalid_field")["details"]["field"] == "type"
    )
    problem(api.get(f"download-model-h5/{session}", path="../../x"), 404, "model_not_found")


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
        answer = other.http.request(method, f"{route}/{name}", json={"target": "y"} if route == "train" else None)
        body = problem(answer, 404, "session_not_found")
        bodies.append({key: value for key, value in body.items() if key not in {"request_id", "instance"}})
    assert bodies[0] == bodies[1] == bodies[2]


@pytest.mark.parametrize(("method", "route"), [*(("GET", r) for r in GET_ROUTES), *(("POST", r) for r in POST_ROUTES)])
def test_a_token_that_is_none_is_refused(api, method, route):
    answer = api.http.request(method, f"{route}/weather", headers={"Authorization": "Bearer none"})
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
        (b'{"target": "word"}', 422, "invalid_field"),
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
    source = REPOSITORY / "functions/training/main.py"
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
