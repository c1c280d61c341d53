import argparse
import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from unittest import mock

import pytest

from tests.fakes.upload_service import FakeUploadService, Fault, running
from trainshed import client as client_module
from trainshed.__main__ import INTERRUPTED, NO_READER, NOT_SIGNED_IN, REFUSED, TRY_LATER, WRONG_USAGE, main
from trainshed.arguments import SHELLS, parser
from trainshed.commands import COMMANDS


@pytest.fixture
def service():
    with running(FakeUploadService()) as service:
        yield service


def environment(service):
    hidden = ("TRAINSHED_", "SUPABASE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, "TRAINSHED_URL": service.url, "TRAINSHED_TOKEN": "token-1"}


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(service, *arguments):
    """Run the command in this process, as if in a pipe."""
    outputs = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment(service), clear=True),
        contextlib.redirect_stdout(outputs[0]),
        contextlib.redirect_stderr(outputs[1]),
    ):
        try:
            code = main([*map(str, arguments)])
        except SystemExit as end:
            code = end.code
    return Done(code, *(output.getvalue() for output in outputs))


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
    assert done.stderr.endswith(f"To give that upload up: trainshed abort {upload_id}\n")
    path.write_bytes(b"x")
    done = run(service, "upload", path, "--session", "s1")
    assert done.stderr.endswith(f"To give that upload up: trainshed abort {upload_id}\n")
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


def parsers():
    """Return the parser of each command by its name."""
    action = next(one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    return action.choices


def test_every_command_has_a_parser_and_every_parser_a_command():
    assert parsers().keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_says_what_it_does_with_examples_that_are_right(name):
    text = parsers()[name].format_help()
    assert parsers()[name].description.endswith(".")
    examples = text.partition("examples:\n")[2].replace("\\\n", "").splitlines()
    assert examples
    for example in examples:
        line = re.sub(r"^eval \"\$\((.*)\)\"", r"\1", re.split(r"\s+#|\s\||\s[<>]", example.strip())[0])
        words = shlex.split(line)
        assert words[:2] == ["trainshed", name]
        assert parser().parse_args(words[1:]).command == name


def test_the_help_lists_the_exit_codes(service):
    text = run(service, "--help").stdout
    for code in (REFUSED, WRONG_USAGE, NOT_SIGNED_IN, TRY_LATER, INTERRUPTED):
        assert re.search(rf"^  {code} ", text, re.MULTILINE)
    assert str(NO_READER) in text


def test_an_interrupted_upload_says_how_to_continue_and_continues(service, tmp_path):
    path = tmp_path / "my data.bin"
    path.write_bytes(os.urandom(100_000))
    service.concurrency = 2
    service.on_put = lambda _: time.sleep(0.05)
    process = subprocess.Popen(
        [sys.executable, "-m", "trainshed", "upload", str(path), "--session", "s1"],
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
    assert f"trainshed upload '{path}' --session s1 --upload-id {upload_id}" in said
    stored = set(upload.chunks)
    assert 0 < len(stored) < 100

    service.on_put = lambda _: None
    service.puts.clear()
    assert run(service, "upload", path, "--session", "s1", "--upload-id", upload_id).returncode == 0
    assert not stored & set(service.puts)
    assert upload.content == path.read_bytes()


class TestFiles:
    def test_several_files_and_a_folder_are_uploaded_under_their_names(self, service, tmp_path):
        folder = tmp_path / "data"
        for name in ("a.csv", "2024/b.csv", "2024/q1/c.csv", ".hidden", ".git/config"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        single = tmp_path / "d.csv"
        single.write_text("d")
        done = run(service, "upload", single, folder, "--session", "s1", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        names = ["d.csv", "2024_b.csv", "2024_q1_c.csv", "a.csv"]
        assert [upload["fileName"] for upload in json.loads(done.stdout)["uploads"]] == names
        assert {one.file_name: one.content for one in service.uploads.values()}["2024_b.csv"] == b"2024/b.csv"

    def test_two_files_of_one_name_are_refused_before_a_byte_is_sent(self, service, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "x.csv").write_text(folder)
        done = run(service, "upload", tmp_path / "a/x.csv", tmp_path / "b/x.csv", "--session", "s1")
        assert (done.returncode, service.requests) == (1, [])
        assert "Two files would be called x.csv" in done.stderr

    def test_a_folder_without_files_is_an_error(self, service, tmp_path):
        done = run(service, "upload", tmp_path, "--session", "s1")
        assert (done.returncode, service.requests) == (1, [])
        assert "holds no files" in done.stderr

    def test_standard_input_is_refused_with_the_reason(self, service):
        done = run(service, "upload", "-", "--session", "s1")
        assert (done.returncode, service.requests) == (2, [])
        assert "size before its first byte" in done.stderr

    def test_a_pipe_is_refused_and_not_waited_for(self, service, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        done = run(service, "upload", tmp_path / "pipe", "--session", "s1")
        assert done.returncode == 1
        assert "is not a plain file" in done.stderr

    def test_more_than_5_tib_are_refused_before_the_first_byte_with_the_limit(self, service, tmp_path):
        path = tmp_path / "huge.bin"
        with path.open("wb") as file:
            file.truncate((5 << 40) + 1)
        done = run(service, "upload", path, "--session", "s1")
        assert done.returncode == 1
        assert "a file may have at most 5 TiB (5,497,558,138,880 bytes)." in done.stderr
        assert service.puts == []
        assert service.uploads == {}

    def test_a_file_of_0_bytes_arrives(self, service, tmp_path):
        (tmp_path / "empty.bin").touch()
        done = run(service, "upload", tmp_path / "empty.bin", "--session", "s1")
        assert (done.returncode, done.stderr) == (0, "")
        assert "0 bytes" in done.stdout

    def test_an_upload_id_alone_is_enough_on_another_machine(self, service, tmp_path):
        path = tmp_path / "data.bin"
        path.write_bytes(os.urandom(2_500))
        service.sessions.add("s1")
        _, created = service.create({"sessionId": "s1", "fileName": "data.bin", "size": 2_500})
        service.uploads[created["uploadId"]].chunks[0] = path.read_bytes()[:1_000]
        done = run(service, "upload", path, "--upload-id", created["uploadId"])
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(service.puts) == [1, 2]
        assert run(service, "upload", path).returncode == 2


class TestErrors:
    @pytest.mark.parametrize(
        ("faults", "code"),
        [
            ([Fault(401, "unauthenticated")], NOT_SIGNED_IN),
            ([Fault(409, "session_finalized")], REFUSED),
            ([Fault(403, "storage_limit_reached")], REFUSED),
            ([Fault(429, "processing_limit_reached")], REFUSED),
        ],
        ids=lambda value: value[0].code if isinstance(value, list) else "",
    )
    def test_exit_codes_say_what_can_be_done(self, service, tmp_path, faults, code):
        (tmp_path / "f").write_text("x")
        service.api_faults += faults
        assert run(service, "upload", tmp_path / "f", "--session", "s1").returncode == code

    def test_a_service_that_is_away_may_be_tried_later(self, service, monkeypatch):
        monkeypatch.setattr(client_module, "pause", lambda _: None)
        service.url = "http://127.0.0.1:1"
        done = run(service, "sessions")
        assert done.returncode == TRY_LATER
        assert "does not answer" in done.stderr

    def test_a_busy_service_is_waited_for(self, service, tmp_path):
        (tmp_path / "f").write_text("x")
        service.api_faults += [Fault(503, "unavailable", retry_after="0"), Fault(429, "")]
        service.bucket_faults += [Fault(429, "SlowDown", retry_after="0"), Fault(503, "ServiceUnavailable")]
        done = run(service, "upload", tmp_path / "f", "--session", "s1")
        assert (done.returncode, done.stderr) == (0, "")

    def test_an_ended_sign_in_says_how_to_sign_in_and_go_on(self, service, tmp_path):
        (tmp_path / "f").write_text("x")
        service.api_faults += [Fault(401, "unauthenticated")]
        done = run(service, "upload", tmp_path / "f", "--session", "s1")
        assert "trainshed login" in done.stderr
        assert f"continue with: trainshed upload {tmp_path / 'f'} --session s1" in done.stderr

    @pytest.mark.parametrize(
        ("fault", "advice"),
        [
            (Fault(403, "forbidden"), r"Sign in as somebody who may \(trainshed login\)"),
            (Fault(403, "storage_limit_reached"), r"Delete sessions that are no longer needed \(trainshed delete\)"),
            # What is no Trainshed answers with a page of its own.
            (Fault(403), "Something on the way refuses it: try another network"),
        ],
        ids=lambda value: value.code or "a proxy" if isinstance(value, Fault) else "",
    )
    def test_a_refusal_says_what_can_be_done_about_it(self, service, fault, advice):
        service.api_faults += [fault, fault]
        said = run(service, "sessions").stderr
        assert re.search(rf"\. \(request request-1\) {advice}", said), said
        assert re.match(advice, json.loads(run(service, "sessions", "--json").stderr)["advice"])

    def test_with_json_an_error_is_a_document_on_standard_error(self, service, tmp_path):
        (tmp_path / "f").write_text("x")
        service.api_faults += [Fault(402, "subscription_required")]
        done = run(service, "upload", tmp_path / "f", "--session", "s1", "--json")
        assert done.stdout == ""
        document = json.loads(done.stderr)
        assert (document["code"], document["exit_code"]) == ("subscription_required", 1)
        assert document["request_id"] == "request-1"

    def test_a_reader_that_goes_away_is_no_error_to_print(self, service, tmp_path):
        (tmp_path / "f").write_text("x")
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "trainshed", "upload", str(tmp_path / "f"), "--session", "s1", "--json"]
        process = subprocess.Popen(command, env=environment(service), stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (NO_READER, "")


class TestPipes:
    def test_nothing_of_a_terminal_gets_into_a_pipe(self, service, tmp_path):
        (tmp_path / "f").write_bytes(b"x" * 5_000)
        done = run(service, "upload", tmp_path / "f", "--session", "s1")
        assert "\x1b" not in done.stdout + done.stderr
        assert done.stdout.count("\n") == 1


class TestCompletion:
    @pytest.mark.parametrize("shell", SHELLS)
    def test_a_shell_gets_its_code(self, service, shell):
        done = run(service, "completion", shell)
        assert (done.returncode, done.stderr) == (0, "")
        assert "trainshed" in done.stdout

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("trainshed dow", {"download"}),
            ("trainshed d", {"delete", "doctor", "download"}),
            ("trainshed train s1 --te", {"--test-fraction"}),
            ("trainshed completion z", {"zsh"}),
        ],
    )
    def test_bash_completes_by_it(self, service, tmp_path, line, expected):
        (tmp_path / "trainshed").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trainshed "$@"\n')
        (tmp_path / "trainshed").chmod(0o755)
        words = line.split(" ")
        script = f"""
            source <(trainshed completion bash)
            COMP_WORDS=({line})
            COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_CWORD={len(words) - 1} COMP_TYPE=9
            _python_argcomplete trainshed
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment(service) | {"PATH": path, "PYTHONPATH": "cli"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert {word.strip() for word in done.stdout.split("\n") if word} == expected, done.stderr
