"""A Trainshed service and its bucket in one HTTP server, as far as an uploading client sees them.

It keeps to the facts in tests/upload_protocol.py, which the real stack is held to as well. On top of that it can be
told to fail: `bucket_faults` are answered to the next PUTs, `api_faults` to the next API calls.
"""

import base64
import json
import re
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import google_crc32c


@dataclass(frozen=True)
class Fault:
    """An answer instead of the right one.

    Attributes:
        status: HTTP status; 0 cuts the connection without an answer.
        code: Error code in the bucket's XML, or in the problem details.
        after_storing: The chunk is stored all the same: an answer that was lost.
    """

    status: int
    code: str = ""
    retry_after: str | None = None
    after_storing: bool = False


@dataclass
class FakeUpload:
    upload_id: str
    session_id: str
    file_name: str
    size: int
    chunk_size: int
    state: str = "open"
    chunks: dict[int, bytes] = field(default_factory=dict)
    content: bytes = b""
    verified_bytes: int | None = None

    @property
    def total_chunks(self) -> int:
        return -(-self.size // self.chunk_size)

    def chunk_bytes(self, index: int) -> int:
        return min(self.chunk_size, self.size - index * self.chunk_size)

    def document(self) -> dict:
        return {
            "uploadId": self.upload_id,
            "sessionId": self.session_id,
            "fileName": self.file_name,
            "size": self.size,
            "contentType": "application/octet-stream",
            "chunkSize": self.chunk_size,
            "totalChunks": self.total_chunks,
            "state": self.state,
            "expiresAt": "2099-01-01T00:00:00+00:00",
            "crc32c": crc32c(self.content) if self.state == "assembled" else None,
            "sha256": None,
            "nRows": None,
            "verifiedBytes": self.verified_bytes,
            "failure": None,
        }


class RefusedError(Exception):
    def __init__(self, status: int, code: str, **details) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.details = details


def crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


class FakeUploadService:
    """The state of the service, and what was asked of it.

    Attributes:
        signings: Number of chunks in each sign_chunks call.
        puts: Chunk index of every PUT that reached the bucket, in order.
        most_puts_at_once: Highest number of PUTs that were under way together.
        on_put: Called with the chunk index before a PUT is answered.
    """

    def __init__(self, *, chunk_size: int = 1000, concurrency: int = 4) -> None:
        self.chunk_size = chunk_size
        self.concurrency = concurrency
        self.url = ""
        self.sessions: set[str] = set()
        self.uploads: dict[str, FakeUpload] = {}
        self.epoch = 0
        self.api_faults: deque[Fault] = deque()
        self.bucket_faults: deque[Fault] = deque()
        self.answers_busy = 0
        self.signings: list[int] = []
        self.requests: list[str] = []
        self.puts: list[int] = []
        self.most_puts_at_once = 0
        self.on_put = lambda _: None
        self._puts_now = 0
        self.lock = threading.RLock()

    def expire_signatures(self) -> None:
        """Let every URL signed so far have ended."""
        self.epoch += 1

    def upload(self, upload_id: str) -> FakeUpload:
        if upload_id not in self.uploads:
            raise RefusedError(404, "upload_not_found")
        return self.uploads[upload_id]

    def create(self, body: dict) -> tuple[int, dict]:
        if body["sessionId"] not in self.sessions:
            raise RefusedError(404, "session_not_found")
        for upload in self.uploads.values():
            if (upload.session_id, upload.file_name) != (body["sessionId"], body["fileName"]):
                continue
            if upload.state == "open" and upload.size == body["size"]:
                return 200, self._created(upload, body, is_new=False)
            if upload.state in {"open", "assembling", "assembled"}:
                raise RefusedError(409, "file_exists", uploadId=upload.upload_id, state=upload.state, size=upload.size)
        upload = FakeUpload(str(uuid.uuid4()), body["sessionId"], body["fileName"], body["size"], self.chunk_size)
        self.uploads[upload.upload_id] = upload
        return 201, self._created(upload, body, is_new=True)

    def _created(self, upload: FakeUpload, body: dict, *, is_new: bool) -> dict:
        first = range(min(upload.total_chunks, body.get("presign", 128)))
        chunks = [self._signed(upload, index, None) for index in first]
        return {**upload.document(), "isNew": is_new, "concurrency": self.concurrency, "chunks": chunks}

    def sign(self, upload: FakeUpload, wanted: list[dict]) -> dict:
        if not 1 <= len(wanted) <= 128:
            raise RefusedError(422, "invalid_field", field="chunks")
        if upload.state != "open":
            raise RefusedError(409, "wrong_state", state=upload.state)
        if any(chunk["index"] >= upload.total_chunks for chunk in wanted):
            raise RefusedError(422, "invalid_field", field="chunks")
        self.signings.append(len(wanted))
        chunks = [self._signed(upload, chunk["index"], chunk.get("crc32c")) for chunk in wanted]
        return {"uploadId": upload.upload_id, "expiresAt": upload.document()["expiresAt"], "chunks": chunks}

    def _signed(self, upload: FakeUpload, index: int, checksum: str | None) -> dict:
        size = upload.chunk_bytes(index)
        headers = {"x-goog-content-length-range": f"{size},{size}", "x-goog-if-generation-match": "0"}
        if checksum:
            headers["x-goog-hash"] = f"crc32c={checksum}"
        url = f"{self.url}/bucket/chunks/{upload.upload_id}/{index:05d}?epoch={self.epoch}"
        return {"index": index, "size": size, "url": url, "method": "PUT", "headers": headers}

    def progress(self, upload: FakeUpload) -> dict:
        listed = upload.chunks if upload.state in {"open", "assembling"} else {}
        received = [
            {"index": index, "size": len(content), "crc32c": crc32c(content)}
            for index, content in sorted(listed.items())
        ]
        missing = [
            index
            for index in range(upload.total_chunks)
            if index not in upload.chunks and upload.state in {"open", "assembling"}
        ]
        return {
            **upload.document(),
            "concurrency": self.concurrency,
            "received": received,
            "receivedBytes": sum(chunk["size"] for chunk in received),
            "missing": missing,
        }

    def assemble(self, upload: FakeUpload) -> tuple[int, dict]:
        if upload.state == "aborted":
            raise RefusedError(409, "wrong_state", state=upload.state)
        if self.answers_busy:
            self.answers_busy -= 1
            upload.state = "assembling"
            return 202, upload.document()
        if upload.state != "assembled":
            missing = self.progress(upload)["missing"]
            if missing:
                raise RefusedError(409, "chunks_missing", missing=missing)
            upload.content = b"".join(upload.chunks[index] for index in range(upload.total_chunks))
            upload.state = "assembled"
        return 200, upload.document()

    def abort(self, upload: FakeUpload) -> dict:
        if upload.state == "assembled":
            raise RefusedError(409, "wrong_state", state=upload.state)
        n_objects, upload.chunks, upload.state = len(upload.chunks), {}, "aborted"
        return {"uploadId": upload.upload_id, "state": "aborted", "objectsDeleted": n_objects}

    def put(self, upload: FakeUpload, index: int, epoch: int, headers: dict[str, str], content: bytes) -> None:
        size = upload.chunk_bytes(index)
        if epoch != self.epoch:
            raise RefusedError(400, "ExpiredToken")
        if headers.get("x-goog-content-length-range") != f"{size},{size}":
            raise RefusedError(400, "MalformedSecurityHeader")
        if len(content) != size:
            raise RefusedError(400, "EntityTooLarge" if len(content) > size else "EntityTooSmall")
        if headers.get("x-goog-hash") not in {None, f"crc32c={crc32c(content)}"}:
            raise RefusedError(400, "BadDigest")
        if index in upload.chunks:
            raise RefusedError(412, "PreconditionFailed")
        upload.chunks[index] = content

    @contextmanager
    def putting(self, index: int) -> Iterator[None]:
        with self.lock:
            self.puts.append(index)
            self._puts_now += 1
            self.most_puts_at_once = max(self.most_puts_at_once, self._puts_now)
        try:
            self.on_put(index)
            yield
        finally:
            with self.lock:
                self._puts_now -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, *args) -> None:
        """Stay quiet."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_PUT(self) -> None:
        service = self.server.service
        parts = urlsplit(self.path)
        _, _, _, upload_id, number = parts.path.split("/")
        epoch = int(parse_qs(parts.query)["epoch"][0])
        headers = {name.lower(): value for name, value in self.headers.items()}
        content = self._body()
        with service.putting(int(number)):
            with service.lock:
                fault = service.bucket_faults.popleft() if service.bucket_faults else None
                status, code = 200, ""
                if fault is None or fault.after_storing:
                    try:
                        service.put(service.upload(upload_id), int(number), epoch, headers, content)
                    except RefusedError as error:
                        status, code = error.status, error.code
            if fault is not None:
                status, code = fault.status, fault.code
            if status == 0:
                self.close_connection = True
                return
            extra = {"Retry-After": fault.retry_after} if fault and fault.retry_after else {}
            xml = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>" if code else ""
            self._answer(status, xml.encode(), "application/xml", extra)

    def do_GET(self) -> None:
        self._api("GET", b"")

    def do_POST(self) -> None:
        self._api("POST", self._body())

    def _api(self, method: str, content: bytes) -> None:
        service = self.server.service
        path = urlsplit(self.path).path.removeprefix("/api/training")
        body = json.loads(content) if content else {}
        headers = {"X-Request-Id": "request-1"}
        with service.lock:
            service.requests.append(f"{method} {path}")
            fault = service.api_faults.popleft() if service.api_faults else None
            try:
                status, data = self._route(method, path, body, fault)
            except RefusedError as error:
                self._refuse(error, fault, headers)
                return
        if status == 202:
            headers["Retry-After"] = "0"
        self._answer(status, json.dumps({"success": True, "data": data}).encode(), "application/json", headers)

    def _refuse(self, error: RefusedError, fault: Fault | None, headers: dict[str, str]) -> None:
        if error.status == 0:
            self.close_connection = True
            return
        if fault and fault.retry_after:
            headers["Retry-After"] = fault.retry_after
        problem = {
            "status": error.status,
            "code": error.code,
            "detail": f"It is {error.code}.",
            "details": error.details,
            "retryable": error.status == 503,
            "request_id": "request-1",
        }
        content = json.dumps(problem).encode() if error.code else b"<h1>Bad gateway</h1>"
        self._answer(error.status, content, "application/problem+json", headers)

    def _route(self, method: str, path: str, body: dict, fault: Fault | None) -> tuple[int, dict]:
        if fault is not None:
            raise RefusedError(fault.status, fault.code)
        service = self.server.service
        if (method, path) == ("POST", "/init-session"):
            service.sessions.add(body["sessionId"])
            return 200, {"session_id": body["sessionId"], "uuid": "", "status": "initialized"}
        if (method, path) == ("POST", "/uploads"):
            return service.create(body)
        if not (match := re.fullmatch(r"/uploads/([^/]+)(/[a-z]+)?", path)):
            raise RefusedError(404, "not_found")
        upload = service.upload(match[1])
        match method, match[2]:
            case "GET", None:
                return 200, service.progress(upload)
            case "POST", "/chunks":
                return 200, service.sign(upload, body["chunks"])
            case "POST", "/assemble":
                return service.assemble(upload)
            case "POST", "/abort":
                return 200, service.abort(upload)
        raise RefusedError(405, "method_not_allowed")


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    service: FakeUploadService


@contextmanager
def running(service: FakeUploadService) -> Iterator[FakeUploadService]:
    """Serve on a free loopback port."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.service = service
        service.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
