import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.fakes.upload_service import FakeUploadService, Fault, RefusedError, crc32c, running
from tests.tokens import RenewableToken
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


def test_as_many_chunks_are_signed_at_once_as_are_sent_meanwhile(service, client, tmp_path):
    upload_file(client, SESSION, make_file(tmp_path, 500_000))
    assert sum(service.signings) == 500
    assert set(service.signings[:-1]) == {2 * service.concurrency}


def test_chunks_are_signed_only_shortly_before_they_are_sent(service, client, tmp_path):
    ahead = []

    def note(_: int) -> None:
        ahead.append(sum(service.signings) - len(service.puts))
        time.sleep(0.002)

    service.on_put = note
    upload_file(client, SESSION, make_file(tmp_path, 1_000_000))
    # What waits to be sent, and the batch that was signed last.
    assert max(ahead) <= 4 * service.concurrency


def test_as_many_chunks_are_sent_at_once_as_the_server_wants(service, client, tmp_path):
    everybody_is_here = threading.Barrier(service.concurrency)
    service.on_put = lambda index: everybody_is_here.wait(timeout=10) if index < service.concurrency else None
    upload_file(client, SESSION, make_file(tmp_path, 30_000))
    assert service.most_puts_at_once == service.concurrency


@pytest.mark.parametrize(("wanted", "n_threads"), [(0, 1), (7, 7), (1_000, 32)])
def test_there_is_at_least_one_thread_and_there_are_at_most_32(
    service, client, tmp_path, monkeypatch, wanted, n_threads
):
    made = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, n_workers, **options):
            made.append(n_workers)
            super().__init__(n_workers, **options)

    monkeypatch.setattr("trainshed.upload.ThreadPoolExecutor", Pool)
    service.concurrency = wanted
    upload_file(client, SESSION, make_file(tmp_path, 2_500))
    assert made == [n_threads]


def test_what_is_wished_for_is_asked_for_and_nothing_signed_before_its_checksum_is_known(service, client, tmp_path):
    asked, create = [], service.create

    def note(body):
        asked.append(body)
        return create(body)

    service.create = note
    path = make_file(tmp_path, 10)
    upload_file(client, SESSION, path, file_name="other.csv", content_type="text/csv", chunk_size=4 << 20)
    file = {"fileName": "other.csv", "size": 10, "contentType": "text/csv", "chunkSize": 4 << 20}
    assert asked == [{"sessionId": SESSION, "presign": 0, **file}]


def test_no_chunk_is_read_twice_for_its_checksum(service, client, tmp_path, monkeypatch):
    path, read = make_file(tmp_path, 5_000), []

    def note(file, offset, size):
        read.append(offset)
        return crc32c_of(file, offset, size)

    def another_client_stores_the_same(index: int) -> None:
        (upload,) = service.uploads.values()
        upload.chunks.setdefault(index, path.read_bytes()[index * 1000 : (index + 1) * 1000])

    monkeypatch.setattr("trainshed.upload.crc32c_of", note)
    service.on_put = another_client_stores_the_same
    upload_file(client, SESSION, path)
    assert sorted(read) == [0, 1_000, 2_000, 3_000, 4_000]


def test_while_the_service_reads_the_joined_file_progress_tells_how_far_it_is(service, client, tmp_path, monkeypatch):
    monkeypatch.setattr("trainshed.upload.WATCH_EVERY_S", 0.001)
    # What is said once the last was asked for, nobody needs to hear.
    looks, busy = [None, 1000, "fails", 3000, 3300], []
    progress, assemble = service.progress, service.assemble

    def look(upload):
        if upload.state == "assembling" and looks:
            upload.verified_bytes = looks.pop(0)
            if upload.verified_bytes == "fails":
                raise RefusedError(404, "upload_not_found")
        return progress(upload)

    def assemble_slowly(upload):
        busy.append(upload.state)
        if looks and len(busy) < 300:
            upload.state = "assembling"
            return 202, upload.document()
        return assemble(upload)

    service.progress, service.assemble = look, assemble_slowly
    seen = []

    assert upload_file(client, SESSION, make_file(tmp_path, 3_300), on_progress=seen.append)["state"] == "assembled"

    told = [(one.done_bytes, one.stored_bytes) for one in seen if one.phase == "checking"]
    assert told[:2] == [(1000, 3300), (3000, 3300)]


def test_how_far_the_joined_file_is_read_is_not_told_once_it_is_assembled(service, client, tmp_path, monkeypatch):
    monkeypatch.setattr("trainshed.upload.WATCH_EVERY_S", 0.001)
    is_asked, is_over, get, assemble = threading.Event(), threading.Event(), client.get_upload, service.assemble
    watchers, seen = [], []

    def get_late(upload_id):
        watchers.append(threading.current_thread())
        is_asked.set()
        is_over.wait(30)
        return {**get(upload_id), "verifiedBytes": 1000}

    def assemble_once_asked(upload):
        is_asked.wait(30)
        return assemble(upload)

    client.get_upload, service.assemble = get_late, assemble_once_asked
    upload_file(client, SESSION, make_file(tmp_path, 3_300), on_progress=seen.append)
    is_over.set()
    watchers[0].join(30)
    assert {progress.phase for progress in seen} == {"uploading", "assembling"}


def test_nobody_looks_how_far_the_joined_file_is_read_where_nobody_is_told(service, client, tmp_path):
    at_work, assemble = [], service.assemble

    def note(upload):
        at_work.extend(thread.name for thread in threading.enumerate())
        return assemble(upload)

    service.assemble = note
    upload_file(client, SESSION, make_file(tmp_path, 3_300))
    assert at_work
    assert "watch-assembly" not in at_work


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


def test_the_short_way_makes_the_session_unless_an_upload_of_it_is_continued(service, client, tmp_path):
    path = make_file(tmp_path, 2_500)
    client.upload("another", path, file_name="first.bin")
    assert service.sessions == {SESSION, "another"}
    upload_id = make_started_upload(client, path, [1])
    service.requests.clear()
    assert client.upload(SESSION, str(path), upload_id=upload_id)["uploadId"] == upload_id
    assert "POST /init-session" not in service.requests


class TestResuming:
    def test_only_missing_chunks_are_sent(self, service, client, tmp_path):
        path = make_file(tmp_path, 10_000)
        upload_id = make_started_upload(client, path, [0, 1, 2, 7])
        service.puts.clear()
        assert upload_file(client, SESSION, path)["uploadId"] == upload_id
        assert sorted(service.puts) == [3, 4, 5, 6, 8, 9]
        assert service.uploads[upload_id].content == path.read_bytes()

    def test_progress_begins_with_what_the_bucket_holds(self, client, tmp_path):
        path, seen = make_file(tmp_path, 4_500), []
        make_started_upload(client, path, [1, 4])
        upload_file(client, SESSION, path, on_progress=seen.append)
        upload_file(client, SESSION, path, on_progress=seen.append)
        told = [(progress.phase, progress.done_bytes) for progress in seen]
        assert told[:3] == [("comparing", 1_000), ("comparing", 1_500), ("uploading", 1_500)]
        assert told[-2:] == [("assembling", 4_500), ("comparing", 4_500)]

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

    def test_an_upload_that_has_failed_is_refused_with_the_reason(self, service, client, tmp_path):
        path = make_file(tmp_path, 3_000)
        upload_id = make_started_upload(client, path, [0])
        progress = service.progress
        failed = {"state": "failed", "failure": {"detail": "Line 3 has 4 fields, not 2."}}
        service.progress = lambda upload: progress(upload) | failed
        with pytest.raises(UploadError, match=r"is failed and cannot go on\. Line 3 has 4 fields, not 2\.$"):
            upload_file(client, SESSION, path, upload_id=upload_id)

    def test_an_upload_that_is_aborted_meanwhile_is_not_assembled(self, service, client, tmp_path):
        def abort(index: int) -> None:
            (upload,) = service.uploads.values()
            upload.state = "aborted"

        service.on_put = abort
        with pytest.raises(ServiceError) as refusal:
            upload_file(client, SESSION, make_file(tmp_path, 30_000))
        assert (refusal.value.code, refusal.value.details) == ("wrong_state", {"state": "aborted"})
        assert not [request for request in service.requests if request.endswith("/assemble")]

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
            Fault(400, "CrcMismatch"),
            Fault(400, "InvalidDigest"),
        ],
        ids=str,
    )
    def test_a_passing_fault_of_the_bucket_is_overcome(self, service, client, tmp_path, fault):
        path = make_file(tmp_path, 5_000)
        service.bucket_faults.extend([fault, fault])
        upload = upload_file(client, SESSION, path)
        assert service.uploads[upload["uploadId"]].content == path.read_bytes()

    @pytest.mark.parametrize("fault", [Fault(429, "SlowDown", "7"), Fault(503, "ServiceUnavailable", "7")], ids=str)
    def test_the_bucket_is_left_alone_as_long_as_it_asks_for(self, service, tmp_path, monkeypatch, fault):
        waits = []
        monkeypatch.setattr("trainshed.upload.pause", lambda seconds, _: waits.append(seconds))
        service.bucket_faults.append(fault)
        with Client(service.url, backoff=Backoff(attempts=2, first_s=0.001)) as client:
            upload_file(client, SESSION, make_file(tmp_path, 900))
        assert waits == [pytest.approx(7, abs=0.001)]

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
        path, hashes, put = make_file(tmp_path, 3_000), [], service.put

        def note(upload, index, epoch, headers, content):
            hashes.append(headers.get("x-goog-hash"))
            put(upload, index, epoch, headers, content)

        service.bucket_faults.append(fault)
        service.put = note
        upload_file(client, SESSION, path)
        assert service.signings == [3, 1]
        # Also the one that replaces another is good for these bytes alone.
        content = path.read_bytes()
        assert sorted(hashes) == sorted(f"crc32c={crc32c(content[at : at + 1_000])}" for at in (0, 1_000, 2_000))

    def test_signatures_that_expire_while_the_file_is_sent_are_replaced(self, service, client, tmp_path):
        path = make_file(tmp_path, 20_000)
        service.on_put = lambda index: service.expire_signatures() if index == 5 and not service.epoch else None
        upload = upload_file(client, SESSION, path)
        assert service.uploads[upload["uploadId"]].content == path.read_bytes()

    def test_a_token_that_ends_while_the_file_is_sent_is_renewed(self, service, tmp_path):
        def end_it_once(index):
            if index == 5 and not source.renewals:
                service.api_faults.append(Fault(401, "unauthenticated"))

        source, path = RenewableToken(), make_file(tmp_path, 200_000)
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
        with pytest.raises(FileChangedError, match="changed while it was uploaded") as refusal:
            upload_file(client, SESSION, path)
        assert refusal.value.chunk_index == 1

    def test_a_file_that_becomes_shorter_while_it_is_sent_is_noticed(self, service, client, tmp_path):
        path = make_file(tmp_path, 6_000)
        service.concurrency = 1
        service.on_put = lambda _: os.truncate(path, 3_500)
        with pytest.raises(FileChangedError, match="became shorter while it was read"):
            upload_file(client, SESSION, path)

    def test_a_file_that_cannot_be_read_is_one_sentence(self, client, tmp_path, monkeypatch):
        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        path = make_file(tmp_path, 10)
        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(UploadError, match=r"^Cannot read .*data\.bin: Permission denied\.$"):
            upload_file(client, SESSION, path)

    def test_a_bucket_that_loses_chunks_again_and_again_ends_the_upload(self, service, client, tmp_path):
        losses, assemble = [], service.assemble

        def losing(upload):
            losses.append(upload.chunks.pop(1))
            if len(losses) > 9:
                raise RefusedError(500, "internal_error")
            return assemble(upload)

        service.assemble = losing
        with pytest.raises(UploadError, match="loses chunks of upload"):
            upload_file(client, SESSION, make_file(tmp_path, 3_000))
        assert len(losses) == 3

    def test_a_chunk_that_vanishes_before_assembling_is_sent_again(self, service, client, tmp_path):
        path, seen = make_file(tmp_path, 3_000), []
        assemble = service.assemble

        def losing(upload):
            service.assemble = assemble
            del upload.chunks[1]
            return assemble(upload)

        service.assemble = losing
        upload = upload_file(client, SESSION, path, on_progress=seen.append)
        assert service.uploads[upload["uploadId"]].content == path.read_bytes()
        # What is lost is not counted any more.
        again = [progress.phase for progress in seen].index("assembling") + 1
        assert (seen[again - 1].stored_bytes, seen[again + 2].phase) == (3_000, "uploading")
        assert [progress.stored_bytes for progress in seen[again + 2 :]] == [2_000, 3_000, 3_000]

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


class TestStopping:
    """When one chunk is refused for good, or somebody presses Ctrl-C, the others stop, and the upload can go on later.

    A chunk that must see it waits for `is_stopping`, which is set when no further chunk is begun.
    """

    @pytest.fixture
    def is_stopping(self, monkeypatch):
        event = threading.Event()

        class Pool(ThreadPoolExecutor):
            def shutdown(self, wait=True, **options):
                super().shutdown(wait=False, **options)
                event.set()
                super().shutdown(wait=wait)

        monkeypatch.setattr("trainshed.upload.ThreadPoolExecutor", Pool)
        return event

    @pytest.mark.parametrize("by", [UploadError, KeyboardInterrupt])
    def test_no_further_chunk_is_begun_and_what_is_stored_stays(self, service, client, tmp_path, is_stopping, by):
        def hold(index: int) -> None:
            if index > 0:
                is_stopping.wait(30)
            elif by is UploadError:
                service.bucket_faults.append(Fault(404, "NoSuchBucket"))

        def interrupt(progress) -> None:
            if progress.stored_bytes > 0:
                raise KeyboardInterrupt

        path = make_file(tmp_path, 30_000)
        service.on_put = hold
        with pytest.raises(by):
            upload_file(client, SESSION, path, on_progress=interrupt)
        # Eight are signed and wait; four are sent, and another as soon as the first is answered.
        assert max(service.puts) <= 4

        (upload,) = service.uploads.values()
        assert upload.state == "open"
        stored = set(upload.chunks)
        service.on_put = lambda _: None
        service.puts.clear()
        assert upload_file(client, SESSION, path)["uploadId"] == upload.upload_id
        assert not stored & set(service.puts)

    @pytest.mark.parametrize("by", [UploadError, KeyboardInterrupt])
    def test_a_chunk_that_is_being_sent_ends_at_its_next_piece(
        self, service, client, tmp_path, monkeypatch, is_stopping, by
    ):
        monkeypatch.setattr("trainshed.upload._PIECE_BYTES", 100)
        is_begun, sent, put = threading.Event(), [], client.put_chunk

        def put_chunk(chunk, pieces):
            if chunk["index"] == 0:
                is_begun.wait(30)
                return httpx.Response(404) if by is UploadError else put(chunk, pieces)
            piece = next(iter(pieces))
            is_begun.set()
            is_stopping.wait(30)
            sent.append(piece)
            sent.extend(pieces)
            return httpx.Response(200)

        def interrupt(progress) -> None:
            if progress.stored_bytes > 0:
                raise KeyboardInterrupt

        client.put_chunk = put_chunk
        service.concurrency = 2
        with pytest.raises(by):
            upload_file(client, SESSION, make_file(tmp_path, 2_000), on_progress=interrupt)
        assert [len(piece) for piece in sent] == [100]

    def test_a_chunk_that_waits_to_be_tried_again_is_given_up(self, service, client, tmp_path, monkeypatch):
        is_waiting, ends = threading.Event(), []

        def pause(_, stop=None):
            is_waiting.set()
            ends.append(stop is not None and stop.wait(30))

        def fail(index: int) -> None:
            if index == 1:
                is_waiting.wait(30)
            service.bucket_faults.append(Fault(404, "NoSuchBucket") if index else Fault(503, "ServiceUnavailable"))

        monkeypatch.setattr("trainshed.upload.pause", pause)
        service.concurrency = 2
        service.on_put = fail
        with pytest.raises(UploadError, match="404 NoSuchBucket"):
            upload_file(client, SESSION, make_file(tmp_path, 2_000))
        assert ends == [True]
        assert sorted(service.puts) == [0, 1]
