"""The operations that the cost is computed of are those that a real upload makes."""

import threading
from collections import Counter
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import requests

from operations import cost
from shared.chunks import plan_chunk_bytes
from shared.uploads import UploadService
from tests.functional.conftest import Api, done

GIB = 1 << 30
CHUNK_BYTES = 64 << 10


def kind_of(request: requests.PreparedRequest) -> str:
    """Return the class of a call to Cloud Storage: https://cloud.google.com/storage/pricing#operations-by-class."""
    path = urlsplit(request.url).path
    if request.method == "DELETE" or path.startswith("/batch/"):
        return "free"
    is_list = request.method == "GET" and path.endswith("/o")
    return "class a" if request.method in {"POST", "PUT"} or is_list else "class b"


def noted(send, made: list[str]):
    """Return a way to send requests that notes their paths."""

    def request(self, method, path, **options):
        made.append(path)
        return send(self, method, path, **options)

    return request


@pytest.fixture
def calls(monkeypatch) -> Counter[str]:
    """Counts of the functions' calls to Cloud Storage."""
    counted: Counter[str] = Counter()
    lock, send = threading.Lock(), requests.Session.send

    def count(session, request, **options):
        with lock:
            counted[kind_of(request)] += 1
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", count)
    return counted


def test_the_operations_of_an_upload_are_those_that_the_cost_is_computed_of(local_stack, alice, calls, monkeypatch):
    counts = cost.load("operation_counts.yaml")["upload_of_1_gib"]
    assert counts["chunks"] == -(-GIB // plan_chunk_bytes(GIB, 0))
    # The same plan in small: as many chunks, of 64 KiB.
    monkeypatch.setitem(UploadService.__init__.__kwdefaults__, "least_chunk_bytes", CHUNK_BYTES)
    client = replace(alice, api=Api(local_stack))
    requests_made = []
    monkeypatch.setattr(Api, "request", noted(Api.request, requests_made))
    row = b"1234567,12345678901234567890123\n"
    content = row * (counts["chunks"] * CHUNK_BYTES // len(row))
    client.init()

    requests_made.clear()
    calls.clear()
    fields = {"sessionId": "weather", "fileName": "numbers.csv", "contentType": "text/csv", "size": len(content)}
    upload = done(client.post("/uploads", fields), 201)
    client.send(upload, content)
    assembled = done(client.post(f"/uploads/{upload['uploadId']}/assemble"))
    done(client.post("/finalize-session", {"sessionId": "weather"}))

    assert assembled["nRows"] == counts["chunks"] * CHUNK_BYTES // len(row) - 1
    assert upload["totalChunks"] == len(upload["chunks"]) == counts["signatures"] == counts["chunks"]
    assert len(requests_made) == counts["requests"]
    # A chunk's PUT is the client's, and is billed to the bucket's owner all the same.
    assert calls["class a"] + upload["totalChunks"] == counts["storage_class_a"]
    assert calls["class b"] == counts["storage_class_b"]


def test_the_operations_of_an_idle_hour_are_those_that_the_cost_is_computed_of(local_stack, api, calls):
    counts = cost.load("operation_counts.yaml")["idle_hour"]
    # What earlier tests left is swept first.
    while done(api.post("/cleanup", token=local_stack.scheduler_token(), json={}))["has_more"]:
        pass
    calls.clear()

    done(api.post("/cleanup", token=local_stack.scheduler_token(), json={}))

    assert calls["class a"] == counts["storage_class_a"]
    assert calls["class b"] == counts["storage_class_b"]
