"""Functions of sessions: init_session, list_sessions, get_session. Rules: shared/sessions.py."""

import os
from functools import cache
from typing import Any

from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.api.requests.sessions import InitSession, ListSessions
from shared.fields import read_number_text
from shared.records.sessions import Session
from shared.records.uploads import Upload, UploadState
from shared.sessions import DEFAULT_PAGE, SessionService
from shared.settings import supabase_settings
from shared.web.endpoint import Call, Reply, endpoint


@cache
def service() -> SessionService:
    """Build the service on the first request; building it twice is harmless."""
    database = SupabaseDatabase(supabase_settings(os.environ))
    return SessionService(SupabaseSessions(database), SupabaseUploads(database))


@endpoint
def init_session(call: Call) -> Reply:
    """POST /init-session {sessionId, metadata?}: create a session, or return the one of this name."""
    body = call.body(InitSession)
    session = service().init(call.caller.user_id, body["sessionId"], body.get("metadata"))
    return Reply(
        200,
        {
            "session_id": session.session_id,
            "uuid": session.id,
            "status": session.status,
            "created_at": session.created_at.isoformat(),
            "metadata": session.metadata,
        },
    )


@endpoint
def list_sessions(call: Call) -> Reply:
    """GET /list-sessions?limit&page_token&search: the caller's sessions, newest first."""
    query = call.query(ListSessions)
    # A limit beyond any list is no mistake: it is taken as the largest page.
    limit = read_number_text(query.get("limit", str(DEFAULT_PAGE)), "limit", least=-(10**18), most=10**18)
    page = service().page(
        call.caller,
        limit=limit,
        page_token=query.get("page_token", ""),
        user_id=query.get("user_id"),
        search=query.get("search", ""),
    )
    sessions = [_session_json(session) for session in page.sessions]
    return Reply(200, {"sessions": sessions, "count": len(sessions), "next_page_token": page.next_page_token})


@endpoint
def get_session(call: Call) -> Reply:
    """GET /session/{session_id}: one session with its files and uploads."""
    call.query()
    session, uploads = service().get(call.caller, call.path["session_id"])
    files = [_file_json(upload) for upload in uploads if upload.state is UploadState.ASSEMBLED]
    return Reply(
        200,
        {
            **_session_json(session),
            "updated_at": session.updated_at.isoformat(),
            "files": files,
            "total_files": len(files),
            "uploads": [
                {
                    "uploadId": upload.id,
                    "fileName": upload.file_name,
                    "size": upload.size_bytes,
                    "state": upload.state,
                    "failure": upload.failure,
                }
                for upload in uploads
            ],
        },
    )


def _session_json(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "session_id": session.session_id,
        "status": session.status,
        "created_at": session.created_at.isoformat(),
        "n_dat": session.n_dat,
        "metadata": session.metadata,
    }


def _file_json(upload: Upload) -> dict[str, Any]:
    return {
        "name": upload.file_name,
        "size": upload.size_bytes,
        "modified": upload.updated_at.isoformat(),
        "n_rows": upload.n_rows,
        "sha256": upload.sha256,
    }
