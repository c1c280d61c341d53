"""One user's sessions and uploads on the real stack, and the facts that must hold of them after every accident."""

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import google_crc32c

from shared.adapters.csv_rows import CsvRowCounter
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.checksums import encode_crc32c
from shared.deletion import DeletionService
from shared.records.callers import Caller
from shared.records.objects import (
    chunk_name,
    chunks_prefix,
    data_set_name,
    data_set_prefix,
    data_sets_prefix,
    steps_prefix,
)
from shared.records.uploads import Upload
from shared.settings import storage_settings
from shared.sweeping import SWEPT_PER_RUN
from tests.factories import chunk_of
from tests.local_stack import LocalStack, People
from tests.resilience.processes import CHUNK_BYTES, Outcome, Processes, Request
from tests.upload_rules import UploadRules

SESSION = "weather"
# States whose uploads are counted against the quota.
COUNTED = {"open", "assembling", "expiring", "assembled"}
UNFINISHED = {"open", "assembling"}


@dataclass(frozen=True)
class Services:
    """The rules on the real adapters, with small chunks, in the test's own process: for preparing and for looking."""

    uploads: UploadRules
    deletions: DeletionService
    upload_rows: SupabaseUploads
    session_rows: SupabaseSessions
    store: GcsObjectStore

    @classmethod
    def on(cls, stack: LocalStack) -> "Services":
        upload_rows, session_rows = SupabaseUploads(stack.database), SupabaseSessions(stack.database)
        storage = storage_settings(stack.functions_env)
        store = GcsObjectStore(storage.uploads_bucket)
        signer = GcsUrlSigner(storage, storage.uploads_bucket)
        service = UploadRules(upload_rows, session_rows, store, signer, CsvRowCounter(), least_chunk_bytes=CHUNK_BYTES)
        artifacts = GcsObjectStore(storage.artifacts_bucket)
        deletions = DeletionService(session_rows, store, artifacts)
        return cls(service, deletions, upload_rows, session_rows, store)


class World:
    """A user of her own, who talks to the functions through processes that may die."""

    def __init__(self, stack: LocalStack, people: People, services: Services, processes: Processes) -> None:
        self._stack = stack
        self._people = people
        self._processes = processes
        self.services = services
        self.caller: Caller = people.add()
        self._session_uuids: set[str] = set()
        self._upload_ids: set[str] = set()

    def open_session(self, session_id: str = SESSION) -> None:
        self._session_uuids.add(self.services.session_rows.init(self.caller.user_id, session_id, {}).id)

    def open_upload(
        self, content: bytes, name: str = "hours.csv", *, sent: Sequence[int] | None = None, **fields: Any
    ) -> Upload:
        """Open a session and an upload, and put its chunks (or those named) into the bucket."""
        self.open_session(fields.get("sessionId", SESSION))
        request = {"sessionId": SESSION, "fileName": name, "size": len(content), **fields}
        upload, _, _ = self.services.uploads.create(self.caller.user_id, request)
        self.put_chunks(upload, content, range(upload.total_chunks) if sent is None else sent)
        return upload

    def put_chunks(self, upload: Upload, content: bytes, indices: Sequence[int]) -> None:
        def put(index: int) -> None:
            content_of_chunk = chunk_of(content, upload, index)
            self.services.store.write(chunk_name(upload.id, index), content_of_chunk, "application/octet-stream")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, indices))

    def request(self, method: str, path: str, body: dict | None = None, **options: Any) -> Request:
        return Request(method, path, self.caller.token, body, **options)

    def cleanup_request(self, max_age_hours: int = 0) -> Request:
        return Request("POST", "/cleanup", self._stack.scheduler_token(), {"maxAgeHours": max_age_hours})

    def run(self, *requests: Request) -> list[Outcome]:
        return self._processes.run(*requests)

    def send(self, request: Request) -> Outcome:
        return self.run(request)[0]

    def let_leases_run_out(self) -> None:
        self._stack.rows(
            "update public.uploads set lease_expires_at = now() - interval '1 second'"
            " where user_id = %s and lease_expires_at is not null",
            self.caller.user_id,
        )

    def clean_up(self) -> None:
        """Run the next cleanup, for which everything unfinished is old enough."""
        self.let_leases_run_out()
        self.services.uploads.sweep(max_age_hours=0)
        self.services.deletions.finish_deletions(max_age_hours=0, limit=SWEPT_PER_RUN)

    def rows(self) -> list[dict[str, Any]]:
        return self._stack.rows(
            "select u.*, u.id::text, u.session_uuid::text, s.session_id, s.status as session_status, s.n_dat"
            " from public.uploads as u join public.sessions as s on s.id = u.session_uuid"
            " where u.user_id = %s order by u.created_at, u.id",
            self.caller.user_id,
        )

    def sessions(self) -> list[dict[str, Any]]:
        return self._stack.rows(
            "select *, id::text from public.sessions where user_id = %s order by created_at", self.caller.user_id
        )

    def row(self, upload: Upload) -> dict[str, Any]:
        return next(row for row in self.rows() if row["id"] == upload.id)

    def usage(self) -> tuple[int, int]:
        return self._people.usage(self.caller)

    def content(self, row: dict[str, Any]) -> bytes:
        return b"".join(self.services.store.read(row["object_name"], generation=row["generation"]))

    def check(self, *, deleted_units: int = 0) -> None:
        """Hold rows, objects and counters against each other.

        Args:
            deleted_units: Assembled uploads of deleted sessions, whose processing stays counted.
        """
        rows = self.rows()
        counted = [row for row in rows if row["state"] in COUNTED]
        assert self.usage() == (len(counted) + deleted_units, sum(row["reserved_bytes"] for row in counted))
        live_names = [(row["session_uuid"], row["file_name"]) for row in rows if row["state"] in {"assembled", "open"}]
        assert len(live_names) == len(set(live_names))
        self._session_uuids |= {row["session_uuid"] for row in rows}
        self._upload_ids |= {row["id"] for row in rows}
        unfinished = {row["id"] for row in rows if row["state"] in UNFINISHED}
        for upload_id in self._upload_ids - unfinished:
            assert self.names(chunks_prefix(upload_id)) == []
            assert self.names(steps_prefix(upload_id)) == []
        expected = sorted(row["object_name"] for row in rows if row["state"] == "assembled")
        undecided = tuple(data_set_prefix(row["session_uuid"], row["id"]) for row in rows if row["id"] in unfinished)
        found = [name for uuid_ in self._session_uuids for name in self.names(data_sets_prefix(uuid_))]
        assert sorted(name for name in found if not name.startswith(undecided)) == expected
        for row in rows:
            if row["state"] == "assembled":
                self._check_object(row)

    def _check_object(self, row: dict[str, Any]) -> None:
        assert row["object_name"] == data_set_name(row["session_uuid"], row["id"], row["file_name"])
        stored = self.services.store.stat(row["object_name"])
        content = self.content(row)
        described = (row["generation"], row["size_bytes"], row["crc32c"])
        assert described == (stored.generation, len(content), encode_crc32c(google_crc32c.value(content)))
        assert row["reserved_bytes"] == len(content)
        assert row["lease_token"] is None

    def note(self, upload: Upload) -> None:
        """Remember an upload whose row may go, so that its objects are still looked for."""
        self._upload_ids.add(upload.id)
        self._session_uuids.add(upload.session_uuid)

    def names(self, prefix: str) -> list[str]:
        return [stored.name for stored in self.services.store.list(prefix)]


def dying(request: Request, at: int, *, is_after_effect: bool) -> Request:
    return replace(request, dies_at=at, is_after_effect=is_after_effect)


def a_csv(n_bytes: int) -> bytes:
    """Return a table of exactly so many bytes, none of its rows like another."""
    text = "hour,value\n" + "".join(f"{i},{i * 7919 % 1009}\n" for i in range(n_bytes // 4))
    whole = text[:n_bytes]
    # The last line is cut off; make a whole row of what is left of it.
    rest = len(whole) - (whole.rfind("\n") + 1)
    return (whole[: len(whole) - rest] + "1,2345678901"[:rest]).encode() if rest > 2 else whole.encode()


def unknown_id() -> str:
    return str(uuid.uuid4())
