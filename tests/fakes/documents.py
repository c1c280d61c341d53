"""Legacy documents in memory; follows 20261124130000_legacy_documents.sql."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shared.errors import LeaseLostError, RunNotFoundError, SessionNotFoundError
from shared.records.claims import ClaimOutcome
from shared.records.documents import DocumentClaim, DocumentStatus, LegacyDocument
from shared.records.training import ModelStatus, RunStatus
from tests.fakes.training import InMemoryTraining, RunRow, _files, _insert_results


@dataclass
class DocumentRow:
    content: bytes | None
    object_name: str | None
    lease_token: str | None = None
    lease_expires_at: datetime | None = None


class InMemoryDocuments:
    """`DocumentRepository` in memory, on the runs of an `InMemoryTraining`."""

    def __init__(self, runs: InMemoryTraining) -> None:
        self._runs = runs
        self._database = runs._database
        self._documents: dict[str, DocumentRow] = {}

    def import_results(self, owner: str, session_id: str, document: Any = None, object_name: str | None = None) -> str:
        """Bring a document in, as import_legacy_results_v1 does; return the run's id."""
        with self._database.lock:
            session = self._database.session_of(owner, session_id)
            if session is None:
                raise SessionNotFoundError
            content = None if object_name else json.dumps(document).encode()
            run_id = str(uuid.uuid5(uuid.UUID(session.record.id), object_name or content.decode()))
            if run_id not in self._documents:
                row = self._runs._add_run(run_id, session, RunStatus.COMPLETED, {}, ())
                self._runs._finish(row, session, RunStatus.COMPLETED, None, None)
                self._set(row, DocumentStatus.UNREAD, {})
                self._documents[run_id] = DocumentRow(content, object_name)
            return run_id

    def claim(self, owner: str, run_id: str, lease_token: str, lease_s: int) -> DocumentClaim:
        with self._database.lock:
            row, document = self._locked(owner, run_id)
            now = self._database.now
            if row.record.document.status is not DocumentStatus.UNREAD:
                return DocumentClaim(ClaimOutcome.DONE, document.object_name)
            is_leased = document.lease_expires_at is not None and document.lease_expires_at > now
            if is_leased and document.lease_token != lease_token:
                busy_s = int((document.lease_expires_at - now).total_seconds()) + 1
                return DocumentClaim(ClaimOutcome.BUSY, document.object_name, busy_s)
            document.lease_token = lease_token
            document.lease_expires_at = now + timedelta(seconds=lease_s)
            return DocumentClaim(ClaimOutcome.CLAIMED, document.object_name)

    def read(self, owner: str, run_id: str) -> Iterator[bytes]:
        with self._database.lock:
            _, document = self._locked(owner, run_id)
        yield document.content

    def release(self, run_id: str, lease_token: str) -> None:
        document = self._documents.get(run_id)
        if document is not None and document.lease_token == lease_token:
            document.lease_token = document.lease_expires_at = None

    def record(
        self, owner: str, run_id: str, lease_token: str, reference: Mapping[str, Any], document: Mapping[str, Any]
    ) -> None:
        with self._database.lock:
            row, kept = self._locked(owner, run_id)
            if row.record.document.status is DocumentStatus.READ:
                return
            if kept.lease_token != lease_token:
                raise LeaseLostError
            for entry in document["models"]:
                self._add_model(row, entry)
            _insert_results(row, document)
            row.record = replace(row.record, manifest=dict(reference))
            self._set(row, DocumentStatus.READ, document["detail"])
            kept.lease_token = kept.lease_expires_at = None

    def refuse(self, owner: str, run_id: str, lease_token: str, detail: Mapping[str, Any]) -> None:
        with self._database.lock:
            row, kept = self._locked(owner, run_id)
            if row.record.document.status is not DocumentStatus.UNREAD:
                return
            if kept.lease_token != lease_token:
                raise LeaseLostError
            self._set(row, DocumentStatus.REFUSED, detail)
            kept.lease_token = kept.lease_expires_at = None

    def _add_model(self, row: RunRow, entry: Mapping[str, Any]) -> None:
        status = ModelStatus(entry["status"])
        self._runs._add_model(
            row,
            entry["name"],
            entry["framework"],
            id=entry["id"],
            path=entry["path"],
            origin="legacy",
            class_name=entry["class"],
            claimed_class=entry["claimed_class"],
            status=status,
            status_detail=entry["detail"],
            progress=1.0,
            published=entry["published"],
            files=_files(entry),
        )
        model = row.models[entry["id"]]
        if status is ModelStatus.READY:
            model.record = replace(model.record, version=self._runs._version_for(row, model.record))

    def _locked(self, owner: str, run_id: str) -> tuple[RunRow, DocumentRow]:
        row = self._runs._runs.get(run_id)
        if row is None or row.record.document is None or row.record.owner != owner or self._runs._session(row) is None:
            raise RunNotFoundError
        return row, self._documents[run_id]

    @staticmethod
    def _set(row: RunRow, status: DocumentStatus, detail: Mapping[str, Any]) -> None:
        row.record = replace(row.record, document=LegacyDocument(status, dict(detail)))
