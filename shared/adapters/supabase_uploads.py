"""`UploadRepository` on Supabase."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from shared.adapters import supabase_sessions
from shared.adapters.supabase import SupabaseDatabase
from shared.errors import SessionNotFoundError, UploadNotFoundError
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.sessions import Session
from shared.records.uploads import AssembledObject, AssemblyClaim, NewUpload, Upload, UploadState

COLUMNS = (
    "id,session_uuid,user_id,file_name,content_type,size_bytes,chunk_size_bytes,total_chunks,state,is_legacy,sha256,"
    "object_name,generation,crc32c,n_rows,verified_bytes,failure,expires_at,created_at,updated_at"
)


class SupabaseUploads:
    """Uploads: read as the user, written through SQL functions."""

    def __init__(self, database: SupabaseDatabase) -> None:
        self._database = database

    def create(self, owner: str, upload: NewUpload) -> tuple[Upload, bool]:
        """Open an upload and count it, or return the equal open one; says which."""
        row = self._database.call("create_upload_v1", owner=owner, **asdict(upload))
        return read_upload(row), row["is_new"]

    def get(self, caller: Caller, upload_id: str) -> Upload:
        """Return one of the caller's uploads, or raise UploadNotFoundError."""
        columns = f"{COLUMNS},sessions!inner(session_id)"
        rows = self._database.select(caller, "uploads", columns, id=f"eq.{upload_id}")
        if not rows:
            raise UploadNotFoundError
        return read_upload(rows[0] | rows[0]["sessions"])

    def of_session(self, caller: Caller, session_id: str) -> tuple[Session, list[Upload]]:
        """Return one of the caller's sessions with its uploads, oldest first, or raise SessionNotFoundError."""
        columns = f"{supabase_sessions.COLUMNS},uploads({COLUMNS})"
        rows = self._database.select(
            caller,
            "sessions",
            columns,
            user_id=f"eq.{caller.user_id}",
            session_id=f"eq.{session_id}",
            **{"uploads.order": "created_at,id"},
        )
        if not rows:
            raise SessionNotFoundError
        uploads = [read_upload(row | {"session_id": session_id}) for row in rows[0]["uploads"]]
        return supabase_sessions.read_session(rows[0]), uploads

    def find_assembled(self, owner: str, sha256: str, size_bytes: int) -> Upload | None:
        """Return the owner's newest assembled upload of exactly this content, or None."""
        row = self._database.call("find_assembled_v1", owner=owner, sha256=sha256, size_bytes=size_bytes)
        return read_upload(row) if row else None

    def extend(self, owner: str, upload_id: str) -> Upload:
        """Push an open upload's expiry away."""
        return read_upload(self._database.call("extend_upload_v1", owner=owner, upload_id=upload_id))

    def claim(self, owner: str, upload_id: str, lease_token: str, lease_s: int) -> AssemblyClaim:
        """Take an upload for assembly."""
        claim = self._database.call(
            "claim_assembly_v1", owner=owner, upload_id=upload_id, lease_token=lease_token, lease_s=lease_s
        )
        return AssemblyClaim(ClaimOutcome(claim["outcome"]), read_upload(claim["upload"]))

    def release(self, owner: str, upload_id: str, lease_token: str) -> None:
        """Give a claimed upload back."""
        self._database.call("release_assembly_v1", owner=owner, upload_id=upload_id, lease_token=lease_token)

    def report_verified(self, owner: str, upload_id: str, lease_token: str, verified_bytes: int) -> None:
        """Say how far a claimed upload's object was read."""
        self._database.call(
            "report_verified_v1",
            owner=owner,
            upload_id=upload_id,
            lease_token=lease_token,
            verified_bytes=verified_bytes,
        )

    def record(self, owner: str, upload_id: str, lease_token: str, assembled: AssembledObject) -> Upload:
        """Mark a claimed upload assembled."""
        return read_upload(
            self._database.call(
                "record_assembly_v1", owner=owner, upload_id=upload_id, lease_token=lease_token, **asdict(assembled)
            )
        )

    def fail(self, owner: str, upload_id: str, lease_token: str, failure: Mapping[str, Any]) -> Upload:
        """Mark a claimed upload failed."""
        return read_upload(
            self._database.call(
                "fail_assembly_v1", owner=owner, upload_id=upload_id, lease_token=lease_token, failure=dict(failure)
            )
        )

    def abort(self, owner: str, upload_id: str) -> Upload:
        """Mark an open or failed upload aborted."""
        return read_upload(self._database.call("abort_upload_v1", owner=owner, upload_id=upload_id))

    def begin_sweep(self, *, max_age_hours: int, limit: int, dry_run: bool) -> list[Upload]:
        """Return uploads whose objects can go, stale ones moved to `expiring`."""
        rows = self._database.call("begin_sweep_v1", max_age_hours=max_age_hours, limit=limit, dry_run=dry_run)
        return [read_upload(row) for row in rows]

    def finish_sweep(self, upload_id: str) -> None:
        """Note that an upload's temporary objects are gone."""
        self._database.call("finish_sweep_v1", upload_id=upload_id)


def read_upload(row: Mapping[str, Any]) -> Upload:
    """Make a record of a row that has its session's `session_id` beside it."""
    return Upload(
        id=row["id"],
        session_uuid=row["session_uuid"],
        session_id=row["session_id"],
        owner=row["user_id"],
        file_name=row["file_name"],
        content_type=row["content_type"],
        size_bytes=row["size_bytes"],
        chunk_size_bytes=row["chunk_size_bytes"],
        total_chunks=row["total_chunks"],
        state=UploadState(row["state"]),
        is_legacy=row["is_legacy"],
        expires_at=datetime.fromisoformat(row["expires_at"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
        sha256=row["sha256"],
        object_name=row["object_name"],
        generation=row["generation"],
        crc32c=row["crc32c"],
        n_rows=row["n_rows"],
        verified_bytes=row["verified_bytes"],
        failure=row["failure"],
    )
