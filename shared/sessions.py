"""The rules of sessions: create, read, list. Finalizing: shared/assembly.py. Deleting: shared/deletion.py."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidFieldError, InvalidPageTokenError
from shared.fields import is_uuid, read_existing_session_id, read_session_id
from shared.records.callers import Caller, CallerKind
from shared.records.sessions import PageKey, Session
from shared.records.uploads import Upload

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import SessionRepository, UploadRepository

LONGEST_METADATA_CHARACTERS = 16_384
DEEPEST_METADATA_LEVELS = 64
LARGEST_PAGE = 200
DEFAULT_PAGE = 50
LONGEST_SEARCH_CHARACTERS = 200
# An escaped NUL in JSON; an even number of backslashes before it are backslashes themselves.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True)
class SessionPage:
    """Sessions, newest first, and the token of the next page; empty at the end."""

    sessions: Sequence[Session]
    next_page_token: str


class SessionService:
    """What callers may do with sessions."""

    def __init__(self, sessions: SessionRepository, uploads: UploadRepository) -> None:
        self._sessions = sessions
        self._uploads = uploads

    def init(self, owner: str, session_id: Any, metadata: Any) -> Session:
        """Create a session; repeating it returns the same one, with the metadata of the first time.

        Raises:
            InvalidFieldError: A name or metadata that is not allowed.
            SessionBusyError: A session of this name is just being deleted.
        """
        return self._sessions.init(owner, read_session_id(session_id), _read_metadata(metadata))

    def get(self, caller: Caller, session_id: str) -> tuple[Session, Sequence[Upload]]:
        """Return a session with its uploads, oldest first.

        Raises:
            SessionNotFoundError: The caller has none of this name.
        """
        return self._uploads.of_session(caller, read_existing_session_id(session_id))

    def page(
        self, caller: Caller, *, limit: int, page_token: str, user_id: str | None, search: str = ""
    ) -> SessionPage:
        """Return one page of sessions, newest first.

        Args:
            limit: At least 1; more than 200 is taken as 200.
            page_token: Of the page before, or empty.
            user_id: Whose sessions; only service callers may ask, and see everybody's without it.
            search: What the id or the title of each has in it, in either case; empty for all. A service caller
                searches the sessions of one user.

        Raises:
            InvalidFieldError: A limit below 1, or a user id or a search that is not allowed.
            InvalidPageTokenError: A token this service has not made.
        """
        if limit < 1:
            raise InvalidFieldError("limit", "must be at least 1")
        if user_id is not None and caller.kind is not CallerKind.SERVICE and user_id != caller.user_id:
            raise InvalidFieldError("user_id", "only service callers may read other users' sessions")
        if user_id is not None and not is_uuid(user_id):
            raise InvalidFieldError("user_id", "must be a uuid")
        if len(search) > LONGEST_SEARCH_CHARACTERS or "\0" in search:
            raise InvalidFieldError(
                "search", f"must have at most {LONGEST_SEARCH_CHARACTERS} characters, none of them NUL"
            )
        if search and user_id is None and caller.kind is CallerKind.SERVICE:
            raise InvalidFieldError("user_id", "must be given with a search")
        size = min(limit, LARGEST_PAGE)
        after = _read_page_token(page_token) if page_token else None
        # One more than asked for says whether there is another page.
        found = self._sessions.page(caller, limit=size + 1, after=after, user_id=user_id, search=search)
        sessions = found[:size]
        return SessionPage(sessions, _page_token(sessions[-1]) if len(found) > size else "")


def _read_metadata(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidFieldError("metadata", "must be an object")
    if not _fits(value, DEEPEST_METADATA_LEVELS):
        raise InvalidFieldError("metadata", f"must not be nested deeper than {DEEPEST_METADATA_LEVELS} levels")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    # 1e999 is read as infinity, and half a surrogate pair as a character; jsonb takes neither.
    except ValueError as error:
        raise InvalidFieldError("metadata", "must be JSON with finite numbers and whole characters") from error
    if len(text) > LONGEST_METADATA_CHARACTERS:
        raise InvalidFieldError("metadata", f"must have at most {LONGEST_METADATA_CHARACTERS} characters as JSON")
    # Postgres keeps no NUL in text, and jsonb refuses it.
    if _NUL.search(text):
        raise InvalidFieldError("metadata", "must not contain NUL characters")
    return value


def _fits(value: Any, levels: int) -> bool:
    """Say whether a value has at most so many levels of objects and lists."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is None or (levels > 0 and all(_fits(one, levels - 1) for one in inner))


def _page_token(session: Session) -> str:
    text = json.dumps([session.created_at.isoformat(), session.id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_page_token(token: str) -> PageKey:
    try:
        created_at, row_id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None or not is_uuid(row_id):
            raise InvalidPageTokenError
        # In UTC, because Postgres does not take every offset that Python does.
        return PageKey(moment.astimezone(UTC), row_id)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidPageTokenError from error
