"""The rules of deleting sessions: every row and every object of one, however often it is interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import SessionNotFoundError
from shared.fields import read_existing_session_id
from shared.publication import results_prefix
from shared.records.objects import (
    archives_prefix,
    chunks_prefix,
    conversions_prefix,
    data_sets_prefix,
    models_prefix,
    pictures_prefix,
    steps_prefix,
)

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore, SessionRepository


@dataclass(frozen=True)
class Deletion:
    """What deleting a session removed: rows by table, and objects."""

    rows: Mapping[str, int]
    n_objects: int


class DeletionService:
    """Deletes sessions, and finishes deletions that were interrupted."""

    def __init__(self, sessions: SessionRepository, upload_store: ObjectStore, artifact_store: ObjectStore) -> None:
        self._sessions = sessions
        self._upload_store = upload_store
        self._artifact_store = artifact_store

    def delete(self, owner: str, session_id: str) -> Deletion:
        """Delete a session with everything that belongs to it.

        The session is hidden first, its objects go next and its rows last: killed at any point and called again (or
        found by cleanup), the rest goes too.

        Raises:
            SessionNotFoundError: There is none, or it is deleted already.
            SessionBusyError: An upload of it is being assembled.
        """
        session_uuid, upload_ids = self._sessions.begin_delete(owner, read_existing_session_id(session_id))
        # Sources before what is composed of them: an assembly whose lease ran out can then add nothing.
        prefixes = [prefix(upload_id) for prefix in (chunks_prefix, steps_prefix) for upload_id in upload_ids]
        prefixes.append(data_sets_prefix(session_uuid))
        n_objects = sum(self._upload_store.delete(self._upload_store.list(prefix)) for prefix in prefixes)
        for prefix in (archives_prefix, conversions_prefix, results_prefix, models_prefix, pictures_prefix):
            n_objects += self._artifact_store.delete(self._artifact_store.list(prefix(session_uuid)))
        return Deletion(self._sessions.finish_delete(owner, session_uuid), n_objects)

    def finish_deletions(self, *, max_age_hours: int, limit: int) -> int:
        """Finish deletions that were interrupted; return how many."""
        unfinished = self._sessions.unfinished_deletions(max_age_hours=max_age_hours, limit=limit)
        n_finished = 0
        for owner, session_id in unfinished:
            try:
                self.delete(owner, session_id)
            # Its owner was faster.
            except SessionNotFoundError:
                continue
            n_finished += 1
        return n_finished
