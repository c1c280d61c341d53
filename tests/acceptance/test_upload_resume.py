import base64
import hashlib
import json
import os
import subprocess
import sys
import time

import google_crc32c
import pytest

from tests.acceptance.conftest import sign_in_as

SIZE_BYTES = 300_000_000
READ_BYTES = 1 << 20


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    """A CSV file of 300 MB in which no two chunks are alike."""
    path = tmp_path_factory.mktemp("resume") / "large.csv"
    n_rows = 0
    with path.open("wb") as file:
        written = file.write(b"row,value\n")
        while written < SIZE_BYTES:
            written += file.write(f"{n_rows},{os.urandom(500).hex()}\n".encode())
            n_rows += 1
    yield path, n_rows
    path.unlink()


def digests(path):
    sha256, crc32c = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            sha256.update(piece)
            crc32c = google_crc32c.extend(crc32c, piece)
    return sha256.hexdigest(), base64.b64encode(crc32c.to_bytes(4, "big")).decode()


def start_client(url, path, session, *arguments):
    environment = {**os.environ, "TRAINSHED_URL": url, "TRAINSHED_TOKEN": sign_in_as("ALICE")()}
    command = [sys.executable, "-m", "trainshed", "upload", str(path), "--session", session, "--json", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_half(client, session, process):
    """Return the upload's id once the bucket has 40 % of the bytes."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        for upload in client.get_session(session)["uploads"]:
            if client.get_upload(upload["uploadId"])["receivedBytes"] > 0.4 * SIZE_BYTES:
                return upload["uploadId"]
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"The client was done before it could be killed: {process.communicate()}")


@pytest.mark.parametrize("by_upload_id", [False, True], ids=["found by its name", "found by its id"])
def test_a_killed_upload_of_300_mb_is_resumed_by_another_process(
    service_url, alice, new_session, large_file, by_upload_id
):
    path, n_rows = large_file
    session = new_session("resume")

    first = start_client(service_url, path, session)
    upload_id = wait_for_half(alice, session, first)
    first.kill()
    first.communicate()
    before = alice.get_upload(upload_id)
    assert before["state"] == "open"
    assert 0 < len(before["received"]) < before["totalChunks"]

    second = start_client(service_url, path, session, *(["--upload-id", upload_id] if by_upload_id else []))
    output, errors = second.communicate(timeout=300)
    assert (second.returncode, errors) == (0, "")
    assembled = json.loads(output)
    sha256, crc32c = digests(path)
    assert assembled["uploadId"] == upload_id
    assert assembled["size"] == path.stat().st_size
    assert (assembled["crc32c"], assembled["sha256"]) == (crc32c, sha256)
    assert assembled["nRows"] == n_rows
    assert alice.finalize_session(session)["n_dat"] == n_rows


def test_a_killed_upload_is_not_mixed_with_another_file(service_url, alice, new_session, tmp_path):
    session = new_session("mixed")
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(20_000_000))
    upload = alice.create_upload(session, path.name, path.stat().st_size)
    content = path.read_bytes()[: upload["chunkSize"]]
    crc32c = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
    signed = alice.sign_chunks(upload["uploadId"], {0: crc32c})[0]
    assert alice.put_chunk(signed, [content]).status_code == 200

    path.write_bytes(os.urandom(20_000_000))
    client = start_client(service_url, path, session)
    _, errors = client.communicate(timeout=60)
    assert client.returncode == 1
    assert "chunk 0 (bytes 0 to " in errors
    assert len(alice.get_upload(upload["uploadId"])["received"]) == 1
