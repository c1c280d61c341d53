"""What `trainshed.publish` takes from a job, and what it says no to before a byte is sent."""

import json
from datetime import date
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler

from tests.fakes.objects import crc32c_of
from tests.training_factories import a_model_file_content
from trainshed.client import Client
from trainshed.described import plain, scaler_numbers
from trainshed.errors import FileChangedError, PublishError, ServiceError
from trainshed.publish import Publisher
from trainshed.retry import Backoff
from trainshed.run_files import LocalFile

SESSION = "6f0c8a52-57a4-4c1c-9a4f-3f6d1f0d2b11"
NUMBERS = np.array([[1.0, -10.0], [2.0, 0.0], [4.0, 30.0]])


class Service:
    """Signs, stores and takes in whatever comes; `faults` are answered to the next PUTs."""

    def __init__(self):
        self.objects = {}
        self.faults = []
        self.saved = 0
        self.refused_manifest = None

    def __call__(self, request):
        path = request.url.path.removeprefix("/api/training")
        if request.method == "PUT":
            return self.put(request)
        if path.startswith("/session/"):
            return success(id=SESSION, session_id="s")
        if path.startswith("/publish/"):
            return success(files=[self.state(file) for file in json.loads(request.content)["files"]])
        if path.startswith("/save-model/"):
            self.saved += 1
            if self.refused_manifest is not None:
                problem = {"code": "manifest_invalid", "detail": "no", "details": {"manifest": self.refused_manifest}}
                return httpx.Response(409, json=problem)
            return success(models_saved=0, models=[], total_size=0, session_id="s")
        return success(models=[], count=0)

    def state(self, file):
        content = self.objects.get(file["name"])
        stored = {"size": len(content), "crc32c": crc32c_of(content), "generation": 1} if content else None
        request = {"url": f"http://bucket/{file['name']}", "method": "PUT", "headers": {}}
        return {"name": file["name"], "object": file["name"], "stored": stored, "request": None if stored else request}

    def put(self, request):
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        if fault in {None, "lost"}:
            self.objects[request.url.path[1:]] = request.read()
        if fault == "lost":
            raise httpx.ReadError("cut")
        return httpx.Response(fault or 200, text="<Error/>")


def success(**data):
    return httpx.Response(200, json={"success": True, "data": data})


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def publisher(service):
    backoff = Backoff(attempts=4, first_s=0.001, longest_s=0.01)
    with Client("http://service", backoff=backoff, transport=httpx.MockTransport(service)) as client:
        yield Publisher(client, "s", "nightly")


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "forest.skops"
    path.write_bytes(a_model_file_content("skops"))
    return path


def manifest_of(service):
    return json.loads(service.objects["manifest.json"])


class TestWriting:
    def test_the_manifest_comes_last_and_names_what_was_written(self, service, publisher, model):
        publisher.add_model("forest", model, metrics={"test": {"rmse": np.float32(1.5)}})
        assert "manifest.json" not in service.objects
        publisher.finish()
        (entry,) = manifest_of(service)["models"]
        (file,) = entry["files"]
        prefix = f"results/{SESSION}/{publisher.run_id}/"
        assert service.objects[file["object"].removeprefix(prefix)] == model.read_bytes()
        assert (file["bytes"], file["generation"], file["format"]) == (len(model.read_bytes()), 1, "skops")
        assert entry["environment"].keys() >= {"python", "numpy", "pandas", "scikit-learn"}
        assert list(service.objects)[-1] == "manifest.json"

    @pytest.mark.parametrize(
        "faults", [[503], [httpx.ConnectError("no")], [403], ["lost"], [412], [429, 503, httpx.ReadTimeout("late")]]
    )
    def test_what_passes_is_tried_again(self, service, publisher, model, faults):
        service.faults += faults
        publisher.add_model("forest", model)
        publisher.finish()
        assert len(service.objects) == 2

    def test_trying_again_ends(self, service, publisher, model):
        service.faults += [503] * 9
        with pytest.raises(PublishError, match="4 tries"):
            publisher.add_model("forest", model)

    def test_a_final_refusal_is_not_repeated(self, service, publisher, model):
        service.faults += [400]
        with pytest.raises(PublishError, match=r"refuses forest/.* \(400\)"):
            publisher.add_model("forest", model)

    def test_what_is_stored_is_not_sent_again(self, service, publisher, model):
        publisher.add_model("forest", model)
        again = Publisher(publisher._client, "s", "nightly")
        service.faults += [400]
        again.add_model("forest", model)
        assert again.run_id == publisher.run_id

    def test_other_bytes_in_the_place_of_a_file_are_an_error(self, service, publisher, model):
        publisher.add_model("forest", model)
        name = next(iter(service.objects))
        service.objects[name] += b"x"
        again = Publisher(publisher._client, "s", "nightly")
        with pytest.raises(PublishError, match="holds other bytes"):
            again.add_model("forest", model)

    def test_finishing_twice_writes_one_manifest(self, service, publisher, model):
        publisher.add_model("forest", model)
        publisher.finish()
        publisher.finish()
        assert service.saved == 2
        assert len(service.objects) == 2

    def test_a_run_that_the_service_takes_in_is_published_whatever_it_says_of_another(self, service, publisher, model):
        publisher.add_model("forest", model)
        service.refused_manifest = f"results/{SESSION}/another/manifest.json"
        assert publisher.finish() == []
        service.refused_manifest = f"results/{SESSION}/{publisher.run_id}/manifest.json"
        with pytest.raises(ServiceError, match="no"):
            publisher.finish()

    def test_a_run_without_a_name_is_one_of_its_own(self, publisher):
        ids = {Publisher(publisher._client, "s").run_id for _ in range(2)}
        assert len(ids) == 2

    def test_a_file_that_grows_is_noticed(self, service, publisher, model):
        seen = LocalFile.of(model)
        model.write_bytes(model.read_bytes() + b"x")
        with pytest.raises(FileChangedError):
            publisher._destination.write("forest/x.skops", seen, "application/zip")


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "content", "text"),
        [
            ("forest.exe", b"x", "no known format"),
            ("forest", b"x", "no known format"),
            ("forest.skops", b"x", "is no skops file"),
            ("forest.skops", b"", "is empty"),
            ("gone.skops", None, "Cannot read"),
        ],
    )
    def test_what_is_no_model_file(self, service, publisher, tmp_path, name, content, text):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(PublishError, match=text):
            publisher.add_model("forest", path)
        assert service.objects == {}

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"name": "my forest"}, "name must be"),
            ({"name": "../x"}, "name must be"),
            ({"framework": "torch"}, "framework"),
            ({"metrics": {"test": {"rmse": float("inf")}}}, "JSON"),
            ({"features": {1, 2}}, "JSON"),
            ({"class_name": "a\0b"}, "NUL"),
        ],
    )
    def test_a_description_is_looked_at_before_a_byte_is_sent(self, service, publisher, model, arguments, text):
        with pytest.raises(PublishError, match=text):
            publisher.add_model(**{"name": "forest", "files": model, **arguments})
        assert service.objects == {}

    def test_no_file_two_files_of_one_format_and_a_name_twice(self, publisher, model, tmp_path):
        other = tmp_path / "other.skops"
        other.write_bytes(model.read_bytes())
        with pytest.raises(PublishError, match="has no file"):
            publisher.add_model("forest", [])
        with pytest.raises(PublishError, match="two files of one format"):
            publisher.add_model("forest", [model, other])
        publisher.add_model("forest", [model])
        with pytest.raises(PublishError, match="model forest in this run already"):
            publisher.add_model("forest", other)

    def test_a_chart_that_cannot_be_drawn(self, publisher):
        with pytest.raises(PublishError, match="kind"):
            publisher.add_chart("m.c", "pie", {"a": [1]}, x="a", y="a")
        with pytest.raises(PublishError, match="y of chart"):
            publisher.add_chart("m.c", "line", {"a": [1]}, x="a", y="b")

    def test_a_picture_that_is_none(self, publisher, model):
        with pytest.raises(PublishError, match="no PNG"):
            publisher.add_picture("m.p", model)

    @pytest.mark.parametrize("rows", [[], [{}], [{"a": {"b": 1}}]])
    def test_a_table_that_is_none(self, publisher, rows):
        with pytest.raises(PublishError, match="table"):
            publisher.add_table("t", rows)

    def test_a_scaler_without_a_formula(self, publisher):
        with pytest.raises(PublishError, match="lacks formula, inverse"):
            publisher.add_scaler("s", feature_names=["a"], type="log", params={})
        with pytest.raises(PublishError, match="QuantileTransformer has no formula"):
            publisher.add_scaler("s", QuantileTransformer(), feature_names=["a"])
        with pytest.raises(PublishError, match="StandardScaler is not fitted"):
            publisher.add_scaler("s", StandardScaler(), feature_names=["a"])


class TestTables:
    def test_a_data_frame_becomes_typed_columns(self, service, publisher):
        frame = pd.DataFrame(
            {
                "n": [1, 2],
                "x": [0.5, np.nan],
                "t": ["a", None],
                "b": [True, False],
                "d": [pd.Timestamp("2026-01-02"), pd.NaT],
            }
        )
        publisher.add_table("t", frame, units={"x": "kW"})
        publisher.finish()
        (table,) = manifest_of(service)["tables"]
        types = {column["name"]: column["type"] for column in table["columns"]}
        assert types == {"n": "integer", "x": "number", "t": "text", "b": "boolean", "d": "text"}
        assert table["columns"][1]["unit"] == "kW"
        assert table["rows"][1] == {"n": 2, "x": None, "t": None, "b": False, "d": None}

    def test_metrics_become_the_table_evaluation_unless_the_job_has_its_own(self, service, publisher, model):
        publisher.add_model("forest", model, metrics={"train": {"rmse": 1.0}, "test": {"rmse": 2.0}})
        publisher.finish()
        (table,) = manifest_of(service)["tables"]
        assert [(row["split"], row["value"]) for row in table["rows"]] == [("train", 1.0), ("test", 2.0)]
        other = Publisher(publisher._client, "s", "other")
        other.add_model("forest", model, metrics={"test": {"rmse": 2.0}})
        other.add_table("evaluation", [{"a": 1}])
        assert [table["rows"] for table in other._document()["tables"]] == [[{"a": 1}]]


def test_values_of_numpy_and_pandas_become_those_of_json():
    given = {"a": np.arange(2), "b": np.float64("nan"), "c": (np.int64(1), pd.NaT), "d": date(2026, 1, 2), 5: np.True_}
    assert plain(given) == {"a": [0, 1], "b": None, "c": [1, None], "d": "2026-01-02", "5": True}


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        StandardScaler(with_mean=False, with_std=False),
        RobustScaler(),
        RobustScaler(with_centering=False),
        MinMaxScaler((-1, 1)),
        MinMaxScaler(clip=True),
        MaxAbsScaler(),
    ],
    ids=repr,
)
def test_a_scalers_formulas_compute_what_scikit_learn_does(scaler):
    described = scaler_numbers(scaler.fit(NUMBERS))
    names = {name: np.array(values) for name, values in described["params"].items()} | {"clip": np.clip}
    outside = np.array([[9.0, -50.0]]) if "clip" in described["formula"] else NUMBERS
    np.testing.assert_allclose(eval(described["formula"], names | {"x": outside}), scaler.transform(outside))
    scaled = scaler.transform(NUMBERS)
    np.testing.assert_allclose(eval(described["inverse"], names | {"x": scaled}), NUMBERS, atol=1e-12)
