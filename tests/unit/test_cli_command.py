import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.fakes.upload_service import FakeUploadService, Fault, running


@pytest.fixture
def service():
    with running(FakeUploadService()) as service:
        yield service


def environment(service):
    hidden = ("TRAINSHED_", "SUPABASE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, "TRAINSHED_URL": service.url, "TRAINSHED_TOKEN": "token-1"}


def run(service, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "cli", *map(str, arguments)],
        env=environment(service),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_upload_creates_the_session_and_says_what_is_stored(service, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(2_500))
    done = run(service, "upload", path, "--session", "s1")
    assert done.returncode == 0
    assert re.match(r"data\.bin is stored: 2,500 bytes, chunks: 3, crc32c \S+\.\n$", done.stdout)
    assert done.stderr == ""
    assert service.sessions == {"s1"}


def test_a_setting_that_is_none_is_exit_code_2(service):
    service.url = "localhost"
    done = run(service, "sessions")
    assert (done.returncode, done.stderr) == (2, "TRAINSHED_URL must begin with http:// or https://.\n")


def test_a_changed_file_says_how_to_give_the_old_upload_up(service, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"x" * 2_500)
    service.sessions.add("s1")
    _, created = service.create({"sessionId": "s1", "fileName": "data.bin", "size": 2_500})
    upload_id = created["uploadId"]
    service.uploads[upload_id].chunks[1] = b"y" * 1_000
    done = run(service, "upload", path, "--session", "s1", "--upload-id", upload_id)
    assert done.returncode == 1
    assert done.stderr.endswith(f"To give that upload up: python -m cli abort {upload_id}\n")
    path.write_bytes(b"x")
    done = run(service, "upload", path, "--session", "s1")
    assert done.stderr.endswith(f"To give that upload up: python -m cli abort {upload_id}\n")
    assert run(service, "abort", upload_id).returncode == 0
    assert run(service, "upload", path, "--session", "s1").returncode == 0


def test_json_is_all_there_is_on_standard_output(service, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"x")
    done = run(service, "upload", path, "--session", "s1", "--json")
    assert json.loads(done.stdout)["state"] == "assembled"


def test_an_error_of_the_service_is_one_sentence_with_the_request_id_and_exit_code_1(service, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"x")
    service.api_faults.append(Fault(402, "subscription_required"))
    done = run(service, "upload", path, "--session", "s1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "It is subscription_required. (request request-1)\n"


def test_a_missing_file_is_one_sentence_and_exit_code_1(service, tmp_path):
    done = run(service, "upload", tmp_path / "nothing", "--session", "s1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No such file" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["upload"], ["upload", "file"], ["dance"], ["train", "s1"]])
def test_wrong_usage_is_exit_code_2(service, arguments):
    assert run(service, *arguments).returncode == 2


@pytest.mark.parametrize("command", ["upload", "abort", "finalize", "sessions", "train", "models", "download"])
def test_every_command_has_help(service, command):
    done = run(service, command, "--help")
    assert done.returncode == 0
    assert command in done.stdout


def test_an_interrupted_upload_says_how_to_continue_and_continues(service, tmp_path):
    path = tmp_path / "my data.bin"
    path.write_bytes(os.urandom(100_000))
    service.concurrency = 2
    service.on_put = lambda _: time.sleep(0.05)
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "upload", str(path), "--session", "s1"],
        env=environment(service),
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 30
    while len(service.puts) < 10 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    upload_id, upload = next(iter(service.uploads.items()))
    assert process.returncode == 130
    assert f"python -m cli upload '{path}' --session s1 --upload-id {upload_id}" in said
    stored = set(upload.chunks)
    assert 0 < len(stored) < 100

    service.on_put = lambda _: None
    service.puts.clear()
    assert run(service, "upload", path, "--session", "s1", "--upload-id", upload_id).returncode == 0
    assert not stored & set(service.puts)
    assert upload.content == path.read_bytes()
