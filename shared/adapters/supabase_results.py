"""`ResultRepository` on Supabase; apart from runs and models, which a function that reads results need not load."""

from shared.adapters.supabase import SupabaseDatabase
from shared.errors import SessionNotFoundError
from shared.records.callers import Caller
from shared.records.results import ResultItem, ResultKind


class SupabaseResults:
    """Results, read as the user."""

    def __init__(self, database: SupabaseDatabase) -> None:
        self._database = database

    def results(
        self, caller: Caller, session_id: str, kind: ResultKind, *, of_all_runs: bool = False
    ) -> list[ResultItem]:
        """Return one list of results of the newest run that has them, or of all, in one request."""
        rows = self._database.select(
            caller,
            "sessions",
            f"id,training_results(id,{kind.value}(id,run_id,content))",
            user_id=f"eq.{caller.user_id}",
            session_id=f"eq.{session_id}",
            **{
                "training_results.status": "in.(completed,cancelled)",
                "training_results.manifest": "not.is.null",
                "training_results.order": "created_at.desc,id",
                f"training_results.{kind.value}.order": "position",
                **({} if of_all_runs else {"training_results.limit": "1"}),
            },
        )
        if not rows:
            raise SessionNotFoundError
        return [
            ResultItem(row["id"], row["run_id"], row["content"])
            for run in rows[0]["training_results"]
            for row in run[kind.value]
        ]
