"""`DocumentRepository` on Supabase."""

from collections.abc import Iterator, Mapping
from typing import Any

from shared.adapters.supabase import SupabaseDatabase
from shared.records.claims import ClaimOutcome
from shared.records.documents import DocumentClaim

# What read_document_v1 may take (infra/supabase/migrations), and a little more for the answer.
READ_TIMEOUT_S = 250.0


class SupabaseDocuments:
    """Legacy documents: changed through SQL functions, streamed from one."""

    def __init__(self, database: SupabaseDatabase) -> None:
        self._database = database

    def claim(self, owner: str, run_id: str, lease_token: str, lease_s: int) -> DocumentClaim:
        """Take an unread document for reading."""
        claim = self._database.call(
            "claim_document_v1", owner=owner, run_id=run_id, lease_token=lease_token, lease_s=lease_s
        )
        return DocumentClaim(ClaimOutcome(claim["outcome"]), claim["object"], claim["busy_s"])

    def read(self, owner: str, run_id: str) -> Iterator[bytes]:
        """Stream a document that lies in the database."""
        return self._database.stream("read_document_v1", READ_TIMEOUT_S, owner=owner, run_id=run_id)

    def release(self, run_id: str, lease_token: str) -> None:
        """Give a claimed document back."""
        self._database.call("release_document_v1", run_id=run_id, lease_token=lease_token)

    def record(
        self, owner: str, run_id: str, lease_token: str, reference: Mapping[str, Any], document: Mapping[str, Any]
    ) -> None:
        """Record what was found and mark the document read."""
        self._database.call(
            "record_document_v1",
            owner=owner,
            run_id=run_id,
            lease_token=lease_token,
            reference=dict(reference),
            document=dict(document),
        )

    def refuse(self, owner: str, run_id: str, lease_token: str, detail: Mapping[str, Any]) -> None:
        """Mark a document refused."""
        self._database.call(
            "refuse_document_v1", owner=owner, run_id=run_id, lease_token=lease_token, detail=dict(detail)
        )
