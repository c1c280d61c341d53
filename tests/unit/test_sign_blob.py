"""Signing through IAM's signBlob, against a small server that answers as IAM does: slowly, and sometimes 429."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google.auth
import pytest
from google.auth import iam
from google.auth.credentials import AnonymousCredentials

from shared.adapters.signing import GcsUrlSigner
from shared.errors import StorageUnavailableError
from shared.settings import StorageSettings

SIGNER = "signer@project.iam.gserviceaccount.com"


class IamServer(ThreadingHTTPServer):
    """Counts connections and calls; refuses the first `n_refusals` calls."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, latency_s=0.0, n_refusals=0, status=429):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.latency_s = latency_s
        self.n_refusals = n_refusals
        self.status = status
        self.n_connections = 0
        self.n_calls = 0
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.n_connections += 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.n_calls += 1
            refused = self.server.n_calls <= self.server.n_refusals
        time.sleep(self.server.latency_s)
        if refused:
            answer, status = {"error": {"code": self.server.status}}, self.server.status
        else:
            answer, status = {"keyId": "1", "signedBlob": json.loads(body)["payload"]}, 200
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Stay silent."""


@pytest.fixture
def iam_server(monkeypatch):
    servers = []

    def start(**options):
        server = IamServer(**options)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/v1/projects/-/serviceAccounts/{{}}:signBlob"
        monkeypatch.setattr(iam, "_IAM_SIGN_ENDPOINT", address)
        monkeypatch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), "project"))
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


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
