import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.fakes.upload_service import FakeUploadService, Fault, RefusedError, crc32c, running
from trainshed.client import Client
from trainshed.errors import FileChangedError, ServiceError, UploadError
from trainshed.retry import Backoff
from trainshed.upload import ChunkPlan, crc32c_of, upload_file

SESSION = "session-1"
QUICK = Backoff(attempts=4, first_s=0.001, longest_s=0.05)


@pytest.fixture
def service():
    with running(FakeUploadService()) as service:
        service.sessions.add(SESSION)
        yield service


@pytest.fixture
def client(service):
    with Client(service.url, backoff=QUICK) as client:
        yield client


def make_file(folder: Path, size: int, name: str = "data.bin") -> Path:
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


def make_started_upload(client: Client, path: Path, chunks: list[int]) -> str:
    """Leave an upload behind that holds some chunks of the file."""
    upload = client.create_upload(SESSION, path.name, path.stat().st_size)
    plan = ChunkPlan.of(upload)
    content = path.read_bytes()
    for index in chunks:
        piece = content[plan.offset(index) : plan.offset(index) + plan.size(index)]
        signed = client.sign_chunks(upload["uploadId"], {index: crc32c(piece)})[0]
        assert client.put_chunk(signed, [piece]).status_code == 200
    return upload["uploadId"]


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 33_000, 200_500])
def test_a_file_of_any_number_of_chunks_arrives_whole(service, client, tmp_path, size):
    path = make_file(tmp_path, size)
    upload = upload_file(client, SESSION, path)
    assert service.uploads[upload["uploadId"]].content == path.read_bytes()
    assert upload["crc32c"] == crc32c(path.read_bytes())


def test_a_chunk_plan_covers_the_file_with_a_shorter_last_chunk():
    plan = ChunkPlan(size_bytes=2500, chunk_size_bytes=1000, total_chunks=3)
    assert [(plan.offset(index), plan.size(index)) for index in range(3)] == [(0, 1000), (1000, 1000), (2000, 500)]


@pytest.mark.parametrize("total_chunks", [0, 2, 4])
def test_a_chunk_plan_that_does_not_cover_the_file_is_refused(total_chunks):
    document = {"size": 2500, "chunkSize": 1000, "totalChunks": total_chunks}
    with pytest.raises(UploadError, match="2500 bytes"):
        ChunkPlan.of(document)


def test_the_checksum_is_crc32c_in_big_endian_base64(tmp_path):
    # The check value of CRC-32C (RFC 3720, appendix B.4 uses the same polynomial): 0xE3069283.
    path = tmp_path / "check"
    path.write_bytes(b"--123456789--")
    with path.open("rb") as file:
        assert crc32c_of(file, 2, 9) == "4waSgw=="


def test_a_new_upload_whose_chunks_are_all_taken_is_looked_at_neither_before_nor_after(service, client, tmp_path):
    upload = upload_file(client, SESSION, make_file(tmp_path, 5_000))
    asked = [request for request in service.requests if upload["uploadId"] not in request or "GET" in request]
    assert asked == ["POST /uploads"]


def test_a_chunk_that_was_there_before_ours_is_compared_with_the_file(service, client, tmp_path):
    path = make_file(tmp_path, 5_000)

    def another_client_stores_other_bytes(index: int) -> None:
        if index == 2:
            (upload,) = service.uploads.values()
            upload.chunks[2] = bytes(1000)

    service.on_put = another_client_stores_other_bytes
    with pytest.raises(FileChangedError, match="chunk 2"):
        upload_file(client, SESSION, path)


def test_chunks_are_signed_in_batches_that_grow_to_128(service, client, tmp_path):
    upload_file(client, SESSION, make_file(tmp_path, 500_000))
    assert sum(service.signings) == 500
    assert service.signings[0] == 2 * service.concurrency
    assert max(service.signings) == 128


def test_chunks_are_signed_only_shortly_before_they_are_sent(service, client, tmp_path):
    ahead = []

    def note(_: int) -> None:
        ahead.append(sum(service.signings) - len(service.puts))
        time.sleep(0.002)

    service.on_put = note
    upload_file(client, SESSION, make_file(tmp_path, 1_000_000))
    # What waits to be sent, and the batch that was signed last.
    assert max(ahead) <= 2 * service.concurrency + 128


def test_as_many_chunks_are_sent_at_once_as_the_server_wants(service, client, tmp_path):
    everybody_is_here = threading.Barrier(service.concurrency)
    service.on_put = lambda index: everybody_is_here.wait(timeout=10) if index < service.concurrency else None
    upload_file(client, SESSION, make_file(tmp_path, 30_000))
    assert service.most_puts_at_once == service.concurrency


def test_while_the_service_reads_the_joined_file_progress_tells_how_far_it_is(service, client, tmp_path, monkeypatch):
    monkeypatch.setattr("trainshed.upload.WATCH_EVERY_S", 0.001)
    # What is said once the last was asked for, nobody needs to hear.
    looks = [None, 1000, "fails", 3000, 3300]
    progress, assemble = service.progress, service.assemble

    def look(upload):
        if upload.state == "assembling" and looks:
            upload.verified_bytes = looks.pop(0)
            if upload.verified_bytes == "fails":
                raise RefusedError(404, "upload_not_found")
        return progress(upload)

    def assemble_slowly(upload):
        if looks:
            upload.state = "assembling"
            return 202, upload.document()
        return assemble(upload)

    service.progress, service.assemble = look, assemble_slowly
    seen = []

    assert upload_file(client, SESSION, make_file(tmp_path, 3_300), on_progress=seen.append)["state"] == "assembled"

    told = [(one.done_bytes, one.stored_bytes) for one in seen if one.phase == "checking"]
    assert told[:2] == [(1000, 3300), (3000, 3300)]


def test_progress_counts_bytes_that_the_bucket_holds_and_never_goes_back(client, tmp_path):
    seen = []
    upload_file(client, SESSION, make_file(tmp_path, 20_300), on_progress=seen.append)
    stored = [progress.stored_bytes for progress in seen if progress.phase == "uploading"]
    assert stored == sorted(stored)
    assert (stored[0], stored[-1]) == (0, 20_300)
    assert seen[-1].phase == "assembling"


def test_memory_stays_far_below_the_size_of_a_chunk(tmp_path):
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(128 << 20)
    # In a process of its own, because the server keeps what it gets.
    script = f"""
import sys, tracemalloc
from pathlib import Path
from trainshed.client import Client
from trainshed.upload import upload_file
with Client(sys.argv[1]) as client:
    tracemalloc.start()
    upload_file(client, "{SESSION}", Path(sys.argv[2]))
    print(tracemalloc.get_traced_memory()[1])
"""
    with running(FakeUploadService(chunk_size=32 << 20, concurrency=2)) as service:
        service.sessions.add(SESSION)
        arguments = [sys.executable, "-c", script, service.url, str(path)]
        peak_bytes = int(subprocess.run(arguments, check=True, capture_output=True, timeout=60).stdout)
    assert peak_bytes < 16 << 20


class TestResuming:
    def test_only_missing_chunks_are_sent(self, service, client, tmp_path):
        path = make_file(tmp_path, 10_000)
        upload_id = make_started_upload(client, path, [0, 1, 2, 7])
        service.puts.clear()
        assert upload_file(client, SESSION, path)["uploadId"] == upload_id
        assert sorted(service.puts) == [3, 4, 5, 6, 8, 9]
        assert service.uploads[upload_id].content == path.read_bytes()

    def test_an_upload_is_found_by_its_id(self, service, client, tmp_path):
        path = make_file(tmp_path, 5_000)
        upload_id = make_started_upload(client, path, [4])
        renamed = path.rename(tmp_path / "moved.bin")
        assert upload_file(client, SESSION, renamed, upload_id=upload_id)["uploadId"] == upload_id

    def test_another_file_of_the_same_size_is_refused_before_a_byte_is_sent(self, service, client, tmp_path):
        path = make_file(tmp_path, 10_000)
        make_started_upload(client, path, [2, 5, 8])
        content = bytearray(path.read_bytes())
        content[5_999] ^= 1
        content[8_000] ^= 1
        path.write_bytes(content)
        service.puts.clear()
        with pytest.raises(FileChangedError, match=r"chunk 5 \(bytes 5000 to 5999\)") as refusal:
            upload_file(client, SESSION, path)
        assert refusal.value.chunk_index == 5
        assert service.puts == []

    def test_an_upload_of_another_session_is_refused(self, service, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        upload_id = make_started_upload(client, path, [0])
        service.sessions.add("session-2")
        with pytest.raises(UploadError, match="belongs to session session-1"):
            upload_file(client, "session-2", path, upload_id=upload_id)

    def test_a_file_of_another_size_is_refused_by_its_upload_id(self, client, tmp_path):
        path = make_file(tmp_path, 10_000)
        upload_id = make_started_upload(client, path, [])
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(FileChangedError, match="10004 bytes"):
            upload_file(client, SESSION, path, upload_id=upload_id)

    def test_an_assembled_upload_of_the_same_file_is_done(self, service, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        first = upload_file(client, SESSION, path)
        service.puts.clear()
        assert upload_file(client, SESSION, path) == {**first, **client.get_upload(first["uploadId"])}
        assert service.puts == []

    def test_an_assembled_upload_of_another_file_is_refused(self, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        upload_file(client, SESSION, path)
        path.write_bytes(os.urandom(3_000))
        with pytest.raises(FileChangedError, match="not the file that was uploaded"):
            upload_file(client, SESSION, path)

    def test_an_upload_that_is_being_assembled_is_waited_for(self, service, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        upload_id = make_started_upload(client, path, [0, 1, 2])
        service.answers_busy = 3
        assert upload_file(client, SESSION, path)["state"] == "assembled"
        assert service.requests.count(f"POST /uploads/{upload_id}/assemble") == 4

    def test_an_upload_that_another_process_is_assembling_is_waited_for(self, service, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        upload_id = make_started_upload(client, path, [0, 1, 2])
        service.uploads[upload_id].state = "assembling"
        service.answers_busy = 2
        service.puts.clear()
        assert upload_file(client, SESSION, path)["crc32c"] == crc32c(path.read_bytes())
        assert service.puts == []

    def test_what_another_process_assembles_from_another_file_is_refused(self, service, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        upload_id = make_started_upload(client, path, [0, 1, 2])
        service.uploads[upload_id].state = "assembling"
        path.write_bytes(os.urandom(3_000))
        with pytest.raises(FileChangedError, match="not the file that was uploaded"):
            upload_file(client, SESSION, path)

    def test_an_aborted_upload_is_refused(self, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        upload_id = make_started_upload(client, path, [0])
        client.abort_upload(upload_id)
        with pytest.raises(UploadError, match="is aborted"):
            upload_file(client, SESSION, path, upload_id=upload_id)

    def test_two_processes_at_once_end_in_one_object(self, service, tmp_path):
        path = make_file(tmp_path, 60_000)
        service.on_put = lambda _: time.sleep(0.002)
        answers = []

        def run() -> None:
            with Client(service.url, backoff=QUICK) as client:
                answers.append(upload_file(client, SESSION, path))

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer["state"] for answer in answers] == ["assembled", "assembled"]
        assert len({answer["uploadId"] for answer in answers}) == 1
        assert service.uploads[answers[0]["uploadId"]].content == path.read_bytes()


class TestFaults:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault(503, "ServiceUnavailable"),
            Fault(429, "SlowDown", retry_after="0"),
            Fault(500, "InternalError"),
            Fault(408, "RequestTimeout"),
            Fault(0),
            Fault(0, after_storing=True),
            Fault(400, "BadDigest"),
        ],
        ids=str,
    )
    def test_a_passing_fault_of_the_bucket_is_overcome(self, service, client, tmp_path, fault):
        path = make_file(tmp_path, 5_000)
        service.bucket_faults.extend([fault, fault])
        upload = upload_file(client, SESSION, path)
        assert service.uploads[upload["uploadId"]].content == path.read_bytes()

    def test_a_fault_that_does_not_pass_ends_the_upload_after_some_tries(self, service, client, tmp_path):
        service.bucket_faults.extend([Fault(503, "ServiceUnavailable")] * 100)
        with pytest.raises(UploadError, match="503 ServiceUnavailable"):
            upload_file(client, SESSION, make_file(tmp_path, 900))
        assert len(service.puts) == QUICK.attempts

    def test_what_was_stored_before_a_fault_is_kept_for_the_next_try(self, service, client, tmp_path):
        path = make_file(tmp_path, 10_000)
        service.on_put = lambda index: service.bucket_faults.extend(
            [Fault(403, "AccessDenied")] * 50 if index == 6 else []
        )
        with pytest.raises(UploadError):
            upload_file(client, SESSION, path)
        service.on_put = lambda _: None
        service.bucket_faults.clear()
        stored = set(next(iter(service.uploads.values())).chunks)
        service.puts.clear()
        upload_file(client, SESSION, path)
        assert stored
        assert not stored & set(service.puts)

    @pytest.mark.parametrize("fault", [Fault(400, "ExpiredToken"), Fault(403, "SignatureDoesNotMatch")], ids=str)
    def test_a_refused_signature_is_replaced(self, service, client, tmp_path, fault):
        path = make_file(tmp_path, 3_000)
        service.bucket_faults.append(fault)
        upload_file(client, SESSION, path)
        assert service.signings == [3, 1]

    def test_signatures_that_expire_while_the_file_is_sent_are_replaced(self, service, client, tmp_path):
        path = make_file(tmp_path, 20_000)
        service.on_put = lambda index: service.expire_signatures() if index == 5 and not service.epoch else None
        upload = upload_file(client, SESSION, path)
        assert service.uploads[upload["uploadId"]].content == path.read_bytes()

    def test_a_token_that_ends_while_the_file_is_sent_is_renewed(self, service, tmp_path):
        class Source:
            renewals = 0

            def __call__(self):
                return f"token-{self.renewals}"

            def renew(self):
                self.renewals += 1

        def end_it_once(index):
            if index == 5 and not source.renewals:
                service.api_faults.append(Fault(401, "unauthenticated"))

        source, path = Source(), make_file(tmp_path, 200_000)
        service.on_put = end_it_once
        with Client(service.url, source, backoff=QUICK) as client:
            upload = upload_file(client, SESSION, path)
        assert source.renewals == 1
        assert service.uploads[upload["uploadId"]].content == path.read_bytes()

    def test_a_signature_that_is_always_refused_ends_the_upload(self, service, client, tmp_path):
        service.bucket_faults.extend([Fault(403, "AccessDenied")] * 100)
        with pytest.raises(UploadError, match="refuses the signature of chunk 0"):
            upload_file(client, SESSION, make_file(tmp_path, 900))
        assert len(service.puts) <= 4

    def test_a_final_refusal_of_the_bucket_is_not_repeated(self, service, client, tmp_path):
        service.bucket_faults.append(Fault(404, "NoSuchBucket"))
        with pytest.raises(UploadError, match="404 NoSuchBucket"):
            upload_file(client, SESSION, make_file(tmp_path, 900))
        assert service.puts == [0]

    def test_a_file_that_changes_while_it_is_sent_is_noticed(self, service, client, tmp_path):
        path = make_file(tmp_path, 6_000)

        def change(index: int) -> None:
            if index == 0:
                path.write_bytes(os.urandom(6_000))
            else:
                time.sleep(0.05)

        service.concurrency = 1
        service.on_put = change
        with pytest.raises(FileChangedError, match="changed while it was uploaded"):
            upload_file(client, SESSION, path)

    def test_a_chunk_that_vanishes_before_assembling_is_sent_again(self, service, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        assemble = service.assemble

        def losing(upload):
            service.assemble = assemble
            del upload.chunks[1]
            return assemble(upload)

        service.assemble = losing
        upload = upload_file(client, SESSION, path)
        assert service.uploads[upload["uploadId"]].content == path.read_bytes()

    def test_an_error_of_the_service_keeps_its_code_and_request_id(self, client, tmp_path):
        with pytest.raises(ServiceError) as refusal:
            upload_file(client, "no-such-session", make_file(tmp_path, 10))
        assert (refusal.value.code, refusal.value.request_id) == ("session_not_found", "request-1")

    def test_a_missing_file_is_one_sentence(self, client, tmp_path):
        with pytest.raises(UploadError, match="No such file"):
            upload_file(client, SESSION, tmp_path / "nothing")

    def test_a_pipe_is_no_file(self, client, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UploadError, match="not a plain file"):
            upload_file(client, SESSION, tmp_path / "pipe")

    def test_a_folder_is_no_file(self, client, tmp_path):
        with pytest.raises(UploadError, match="not a plain file"):
            upload_file(client, SESSION, tmp_path)
