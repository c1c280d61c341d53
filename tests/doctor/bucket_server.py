"""A small Cloud Storage that does everything right, except for the one fault it is told to have."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

import google_crc32c
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from dev.door.signature import RefusedError, SignedRequest, verify
from dev.keys import SIGNER_EMAIL
from operations.storage_checks import STORAGE_FILE
from shared.checksums import encode_crc32c

ORIGIN = "https://app.example"
BUCKETS = {"the-uploads": "uploads", "the-artifacts": "artifacts"}
EXPECTED = yaml.safe_load(STORAGE_FILE.read_text())


class BucketServer(ThreadingHTTPServer):
    """Two buckets in memory behind both of Cloud Storage's interfaces."""

    daemon_threads = True

    def __init__(self, key: rsa.RSAPublicKey, fault: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key = key
        self.fault = fault
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.written: list[str] = []
        self.lock = threading.RLock()
        self.passed = timedelta()
        self._generation = 1_000_000

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sleep(self, seconds: float) -> None:
        """Let time pass here, at once."""
        self.passed += timedelta(seconds=seconds)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.passed

    def store(self, bucket: str, name: str, content: bytes) -> dict[str, Any]:
        self._generation += 1
        described = {
            "name": name,
            "generation": str(self._generation),
            "size": str(len(content)),
            "crc32c": encode_crc32c(google_crc32c.value(content)),
            "updated": "2026-01-01T00:00:00Z",
        }
        self.objects[bucket, name] = {"content": content, "described": described}
        self.written.append(name)
        return described


class _Refused(Exception):  # noqa: N818 - an answer, not a defect
    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer in one packet: the client's kernel waits 40 ms for a second one.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: BucketServer

    def do_OPTIONS(self):
        entry = BUCKETS.get(self.path.lstrip("/").partition("/")[0], "uploads")
        self._answer(200, headers=self._preflight(entry))

    def do_GET(self):
        self._respond(self._get)

    def do_POST(self):
        self._respond(self._post)

    def do_DELETE(self):
        self._respond(self._delete)

    def do_PUT(self):
        content = self._body()
        headers = {"Access-Control-Expose-Headers": ",".join(self._exposed())} if self.headers.get("Origin") else {}
        with self.server.lock:
            try:
                self._put(content)
            except (RefusedError, _Refused) as refusal:
                self._answer(refusal.status, f"<Error><Code>{refusal.code}</Code></Error>".encode(), headers)
            else:
                self._answer(200, headers=headers)

    def _has(self, fault: str) -> bool:
        return self.server.fault == fault

    # Browsers

    def _preflight(self, entry: str) -> dict[str, str]:
        cors = EXPECTED[entry]["cors"]
        origin, headers = self.headers.get("Origin", ""), list(cors["response_headers"])
        methods = list(cors["methods"])
        allowed = origin == ORIGIN or self._has("every origin is let in")
        if entry == "uploads" and self._has("our origin is refused"):
            allowed = False
        if entry == "artifacts" and self._has("our origin is refused at the models"):
            allowed = False
        if entry == "uploads" and self._has("a header is not allowed"):
            headers.remove("x-goog-hash")
        if entry == "uploads" and self._has("PUT is not allowed"):
            methods.remove("PUT")
        if not allowed:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": ",".join(methods),
            "Access-Control-Allow-Headers": ",".join(headers),
        }

    def _exposed(self) -> list[str]:
        names = list(EXPECTED["uploads"]["cors"]["response_headers"])
        if self._has("a header is hidden from scripts"):
            names.remove("ETag")
        return names

    # Signed requests

    def _put(self, content: bytes) -> None:
        path, _, query = self.path.partition("?")
        bucket, _, name = unquote(path).removeprefix("/").partition("/")
        headers = {header.lower(): value for header, value in self.headers.items()}
        if self._has("good chunks are refused"):
            raise _Refused(403, "AccessDenied")
        self._verify(SignedRequest("PUT", path, query, headers))
        least, most = map(int, headers.get("x-goog-content-length-range", "0,99999").split(","))
        if len(content) > most and not self._has("long chunks are taken"):
            raise _Refused(400, "EntityTooLarge")
        if len(content) < least and not self._has("short chunks are taken"):
            raise _Refused(400, "EntityTooSmall")
        exists = (bucket, name) in self.server.objects
        if "x-goog-if-generation-match" in headers and exists and not self._has("chunks are overwritten"):
            raise _Refused(409 if self._has("a second write is a conflict") else 412, "PreconditionFailed")
        is_damaged = "x-goog-hash" in headers and headers["x-goog-hash"] != "crc32c=" + encode_crc32c(
            google_crc32c.value(content)
        )
        if is_damaged and self._has("damaged chunks are refused too late"):
            self.server.store(bucket, name, content)
        if is_damaged and not self._has("damaged chunks are taken"):
            raise _Refused(400, "BadDigest")
        self.server.store(bucket, name, content)

    def _verify(self, request: SignedRequest) -> None:
        try:
            verify(request, SIGNER_EMAIL, self.server.key, self.server.now())
        except RefusedError as refusal:
            length = request.headers["content-length"]
            is_our_range = request.headers.get("x-goog-content-length-range") == f"{length},{length}"
            tolerated = {
                "ExpiredToken": "expired addresses are taken",
                "MalformedSecurityHeader": "signed headers may be left out",
                "SignatureDoesNotMatch": (
                    "addresses may be altered" if is_our_range else "signed headers may be altered"
                ),
            }
            if not self._has(tolerated.get(refusal.code, "")):
                raise

    # The JSON API

    def _respond(self, call: Callable[[list[str], dict[str, list[str]], bytes], Any]) -> None:
        path, _, query = self.path.partition("?")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        body = self._body()
        with self.server.lock:
            try:
                answer = call(parts[parts.index("b") + 1 :], parse_qs(query), body)
            except _Refused as refusal:
                self._answer(refusal.status, json.dumps({"error": {"code": refusal.status}}).encode())
            else:
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self._answer(200, content, {"Content-Type": "application/json"})

    def _get(self, parts: list[str], query: dict[str, list[str]], _: bytes) -> Any:
        bucket = parts[0]
        entry = BUCKETS[bucket]
        match parts[1:]:
            case []:
                if self._has("settings are secret"):
                    raise _Refused(403)
                return self._settings(entry)
            case ["iam", "testPermissions"]:
                permissions = query["permissions"]
                if self._has(f"objects of the {entry} cannot be deleted by us"):
                    permissions.remove("storage.objects.delete")
                return {"permissions": permissions}
            case ["o"]:
                if self._has(f"the {entry} are forbidden"):
                    raise _Refused(403)
                prefix = query.get("prefix", [""])[0]
                found = sorted(self.server.objects.items())
                return {
                    "items": [
                        kept["described"] for key, kept in found if key[0] == bucket and key[1].startswith(prefix)
                    ]
                }
            case ["o", name]:
                kept = self._kept(bucket, name)
                return kept["content"] if query.get("alt") == ["media"] else kept["described"]
        raise _Refused(404)

    def _settings(self, entry: str) -> dict[str, Any]:
        expected = EXPECTED[entry]
        rules = [
            {
                "action": {"type": "Delete"},
                "condition": {"age": rule["delete_after_days"], "matchesPrefix": rule["prefixes"]},
            }
            for rule in expected["lifecycle"]
        ]
        soft_delete, versioning = expected["soft_delete_seconds"], expected["versioning"]
        if self._has(f"{entry} are deleted otherwise"):
            soft_delete = 0 if soft_delete else 604_800
        if self._has(f"{entry} are versioned otherwise"):
            versioning = not versioning
        if self._has(f"old {entry} are deleted"):
            rules.append({"action": {"type": "Delete"}, "condition": {"age": 30}})
        if entry == "uploads" and self._has("no rule deletes chunks"):
            rules = []
        if self._has("a rule deletes old versions only"):
            rules.append({"action": {"type": "Delete"}, "condition": {"numNewerVersions": 3}})
        return {
            "softDeletePolicy": {"retentionDurationSeconds": str(soft_delete)},
            "versioning": {"enabled": versioning},
            "lifecycle": {"rule": rules},
        }

    def _post(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> Any:
        bucket = parts[0]
        if parts[-1] != "compose":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            fields, media = BytesParser().parsebytes(head + body).get_payload()
            return self.server.store(bucket, json.loads(fields.get_payload())["name"], media.get_payload(decode=True))
        name, document = parts[2], json.loads(body)
        exists = (bucket, name) in self.server.objects
        if "ifGenerationMatch" in query and exists and not self._has("compose overwrites"):
            raise _Refused(412)
        joined = b""
        for source in document["sourceObjects"]:
            kept = self._kept(bucket, source["name"])
            generation = kept["described"]["generation"]
            if str(source.get("generation", generation)) != generation and not self._has("compose takes any source"):
                raise _Refused(404)
            joined += kept["content"]
        if document["destination"].get("crc32c") and self._has("compose compares checksums"):
            raise _Refused(400)
        return self.server.store(bucket, name, joined[:-1] if self._has("compose loses a byte") else joined)

    def _delete(self, parts: list[str], query: dict[str, list[str]], _: bytes) -> Any:
        bucket, _, name = parts
        generation = self._kept(bucket, name)["described"]["generation"]
        if query.get("ifGenerationMatch") != [generation] and not self._has("delete takes any generation"):
            raise _Refused(412)
        if not self._has("nothing is ever deleted"):
            del self.server.objects[bucket, name]
        return {}

    def _kept(self, bucket: str, name: str) -> dict[str, Any]:
        kept = self.server.objects.get((bucket, name))
        if kept is None:
            raise _Refused(404)
        return kept

    # HTTP

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def date_time_string(self, timestamp=None):
        late = timedelta(minutes=10) if self._has("the clock is wrong") else timedelta()
        return format_datetime(self.server.now() - late, usegmt=True)

    def log_message(self, *_):
        """Stay silent."""
