"""`SessionRepository` on Supabase."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.adapters.supabase import SupabaseDatabase
from shared.errors import SessionNotFoundError
from shared.records.callers import Caller
from shared.records.sessions import PageKey, Session, SessionStatus

COLUMNS = "id,session_id,user_id,status,metadata,n_dat,created_at,updated_at"


class SupabaseSessions:
    """Sessions: read as the user, written through SQL functions."""

    def __init__(self, database: SupabaseDatabase) -> None:
        self._database = database

    def init(self, owner: str, session_id: str, metadata: Mapping[str, Any]) -> Session:
        """Create the session, or return the one of this name."""
        return read_session(
            self._database.call("init_session_v1", owner=owner, session_id=session_id, metadata=dict(metadata))
        )

    def page(
        self,
        caller: Caller,
        *,
        limit: int,
        after: PageKey | None = None,
        user_id: str | None = None,
        search: str = "",
    ) -> list[Session]:
        """Return up to `limit` sessions, newest first."""
        filters = {"order": "created_at.desc,id.desc", "limit": str(limit)}
        owner = user_id or caller.user_id
        if owner:
            # Row-level security asks the same; repeated here it is an index condition.
            filters["user_id"] = f"eq.{owner}"
        if after:
            at = after.created_at.isoformat()
            filters["created_at"] = f"lte.{at}"
            filters["or"] = f'(created_at.lt."{at}",id.lt.{after.id})'
        if search:
            pattern = _pattern(search)
            filters["and"] = f"(or(session_id.imatch.{pattern},metadata->>title.imatch.{pattern}))"
        filters["deleting_at"] = "is.null"
        return [read_session(row) for row in self._database.select(caller, "sessions", COLUMNS, **filters)]

    def get(self, caller: Caller, session_id: str) -> Session:
        """Return the caller's session of that name, or raise SessionNotFoundError."""
        rows = self._database.select(
            caller, "sessions", COLUMNS, user_id=f"eq.{caller.user_id}", session_id=f"eq.{session_id}"
        )
        if not rows:
            raise SessionNotFoundError
        return read_session(rows[0])

    def finalize(self, owner: str, session_id: str) -> Session:
        """Close the session to uploads and sum up n_dat."""
        return read_session(self._database.call("finalize_session_v1", owner=owner, session_id=session_id))

    def begin_delete(self, owner: str, session_id: str) -> tuple[str, list[str]]:
        """Hide the session and stop its uploads."""
        contents = self._database.call("begin_delete_session_v1", owner=owner, session_id=session_id)
        return contents["id"], contents["upload_ids"]

    def finish_delete(self, owner: str, session_uuid: str) -> dict[str, int]:
        """Delete every row of the session."""
        counts: dict[str, int] = self._database.call("finish_delete_session_v1", owner=owner, session_uuid=session_uuid)
        return counts

    def unfinished_deletions(self, *, max_age_hours: int, limit: int) -> list[tuple[str, str]]:
        """Return (owner, session_id) of deletions that were begun and not finished."""
        rows = self._database.call("deletions_to_finish_v1", max_age_hours=max_age_hours, limit=limit)
        return [(row["owner"], row["session_id"]) for row in rows]


def _pattern(text: str) -> str:
    """Return the quoted regular expression of a text as it stands.

    PostgREST's patterns of LIKE cannot have an asterisk in them: it makes each a percent sign.
    """
    literal = re.sub(r"([^\w\s])", r"\\\1", text)
    return '"' + literal.replace("\\", "\\\\").replace('"', '\\"') + '"'


def read_session(row: Mapping[str, Any]) -> Session:
    """Make a record of a row."""
    return Session(
        id=row["id"],
        session_id=row["session_id"],
        owner=row["user_id"],
        status=SessionStatus(row["status"]),
        metadata=row["metadata"],
        n_dat=row["n_dat"],
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
    )
