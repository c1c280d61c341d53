"""The functions as functions-framework serves them, with the real stack behind them."""

import gc
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import pytest
import urllib3
from flask import Flask
from werkzeug.test import TestResponse

from container.app import load_manifest
from dev.host import load_held_function
from shared.adapters.gcs import GcsObjectStore
from shared.records.callers import Caller
from shared.records.objects import chunks_prefix, data_sets_prefix, steps_prefix
from shared.web.manifest import Function, functions
from tests.local_stack import LocalStack

MANIFEST = load_manifest()
MIB = 1 << 20


class Api:
    """Sends requests to the function that the manifest names for them."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self._apps: dict[str, Flask] = {}

    def app(self, function: Function) -> Flask:
        if function.name not in self._apps:
            self._apps[function.name] = load_held_function(function.name, MANIFEST[function.name])
        return self._apps[function.name]

    def request(
        self, method: str, path: str, *, caller: Caller | None = None, token: str = "", **options: Any
    ) -> TestResponse:
        """Send a request, with a caller's token, another one, or none."""
        headers = dict(options.pop("headers", {}))
        if caller or token:
            headers["Authorization"] = f"Bearer {caller.token if caller else token}"
        # A preflight goes to the function that the request after it will go to.
        client = self.app(function_at(headers.get("Access-Control-Request-Method", method), path)).test_client()
        return client.open(path, method=method, headers=headers, **options)

    def get(self, path: str, caller: Caller | None = None, **options: Any) -> TestResponse:
        return self.request("GET", path, caller=caller, **options)

    def post(self, path: str, caller: Caller | None = None, **options: Any) -> TestResponse:
        return self.request("POST", path, caller=caller, **options)


def function_at(method: str, path: str) -> Function:
    """Return the function with that route; for another method, one that has the path."""
    bare = path.partition("?")[0].removeprefix("/api/training")
    found = [
        (route.method == method, function)
        for function in functions().values()
        for route in function.routes
        if route.variables(bare) is not None
    ]
    return max(found, key=lambda entry: entry[0])[1]


@dataclass
class Client:
    """A user at work: opens sessions and uploads, and sends chunks as a browser does."""

    api: Api
    caller: Caller
    http: httpx.Client

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.api.get(path, self.caller, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        if body is not None:
            options["json"] = body
        return self.api.post(path, self.caller, **options)

    def init(self, session_id: str = "weather") -> dict[str, Any]:
        return done(self.post("/init-session", {"sessionId": session_id}))

    def create(self, content_bytes: int, session_id: str = "weather", **fields: Any) -> dict[str, Any]:
        """Open a session and an upload in it."""
        self.init(session_id)
        body = {"sessionId": session_id, "fileName": "hours.csv", "size": content_bytes} | fields
        return done(self.post("/uploads", body), 201)

    def put(self, chunk: Mapping[str, Any], content: bytes) -> int:
        """Send one chunk to the bucket; return its HTTP status."""
        answer = self.http.request(chunk["method"], chunk["url"], headers=chunk["headers"], content=content)
        return answer.status_code

    def send(self, upload: Mapping[str, Any], content: bytes, *, missing: tuple[int, ...] = ()) -> None:
        """Send all chunks but the missing ones, four at a time."""
        size = upload["chunkSize"]
        chunks = [chunk for chunk in upload["chunks"] if chunk["index"] not in missing]
        with ThreadPoolExecutor(4) as pool:
            pieces = [content[chunk["index"] * size : (chunk["index"] + 1) * size] for chunk in chunks]
            assert set(pool.map(self.put, chunks, pieces)) <= {200}

    def uploaded(self, content: bytes, **fields: Any) -> dict[str, Any]:
        """Open an upload and send all of it."""
        upload = self.create(len(content), **fields)
        self.send(upload, content)
        return upload

    def assembled(self, content: bytes, **fields: Any) -> dict[str, Any]:
        """Upload and assemble a file."""
        upload = self.uploaded(content, **fields)
        return done(self.post(f"/uploads/{upload['uploadId']}/assemble"))


def done(answer: TestResponse, status: int = 200) -> dict[str, Any]:
    """Return the data of a success."""
    assert answer.status_code == status, answer.text
    body = answer.json
    assert set(body) == {"success", "data"}
    assert body["success"] is True
    return body["data"]


def refused(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """Return the details of an error that is told as errors are told."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body = json.loads(answer.text)
    assert (body["code"], body["status"]) == (code, status)
    assert body["success"] is False
    assert body["error"] == body["detail"]
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return body["details"]


class Buckets:
    """What the buckets hold."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack

    @cached_property
    def uploads(self) -> GcsObjectStore:
        return GcsObjectStore(self._stack.env["UPLOADS_BUCKET"])

    @cached_property
    def artifacts(self) -> GcsObjectStore:
        return GcsObjectStore(self._stack.env["ARTIFACTS_BUCKET"])

    def temporary(self, upload_id: str) -> list[str]:
        """Return the names of an upload's chunks and steps."""
        prefixes = (chunks_prefix(upload_id), steps_prefix(upload_id))
        return [stored.name for prefix in prefixes for stored in self.uploads.list(prefix)]

    def data_sets(self, session_uuid: str) -> dict[str, bytes]:
        """Return a session's data sets by file name."""
        stored = self.uploads.list(data_sets_prefix(session_uuid))
        return {one.name.rpartition("/")[2]: b"".join(self.uploads.read(one.name)) for one in stored}


@pytest.fixture(scope="session")
def configured(local_stack: LocalStack) -> Iterator[None]:
    """Give this process the environment of the stack's functions."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in local_stack.functions_env.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def api(local_stack: LocalStack, configured: None) -> Iterator[Api]:
    yield Api(local_stack)
    # Functions keep their connections for as long as their process lives; this one goes on to other tests.
    for pool in [one for one in gc.get_objects() if isinstance(one, urllib3.HTTPConnectionPool)]:
        pool.close()


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def buckets(local_stack: LocalStack, configured: None) -> Buckets:
    return Buckets(local_stack)


@pytest.fixture
def alice(api, people, http) -> Client:
    return Client(api, people.add(), http)


@pytest.fixture
def bob(api, people, http) -> Client:
    return Client(api, people.add(), http)
