"""Deletions in batches: every refusal is seen, and what a batch left is deleted one by one."""

import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dev.door import batch
from shared.adapters.gcs import GcsObjectStore
from shared.errors import StorageUnavailableError
from shared.records.objects import StoredObject


class DeletingServer(ThreadingHTTPServer):
    """Answers each deletion in a batch, and each deletion alone, with the status it is told; 204 otherwise."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.batch_status = 200
        self.in_batch = {}
        self.alone = {}
        self.batches = []
        self.single = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        calls = batch.parse(self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"])))
        self.server.batches.append([f"{call.path.rpartition('/')[2]}?{call.query}" for call in calls])
        statuses = [self.server.in_batch.get(call.path.rpartition("/")[2], 204) for call in calls]
        answers = [(call, status, b"") for call, status in zip(calls, statuses, strict=True)]
        self._answer(self.server.batch_status, batch.render("b", answers), "multipart/mixed; boundary=b")

    def do_DELETE(self):
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.server.single.append(name)
        self._answer(self.server.alone.get(name, 204), b"", "application/json")

    def _answer(self, status, content, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Stay silent."""


@pytest.fixture
def server(monkeypatch):
    server = DeletingServer()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(server):
    store = GcsObjectStore("uploads")
    yield store
    store._client._http.close()


def objects(n):
    return [StoredObject(f"o{index}", 7, 1, "", datetime(2026, 1, 1, tzinfo=UTC)) for index in range(n)]


def test_a_hundred_go_in_a_request_each_of_its_generation(server, store):
    assert store.delete(objects(250)) == 250

    assert sorted(map(len, server.batches)) == [50, 100, 100]
    assert "o3?ifGenerationMatch=7" in {call.partition("&")[0] for calls in server.batches for call in calls}
    assert server.single == []


def test_what_is_gone_or_of_another_generation_is_left_alone(server, store):
    server.in_batch = {"o1": 404, "o2": 412}

    assert store.delete(objects(5)) == 3
    assert server.single == []


def test_what_a_batch_failed_to_delete_is_deleted_alone(server, store):
    server.in_batch = {"o1": 503, "o2": 429}

    assert store.delete(objects(5)) == 5
    assert sorted(server.single) == ["o1", "o2"]


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_batch_that_is_refused_is_deleted_one_by_one(server, store, status):
    server.batch_status = status

    assert store.delete(objects(5)) == 5
    assert len(server.single) == 5


def test_an_object_that_cannot_be_deleted_is_an_error(server, store, monkeypatch):
    monkeypatch.setattr("shared.adapters.gcs.RETRY_DEADLINE_S", 0.5)
    server.in_batch, server.alone = {"o3": 503}, {"o3": 503}

    with pytest.raises(StorageUnavailableError):
        store.delete(objects(5))
