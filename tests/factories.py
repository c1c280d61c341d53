"""Makes what tests talk about; every default can be overridden, none is asserted on by name."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shared.adapters.csv_rows import CsvRowCounter
from shared.chunks import SignedChunk
from shared.deletion import DeletionService
from shared.records.callers import Caller, CallerKind
from shared.records.objects import StoredObject
from shared.records.sessions import Session, SessionStatus
from shared.records.uploads import NewUpload, Upload, UploadState
from shared.sessions import SessionService
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.sessions import InMemoryDatabase, InMemorySessions, Subscription
from tests.fakes.signer import InMemorySigner
from tests.fakes.uploads import InMemoryUploads
from tests.upload_rules import UploadRules

ALICE = "00000000-0000-4000-8000-00000000a11c"
BOB = "00000000-0000-4000-8000-000000000b0b"
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
CHUNK_BYTES = 4

_numbers = itertools.count(1)


def a_uuid() -> str:
    """Return a uuid that no other call returned."""
    return str(UUID(int=next(_numbers), version=4))


def a_caller(user_id: str = ALICE, *, kind: CallerKind = CallerKind.USER) -> Caller:
    return Caller(kind, user_id="" if kind is CallerKind.SERVICE else user_id, token="a-token")


def a_session(**fields: Any) -> Session:
    defaults = {
        "id": a_uuid(),
        "session_id": "weather",
        "owner": ALICE,
        "status": SessionStatus.INITIALIZED,
        "metadata": {},
        "n_dat": None,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Session(**defaults | fields)


def an_upload(**fields: Any) -> Upload:
    defaults = {
        "id": a_uuid(),
        "session_uuid": a_uuid(),
        "session_id": "weather",
        "owner": ALICE,
        "file_name": "hours.bin",
        "content_type": "application/octet-stream",
        "size_bytes": 10,
        "chunk_size_bytes": CHUNK_BYTES,
        "total_chunks": 3,
        "state": UploadState.OPEN,
        "is_legacy": False,
        "expires_at": NOON + timedelta(hours=24),
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Upload(**defaults | fields)


def a_new_upload(**fields: Any) -> NewUpload:
    size = fields.get("size_bytes", 10) or 0
    defaults = {
        "session_id": "weather",
        "file_name": "hours.bin",
        "content_type": "application/octet-stream",
        "size_bytes": 10,
        "reserved_bytes": size,
        "chunk_size_bytes": CHUNK_BYTES,
        "total_chunks": -(-size // CHUNK_BYTES),
    }
    return NewUpload(**defaults | fields)


def a_stored_object(name: str = "chunks/x/00000", **fields: Any) -> StoredObject:
    return StoredObject(**{"name": name, "generation": 1, "size_bytes": 0, "crc32c": "AAAAAA=="} | fields)


def upload_fields(**fields: Any) -> dict[str, Any]:
    """Return the body of a request that opens an upload."""
    return {"sessionId": "weather", "fileName": "hours.bin", "size": 10} | fields


def some_bytes(n_bytes: int, *, seed: int = 0) -> bytes:
    """Return bytes that differ along the file, so that a swapped or repeated chunk shows."""
    return bytes((seed + i + (i >> 8) + (i >> 16)) % 251 for i in range(n_bytes))


@dataclass
class Bench:
    """Services on one database and two buckets in memory, with chunks of four bytes."""

    database: InMemoryDatabase = field(default_factory=InMemoryDatabase)
    store: InMemoryObjectStore = field(default_factory=InMemoryObjectStore)
    artifacts: InMemoryObjectStore = field(default_factory=InMemoryObjectStore)

    def __post_init__(self) -> None:
        for owner in (ALICE, BOB):
            self.database.subscriptions.setdefault(owner, Subscription())
        self.signer = InMemorySigner(self.store)

    def upload_service(self, *, uploads: Any = None, store: Any = None, **options: Any) -> UploadRules:
        return UploadRules(
            uploads or InMemoryUploads(self.database),
            InMemorySessions(self.database),
            store or self.store,
            self.signer,
            CsvRowCounter(),
            least_chunk_bytes=CHUNK_BYTES,
            **options,
        )

    def session_service(self, *, sessions: Any = None) -> SessionService:
        return SessionService(sessions or InMemorySessions(self.database), InMemoryUploads(self.database))

    def deletion_service(self, *, sessions: Any = None, store: Any = None, artifacts: Any = None) -> DeletionService:
        return DeletionService(
            sessions or InMemorySessions(self.database), store or self.store, artifacts or self.artifacts
        )

    def open_session(self, session_id: str = "weather", *, owner: str = ALICE) -> Session:
        return InMemorySessions(self.database).init(owner, session_id, {})

    def open_upload(self, content: bytes, *, owner: str = ALICE, missing: Sequence[int] = (), **fields: Any) -> Upload:
        """Open a session and an upload of this content, and send its chunks but the missing ones."""
        self.open_session(fields.get("sessionId", "weather"), owner=owner)
        service = self.upload_service()
        upload, _, _ = service.create(owner, upload_fields(size=len(content), **fields))
        for start in range(0, upload.total_chunks, 128):
            indices = range(start, min(start + 128, upload.total_chunks))
            _, chunks = service.sign_chunks(a_caller(owner), upload.id, [{"index": index} for index in indices])
            for chunk in chunks:
                if chunk.index not in missing:
                    assert self.send(chunk, chunk_of(content, upload, chunk.index)) == 200
        return upload

    def send(self, chunk: SignedChunk, content: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Send a chunk as a client does; return the bucket's HTTP status."""
        request = chunk.request
        status, _ = self.signer.send(request.method, request.url, headers or request.headers, content)
        return status

    def row(self, upload: Upload) -> Upload:
        """Return the upload as the database has it now."""
        return self.database.uploads[upload.id].record


def chunk_of(content: bytes, upload: Upload, index: int) -> bytes:
    """Return the bytes of one chunk."""
    start = index * upload.chunk_size_bytes
    return content[start : start + upload.chunk_size_bytes]
