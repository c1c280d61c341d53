import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from shared.errors import (
    FileExistsInSessionError,
    LeaseLostError,
    SessionFinalizedError,
    SessionNotFoundError,
    UploadNotFoundError,
    WrongStateError,
)
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.sessions import Session, SessionStatus
from shared.records.uploads import AssembledObject, AssemblyClaim, NewUpload, Upload, UploadState
from tests.fakes.sessions import OPEN_TO_UPLOADS, InMemoryDatabase, UploadRow

UPLOAD_LIFETIME = timedelta(hours=24)
LIVE = {UploadState.OPEN, UploadState.ASSEMBLING, UploadState.ASSEMBLED}
FINISHED = {UploadState.ASSEMBLED, UploadState.FAILED, UploadState.ABORTED}


class InMemoryUploads:
    """`UploadRepository` in memory."""

    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database

    def create(self, owner: str, upload: NewUpload) -> tuple[Upload, bool]:
        database = self._database
        with database.lock:
            session = database.session_of(owner, upload.session_id)
            if session is None:
                raise SessionNotFoundError
            for row in database.uploads_of(session.record.id):
                if row.record.file_name == upload.file_name and row.record.state in LIVE:
                    return _equal(row.record, upload), False
            if session.record.status not in OPEN_TO_UPLOADS:
                raise SessionFinalizedError(status=session.record.status.value)
            database.count_upload(owner, upload.reserved_bytes)
            now = database.tick()
            record = Upload(
                id=str(uuid.uuid4()),
                session_uuid=session.record.id,
                session_id=upload.session_id,
                owner=owner,
                file_name=upload.file_name,
                content_type=upload.content_type,
                size_bytes=upload.size_bytes,
                chunk_size_bytes=upload.chunk_size_bytes,
                total_chunks=upload.total_chunks,
                state=UploadState.OPEN,
                is_legacy=upload.is_legacy,
                expires_at=now + UPLOAD_LIFETIME,
                created_at=now,
                updated_at=now,
                sha256=upload.sha256,
            )
            database.uploads[record.id] = UploadRow(record, upload.reserved_bytes)
            session.record = replace(session.record, status=SessionStatus.UPLOADING, updated_at=now)
            return record, True

    def get(self, caller: Caller, upload_id: str) -> Upload:
        row = self._row(caller.user_id, upload_id)
        # A session that is being deleted is hidden, and its uploads with it.
        if self._database.sessions[row.record.session_uuid].deleting_at is not None:
            raise UploadNotFoundError
        return row.record

    def of_session(self, caller: Caller, session_id: str) -> tuple[Session, list[Upload]]:
        with self._database.lock:
            session = self._database.session_of(caller.user_id, session_id)
            if session is None:
                raise SessionNotFoundError
            return session.record, [row.record for row in self._database.uploads_of(session.record.id)]

    def find_assembled(self, owner: str, sha256: str, size_bytes: int) -> Upload | None:
        with self._database.lock:
            equal = [
                row.record
                for row in self._database.uploads.values()
                if row.record.owner == owner
                and row.record.state is UploadState.ASSEMBLED
                and (row.record.sha256, row.record.size_bytes) == (sha256, size_bytes)
                and self._database.sessions[row.record.session_uuid].deleting_at is None
            ]
            return max(equal, key=lambda upload: upload.created_at, default=None)

    def extend(self, owner: str, upload_id: str) -> Upload:
        with self._database.lock:
            row = self._row(owner, upload_id)
            if row.record.state is not UploadState.OPEN:
                raise _wrong_state(row, "and takes no more chunks")
            self._database.change(row)
            row.record = replace(row.record, expires_at=row.record.updated_at + UPLOAD_LIFETIME)
            return row.record

    def claim(self, owner: str, upload_id: str, lease_token: str, lease_s: int) -> AssemblyClaim:
        database = self._database
        with database.lock:
            row = self._row(owner, upload_id)
            state = row.record.state
            is_free = state is UploadState.OPEN or (
                state is UploadState.ASSEMBLING
                and (row.lease_expires_at <= database.now or row.lease_token == lease_token)
            )
            if is_free:
                row.lease_token = lease_token
                row.lease_expires_at = database.now + timedelta(seconds=lease_s)
                database.change(row, state=UploadState.ASSEMBLING, verified_bytes=None)
                return AssemblyClaim(ClaimOutcome.CLAIMED, row.record)
            if state is UploadState.ASSEMBLING:
                return AssemblyClaim(ClaimOutcome.BUSY, row.record)
            if state is UploadState.ASSEMBLED:
                return AssemblyClaim(ClaimOutcome.DONE, row.record)
            raise _wrong_state(row, "and cannot be assembled", failure=row.record.failure)

    def release(self, owner: str, upload_id: str, lease_token: str) -> None:
        with self._database.lock:
            row = self._database.uploads.get(upload_id)
            if row and row.record.owner == owner and _is_held(row, lease_token):
                _drop_lease(row)
                self._database.change(row, state=UploadState.OPEN)

    def report_verified(self, owner: str, upload_id: str, lease_token: str, verified_bytes: int) -> None:
        with self._database.lock:
            row = self._database.uploads.get(upload_id)
            if row is None or row.record.owner != owner or not _is_held(row, lease_token):
                raise LeaseLostError
            self._database.change(row, verified_bytes=verified_bytes)

    def record(self, owner: str, upload_id: str, lease_token: str, assembled: AssembledObject) -> Upload:
        database = self._database
        with database.lock:
            row = self._row(owner, upload_id)
            written = (assembled.object_name, assembled.generation)
            is_recorded = (row.record.object_name, row.record.generation) == written
            if row.record.state is UploadState.ASSEMBLED and is_recorded:
                return row.record
            if not _is_held(row, lease_token):
                raise LeaseLostError
            _drop_lease(row)
            usage = database.usage[owner]
            usage.bytes_stored = max(usage.bytes_stored - row.reserved_bytes + assembled.size_bytes, 0)
            row.reserved_bytes = assembled.size_bytes
            database.change(
                row,
                state=UploadState.ASSEMBLED,
                object_name=assembled.object_name,
                generation=assembled.generation,
                size_bytes=assembled.size_bytes,
                crc32c=assembled.crc32c,
                sha256=assembled.sha256 or row.record.sha256,
                n_rows=assembled.n_rows,
            )
            return row.record

    def fail(self, owner: str, upload_id: str, lease_token: str, failure: Mapping[str, Any]) -> Upload:
        with self._database.lock:
            row = self._database.uploads.get(upload_id)
            if row is None or row.record.owner != owner:
                raise LeaseLostError
            if row.record.state is UploadState.FAILED and row.record.failure == failure:
                return row.record
            if not _is_held(row, lease_token):
                raise LeaseLostError
            _drop_lease(row)
            self._database.free_upload(row)
            self._database.change(row, state=UploadState.FAILED, failure=dict(failure))
            return row.record

    def abort(self, owner: str, upload_id: str) -> Upload:
        with self._database.lock:
            row = self._row(owner, upload_id)
            is_dead = row.record.state is UploadState.ASSEMBLING and row.lease_expires_at <= self._database.now
            is_open = row.record.state is UploadState.OPEN or is_dead
            if not is_open and row.record.state not in {UploadState.FAILED, UploadState.ABORTED}:
                raise _wrong_state(row, "and cannot be aborted")
            if is_open:
                self._database.free_upload(row)
            if row.record.state is not UploadState.ABORTED:
                _drop_lease(row)
                self._database.change(row, state=UploadState.ABORTED)
            return row.record

    def begin_sweep(self, *, max_age_hours: int, limit: int, dry_run: bool) -> list[Upload]:
        database = self._database
        with database.lock:
            stale_before = database.now - timedelta(hours=max_age_hours)
            finished_before = database.now - timedelta(hours=min(max_age_hours, 1))

            def is_due(row: UploadRow) -> bool:
                match row.record.state:
                    case UploadState.EXPIRING:
                        return True
                    case UploadState.OPEN:
                        return row.record.updated_at <= stale_before
                    case UploadState.ASSEMBLING:
                        return row.record.updated_at <= stale_before and row.lease_expires_at <= database.now
                    case state:
                        return state in FINISHED and row.record.updated_at <= finished_before

            due = [row for row in database.uploads.values() if row.swept_at is None and is_due(row)]
            due = sorted(due, key=lambda row: row.record.updated_at)[:limit]
            for row in due:
                if not dry_run and row.record.state in {UploadState.OPEN, UploadState.ASSEMBLING}:
                    _drop_lease(row)
                    database.change(row, state=UploadState.EXPIRING)
            return [row.record for row in due]

    def finish_sweep(self, upload_id: str) -> None:
        database = self._database
        with database.lock:
            row = database.uploads.get(upload_id)
            if row is None or row.swept_at or row.record.state not in {UploadState.EXPIRING, *FINISHED}:
                return
            row.swept_at = database.now
            if row.record.state is UploadState.EXPIRING:
                database.free_upload(row)
                database.change(row, state=UploadState.EXPIRED)

    def _row(self, owner: str, upload_id: str) -> UploadRow:
        row = self._database.uploads.get(upload_id)
        if row is None or row.record.owner != owner:
            raise UploadNotFoundError
        return row


def _equal(present: Upload, wanted: NewUpload) -> Upload:
    """Return the upload that holds the file name if it is the one wanted."""
    both_legacy = present.is_legacy and wanted.is_legacy and present.total_chunks == wanted.total_chunks
    is_same = present.size_bytes == wanted.size_bytes and present.sha256 == wanted.sha256
    neither_legacy = not present.is_legacy and not wanted.is_legacy
    if both_legacy or (present.state is UploadState.OPEN and neither_legacy and is_same):
        return present
    raise FileExistsInSessionError(uploadId=present.id, state=present.state.value, size=present.size_bytes)


def _is_held(row: UploadRow, lease_token: str) -> bool:
    return row.record.state is UploadState.ASSEMBLING and row.lease_token == lease_token


def _drop_lease(row: UploadRow) -> None:
    row.lease_token = row.lease_expires_at = None


def _wrong_state(row: UploadRow, clause: str, **details: Any) -> WrongStateError:
    state = row.record.state.value
    return WrongStateError(f"The upload is {state} {clause}.", state=state, **details)
