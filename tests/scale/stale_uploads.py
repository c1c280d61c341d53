"""Makes many abandoned uploads at once: rows in the real database, objects in a bucket in memory.

The storage emulator walks through the whole bucket for every listing, so that a hundred thousand objects in it would
measure the emulator. What its deletions do is tested by the contract of the object store.
"""

import uuid

from shared.records.callers import Caller
from shared.records.objects import chunk_name
from shared.records.uploads import Upload
from tests.fakes.objects import InMemoryObjectStore
from tests.local_stack import LocalStack

CONTENT = b"0123456789"
# Older than anything that is not made here, so that a cleanup takes these first.
_INSERT_SESSION = "insert into public.sessions (id, user_id, session_id, status) values (%s, %s, 'stale', 'uploading')"
_INSERT_UPLOADS = """
  insert into public.uploads (
    session_uuid, user_id, file_name, content_type, size_bytes, reserved_bytes, chunk_size_bytes, total_chunks,
    expires_at, created_at, updated_at
  )
  select %(session)s, %(user)s, n || '.bin', 'text/csv', %(size)s, %(size)s, %(chunk)s, %(chunks)s,
    now() - interval '364 days', now() - interval '365 days', now() - interval '365 days' + n * interval '1 ms'
  from generate_series(1, %(uploads)s) as n
  returning id
"""
_INSERT_USAGE = """
  insert into public.usage_counters (user_id, period_start, processing_used, bytes_stored)
  values (%s, now() - interval '400 days', %s, %s)
"""


def make_stale(
    stack: LocalStack, owner: Caller, store: InMemoryObjectStore, *, n_uploads: int, n_chunks: int
) -> list[str]:
    """Make uploads that were silent for a year, with all their chunks, counted against the owner; return their ids."""
    session, size = str(uuid.uuid4()), n_chunks * len(CONTENT)
    stack.rows(_INSERT_SESSION, session, owner.user_id)
    with stack.connect() as connection:
        values = {
            "session": session,
            "user": owner.user_id,
            "size": size,
            "chunk": len(CONTENT),
            "chunks": n_chunks,
            "uploads": n_uploads,
        }
        ids = [str(row["id"]) for row in connection.execute(_INSERT_UPLOADS, values).fetchall()]
    stack.rows(_INSERT_USAGE, owner.user_id, n_uploads, n_uploads * size)
    for upload_id in ids:
        for index in range(n_chunks):
            store.write(chunk_name(upload_id, index), CONTENT, "text/csv")
    return ids


class OwnUploads:
    """The repository of uploads as seen by a cleanup that deletes one user's objects and nobody else's."""

    def __init__(self, uploads, owner: Caller) -> None:
        self._uploads = uploads
        self._owner = owner

    def begin_sweep(self, *, max_age_hours: int, limit: int, dry_run: bool) -> list[Upload]:
        due = self._uploads.begin_sweep(max_age_hours=max_age_hours, limit=limit, dry_run=dry_run)
        return [upload for upload in due if upload.owner == self._owner.user_id]

    def finish_sweep(self, upload_id: str) -> None:
        self._uploads.finish_sweep(upload_id)
