"""Signing through IAM's signBlob, against a small server that answers as IAM does: slowly, and sometimes 429."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from shared.adapters.signing import GcsUrlSigner
from shared.errors import StorageUnavailableError
from shared.settings import StorageSettings
from tests.fakes.iam import IamServer, signing_through

SIGNER = "signer@project.iam.gserviceaccount.com"


@pytest.fixture
def iam_server():
    with ExitStack() as stack:

        def start(**options):
            server = IamServer(**options)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.enter_context(signing_through(server.server_port))
            return server

        yield start


def signer():
    settings = StorageSettings("uploads", "artifacts", "https://storage.googleapis.com", "", SIGNER, 3600)
    return GcsUrlSigner(settings, "uploads")


def test_the_signature_of_the_service_is_in_the_url(iam_server):
    iam_server()
    signed = signer().sign("PUT", "chunks/1/00000", headers={"x-goog-if-generation-match": "0"})
    # This server "signs" by returning what it was sent: the V4 string to sign.
    text = bytes.fromhex(signed.url.rpartition("X-Goog-Signature=")[2])
    assert text.startswith(b"GOOG4-RSA-SHA256\n")
    assert SIGNER.replace("@", "%40") in signed.url
    assert signed.headers == {"x-goog-if-generation-match": "0"}


def test_a_hundred_signatures_share_a_bounded_number_of_connections(iam_server):
    server = iam_server(latency_s=0.01)
    shared = signer()
    shared.sign("PUT", "warm")
    with ThreadPoolExecutor(32) as pool:
        urls = {signed.url for signed in pool.map(lambda index: shared.sign("PUT", f"chunks/{index}"), range(100))}
    assert len(urls) == 100
    assert server.n_connections <= 33


def test_a_passing_429_is_waited_out(iam_server):
    server = iam_server(n_refusals=3)
    assert signer().sign("PUT", "chunks/1").url
    assert server.n_calls == 4


def test_a_lasting_refusal_is_a_retryable_error(iam_server, monkeypatch):
    monkeypatch.setattr("shared.adapters.signing.RETRY_DEADLINE_S", 0.5)
    iam_server(n_refusals=10_000, status=403)
    with pytest.raises(StorageUnavailableError) as caught:
        signer().sign("PUT", "chunks/1")
    assert caught.value.retryable
