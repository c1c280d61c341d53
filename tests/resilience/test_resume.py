"""An upload goes on after its addresses have expired, and lives as long as its client does."""

import time

import httpx
import pytest

from tests.factories import chunk_of
from tests.resilience.processes import CHUNK_BYTES, Processes
from tests.resilience.world import SESSION, World, a_csv

THREE_CHUNKS = a_csv(2 * CHUNK_BYTES + 100)
LIFETIME_S = 1


@pytest.fixture
def world(new_world) -> World:
    return new_world()


@pytest.fixture(scope="module")
def forgetful(local_stack):
    """Processes of functions whose signed addresses live for a second."""
    with Processes(local_stack, SIGNED_URL_SECONDS=str(LIFETIME_S)) as processes:
        yield processes


def put(chunk: dict, content: bytes) -> httpx.Response:
    return httpx.put(chunk["url"], headers=chunk["headers"], content=content, timeout=30)


def test_an_expired_address_is_refused_and_a_new_one_goes_on_with_the_same_upload(world, forgetful):
    world.open_session()
    body = {"sessionId": SESSION, "fileName": "hours.csv", "size": len(THREE_CHUNKS)}
    (created,) = forgetful.run(world.request("POST", "/uploads", body))
    upload = world.services.upload_rows.get(world.caller, created.data["uploadId"])
    first = created.data["chunks"][0]
    time.sleep(LIFETIME_S + 1)
    refusal = put(first, chunk_of(THREE_CHUNKS, upload, 0))
    assert (refusal.status_code, "ExpiredToken" in refusal.text) == (400, True)
    assert world.services.uploads.get(world.caller, upload.id).received == []

    # From now on the addresses live an hour; a client asks again for what it could not send.
    answer = world.send(
        world.request("POST", f"/uploads/{upload.id}/chunks", {"chunks": [{"index": i} for i in range(3)]})
    )
    for chunk in answer.data["chunks"]:
        assert put(chunk, chunk_of(THREE_CHUNKS, upload, chunk["index"])).status_code == 200
    assert world.send(world.request("POST", f"/uploads/{upload.id}/assemble")).data["state"] == "assembled"
    assert world.content(world.row(upload)) == THREE_CHUNKS
    assert world.usage() == (1, len(THREE_CHUNKS))
    world.clean_up()
    world.check()


def test_signing_moves_the_end_of_an_upload_on_and_keeps_it_from_being_swept(world, local_stack):
    upload = world.open_upload(THREE_CHUNKS, sent=[0])
    other = world.open_upload(THREE_CHUNKS, "silent.csv", sent=[0])
    local_stack.rows(
        "update public.uploads set expires_at = expires_at - interval '5 hours',"
        " updated_at = updated_at - interval '5 hours' where user_id = %s",
        world.caller.user_id,
    )
    before = world.row(upload)["expires_at"]
    answer = world.send(world.request("POST", f"/uploads/{upload.id}/chunks", {"chunks": [{"index": 1}]}))
    assert answer.is_success
    assert (world.row(upload)["expires_at"] - before).total_seconds() >= 5 * 3600

    assert world.send(world.cleanup_request(max_age_hours=4)).is_success
    assert (world.row(upload)["state"], world.row(other)["state"]) == ("open", "expired")
    assert [chunk.index for chunk in world.services.uploads.get(world.caller, upload.id).received] == [0]


def test_looking_at_an_upload_does_not_keep_it_alive(world):
    upload = world.open_upload(THREE_CHUNKS, sent=[0])
    before = world.row(upload)["expires_at"]
    assert world.send(world.request("GET", f"/uploads/{upload.id}")).is_success
    assert world.row(upload)["expires_at"] == before
