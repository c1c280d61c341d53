"""Functions that delete: delete_session, abort_upload, cleanup.

Rules: shared/deletion.py (sessions), shared/sweeping.py (uploads). Cleanup also finishes deletions of sessions that
were interrupted.
"""

import os
from functools import cache

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.api.requests.deletion import Cleanup
from shared.deletion import DeletionService
from shared.fields import read_boolean
from shared.logs import write_log
from shared.settings import buckets, supabase_settings
from shared.sweeping import DEFAULT_MAX_AGE_HOURS, SWEPT_PER_RUN, SweepService, SweptUpload
from shared.web.endpoint import Call, Reply, endpoint

# Services are built on the first request that needs them; building one twice is harmless.


@cache
def database() -> SupabaseDatabase:
    """Build the way to the database, and its connections, for all services."""
    return SupabaseDatabase(supabase_settings(os.environ))


@cache
def store() -> GcsObjectStore:
    """Build the way to the uploads bucket."""
    return GcsObjectStore(buckets(os.environ).uploads)


@cache
def deletion_service() -> DeletionService:
    """Build the service that deletes sessions."""
    return DeletionService(SupabaseSessions(database()), store(), GcsObjectStore(buckets(os.environ).artifacts))


@cache
def sweep_service() -> SweepService:
    """Build the service that ends uploads and clears away what they left."""
    return SweepService(SupabaseUploads(database()), store())


@endpoint
def delete_session(call: Call) -> Reply:
    """POST /session/{session_id}/delete: remove every row and every object of a session."""
    deletion = deletion_service().delete(call.caller.user_id, call.path["session_id"])
    return Reply(
        200,
        {
            "session_id": call.path["session_id"],
            "deleted_from_database": deletion.rows,
            "files_deleted": deletion.n_objects,
            "status": "deleted",
        },
    )


@endpoint
def abort_upload(call: Call) -> Reply:
    """POST /uploads/{upload_id}/abort: give an upload up and delete its chunks."""
    call.body()
    upload, n_objects = sweep_service().abort(call.caller.user_id, call.path["upload_id"])
    return Reply(200, {"uploadId": upload.id, "state": upload.state, "objectsDeleted": n_objects})


@endpoint
def cleanup(call: Call) -> Reply:
    """POST /cleanup {maxAgeHours?, dryRun?}: sweep abandoned uploads; called again while has_more."""
    body = call.body(Cleanup)
    max_age_hours = body.get("maxAgeHours", DEFAULT_MAX_AGE_HOURS)
    dry_run = read_boolean(body.get("dryRun", False), "dryRun")
    sweep = sweep_service().sweep(max_age_hours=max_age_hours, dry_run=dry_run, on_swept=_audit)
    if not dry_run:
        deletion_service().finish_deletions(max_age_hours=max_age_hours, limit=SWEPT_PER_RUN)
    return Reply(
        200,
        {
            "cleaned": sweep.n_uploads,
            "objects_deleted": sweep.n_objects,
            "bytes_freed": sweep.freed_bytes,
            "has_more": sweep.has_more,
            "dry_run": dry_run,
        },
    )


def _audit(swept: SweptUpload) -> None:
    write_log(
        "INFO",
        "uploads.sweep.done",
        upload_id=swept.upload.id,
        session=swept.upload.session_id,
        state=swept.upload.state,
        objects=swept.n_objects,
        bytes=swept.freed_bytes,
    )
