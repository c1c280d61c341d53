"""The functions' door holds the JSON API to the preconditions that the emulator ignores."""

import concurrent.futures
import io
import os

import httpx
import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.door.stack import crc32c, new_name


def stored(stack, body=b"x"):
    blob = stack.bucket().blob(new_name())
    blob.upload_from_string(body)
    return blob


def test_the_stock_client_uploads_lists_reads_and_deletes(stack):
    bucket, name, body = stack.bucket(), new_name(), os.urandom(300_000)
    bucket.blob(name).upload_from_file(io.BytesIO(body), content_type="text/csv", checksum="crc32c")

    (listed,) = bucket.client.list_blobs(bucket, prefix=name)

    assert (listed.size, listed.crc32c, listed.content_type) == (len(body), crc32c(body), "text/csv")
    assert listed.generation
    assert listed.download_as_bytes(start=10, end=19) == body[10:20]
    assert bucket.blob(name).download_as_bytes() == body
    listed.delete()
    assert not bucket.blob(name).exists()


def test_a_resumable_upload_goes_through_the_door(stack):
    name, body = new_name(), os.urandom(1_200_000)
    blob = stack.bucket().blob(name, chunk_size=256 * 1024)

    blob.upload_from_file(io.BytesIO(body), if_generation_match=0)

    assert stack.bucket().get_blob(name).crc32c == crc32c(body)
    with pytest.raises(exceptions.PreconditionFailed):
        stack.bucket().blob(name, chunk_size=256 * 1024).upload_from_file(io.BytesIO(body), if_generation_match=0)


def test_links_in_answers_lead_back_through_the_door(stack):
    blob = stack.bucket().get_blob(stored(stack).name)

    assert blob.media_link.startswith(stack.settings["STORAGE_INTERNAL_URL"])


@pytest.mark.parametrize("wanted", [0, 12345])
def test_an_upload_with_a_wrong_generation_is_refused(stack, wanted):
    blob = stored(stack, b"kept")

    with pytest.raises(exceptions.PreconditionFailed):
        stack.bucket().blob(blob.name).upload_from_string(b"new", if_generation_match=wanted)

    assert blob.download_as_bytes() == b"kept"


def test_a_media_upload_with_a_wrong_generation_is_refused(stack):
    blob = stored(stack, b"kept")
    url = f"{stack.settings['STORAGE_INTERNAL_URL']}/upload/storage/v1/b/{stack.settings['UPLOADS_BUCKET']}/o"

    answer = httpx.post(
        url, params={"uploadType": "media", "name": blob.name, "ifGenerationMatch": "0"}, content=b"new"
    )

    assert answer.status_code == 412
    assert answer.json()["error"]["errors"][0]["reason"] == "conditionNotMet"
    assert blob.download_as_bytes() == b"kept"


def test_of_several_creating_uploads_at_the_same_time_one_succeeds(stack):
    name = new_name()

    def create(number):
        try:
            stack.bucket().blob(name).upload_from_string(bytes([number]) * 1_000_000, if_generation_match=0)
        except exceptions.PreconditionFailed:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        created = list(pool.map(create, range(6)))

    assert created.count(True) == 1
    assert stack.bucket().get_blob(name).download_as_bytes(end=0) == bytes([created.index(True)])


def test_a_delete_with_a_wrong_generation_is_refused(stack):
    blob = stored(stack)

    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=blob.generation + 1)

    assert blob.exists()
    blob.delete(if_generation_match=blob.generation)
    assert not blob.exists()


def test_deleting_what_does_not_exist_is_not_found(stack):
    with pytest.raises(exceptions.NotFound):
        stack.bucket().blob(new_name()).delete()


def test_a_read_with_a_wrong_generation_is_refused(stack):
    blob = stored(stack)

    with pytest.raises(exceptions.PreconditionFailed):
        blob.download_as_bytes(if_generation_match=blob.generation + 1)
    assert blob.download_as_bytes(if_generation_match=blob.generation) == b"x"


def test_compose_joins_objects_in_order_with_their_checksum(stack):
    parts = [stored(stack, body) for body in (b"one,", b"two,", b"three")]
    whole = stack.bucket().blob(new_name())
    whole.content_type = "text/csv"

    whole.compose(parts, if_generation_match=0)

    read = stack.bucket().get_blob(whole.name)
    assert read.download_as_bytes() == b"one,two,three"
    assert read.crc32c == crc32c(b"one,two,three")
    assert (read.content_type, read.size) == ("text/csv", 13)
    assert read.generation == whole.generation
    assert read.md5_hash is None


def test_composing_onto_an_existing_object_with_generation_0_is_refused(stack):
    part, whole = stored(stack), stored(stack, b"kept")

    with pytest.raises(exceptions.PreconditionFailed):
        stack.bucket().blob(whole.name).compose([part], if_generation_match=0)

    assert whole.download_as_bytes() == b"kept"


def test_composing_a_source_of_another_generation_is_refused(stack):
    parts, whole = [stored(stack), stored(stack)], stack.bucket().blob(new_name())

    with pytest.raises(exceptions.PreconditionFailed):
        whole.compose(parts, if_source_generation_match=[parts[0].generation, parts[1].generation + 1])

    assert not whole.exists()


def test_composing_a_pinned_source_that_was_replaced_is_not_found(stack):
    part = stored(stack)
    stack.bucket().blob(part.name).upload_from_string(b"replaced")

    with pytest.raises(exceptions.NotFound):
        stack.bucket().blob(new_name()).compose([part])


def test_composing_a_missing_source_is_not_found(stack):
    with pytest.raises(exceptions.NotFound):
        stack.bucket().blob(new_name()).compose([stored(stack), stack.bucket().blob(new_name())])


@pytest.mark.parametrize(("count", "accepted"), [(0, False), (32, True), (33, False)])
def test_compose_takes_from_1_to_32_sources(stack, count, accepted):
    part, whole = stored(stack), stack.bucket().blob(new_name())

    if accepted:
        whole.compose([part] * count)
        assert stack.bucket().get_blob(whole.name).size == count
    else:
        with pytest.raises(exceptions.BadRequest):
            whole.compose([part] * count)


@pytest.mark.parametrize("name", ["chunks/../escaped", "../escaped", "chunks/./escaped", "chunks//escaped"])
def test_compose_takes_no_name_that_leads_out_of_the_bucket(stack, name):
    with pytest.raises(exceptions.BadRequest):
        stack.bucket().blob(name).compose([stored(stack)])

    assert not stack.exists("escaped")


def test_compose_can_delete_its_sources(stack):
    parts, whole = [stored(stack), stored(stack)], stack.bucket().blob(new_name())

    whole.compose(parts, delete_source_objects=True)

    assert whole.exists()
    assert not any(part.exists() for part in parts)


def test_of_several_composes_onto_one_name_at_the_same_time_one_succeeds(stack):
    part, name = stored(stack, b"x" * 1_000_000), new_name()

    def compose(_):
        try:
            stack.bucket().blob(name).compose([part] * 4, if_generation_match=0)
        except exceptions.PreconditionFailed:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(compose, range(4))).count(True) == 1


def test_a_copy_with_a_wrong_generation_is_refused(stack):
    source, target = stored(stack, b"new"), stored(stack, b"kept")

    with pytest.raises(exceptions.PreconditionFailed):
        stack.bucket().blob(target.name).rewrite(source, if_generation_match=0)

    assert target.download_as_bytes() == b"kept"


def test_a_batch_of_deletes_answers_each(stack):
    kept, gone = stored(stack), stored(stack)
    client = stack.client()
    bucket = client.bucket(stack.settings["UPLOADS_BUCKET"])

    with client.batch(raise_exception=False) as batch:
        bucket.blob(gone.name).delete()
        bucket.blob(kept.name).delete(if_generation_match=kept.generation + 1)

    assert [answer.status_code for answer in batch._responses] == [204, 412]

    assert (kept.exists(), gone.exists()) == (True, False)


def test_the_environment_variable_of_the_client_library_points_it_at_the_door(stack, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", stack.settings["STORAGE_INTERNAL_URL"])
    blob = storage.Client(project="trainshed-local").bucket(stack.settings["UPLOADS_BUCKET"]).blob(new_name())

    blob.upload_from_string(b"x")

    assert stack.exists(blob.name)
