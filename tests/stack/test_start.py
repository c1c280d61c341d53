"""What `make start` promises: one clear line when ready, one clear sentence when not, and nothing left behind."""

import os
import signal
import socket
import time

import httpx
import psycopg
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.stack.supervisor import Supervisor

pytestmark = pytest.mark.slow


def bucket_of(supervisor):
    settings = supervisor.settings()
    client = storage.Client(
        project="trainshed-local",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": settings["STORAGE_INTERNAL_URL"]},
    )
    return client.bucket(settings["UPLOADS_BUCKET"])


def test_data_survive_a_restart_and_the_second_start_is_quick(supervisor, record_property):
    assert supervisor.start() is None, supervisor.lines
    assert supervisor.lines[-1] == f"Trainshed is ready: http://localhost:{supervisor.port}\n"
    assert httpx.get(f"http://localhost:{supervisor.port}/api/training/list-sessions").status_code == 200
    blob = bucket_of(supervisor).blob("chunks/kept/00000")
    blob.upload_from_string(b"kept")
    with psycopg.connect(supervisor.settings()["DATABASE_URL"]) as connection:
        connection.execute("create table kept as select 1 as one")

    assert supervisor.end() == 0
    assert supervisor.servers_end()
    begun = time.monotonic()
    assert supervisor.start() is None, supervisor.lines
    seconds = time.monotonic() - begun

    record_property("second_start_s", round(seconds, 1))
    assert seconds < 15
    assert not any("applied" in line for line in supervisor.lines)
    read = bucket_of(supervisor).get_blob("chunks/kept/00000")
    assert (read.download_as_bytes(), read.generation) == (b"kept", blob.generation)
    with psycopg.connect(supervisor.settings()["DATABASE_URL"]) as connection:
        assert connection.execute("select one from kept").fetchone() == (1,)
    read.upload_from_string(b"new")
    assert read.generation > blob.generation


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_every_server(supervisor, number):
    assert supervisor.start() is None, supervisor.lines
    assert len(supervisor.servers()) >= 8

    assert supervisor.end(number) == 0

    assert supervisor.servers() == set()
    assert not (supervisor.home / "env").exists()


def test_servers_end_with_a_supervisor_that_is_killed_and_the_next_start_is_clean(supervisor):
    assert supervisor.start() is None, supervisor.lines

    supervisor.end(signal.SIGKILL)

    assert supervisor.servers_end()
    assert supervisor.start() is None, supervisor.lines


def test_a_server_that_dies_is_named_with_the_end_of_its_log(supervisor):
    assert supervisor.start() is None, supervisor.lines

    os.kill(supervisor.server("storage"), signal.SIGKILL)

    assert supervisor.process.wait(30) == 1
    assert supervisor.servers_end()
    said = "".join(supervisor.lines)
    assert "storage was ended by signal 9." in said
    assert str(supervisor.home / "logs/storage.log") in said


def test_a_second_start_with_the_same_home_says_so(supervisor):
    assert supervisor.start() is None, supervisor.lines

    with Supervisor(supervisor.home) as second:
        code = second.start()

    assert code == 1
    sentence = f"A stack is already running with {supervisor.home} (http://localhost:{supervisor.port})."
    assert second.lines[-1].strip() == sentence
    assert httpx.get(f"http://localhost:{supervisor.port}/").status_code == 200


@pytest.mark.parametrize("above", [0, 1])
def test_a_port_in_use_is_named(supervisor, above):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", supervisor.port + above))
        taken.listen()

        assert supervisor.start() == 1

    assert supervisor.lines[-1].startswith(f"Port {supervisor.port + above} (")
    assert "is in use by another program" in supervisor.lines[-1]


@pytest.mark.parametrize("port", ["0", "65535", "http", "-1", " "])
def test_a_port_that_is_none_is_refused(supervisor, port):
    assert supervisor.start(PORT=port) == 1

    assert supervisor.lines == [f"PORT must be a number from 1 to 65534, not '{port}'.\n"]


def test_a_home_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with Supervisor(tmp_path / "file/home") as supervisor:
        assert supervisor.start() == 1

    assert supervisor.lines == [f"Cannot write to {tmp_path / 'file/home'}: Not a directory.\n"]
