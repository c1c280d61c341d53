"""Legacy documents end to end: brought in through SQL, read by save-model, listed, downloaded, deleted."""

import hashlib
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from shared.errors import InvalidRequestError, ServiceError
from shared.records.objects import models_prefix, pictures_prefix
from tests.functional.conftest import done, refused
from tests.legacy_factories import a_model_node, a_png, in_base64
from tests.pickled_models import NUMBERS, ROWS

LINEAR = pickle.dumps(LinearRegression().fit(ROWS, NUMBERS))
SCALER = pickle.dumps(StandardScaler().fit(ROWS))
DOCUMENT = {
    "folds": [{"model": a_model_node(LINEAR, "LinearRegression"), "scaler": a_model_node(SCALER)}],
    "metrics": {"rmse": 1.5},
    "plot": in_base64(a_png()),
    "bad": a_model_node(b"\x80\x04P0\n."),
}


@pytest.fixture
def import_results(local_stack):
    def call(client, session_id="weather", **what):
        arguments = {"document": None, "object": None} | what
        return local_stack.database.call(
            "import_legacy_results_v1", owner=client.caller.user_id, session_id=session_id, **arguments
        )

    return call


@pytest.fixture
def session(alice):
    return alice.init()


def listing(client):
    return done(client.get("/list-models-database/weather"))


def test_a_document_is_listed_as_unread_then_read_listed_downloaded_and_deleted(
    alice, buckets, http, session, import_results
):
    imported = import_results(alice, document=DOCUMENT)
    assert imported == {"run_id": imported["run_id"], "session_uuid": session["uuid"], "document_status": "unread"}
    before = listing(alice)
    assert (before["count"], before["unread_documents"]) == (0, 1)
    assert before["documents"] == [
        {"run_id": imported["run_id"], "status": "unread", "detail": {}, "read_by": "POST /save-model/weather"}
    ]

    saved = done(alice.post("/save-model/weather"))
    assert (saved["models_saved"], saved["unread_documents"]) == (2, 0)
    after = listing(alice)
    shown = {model["path"]: (model["status"], model["origin"], model["class"]) for model in after["models"]}
    assert shown == {
        "bad": ("refused", "legacy", None),
        "folds[0].model": ("ready", "legacy", "sklearn.linear_model._base.LinearRegression"),
        "folds[0].scaler": ("ready", "legacy", "sklearn.preprocessing._data.StandardScaler"),
    }
    assert after["documents"][0]["detail"] == {"models": 3, "scalers": 1, "pictures": 1, "tables": 1, "findings": []}

    answer = alice.get("/download-model-h5/weather?path=folds[0].model&format=pkl")
    assert answer.status_code == 302
    assert http.get(answer.headers["Location"]).content == LINEAR
    details = refused(alice.get("/download-model-h5/weather?path=bad&format=pkl"), 409, "model_unavailable")
    assert details["reason"].endswith("(persistent_id)")

    (scaler,) = done(alice.get("/scalers/weather"))["scalers"]
    assert (scaler["path"], scaler["formula"]) == ("folds[0].scaler", "(x - mean) / scale")
    (picture,) = done(alice.get("/visualizations/weather"))["visualizations"]
    assert (picture["kind"], picture["width"], picture["height"]) == ("picture", 3, 2)
    assert b"".join(buckets.artifacts.read(picture["object"])) == a_png()
    answer = alice.get(f"/visualizations/weather?name={picture['name']}&format=png")
    shown = http.get(answer.headers["Location"])
    assert (shown.content, shown.headers["Content-Type"]) == (a_png(), "image/png")
    (table,) = done(alice.get("/evaluation-tables/weather"))["evaluation_tables"]
    assert table["rows"] == [{"name": "rmse", "value": 1.5}]

    assert done(alice.post("/save-model/weather"))["models"] == saved["models"]
    deleted = done(alice.post("/session/weather/delete"))
    assert (deleted["deleted_from_database"]["models"], deleted["files_deleted"]) == (3, 3)
    for prefix in (models_prefix, pictures_prefix):
        assert buckets.artifacts.list(prefix(session["uuid"])) == []


def test_a_document_in_the_bucket_is_read_from_there(alice, buckets, session, import_results):
    name = f"results/{session['uuid']}/legacy.json"
    content = json.dumps(DOCUMENT).encode()
    buckets.artifacts.write(name, content, "application/json")
    import_results(alice, object=name)
    saved = done(alice.post("/save-model/weather"))
    assert saved["models_saved"] == 2
    manifest = saved["models"][0]["lineage"]["manifest"]
    assert (manifest["object"], manifest["sha256"]) == (name, hashlib.sha256(content).hexdigest())
    assert done(alice.post("/session/weather/delete"))["files_deleted"] == 4


def test_a_document_that_is_not_json_is_refused_with_its_place(alice, buckets, session, import_results):
    name = f"results/{session['uuid']}/legacy.json"
    buckets.artifacts.write(name, b'{"a": [1, {"b": oops}]}', "application/json")
    import_results(alice, object=name)
    saved = done(alice.post("/save-model/weather"))
    (document,) = saved["documents"]
    assert (saved["models_saved"], document["status"]) == (0, "refused")
    assert (document["detail"]["code"], document["detail"]["path"]) == ("not_json", "a[1].b")
    done(alice.post("/session/weather/delete"))


def test_two_calls_at_once_read_a_document_once(alice, buckets, session, import_results):
    document = {"models": [a_model_node(pickle.dumps({"n": n})) for n in range(10)] + [a_model_node(LINEAR)]}
    import_results(alice, document=document)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: alice.post("/save-model/weather"), range(4)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert 200 in {answer.status_code for answer in answers}
    for answer in answers:
        if answer.status_code == 409:
            assert refused(answer, 409, "session_busy")["run_id"]
            assert int(answer.headers["Retry-After"]) >= 1
    assert listing(alice)["count"] == 11
    assert len(buckets.artifacts.list(models_prefix(session["uuid"]))) == 11
    done(alice.post("/session/weather/delete"))


def test_a_session_of_another_user_is_not_found(alice, bob, session, import_results):
    import_results(alice, document={})
    refused(bob.post("/save-model/weather"), 404, "session_not_found")
    refused(bob.get("/list-models-database/weather"), 404, "session_not_found")


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"document": {}, "object": "x"},
        {"object": "legacy.json"},
        {"object": "results/00000000-0000-0000-0000-000000000000/legacy.json"},
        {"object": "results/{uuid}/../other/legacy.json"},
        {"object": "results/{uuid}/" + "x" * 1024},
    ],
)
def test_importing_names_what_is_wrong(alice, session, import_results, what):
    what = {key: one.replace("{uuid}", session["uuid"]) if isinstance(one, str) else one for key, one in what.items()}
    with pytest.raises(InvalidRequestError):
        import_results(alice, **what)
    assert listing(alice)["documents"] == []


def test_importing_into_nobodys_session_fails(alice, import_results):
    with pytest.raises(ServiceError) as caught:
        import_results(alice, document={})
    assert caught.value.code == "session_not_found"


def test_a_session_that_got_old_results_is_trained(alice, session, import_results):
    import_results(alice, document={})
    assert done(alice.get("/session/weather"))["status"] == "trained"


def test_what_handles_large_documents_has_the_time_that_takes(local_stack):
    found = local_stack.rows("select proname from pg_proc where 'statement_timeout=240s' = any(proconfig) order by 1")
    assert [row["proname"] for row in found] == ["import_legacy_results_v1", "read_document_v1"]


def deep(n_levels: int) -> bytes:
    """Write a document with models before, within and behind 10,000 levels."""
    node = json.dumps(a_model_node(LINEAR)).encode()
    return b'{"before":%b,"deep":%b%b%b,"good":%b}' % (node, b'{"a":[' * n_levels, node, b"]}" * n_levels, node)


def test_what_lies_ten_thousand_levels_deep_is_told_and_the_rest_is_taken_in(alice, buckets, session, import_results):
    name = f"results/{session['uuid']}/legacy.json"
    buckets.artifacts.write(name, deep(10_000), "application/json")
    import_results(alice, object=name)
    saved = done(alice.post("/save-model/weather"))
    assert sorted(model["path"] for model in saved["models"]) == ["before", "good"]
    (document,) = saved["documents"]
    assert document["status"] == "read"
    (finding,) = document["detail"]["findings"]
    assert finding["code"] == "too_deep"
    # Of so long a path the end is told, behind a checksum of the whole.
    assert finding["path"].endswith(".a[0].a[0].a")
    assert listing(alice)["count"] == 2
    done(alice.post("/session/weather/delete"))


def test_a_document_that_is_too_deep_for_the_database_is_refused_by_it_and_nothing_is_kept(
    alice, http, local_stack, session
):
    """What jsonb cannot hold can be brought in as an object."""
    url, key = local_stack.functions_env["SUPABASE_URL"], local_stack.functions_env["SUPABASE_SERVICE_KEY"]
    owner = json.dumps(alice.caller.user_id).encode()
    body = b'{"p_owner":%b,"p_session_id":"weather","p_object":null,"p_document":%b}' % (owner, deep(10_000))
    answer = http.post(
        f"{url}/rest/v1/rpc/import_legacy_results_v1",
        headers={"apikey": key, "Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        content=body,
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "54001")
    assert "max_stack_depth" in answer.json()["hint"]
    assert listing(alice)["documents"] == []
    done(alice.post("/session/weather/delete"))
