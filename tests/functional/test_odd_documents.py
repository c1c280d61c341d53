"""Legacy documents that are JSON and odd: each is read, and whatever lists results goes on."""

import json
import pickle

import pytest
from sklearn.linear_model import LinearRegression

from tests.functional.conftest import Client, done
from tests.legacy_factories import a_model_node, a_png, in_base64
from tests.pickled_models import NUMBERS, ROWS

MODEL = json.dumps(a_model_node(pickle.dumps(LinearRegression().fit(ROWS, NUMBERS))))
PICTURE = json.dumps(in_base64(a_png()))
NUL, HALF = "\\u0000", "\\ud800"
ODD = {
    "a number of 400 digits": f'{{"metrics": {{"rmse": {"9" * 400}}}}}',
    "a number of 400 digits in a column": f'{{"metrics": [{{"rmse": -{"9" * 400}}}, {{"rmse": 1.5}}]}}',
    "a number beyond all": '{"metrics": {"rmse": 1e999, "mae": 1}}',
    **{
        f"{name} as {place}": document.replace("?", character)
        for name, character in (("NUL", NUL), ("half a character", HALF))
        for place, document in {
            "a column": '{"metrics": [{"a?b": 1}]}',
            "a column of lists": '{"metrics": {"a?b": [1, 2], "c": [3, 4]}}',
            "a row": '{"metrics": {"a?b": {"rmse": 1}}}',
            "a name": '{"metrics": {"a?b": 1}}',
            "a cell": '{"metrics": {"rmse": 1, "note": "a?b"}}',
            "a key above a table": '{"a?b": {"metrics": {"rmse": 1}}}',
            "the key of a model": f'{{"a?b": {MODEL}}}',
            "the key of a picture": f'{{"a?b": {PICTURE}}}',
            "the key of what is told": '{"a?b": NaN}',
            "a class": f'{{"m": {MODEL}}}'.replace("SomeModel", "a?b"),
        }.items()
    },
}


@pytest.mark.parametrize("oddity", ODD)
def test_an_odd_document_is_read_and_what_lists_results_goes_on(alice: Client, buckets, local_stack, oddity):
    name = f"results/{alice.init()['uuid']}/legacy.json"
    buckets.artifacts.write(name, ODD[oddity].encode(), "application/json")
    local_stack.database.call(
        "import_legacy_results_v1", owner=alice.caller.user_id, session_id="weather", document=None, object=name
    )
    saved = done(alice.post("/save-model/weather"))
    (document,) = saved["documents"]
    assert document["status"] == "read", document
    found = document["detail"]
    assert found["models"] + found["pictures"] + found["tables"] + len(found["findings"]) >= 1
    for route in ("list-models-database", "scalers", "visualizations", "evaluation-tables"):
        done(alice.get(f"/{route}/weather"))
    assert alice.get("/download-archive/weather").status_code == 302
    done(alice.post("/session/weather/delete"))
