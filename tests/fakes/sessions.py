"""The database in memory: one `InMemoryDatabase` is shared by the session and the upload repository.

It follows infra/supabase/migrations statement by statement, so that quotas, leases, finalizing and deleting behave as
they do there; tests/contract holds both to the same suite.
"""

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.errors import (
    ProcessingLimitError,
    SessionBusyError,
    SessionNotFoundError,
    StorageLimitError,
    SubscriptionRequiredError,
    TooLargeError,
    UploadsUnfinishedError,
)
from shared.records.callers import Caller, CallerKind
from shared.records.sessions import PageKey, Session, SessionStatus
from shared.records.uploads import Upload, UploadState

OPEN_TO_UPLOADS = {SessionStatus.INITIALIZED, SessionStatus.UPLOADING}


@dataclass
class Subscription:
    """What a user has paid for."""

    processing_limit: int = 1000
    bytes_stored_limit: int = 1 << 50
    bytes_per_upload_limit: int = 1 << 50
    is_active: bool = True
    period_start: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    period_end: datetime = datetime(2026, 2, 1, tzinfo=UTC)


@dataclass
class Usage:
    """What a user has used of it."""

    period_start: datetime
    processing_used: int = 0
    bytes_stored: int = 0


@dataclass
class SessionRow:
    record: Session
    deleting_at: datetime | None = None


@dataclass
class UploadRow:
    record: Upload
    reserved_bytes: int
    lease_token: str | None = None
    lease_expires_at: datetime | None = None
    swept_at: datetime | None = None


@dataclass
class InMemoryDatabase:
    """Rows, and a clock that only moves when something is written or a test moves it."""

    now: datetime = datetime(2026, 1, 10, tzinfo=UTC)
    sessions: dict[str, SessionRow] = field(default_factory=dict)
    uploads: dict[str, UploadRow] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)

    def tick(self) -> datetime:
        """Return the time of a write; no two are the same."""
        self.now += timedelta(microseconds=1)
        return self.now

    def advance(self, **duration: float) -> None:
        """Let time pass."""
        self.now += timedelta(**duration)

    def session_of(self, owner: str, session_id: str) -> SessionRow | None:
        """Return a session that is not being deleted."""
        rows = (row for row in self.sessions.values() if row.deleting_at is None)
        return next((row for row in rows if (row.record.owner, row.record.session_id) == (owner, session_id)), None)

    def uploads_of(self, session_uuid: str) -> list[UploadRow]:
        """Return the uploads of a session, oldest first."""
        rows = [row for row in self.uploads.values() if row.record.session_uuid == session_uuid]
        return sorted(rows, key=lambda row: (row.record.created_at, row.record.id))

    def change(self, row: UploadRow, **fields: Any) -> None:
        """Update the record of an upload."""
        row.record = replace(row.record, **fields, updated_at=self.tick())

    def count_upload(self, owner: str, n_bytes: int) -> None:
        """Count one upload, or raise the limit that it would pass."""
        plan = self.subscriptions.get(owner)
        if plan is None or not plan.is_active or not plan.period_start <= self.now < plan.period_end:
            raise SubscriptionRequiredError
        if n_bytes > plan.bytes_per_upload_limit:
            raise TooLargeError("The file is larger than the plan takes.", limit=plan.bytes_per_upload_limit)
        usage = self.usage.setdefault(owner, Usage(plan.period_start))
        processing_used = usage.processing_used if usage.period_start >= plan.period_start else 0
        if processing_used >= plan.processing_limit:
            raise ProcessingLimitError(
                limit=plan.processing_limit,
                used=processing_used,
                resetsAt=plan.period_end.isoformat(),
                retry_after_s=int((plan.period_end - self.now).total_seconds()),
            )
        if usage.bytes_stored + n_bytes > plan.bytes_stored_limit:
            raise StorageLimitError(limit=plan.bytes_stored_limit, used=usage.bytes_stored)
        usage.period_start = max(usage.period_start, plan.period_start)
        usage.processing_used = processing_used + 1
        usage.bytes_stored += n_bytes

    def free_upload(self, row: UploadRow) -> None:
        """Give back what an upload that came to nothing had reserved."""
        usage = self.usage[row.record.owner]
        usage.bytes_stored = max(usage.bytes_stored - row.reserved_bytes, 0)
        if row.record.created_at >= usage.period_start:
            usage.processing_used = max(usage.processing_used - 1, 0)


def _names(session: Session) -> tuple[str, str]:
    title = session.metadata.get("title")
    return session.session_id, "" if title is None else title if isinstance(title, str) else json.dumps(title)


class InMemorySessions:
    """`SessionRepository` in memory."""

    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database

    def init(self, owner: str, session_id: str, metadata: Mapping[str, Any]) -> Session:
        database = self._database
        with database.lock:
            for row in database.sessions.values():
                if (row.record.owner, row.record.session_id) == (owner, session_id):
                    if row.deleting_at is not None:
                        raise SessionBusyError(retry_after_s=5)
                    return row.record
            now = database.tick()
            session = Session(
                id=str(uuid.uuid4()),
                session_id=session_id,
                owner=owner,
                status=SessionStatus.INITIALIZED,
                metadata=dict(metadata),
                n_dat=None,
                created_at=now,
                updated_at=now,
            )
            database.sessions[session.id] = SessionRow(session)
            return session

    def page(
        self,
        caller: Caller,
        *,
        limit: int,
        after: PageKey | None = None,
        user_id: str | None = None,
        search: str = "",
    ) -> list[Session]:
        # Row-level security: a user who asks for somebody else's sessions is shown none.
        owner = user_id or caller.user_id
        with self._database.lock:
            found = [
                row.record
                for row in self._database.sessions.values()
                if row.deleting_at is None
                and (not owner or row.record.owner == owner)
                and (caller.kind is CallerKind.SERVICE or row.record.owner == caller.user_id)
                and any(search.lower() in text.lower() for text in _names(row.record))
                and (after is None or (row.record.created_at, row.record.id) < (after.created_at, after.id))
            ]
        return sorted(found, key=lambda session: (session.created_at, session.id), reverse=True)[:limit]

    def get(self, caller: Caller, session_id: str) -> Session:
        with self._database.lock:
            row = self._database.session_of(caller.user_id, session_id)
        if row is None:
            raise SessionNotFoundError
        return row.record

    def finalize(self, owner: str, session_id: str) -> Session:
        database = self._database
        with database.lock:
            row = database.session_of(owner, session_id)
            if row is None:
                raise SessionNotFoundError
            if row.record.status not in OPEN_TO_UPLOADS:
                return row.record
            uploads = [upload.record for upload in database.uploads_of(row.record.id)]
            assembled = [upload for upload in uploads if upload.state is UploadState.ASSEMBLED]
            names = {upload.file_name for upload in assembled}
            unfinished = [
                {"uploadId": upload.id, "fileName": upload.file_name, "state": upload.state.value}
                for upload in uploads
                if upload.state in {UploadState.OPEN, UploadState.ASSEMBLING}
                or (upload.state is UploadState.FAILED and upload.file_name not in names)
            ]
            if unfinished:
                raise UploadsUnfinishedError(uploads=unfinished)
            n_dat = sum(upload.n_rows or 0 for upload in assembled)
            row.record = replace(row.record, status=SessionStatus.FINALIZED, n_dat=n_dat, updated_at=database.tick())
            return row.record

    def begin_delete(self, owner: str, session_id: str) -> tuple[str, list[str]]:
        database = self._database
        with database.lock:
            row = next(
                (
                    row
                    for row in database.sessions.values()
                    if (row.record.owner, row.record.session_id) == (owner, session_id)
                ),
                None,
            )
            if row is None:
                raise SessionNotFoundError
            uploads = database.uploads_of(row.record.id)
            for upload in uploads:
                if upload.record.state is UploadState.ASSEMBLING and upload.lease_expires_at > database.now:
                    raise SessionBusyError(retry_after_s=5)
            for upload in uploads:
                if upload.record.state in {UploadState.OPEN, UploadState.ASSEMBLING, UploadState.EXPIRING}:
                    database.free_upload(upload)
                    upload.lease_token = upload.lease_expires_at = None
                    database.change(upload, state=UploadState.ABORTED)
            row.deleting_at = row.deleting_at or database.tick()
            return row.record.id, [upload.record.id for upload in uploads]

    def finish_delete(self, owner: str, session_uuid: str) -> dict[str, int]:
        database = self._database
        with database.lock:
            row = database.sessions.get(session_uuid)
            if row is None or row.record.owner != owner or row.deleting_at is None:
                raise SessionNotFoundError
            uploads = database.uploads_of(session_uuid)
            assembled = [upload for upload in uploads if upload.record.state is UploadState.ASSEMBLED]
            if owner in database.usage:
                usage = database.usage[owner]
                usage.bytes_stored = max(usage.bytes_stored - sum(row.reserved_bytes for row in assembled), 0)
            for upload in uploads:
                del database.uploads[upload.record.id]
            del database.sessions[session_uuid]
            others = ("training_results", "models", "scalers", "visualizations", "evaluation_tables")
            return {"sessions": 1, "uploads": len(uploads), **dict.fromkeys(others, 0)}

    def unfinished_deletions(self, *, max_age_hours: int, limit: int) -> list[tuple[str, str]]:
        with self._database.lock:
            before = self._database.now - timedelta(hours=min(max_age_hours, 1))
            begun = [row for row in self._database.sessions.values() if row.deleting_at and row.deleting_at < before]
        begun.sort(key=lambda row: row.deleting_at)
        return [(row.record.owner, row.record.session_id) for row in begun[:limit]]
