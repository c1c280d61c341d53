"""What the service keeps: frozen dataclasses, their states, and the names of their objects.

Which state may follow which is decided by the SQL functions in infra/supabase/migrations, where a
transition and its condition are one statement; the states themselves are listed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class CallerKind(StrEnum):
    """Who calls: a signed-in user, the product's own backend, the scheduler, or the task queue."""

    USER = "user"
    SERVICE = "service"
    SCHEDULER = "scheduler"
    TASK = "task"


@dataclass(frozen=True)
class Caller:
    """A caller whose token was verified.

    Attributes:
        kind: Which sort of token it was.
        user_id: `sub` of the token; a Supabase user's uuid for users.
        token: The token itself; reads are made with it, so that row-level security decides.
    """

    kind: CallerKind
    user_id: str
    token: str = field(repr=False)


class SessionStatus(StrEnum):
    """initialized -> uploading -> finalized -> training -> trained | failed."""

    INITIALIZED = "initialized"
    UPLOADING = "uploading"
    FINALIZED = "finalized"
    TRAINING = "training"
    TRAINED = "trained"
    FAILED = "failed"


@dataclass(frozen=True)
class Session:
    """One data set on its way from files to models.

    Attributes:
        id: Row id, a uuid made by the service.
        session_id: The client's own name for it, unique per user.
        n_dat: Rows of all data sets, known once finalized.
    """

    id: str
    session_id: str
    owner: str
    status: SessionStatus
    metadata: Mapping[str, Any]
    n_dat: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class PageKey:
    """Where a page of sessions ends: the keyset of its last row."""

    created_at: datetime
    id: str


class UploadState(StrEnum):
    """open -> assembling -> assembled | failed; open | failed -> aborted; open -> expiring -> expired."""

    OPEN = "open"
    ASSEMBLING = "assembling"
    ASSEMBLED = "assembled"
    FAILED = "failed"
    ABORTED = "aborted"
    EXPIRING = "expiring"
    EXPIRED = "expired"


@dataclass(frozen=True)
class NewUpload:
    """What a client asks to upload, with the chunk plan the server made for it.

    Attributes:
        size_bytes: Exact size; for legacy uploads unknown (None) until assembled.
        reserved_bytes: Counted against the storage quota from now on.
        sha256: Declared by the client, lower-case hex, or None.
        is_legacy: Chunks come through `upload-chunk` and may have any size.
    """

    session_id: str
    file_name: str
    content_type: str
    size_bytes: int | None
    reserved_bytes: int
    chunk_size_bytes: int
    total_chunks: int
    sha256: str | None = None
    is_legacy: bool = False


@dataclass(frozen=True)
class Upload:
    """One file of a session, from its first chunk to the assembled object.

    Attributes:
        session_uuid: Row id of its session; `session_id` is the client's name of it.
        expires_at: When an open upload may be swept; moves on while chunks are signed.
        sha256: Declared by the client while open; the object's own once assembled and read.
        failure: Why it failed: {"code": ..., "detail": ..., ...}.
    """

    id: str
    session_uuid: str
    session_id: str
    owner: str
    file_name: str
    content_type: str
    size_bytes: int | None
    chunk_size_bytes: int
    total_chunks: int
    state: UploadState
    is_legacy: bool
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    sha256: str | None = None
    object_name: str | None = None
    generation: int | None = None
    crc32c: str | None = None
    n_rows: int | None = None
    failure: Mapping[str, Any] | None = None

    def chunk_bytes(self, index: int) -> int:
        """Return the exact size of chunk `index` [bytes]; the last one takes the rest."""
        if self.size_bytes is None:
            raise ValueError("a legacy upload has no chunk plan")
        return min(self.chunk_size_bytes, self.size_bytes - index * self.chunk_size_bytes)


class ClaimOutcome(StrEnum):
    """What a claim found: the work is ours, done already, or in other hands."""

    CLAIMED = "claimed"
    DONE = "done"
    BUSY = "busy"


@dataclass(frozen=True)
class AssemblyClaim:
    """The answer to claiming an upload for assembly."""

    outcome: ClaimOutcome
    upload: Upload


@dataclass(frozen=True)
class AssembledObject:
    """The data set object as it was verified.

    Attributes:
        sha256: Lower-case hex, or None where nobody asked for it and the file is no table.
        n_rows: Rows as `len(pandas.read_csv(...))` counts them, or None where the file is no table.
    """

    object_name: str
    generation: int
    size_bytes: int
    crc32c: str
    sha256: str | None
    n_rows: int | None


@dataclass(frozen=True)
class StoredObject:
    """An object as the bucket describes it. `crc32c` is base64, big-endian."""

    name: str
    generation: int
    size_bytes: int
    crc32c: str
    updated_at: datetime | None = None


@dataclass(frozen=True)
class SignedUrl:
    """A URL that allows one request, and the headers that request must carry."""

    url: str
    method: str
    headers: Mapping[str, str]


def chunks_prefix(upload_id: str) -> str:
    """Return the prefix of an upload's chunks in the uploads bucket."""
    return f"chunks/{upload_id}/"


def chunk_name(upload_id: str, index: int) -> str:
    """Return the object name of one chunk; padded, so that listing order is numeric order."""
    return f"{chunks_prefix(upload_id)}{index:05d}"


def steps_prefix(upload_id: str) -> str:
    """Return the prefix of an upload's intermediate compose results."""
    return f"steps/{upload_id}/"


def data_sets_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's assembled data sets."""
    return f"datasets/{session_uuid}/"


def data_set_prefix(session_uuid: str, upload_id: str) -> str:
    """Return the prefix that holds an upload's assembled object and nothing else."""
    return f"{data_sets_prefix(session_uuid)}{upload_id}/"


def results_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's training results in the artifacts bucket."""
    return f"results/{session_uuid}/"


def models_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's saved models in the artifacts bucket."""
    return f"models/{session_uuid}/"
