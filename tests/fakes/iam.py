"""A small server that signs as IAM's signBlob does: slowly, and sometimes it answers 429 instead."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

import google.auth
from google.auth import iam
from google.auth.credentials import AnonymousCredentials


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
    # An answer in one packet: the client's kernel waits 40 ms for a second one.
    wbufsize = -1

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


@contextmanager
def signing_through(port: int) -> Iterator[None]:
    """Let signBlob be called at a port of this machine, without credentials."""
    address = f"http://127.0.0.1:{port}/v1/projects/-/serviceAccounts/{{}}:signBlob"
    with (
        patch.object(iam, "_IAM_SIGN_ENDPOINT", address),
        patch.object(google.auth, "default", lambda **_: (AnonymousCredentials(), "project")),
    ):
        yield
