"""Somebody else's things look exactly like things that do not exist."""

import re
import uuid
from pathlib import Path

import httpx
import pytest
import yaml

from tests.acceptance.conftest import sign_in_as
from trainshed.upload import upload_file

MANIFEST = yaml.safe_load((Path(__file__).parents[2] / "functions/manifest.yaml").read_text())
CHUNK = {"chunkIndex": 0, "totalChunks": 1, "fileName": "data.csv"}
PUBLISHED = {
    "runId": "6f0c8a52-57a4-4c1c-9a4f-3f6d1f0d2b11",
    "files": [{"name": "forest/model.skops", "size": 5527, "crc32c": "yZRlqg=="}],
}

# Route -> (query, JSON body). What the route's path or body names is filled in with {session} and {upload}.
CALLS = {
    "GET /session/{session_id}": ({}, None),
    "POST /session/{session_id}/delete": ({}, None),
    "DELETE /session/{session_id}": ({}, None),
    "POST /uploads": ({}, {"sessionId": "{session}", "fileName": "more.csv", "size": 5}),
    "POST /uploads/{upload_id}/chunks": ({}, {"chunks": [{"index": 0}]}),
    "GET /uploads/{upload_id}": ({}, None),
    "POST /uploads/{upload_id}/assemble": ({}, None),
    "POST /uploads/{upload_id}/abort": ({}, None),
    "DELETE /uploads/{upload_id}": ({}, None),
    "POST /upload-chunk": ({}, {"sessionId": "{session}", **CHUNK}),
    "POST /finalize-session": ({}, {"sessionId": "{session}"}),
    "POST /train/{session_id}": ({}, {"target": "y"}),
    "GET /train/{session_id}": ({}, None),
    "POST /train/{session_id}/cancel": ({}, None),
    "DELETE /train/{session_id}": ({}, None),
    "POST /save-model/{session_id}": ({}, None),
    "POST /publish/{session_id}": ({}, PUBLISHED),
    "GET /list-models-database/{session_id}": ({}, None),
    "GET /download-model-h5/{session_id}": ({"type": "keras"}, None),
    "GET /download-archive/{session_id}": ({}, None),
    "GET /plot-variables/{session_id}": ({}, None),
    "GET /visualizations/{session_id}": ({}, None),
    "GET /scalers/{session_id}": ({}, None),
    "GET /evaluation-tables/{session_id}": ({}, None),
}
# These make or list things of the caller's own; there is nothing of somebody else's to name.
OF_ONE_S_OWN = {"POST /init-session", "GET /list-sessions"}


@pytest.fixture(scope="module")
def bobs_http(service_url):
    headers = {"Authorization": f"Bearer {sign_in_as('BOB')()}"}
    with httpx.Client(base_url=f"{service_url}/api/training", headers=headers, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def alices(alice, tmp_path_factory):
    """A session of alice with an assembled and an open upload: (session id, id of the open upload)."""
    session = alice.init_session(f"alices-{uuid.uuid4()}")["session_id"]
    path = tmp_path_factory.mktemp("two-users") / "data.csv"
    path.write_text("x,y\n" + "".join(f"{x},{2 * x}\n" for x in range(50)))
    upload_file(alice, session, path, content_type="text/csv")
    upload = alice.create_upload(session, "open.bin", 5)
    yield session, upload["uploadId"]
    alice.delete_session(session)


def send(http, route, session, upload):
    method, path = route.split()
    query, body = CALLS[route]
    path = path.format(session_id=session, upload_id=upload)
    if body is not None:
        body = {name: value.format(session=session) if value == "{session}" else value for name, value in body.items()}
    return http.request(method, path, params=query, json=body)


def test_every_route_of_users_is_tried():
    routes = set()
    for entry in MANIFEST.values():
        if entry["caller"].startswith("user"):
            routes |= {entry["route"]} if isinstance(entry["route"], str) else set(entry["route"])
    assert routes == CALLS.keys() | OF_ONE_S_OWN


@pytest.mark.parametrize("route", CALLS)
def test_what_belongs_to_somebody_else_answers_as_what_does_not_exist(bobs_http, alice, alices, route):
    session, upload = alices
    before = alice.get_session(session)
    theirs = send(bobs_http, route, session, upload)
    unknown = send(bobs_http, route, f"unknown-{uuid.uuid4()}", str(uuid.uuid4()))
    assert theirs.status_code == unknown.status_code == 404
    assert theirs.headers["Content-Type"] == unknown.headers["Content-Type"] == "application/problem+json"
    assert comparable(theirs) == comparable(unknown)
    assert alice.get_session(session) == before


def comparable(answer):
    """Return the body without what names the request itself."""
    body = answer.json()
    assert body.pop("instance")
    assert re.fullmatch(r"[0-9a-f]{32}", body.pop("request_id"))
    return body


def test_two_users_may_use_the_same_name_for_a_session(alice, bob, alices):
    session, _ = alices
    bobs = bob.init_session(session)
    try:
        assert bobs["uuid"] != alice.get_session(session)["id"]
        assert bob.get_session(session)["files"] == []
        assert alice.get_session(session)["total_files"] == 1
    finally:
        bob.delete_session(session)
    assert alice.get_session(session)["total_files"] == 1


def test_a_list_of_sessions_holds_only_one_s_own(alice, bob, alices):
    session, _ = alices
    assert session in {item["session_id"] for item in alice.sessions()}
    assert session not in {item["session_id"] for item in bob.sessions()}
