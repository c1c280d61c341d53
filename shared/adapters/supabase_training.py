"""`TrainingRepository` on Supabase."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.adapters.supabase_results import SupabaseResults
from shared.errors import SessionNotFoundError
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.documents import DocumentStatus, LegacyDocument
from shared.records.training import (
    TRAINABLE_MODELS,
    Conversion,
    ConversionStatus,
    ModelFile,
    ModelStatus,
    Run,
    RunStatus,
    TrainedModel,
    TrainingClaim,
    TrainingRequest,
    TrainingTask,
)
from shared.records.uploads import DataFile

RUN_COLUMNS = (
    "id,session_uuid,user_id,status,request,data_set,manifest,failure,created_at,finished_at,"
    "document_status,document_detail"
)
_MODEL_COLUMNS = (
    "id,run_id,session_uuid,name,path,class,framework,status,status_detail,progress,attempts,files,metrics,"
    "origin,claimed_class,version,conversion,created_at,updated_at"
)
_PROGRESS_MODEL_COLUMNS = f"{_MODEL_COLUMNS},curve,remaining_s"
# What a model published without its scalers and charts: those are large and have lists of their own.
DESCRIBED_MODEL_COLUMNS = f"{_MODEL_COLUMNS},description"


class SupabaseTraining(SupabaseResults):
    """Runs, models and results: read as the user, written through SQL functions."""

    def start(self, owner: str, session_id: str, request: TrainingRequest) -> tuple[Run, Sequence[TrainingTask]]:
        """Begin a run, or return the equal one in progress, with the tasks to queue."""
        models = [{"name": name, "framework": TRAINABLE_MODELS[name].framework} for name in request.models]
        started = self._database.call(
            "start_run_v1", owner=owner, session_id=session_id, request=request.document(), models=models
        )
        return _with_tasks(started)

    def claim(self, model_id: str, lease_token: str, lease_s: int) -> TrainingClaim:
        """Take a model for training."""
        claim = self._database.call("claim_model_v1", model_id=model_id, lease_token=lease_token, lease_s=lease_s)
        return TrainingClaim(
            ClaimOutcome(claim["outcome"]), read_run(claim["run"]), claim["is_run_finished"], claim["busy_s"]
        )

    def report(
        self,
        model_id: str,
        lease_token: str,
        lease_s: int,
        progress: float,
        *,
        curve: Mapping[str, Any],
        remaining_s: int | None,
    ) -> None:
        """Note progress and extend the lease."""
        self._database.call(
            "report_progress_v2",
            model_id=model_id,
            lease_token=lease_token,
            lease_s=lease_s,
            progress=progress,
            curve=dict(curve),
            remaining_s=remaining_s,
        )

    def release(self, model_id: str, lease_token: str) -> None:
        """Give a claimed model back."""
        self._database.call("release_model_v1", model_id=model_id, lease_token=lease_token)

    def publish(self, model_id: str, lease_token: str, published: Mapping[str, Any]) -> tuple[Run, bool]:
        """Note what training came to."""
        return _finished(
            self._database.call(
                "publish_model_v1", model_id=model_id, lease_token=lease_token, published=dict(published)
            )
        )

    def fail(self, model_id: str, lease_token: str, detail: str) -> tuple[Run, bool]:
        """Note why training failed."""
        return _finished(
            self._database.call("fail_model_v1", model_id=model_id, lease_token=lease_token, detail=detail)
        )

    def cancel(self, owner: str, session_id: str) -> tuple[Run, Sequence[TrainingTask]]:
        """Cancel the run in progress."""
        return _with_tasks(self._database.call("cancel_run_v1", owner=owner, session_id=session_id))

    def complete(self, run_id: str, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> Run:
        """Record a run's manifest and results."""
        return read_run(
            self._database.call("complete_run_v1", run_id=run_id, manifest=dict(manifest), document=dict(document))
        )

    def record(self, owner: str, session_uuid: str, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> Run:
        """Take in another trainer's manifest."""
        return read_run(
            self._database.call(
                "record_run_v1",
                owner=owner,
                session_uuid=session_uuid,
                manifest=dict(manifest),
                document=dict(document),
            )
        )

    def mark(self, run_id: str, verdicts: Mapping[str, str | None]) -> Run:
        """Make pending models ready or refused."""
        rows = [
            {"model_id": model_id, "status": "refused" if reason else "ready", "detail": reason}
            for model_id, reason in verdicts.items()
        ]
        return read_run(self._database.call("mark_models_v1", run_id=run_id, verdicts=rows))

    def newest(self, caller: Caller, session_id: str) -> Run | None:
        """Return the newest run of a session, in one request."""
        _, runs = self._read_runs(caller, session_id, _PROGRESS_MODEL_COLUMNS, **{"training_results.limit": "1"})
        return runs[0] if runs else None

    def of_session(self, caller: Caller, session_id: str) -> tuple[str, list[Run]]:
        """Return the session's row id and its runs, newest first, in one request."""
        return self._read_runs(caller, session_id, DESCRIBED_MODEL_COLUMNS)

    def _read_runs(self, caller: Caller, session_id: str, model_columns: str, **filters: str) -> tuple[str, list[Run]]:
        rows = self._database.select(
            caller,
            "sessions",
            f"id,session_id,training_results({RUN_COLUMNS},models({model_columns}))",
            user_id=f"eq.{caller.user_id}",
            session_id=f"eq.{session_id}",
            **{"training_results.order": "created_at.desc,id", "training_results.models.order": "created_at,name"},
            **filters,
        )
        if not rows:
            raise SessionNotFoundError
        session = rows[0]
        return session["id"], [read_run(run | {"session_id": session_id}) for run in session["training_results"]]


def _with_tasks(answer: Mapping[str, Any]) -> tuple[Run, Sequence[TrainingTask]]:
    tasks = [TrainingTask(task["model_id"], task["number"]) for task in answer["tasks"]]
    return read_run(answer["run"]), tasks


def _finished(answer: Mapping[str, Any]) -> tuple[Run, bool]:
    return read_run(answer["run"]), answer["is_run_finished"]


def read_run(row: Mapping[str, Any]) -> Run:
    """Make a record of a row that has its session's `session_id` and its models beside it."""
    return Run(
        id=row["id"],
        session_uuid=row["session_uuid"],
        session_id=row["session_id"],
        owner=row["user_id"],
        status=RunStatus(row["status"]),
        request=row["request"],
        data_set=tuple(_read_data_file(file) for file in row["data_set"]),
        manifest=row["manifest"],
        failure=row["failure"],
        created_at=datetime.fromisoformat(row["created_at"]),
        finished_at=datetime.fromisoformat(row["finished_at"]) if row["finished_at"] else None,
        models=tuple(_read_model(model) for model in row["models"]),
        document=LegacyDocument(DocumentStatus(row["document_status"]), row["document_detail"])
        if row["document_status"]
        else None,
    )


def _read_data_file(row: Mapping[str, Any]) -> DataFile:
    return DataFile(
        upload_id=row["upload_id"],
        file_name=row["file_name"],
        content_type=row["content_type"],
        object_name=row["object"],
        generation=row["generation"],
        size_bytes=row["bytes"],
        crc32c=row["crc32c"],
        sha256=row["sha256"],
        n_rows=row["n_rows"],
    )


def _read_model(row: Mapping[str, Any]) -> TrainedModel:
    return TrainedModel(
        id=row["id"],
        run_id=row["run_id"],
        session_uuid=row["session_uuid"],
        name=row["name"],
        path=row["path"],
        class_name=row["class"],
        framework=row["framework"],
        status=ModelStatus(row["status"]),
        status_detail=row["status_detail"],
        progress=row["progress"],
        attempts=row["attempts"],
        files=tuple(_read_model_file(file) for file in row["files"]),
        metrics=row["metrics"],
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
        origin=row["origin"],
        claimed_class=row["claimed_class"],
        version=row["version"],
        published=row.get("published") or row.get("description") or {},
        curve=row.get("curve") or {},
        remaining_s=row.get("remaining_s"),
        conversion=read_conversion(row["conversion"]) if row.get("conversion") else None,
    )


def read_conversion(row: Mapping[str, Any]) -> Conversion:
    """Make a record of a model's conversion."""
    return Conversion(ConversionStatus(row["status"]), row["attempt"], row.get("detail"), row.get("finding"))


def _read_model_file(row: Mapping[str, Any]) -> ModelFile:
    return ModelFile(
        format=row["format"],
        object_name=row["object"],
        generation=row.get("generation"),
        size_bytes=row["bytes"],
        sha256=row["sha256"],
        media_type=row["media_type"],
        loads_code=row["loads_code"],
    )
