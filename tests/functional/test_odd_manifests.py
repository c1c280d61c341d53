"""Manifests that are JSON and odd: each is taken in or refused, and whatever lists results goes on."""

import json
import uuid
from typing import Any

import pytest

from shared.publication import run_prefix
from tests.functional.conftest import Client, refused
from tests.training_factories import a_model_file_content, another_trainers_manifest

A_CHART = {"name": "m.c", "kind": "line", "x": {"field": "a"}, "y": {"field": "a"}, "data": {"a": [1]}}
A_TABLE = {"name": "t", "columns": [{"name": "a", "type": "number"}], "rows": [{"a": 1}]}
LARGE = 10**400


def of_model(**fields: Any) -> dict[str, Any]:
    return {"model": fields}


def of_file(**fields: Any) -> dict[str, Any]:
    return {"file": fields}


# What of a manifest is replaced, by the oddity. Texts stand for themselves: JSON that Python would not write.
ODD: dict[str, dict[str, Any]] = {
    "a number beyond all": of_model(metrics={"test": {"rmse": "1e999"}}),
    "a number of 400 digits": of_model(metrics={"test": {"rmse": LARGE}}),
    "a number of 5000 digits": of_model(params={"n": "9" * 5_000}),
    "a number beyond all in a table": {"tables": [A_TABLE | {"rows": [{"a": "-1e999"}]}]},
    "half a character": of_model(detail="\ud800"),
    "half a character in a key": of_model(params={"\udfff": 1}),
    "half a character in a chart": {"charts": [A_CHART | {"title": "\ud800"}]},
    "a list as target": {"request": {"task": "regression", "target": ["a", "b"]}},
    "an object as task": {"request": {"task": {"a": 1}, "target": "y"}},
    "metrics that are none": of_model(metrics={"test": [1], "train": "x"}),
    "a metric that is none": of_model(metrics={"test": {"rmse": [1]}}),
    "findings that are none": of_model(findings="x", imports=3, requirements={"a": 1}),
    "a check that is none": of_model(check=[1], encoding=3, series="x", split=[]),
    "an environment that is none": of_model(environment=["numpy"], signature=3),
    "a generation beyond all": of_file(generation=10**30),
    "a size beyond all": of_file(bytes=10**30),
    "500 levels": of_model(params=json.loads("[" * 500 + "]" * 500)),
    "a picture of nothing": {"charts": [{"name": "p", "kind": "picture", "origin": "legacy"}]},
    "charts and tables of nothing": {"charts": [{}], "tables": [{}], "scalers": [{}]},
    "kinds that are none": {"charts": [A_CHART | {"kind": ["picture"]}], "tables": [A_TABLE | {"name": 5}]},
    "names like paths": {"charts": [A_CHART | {"name": "../../x"}], "scalers": [{"name": "/etc/passwd"}]},
}


def published(client: Client, buckets: Any, odd: dict[str, Any]) -> str:
    """Publish a run that is odd in one point into a new session; return its name."""
    name = f"odd-{uuid.uuid4()}"
    session = client.init(name)["uuid"]
    document = another_trainers_manifest(session, str(uuid.uuid4()))
    model = document["models"][0]
    model["files"][0] |= odd.get("file", {})
    model |= odd.get("model", {})
    document |= {key: value for key, value in odd.items() if key not in {"file", "model"}}
    text = json.dumps(document)
    for number in ("1e999", "-1e999", "9" * 5_000):
        text = text.replace(f'"{number}"', number)
    prefix = run_prefix(session, document["run_id"])
    content = a_model_file_content("skops")
    buckets.artifacts.write(f"{prefix}gradient_boosting/model.skops", content, "application/zip")
    buckets.artifacts.write(f"{prefix}manifest.json", text.encode(), "application/json")
    return name


@pytest.mark.parametrize("oddity", ODD)
def test_an_odd_manifest_is_taken_in_or_refused_and_what_lists_results_goes_on(alice: Client, buckets, oddity):
    session = published(alice, buckets, ODD[oddity])
    saved = alice.post(f"/save-model/{session}")
    if saved.status_code != 200:
        assert refused(saved, 409, "manifest_invalid")["manifest"].endswith("/manifest.json")
        assert len(saved.json["detail"]) > 40
    for route in ("list-models-database", "scalers", "visualizations", "evaluation-tables"):
        assert alice.get(f"/{route}/{session}").status_code == 200, route
    for query in ("", "?type=sklearn", "?alias=best", "?alias=latest"):
        assert alice.get(f"/download-model-h5/{session}{query}").status_code in {302, 404, 409}, query
    assert alice.get(f"/download-archive/{session}").status_code == 302
    assert alice.post(f"/session/{session}/delete").status_code == 200
