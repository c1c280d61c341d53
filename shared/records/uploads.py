"""Uploads, and the data sets that they become.

Which state may follow which is decided by the SQL functions in infra/supabase/migrations, where a transition and its
condition are one statement.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.records.claims import ClaimOutcome


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
        verified_bytes: How far whoever assembles it last said to have read the joined object [bytes].
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
    verified_bytes: int | None = None
    failure: Mapping[str, Any] | None = None

    def chunk_bytes(self, index: int) -> int:
        """Return the exact size of chunk `index` [bytes]; the last one takes the rest."""
        if self.size_bytes is None:
            raise ValueError("a legacy upload has no chunk plan")
        return min(self.chunk_size_bytes, self.size_bytes - index * self.chunk_size_bytes)


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
class DataFile:
    """One assembled table, pinned to the generation that a run was started with."""

    upload_id: str
    file_name: str
    content_type: str
    object_name: str
    generation: int
    size_bytes: int
    crc32c: str | None
    sha256: str | None
    n_rows: int


def data_files(uploads: Iterable[Upload]) -> tuple[DataFile, ...]:
    """Return the assembled tables among uploads, in their order."""
    return tuple(
        DataFile(
            upload_id=upload.id,
            file_name=upload.file_name,
            content_type=upload.content_type,
            object_name=upload.object_name,
            generation=upload.generation,
            size_bytes=upload.size_bytes,
            crc32c=upload.crc32c,
            sha256=upload.sha256,
            n_rows=upload.n_rows,
        )
        for upload in uploads
        if upload.state is UploadState.ASSEMBLED
        and upload.object_name is not None
        and upload.generation is not None
        and upload.size_bytes is not None
        and upload.n_rows is not None
    )
