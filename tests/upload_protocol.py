"""What every service that our upload client talks to keeps to: the real stack, and the fake of the unit tests."""

import uuid

import httpx
import pytest

from tests.fakes.upload_service import crc32c
from trainshed.client import Client
from trainshed.errors import ServiceError
from trainshed.upload import ChunkPlan


class UploadProtocol:
    """Subclasses give a `client` and a `session` of its user."""

    def start(self, client: Client, session: str, size: int, name: str = "data.bin") -> dict:
        return dict(client.create_upload(session, name, size))

    def put(
        self, client: Client, upload: dict, index: int, content: bytes, checksum: str | None = None
    ) -> httpx.Response:
        signed = client.sign_chunks(upload["uploadId"], {index: checksum or crc32c(content)})[0]
        headers = signed["headers"]
        return httpx.put(signed["url"], headers=headers, content=content, timeout=60)

    def contents(self, upload: dict) -> list[bytes]:
        plan = ChunkPlan.of(upload)
        return [bytes([65 + index % 26]) * plan.size(index) for index in range(plan.total_chunks)]

    def code(self, answer: httpx.Response) -> str:
        return answer.text.partition("<Code>")[2].partition("</Code>")[0]

    def test_a_new_upload_is_open_and_its_chunks_cover_the_file(self, client, session):
        upload = self.start(client, session, 10_000_000)
        plan = ChunkPlan.of(upload)
        assert upload["state"] == "open"
        assert sum(plan.size(index) for index in range(plan.total_chunks)) == 10_000_000
        assert [chunk["index"] for chunk in upload["chunks"]] == list(range(min(plan.total_chunks, 128)))
        assert 1 <= upload["concurrency"] <= 32

    def test_creating_an_equal_upload_again_returns_the_open_one(self, client, session):
        first = self.start(client, session, 5)
        assert self.start(client, session, 5)["uploadId"] == first["uploadId"]

    def test_creating_an_upload_of_the_same_name_and_another_size_is_refused_with_the_one_there_is(
        self, client, session
    ):
        first = self.start(client, session, 5)
        with pytest.raises(ServiceError) as refusal:
            self.start(client, session, 6)
        assert (refusal.value.status, refusal.value.code) == (409, "file_exists")
        assert refusal.value.details["uploadId"] == first["uploadId"]
        assert refusal.value.details["state"] == "open"

    def test_a_chunk_is_stored_once(self, client, session):
        upload = self.start(client, session, 5)
        assert self.put(client, upload, 0, b"hello").status_code == 200
        assert self.put(client, upload, 0, b"hello").status_code == 412

    def test_bytes_that_do_not_fit_the_signed_crc32c_are_refused(self, client, session):
        upload = self.start(client, session, 5)
        answer = self.put(client, upload, 0, b"hello", checksum=crc32c(b"HELLO"))
        assert (answer.status_code, self.code(answer)) == (400, "BadDigest")
        assert client.get_upload(upload["uploadId"])["missing"] == [0]

    @pytest.mark.parametrize("content", [b"hell", b"hello!"])
    def test_bytes_of_another_length_are_refused(self, client, session, content):
        upload = self.start(client, session, 5)
        assert self.put(client, upload, 0, content).status_code == 400
        assert client.get_upload(upload["uploadId"])["missing"] == [0]

    def test_an_upload_tells_which_chunks_the_bucket_holds(self, client, session):
        chunk_size = self.start(client, session, 1, "probe.bin")["chunkSize"]
        upload = self.start(client, session, chunk_size + 3)
        self.put(client, upload, 1, b"end")
        progress = client.get_upload(upload["uploadId"])
        assert progress["received"] == [{"index": 1, "size": 3, "crc32c": crc32c(b"end")}]
        assert (progress["receivedBytes"], progress["missing"]) == (3, [0])

    def test_assembling_with_a_gap_names_the_missing_chunk(self, client, session):
        chunk_size = self.start(client, session, 1, "probe.bin")["chunkSize"]
        upload = self.start(client, session, chunk_size + 3)
        self.put(client, upload, 1, b"end")
        with pytest.raises(ServiceError) as refusal:
            client.assemble_upload(upload["uploadId"])
        assert (refusal.value.status, refusal.value.code) == (409, "chunks_missing")
        assert refusal.value.details["missing"] == [0]

    def test_assembling_twice_answers_the_same_object(self, client, session):
        chunk_size = self.start(client, session, 1, "probe.bin")["chunkSize"]
        upload = self.start(client, session, chunk_size + 3)
        contents = self.contents(upload)
        for index, content in enumerate(contents):
            assert self.put(client, upload, index, content).status_code == 200
        first = client.assemble_upload(upload["uploadId"])
        second = client.assemble_upload(upload["uploadId"])
        assert first["state"] == "assembled"
        assert first["crc32c"] == second["crc32c"] == crc32c(b"".join(contents))
        assert client.get_upload(upload["uploadId"])["crc32c"] == first["crc32c"]

    def test_a_file_of_0_bytes_has_no_chunk_and_can_be_assembled(self, client, session):
        upload = self.start(client, session, 0)
        assert (upload["totalChunks"], upload["chunks"]) == (0, [])
        assembled = client.assemble_upload(upload["uploadId"])
        assert (assembled["state"], assembled["size"]) == ("assembled", 0)
        assert assembled["crc32c"] == crc32c(b"")

    def test_an_assembled_upload_takes_no_more_chunks(self, client, session):
        upload = self.start(client, session, 5)
        self.put(client, upload, 0, b"hello")
        client.assemble_upload(upload["uploadId"])
        with pytest.raises(ServiceError) as refusal:
            client.sign_chunks(upload["uploadId"], {0: crc32c(b"hello")})
        assert (refusal.value.status, refusal.value.code) == (409, "wrong_state")
        assert refusal.value.details["state"] == "assembled"

    def test_a_chunk_beyond_the_last_one_is_not_signed(self, client, session):
        upload = self.start(client, session, 5)
        with pytest.raises(ServiceError) as refusal:
            client.sign_chunks(upload["uploadId"], {1: crc32c(b"hello")})
        assert (refusal.value.status, refusal.value.code) == (422, "invalid_field")

    def test_creating_an_upload_of_an_assembled_file_is_refused_with_its_id(self, client, session):
        upload = self.start(client, session, 0)
        client.assemble_upload(upload["uploadId"])
        with pytest.raises(ServiceError) as refusal:
            self.start(client, session, 0)
        assert refusal.value.code == "file_exists"
        assert refusal.value.details["uploadId"] == upload["uploadId"]
        assert refusal.value.details["state"] == "assembled"

    def test_an_aborted_upload_frees_its_chunks_and_its_name(self, client, session):
        upload = self.start(client, session, 5)
        self.put(client, upload, 0, b"hello")
        aborted = client.abort_upload(upload["uploadId"])
        assert (aborted["state"], aborted["objectsDeleted"]) == ("aborted", 1)
        assert self.start(client, session, 5)["uploadId"] != upload["uploadId"]

    @pytest.mark.parametrize("count", [0, 129])
    def test_no_chunk_or_more_than_128_at_once_are_not_signed(self, client, session, count):
        upload = self.start(client, session, 5)
        with pytest.raises(ServiceError) as refusal:
            client.sign_chunks(upload["uploadId"], dict.fromkeys(range(count), crc32c(b"")))
        assert (refusal.value.status, refusal.value.code) == (422, "invalid_field")

    def test_an_unknown_upload_is_not_found(self, client):
        with pytest.raises(ServiceError) as refusal:
            client.get_upload(str(uuid.uuid4()))
        assert (refusal.value.status, refusal.value.code) == (404, "upload_not_found")

    def test_an_upload_into_an_unknown_session_is_not_found(self, client):
        with pytest.raises(ServiceError) as refusal:
            self.start(client, f"never-{uuid.uuid4()}", 5)
        assert (refusal.value.status, refusal.value.code) == (404, "session_not_found")
