"""Function of deletion: delete_session. It alone of the sessions' needs the buckets. Rules: shared/deletion.py."""

import os
from functools import cache

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.deletion import DeletionService
from shared.settings import buckets, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint


@cache
def service() -> DeletionService:
    """Build the service on the first request; building it twice is harmless."""
    names = buckets(os.environ)
    return DeletionService(
        SupabaseSessions(SupabaseDatabase(supabase_settings(os.environ))),
        GcsObjectStore(names.uploads),
        GcsObjectStore(names.artifacts),
    )


@endpoint
def delete_session(call: Call) -> Reply:
    """POST /session/{session_id}/delete: remove every row and every object of a session."""
    deletion = service().delete(call.caller.user_id, call.path["session_id"])
    return Reply(
        200,
        {
            "session_id": call.path["session_id"],
            "deleted_from_database": deletion.rows,
            "files_deleted": deletion.n_objects,
            "status": "deleted",
        },
    )
