"""What every `UrlSigner` promises: a signed request is let in as it was signed, and no other.

The real one signs for the origin that STORAGE_PUBLIC_URL names. How strict that origin is beyond this, tests/door asks.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.ports import ObjectStore, UrlSigner
from shared.settings import storage_settings
from tests.fakes.objects import InMemoryObjectStore, crc32c_of
from tests.fakes.signer import InMemorySigner
from tests.local_stack import LocalStack


@dataclass
class Bucket:
    """A bucket, a signer for it, and a way to send what it signed."""

    store: ObjectStore
    signer: UrlSigner
    send: Callable[..., tuple[int, bytes]]


def server_bucket(stack: LocalStack) -> Bucket:
    settings = storage_settings(stack.env)

    def send(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
        content = body if method == "PUT" else None
        answer = httpx.request(method, url, headers=headers, content=content, trust_env=False)
        return answer.status_code, answer.content

    name = settings.uploads_bucket
    return Bucket(GcsObjectStore(name), GcsUrlSigner(settings, name), send)


@pytest.fixture(params=["memory", "gcs"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    if request.param == "memory":
        store = InMemoryObjectStore()
        signer = InMemorySigner(store)
        return Bucket(store, signer, signer.send)
    return server_bucket(request.getfixturevalue("local_stack"))


@pytest.fixture
def name() -> str:
    return f"chunks/{uuid.uuid4()}/00000"


def signed_put(bucket: Bucket, name: str, n_bytes: int, **headers: str) -> Any:
    fixed = {"x-goog-content-length-range": f"{n_bytes},{n_bytes}", "x-goog-if-generation-match": "0"}
    return bucket.signer.sign("PUT", name, headers=fixed | headers)


def test_a_signed_request_says_what_to_send(bucket, name):
    request = signed_put(bucket, name, 7)

    assert request.method == "PUT"
    assert dict(request.headers) == {"x-goog-content-length-range": "7,7", "x-goog-if-generation-match": "0"}


def test_a_signed_write_is_let_in_once(bucket, name):
    request = signed_put(bucket, name, 7)

    assert bucket.send("PUT", request.url, request.headers, b"content")[0] == 200
    assert bucket.send("PUT", request.url, request.headers, b"content")[0] == 412
    reading = bucket.signer.sign("GET", name)
    assert bucket.send("GET", reading.url, reading.headers) == (200, b"content")


@pytest.mark.parametrize("body", [b"", b"conten", b"contents"])
def test_a_body_of_another_length_is_refused(bucket, name, body):
    request = signed_put(bucket, name, 7)

    assert bucket.send("PUT", request.url, request.headers, body)[0] == 400
    assert bucket.send("PUT", request.url, request.headers, b"content")[0] == 200


def test_damaged_bytes_are_refused_where_the_checksum_is_signed(bucket, name):
    request = signed_put(bucket, name, 7, **{"x-goog-hash": f"crc32c={crc32c_of(b'content')}"})

    assert bucket.send("PUT", request.url, request.headers, b"cantent")[0] == 400
    assert bucket.send("PUT", request.url, request.headers, b"content")[0] == 200


@pytest.mark.parametrize("header", ["x-goog-content-length-range", "x-goog-if-generation-match"])
def test_a_signed_header_may_not_be_missing_or_changed(bucket, name, header):
    request = signed_put(bucket, name, 7)
    others = {key: value for key, value in request.headers.items() if key != header}

    assert bucket.send("PUT", request.url, others, b"content")[0] in {400, 403}
    assert bucket.send("PUT", request.url, {**others, header: "1,9"}, b"content")[0] in {400, 403}
    assert bucket.send("PUT", request.url, request.headers, b"content")[0] == 200


def test_a_request_is_good_for_its_method_only(bucket, name):
    writing = signed_put(bucket, name, 7)
    assert bucket.send("GET", writing.url, writing.headers)[0] == 403
    bucket.send("PUT", writing.url, writing.headers, b"content")
    reading = bucket.signer.sign("GET", name)

    assert bucket.send("PUT", reading.url, reading.headers, b"other")[0] == 403
    assert bucket.send("DELETE", reading.url, reading.headers)[0] == 403
    assert bucket.send("GET", reading.url, reading.headers) == (200, b"content")


def test_a_request_is_good_for_its_object_only(bucket, name):
    request = signed_put(bucket, name, 7)

    other = request.url.replace("00000", "00001")

    assert bucket.send("PUT", other, request.headers, b"content")[0] == 403


def test_a_missing_object_is_not_found(bucket, name):
    request = bucket.signer.sign("GET", name)

    assert bucket.send("GET", request.url, request.headers)[0] == 404


def test_a_generation_is_read_as_long_as_it_is_there_and_no_other_in_its_place(bucket, name):
    writing = signed_put(bucket, name, 7)
    bucket.send("PUT", writing.url, writing.headers, b"content")
    first = bucket.store.stat(name)
    reading = bucket.signer.sign("GET", name, query={"generation": str(first.generation)})
    assert bucket.send("GET", reading.url, reading.headers) == (200, b"content")

    bucket.store.delete([first])
    bucket.store.write(name, b"another", "text/plain")

    assert bucket.send("GET", reading.url, reading.headers)[0] == 404
    unpinned = bucket.signer.sign("GET", name)
    assert bucket.send("GET", unpinned.url, unpinned.headers) == (200, b"another")


@pytest.mark.parametrize("file_name", ["größe 'x'.csv", "50%2F.csv", 'a "b"?c#d&e.csv', "資料 😀.csv", "a+b;c.csv"])
def test_an_object_of_any_name_may_be_written_and_read(bucket, name, file_name):
    odd = name.replace("00000", file_name)
    writing, reading = signed_put(bucket, odd, 7), bucket.signer.sign("GET", odd)

    assert bucket.send("PUT", writing.url, writing.headers, b"content")[0] == 200
    assert bucket.send("GET", reading.url, reading.headers) == (200, b"content")


def test_a_download_may_be_given_a_name(local_stack, name):
    bucket = server_bucket(local_stack)
    writing = signed_put(bucket, name, 7)
    bucket.send("PUT", writing.url, writing.headers, b"content")
    disposition = "attachment; filename=\"model.h5\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.h5"
    request = bucket.signer.sign("GET", name, query={"response-content-disposition": disposition})

    answer = httpx.get(request.url, trust_env=False)

    assert (answer.status_code, answer.headers["Content-Disposition"]) == (200, disposition)
