"""Training in memory: repository and queue. The repository follows 20261123130000_training_and_results.sql and
20261124110000_cancelled_training_and_live_curves.sql.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from shared.errors import (
    DataSetError,
    LeaseLostError,
    ManifestInvalidError,
    ModelNotFoundError,
    QueueUnavailableError,
    RunNotFoundError,
    SessionNotFinalizedError,
    SessionNotFoundError,
    SubscriptionRequiredError,
    TrainingFinishedError,
    TrainingInProgressError,
)
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.results import ResultItem, ResultKind
from shared.records.sessions import SessionStatus
from shared.records.training import (
    TRAINABLE_MODELS,
    ModelFile,
    ModelStatus,
    Run,
    RunStatus,
    TrainedModel,
    TrainingClaim,
    TrainingRequest,
    TrainingTask,
)
from shared.records.uploads import data_files
from tests.fakes.sessions import InMemoryDatabase, SessionRow

MOST_ATTEMPTS = 5
PATIENCE = timedelta(minutes=10)
UNFINISHED = {ModelStatus.QUEUED, ModelStatus.TRAINING}
INTERRUPTED = "The training was interrupted and not taken up again."


@dataclass
class ModelRow:
    record: TrainedModel
    queued_at: datetime
    tasks: int = 1
    lease_token: str | None = None
    lease_expires_at: datetime | None = None


@dataclass
class RunRow:
    record: Run
    models: dict[str, ModelRow] = field(default_factory=dict)
    results: dict[ResultKind, list[ResultItem]] = field(default_factory=dict)


class InMemoryTraining:
    """`TrainingRepository` in memory, on the sessions and uploads of an `InMemoryDatabase`."""

    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database
        self._runs: dict[str, RunRow] = {}

    def start(self, owner: str, session_id: str, request: TrainingRequest) -> tuple[Run, Sequence[TrainingTask]]:
        database = self._database
        with database.lock:
            session = database.session_of(owner, session_id)
            if session is None:
                raise SessionNotFoundError
            row = next((row for row in self._runs_of(session) if not row.record.is_over), None)
            if row is not None and row.record.request != request.document():
                if any(
                    model.record.updated_at > database.now - 6 * PATIENCE or _is_leased(model, database.now)
                    for model in row.models.values()
                ):
                    raise TrainingInProgressError(run_id=row.record.id)
                self._give_up(row, session)
                row = None
            if row is None:
                row = self._new_run(owner, session, request)
            else:
                for model in self._idle(row):
                    if model.queued_at < database.now - PATIENCE:
                        model.tasks += 1
                        model.queued_at = database.now
            tasks = [TrainingTask(model.record.id, model.tasks) for model in self._idle(row)]
            return self._run(row), tasks

    def claim(self, model_id: str, lease_token: str, lease_s: int) -> TrainingClaim:
        database = self._database
        with database.lock:
            row, model = self._locked(model_id)
            outcome, busy_s = ClaimOutcome.DONE, None
            is_ours = model.lease_token == lease_token
            is_free = model.record.status is ModelStatus.QUEUED or (
                model.record.status is ModelStatus.TRAINING and (is_ours or not _is_leased(model, database.now))
            )
            if is_free and model.record.attempts >= MOST_ATTEMPTS and not is_ours:
                detail = f"The training was interrupted {model.record.attempts} times."
                self._change(model, status=ModelStatus.FAILED, status_detail=detail)
                _drop_lease(model)
            elif is_free:
                outcome = ClaimOutcome.CLAIMED
                attempts = model.record.attempts + (not is_ours)
                progress = model.record.progress if is_ours else 0.0
                self._change(model, status=ModelStatus.TRAINING, attempts=attempts, progress=progress)
                model.lease_token = lease_token
                model.lease_expires_at = database.now + timedelta(seconds=lease_s)
                if row.record.status is RunStatus.QUEUED:
                    row.record = replace(row.record, status=RunStatus.RUNNING)
            elif model.record.status is ModelStatus.TRAINING:
                outcome = ClaimOutcome.BUSY
                busy_s = int((model.lease_expires_at - database.now).total_seconds()) + 1
            return TrainingClaim(outcome, self._run(row), _is_finished(row), busy_s)

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
        with self._database.lock:
            _, model = self._locked(model_id)
            _demand_lease(model, lease_token)
            self._change(
                model, progress=max(model.record.progress, progress), curve=dict(curve), remaining_s=remaining_s
            )
            model.lease_expires_at = self._database.now + timedelta(seconds=lease_s)

    def release(self, model_id: str, lease_token: str) -> None:
        with self._database.lock:
            for row in self._runs.values():
                model = row.models.get(model_id)
                if model and model.record.status is ModelStatus.TRAINING and model.lease_token == lease_token:
                    self._change(model, status=ModelStatus.QUEUED)
                    _drop_lease(model)

    def publish(self, model_id: str, lease_token: str, published: Mapping[str, Any]) -> tuple[Run, bool]:
        with self._database.lock:
            row, model = self._locked(model_id)
            if model.record.published != published:
                _demand_lease(model, lease_token)
                self._change(
                    model,
                    status=ModelStatus.PENDING,
                    progress=1.0,
                    published=dict(published),
                    class_name=published["class"],
                    files=_files(published),
                    metrics=published["metrics"],
                )
                _drop_lease(model)
            return self._run(row), _is_finished(row)

    def fail(self, model_id: str, lease_token: str, detail: str) -> tuple[Run, bool]:
        with self._database.lock:
            row, model = self._locked(model_id)
            if model.record.status is not ModelStatus.FAILED:
                _demand_lease(model, lease_token)
                self._change(model, status=ModelStatus.FAILED, status_detail=detail)
                _drop_lease(model)
            return self._run(row), _is_finished(row)

    def cancel(self, owner: str, session_id: str) -> tuple[Run, Sequence[TrainingTask]]:
        database = self._database
        with database.lock:
            session = database.session_of(owner, session_id)
            if session is None:
                raise SessionNotFoundError
            runs = sorted(self._runs_of(session), key=lambda row: row.record.is_over)
            if not runs:
                raise RunNotFoundError
            row = runs[0]
            if row.record.status in {RunStatus.COMPLETED, RunStatus.FAILED}:
                raise TrainingFinishedError(run_id=row.record.id, status=row.record.status.value)
            is_new = row.record.status is not RunStatus.CANCELLED
            if is_new:
                for model in row.models.values():
                    if model.record.status in UNFINISHED:
                        self._change(model, status=ModelStatus.CANCELLED)
                        _drop_lease(model)
                row.record = replace(row.record, status=RunStatus.CANCELLED, finished_at=database.tick())
                has_results = any(_has_results(other) for other in runs)
                to = SessionStatus.TRAINED if has_results else SessionStatus.FINALIZED
                session.record = replace(session.record, status=to, updated_at=database.now)
            finished = sorted(
                (model for model in row.models.values() if model.record.published), key=lambda model: model.record.name
            )[: row.record.manifest is None]
            for model in finished:
                if is_new or model.queued_at < database.now - PATIENCE:
                    model.tasks += 1
                    model.queued_at = database.now
            return self._run(row), [TrainingTask(model.record.id, model.tasks) for model in finished]

    def complete(self, run_id: str, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> Run:
        with self._database.lock:
            row = self._runs.get(run_id)
            session = self._session(row) if row else None
            if row is None or session is None:
                raise RunNotFoundError
            if row.record.status in {RunStatus.COMPLETED, RunStatus.FAILED} or _has_results(row):
                return self._run(row)
            if not _is_finished(row):
                raise TrainingInProgressError(run_id=run_id)
            status = RunStatus(document["status"])
            if row.record.status is RunStatus.CANCELLED:
                row.record = replace(row.record, manifest=dict(manifest))
                is_idle = session.record.status in {SessionStatus.FINALIZED, SessionStatus.FAILED}
                if is_idle and status is RunStatus.COMPLETED:
                    session.record = replace(
                        session.record, status=SessionStatus.TRAINED, updated_at=self._database.tick()
                    )
            else:
                failure = "No model could be trained." if status is RunStatus.FAILED else None
                self._finish(row, session, status, dict(manifest), failure)
            _insert_results(row, document)
            return self._run(row)

    def record(self, owner: str, session_uuid: str, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> Run:
        database = self._database
        with database.lock:
            session = database.sessions.get(session_uuid)
            if session is None or session.record.owner != owner or session.deleting_at is not None:
                raise SessionNotFoundError
            run_id = document["run_id"]
            if run_id in self._runs:
                if self._runs[run_id].record.session_uuid != session_uuid:
                    raise ManifestInvalidError
                return self._run(self._runs[run_id])
            row = self._add_run(run_id, session, RunStatus(document["status"]), document["request"], ())
            for entry in document["models"]:
                is_completed = entry["status"] == "completed"
                self._add_model(
                    row,
                    entry["name"],
                    entry["framework"],
                    origin="published",
                    status=ModelStatus.PENDING if is_completed else ModelStatus.FAILED,
                    status_detail=entry.get("detail"),
                    progress=1.0,
                    published=dict(entry),
                    class_name=entry.get("class"),
                    files=_files(entry),
                    metrics=entry.get("metrics", {}),
                )
            is_idle = session.record.status in {SessionStatus.FINALIZED, SessionStatus.TRAINED, SessionStatus.FAILED}
            self._finish(row, session if is_idle else None, row.record.status, dict(manifest), None)
            _insert_results(row, document)
            return self._run(row)

    def mark(self, run_id: str, verdicts: Mapping[str, str | None]) -> Run:
        with self._database.lock:
            row = self._runs[run_id]
            for model_id, reason in verdicts.items():
                model = row.models.get(model_id)
                if model and model.record.status is ModelStatus.PENDING:
                    status = ModelStatus.REFUSED if reason else ModelStatus.READY
                    version = None if reason else self._version_for(row, model.record)
                    self._change(model, status=status, status_detail=reason, version=version)
            return self._run(row)

    def _version_for(self, row: RunRow, model: TrainedModel) -> int:
        same_name = [
            other.record
            for run in self._runs.values()
            if run.record.session_uuid == row.record.session_uuid
            for other in run.models.values()
            if other.record.name == model.name and other.record.version is not None
        ]
        equal = [other.version for other in same_name if _content(other) == _content(model)]
        return min(equal) if equal else max((other.version for other in same_name), default=0) + 1

    def newest(self, caller: Caller, session_id: str) -> Run | None:
        with self._database.lock:
            session = self._database.session_of(caller.user_id, session_id)
            if session is None:
                raise SessionNotFoundError
            runs = [self._run(row) for row in self._runs_of(session)]
        if not runs:
            return None
        return replace(runs[0], models=tuple(replace(model, published={}) for model in runs[0].models))

    def of_session(self, caller: Caller, session_id: str) -> tuple[str, list[Run]]:
        with self._database.lock:
            session = self._database.session_of(caller.user_id, session_id)
            if session is None:
                raise SessionNotFoundError
            return session.record.id, [_shown(self._run(row)) for row in self._runs_of(session)]

    def results(
        self, caller: Caller, session_id: str, kind: ResultKind, *, of_all_runs: bool = False
    ) -> list[ResultItem]:
        with self._database.lock:
            session = self._database.session_of(caller.user_id, session_id)
            if session is None:
                raise SessionNotFoundError
            shown = [row for row in self._runs_of(session) if _has_results(row)]
            return [item for row in shown[: None if of_all_runs else 1] for item in row.results.get(kind, [])]

    def _new_run(self, owner: str, session: SessionRow, request: TrainingRequest) -> RunRow:
        database = self._database
        if session.record.status not in {SessionStatus.FINALIZED, SessionStatus.TRAINED, SessionStatus.FAILED}:
            raise SessionNotFinalizedError(status=session.record.status.value)
        plan = database.subscriptions.get(owner)
        if plan is None or not plan.is_active or not plan.period_start <= database.now < plan.period_end:
            raise SubscriptionRequiredError
        tables = data_files(row.record for row in database.uploads_of(session.record.id))
        if not tables:
            raise DataSetError("The session has no table to train on.")
        row = self._add_run(str(uuid.uuid4()), session, RunStatus.QUEUED, request.document(), tables)
        for name in request.models:
            self._add_model(row, name, TRAINABLE_MODELS[name].framework)
        session.record = replace(session.record, status=SessionStatus.TRAINING, updated_at=database.now)
        return row

    def _add_run(
        self, run_id: str, session: SessionRow, status: RunStatus, request: Mapping[str, Any], tables: Any
    ) -> RunRow:
        row = RunRow(
            Run(
                id=run_id,
                session_uuid=session.record.id,
                session_id=session.record.session_id,
                owner=session.record.owner,
                status=status,
                request=request,
                data_set=tables,
                manifest=None,
                failure=None,
                created_at=self._database.tick(),
                finished_at=None,
                models=(),
            )
        )
        self._runs[run_id] = row
        return row

    def _add_model(self, row: RunRow, name: str, framework: str, **fields: Any) -> None:
        now = row.record.created_at
        defaults: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "run_id": row.record.id,
            "session_uuid": row.record.session_uuid,
            "name": name,
            "path": f"{row.record.id}/{name}",
            "class_name": None,
            "framework": framework,
            "status": ModelStatus.QUEUED,
            "status_detail": None,
            "progress": 0.0,
            "attempts": 0,
            "files": (),
            "metrics": {},
            "created_at": now,
            "updated_at": now,
        }
        record = TrainedModel(**defaults | fields)
        row.models[record.id] = ModelRow(record, queued_at=now)

    def _finish(
        self,
        row: RunRow,
        session: SessionRow | None,
        status: RunStatus,
        manifest: dict[str, Any] | None,
        failure: str | None,
    ) -> None:
        now = self._database.tick()
        row.record = replace(row.record, status=status, manifest=manifest, failure=failure, finished_at=now)
        if session is not None:
            to = SessionStatus.TRAINED if status is RunStatus.COMPLETED else SessionStatus.FAILED
            session.record = replace(session.record, status=to, updated_at=now)

    def _give_up(self, row: RunRow, session: SessionRow) -> None:
        for model in row.models.values():
            if model.record.status in {*UNFINISHED, ModelStatus.PENDING}:
                self._change(model, status=ModelStatus.FAILED, status_detail=INTERRUPTED)
                _drop_lease(model)
        self._finish(row, session, RunStatus.FAILED, None, INTERRUPTED)

    def _idle(self, row: RunRow) -> list[ModelRow]:
        """Return the models whose tasks the queue must have."""
        if _is_finished(row):
            return list(row.models.values())
        return [
            model
            for model in row.models.values()
            if model.record.status in UNFINISHED and not _is_leased(model, self._database.now)
        ]

    def _runs_of(self, session: SessionRow) -> list[RunRow]:
        rows = [row for row in self._runs.values() if row.record.session_uuid == session.record.id]
        return sorted(rows, key=lambda row: row.record.created_at, reverse=True)

    def _session(self, row: RunRow) -> SessionRow | None:
        session = self._database.sessions.get(row.record.session_uuid)
        return session if session and session.deleting_at is None else None

    def _locked(self, model_id: str) -> tuple[RunRow, ModelRow]:
        for row in self._runs.values():
            if model_id in row.models and self._session(row):
                return row, row.models[model_id]
        raise ModelNotFoundError

    def _change(self, model: ModelRow, **fields: Any) -> None:
        model.record = replace(model.record, **fields, updated_at=self._database.tick())

    def _run(self, row: RunRow) -> Run:
        models = sorted((model.record for model in row.models.values()), key=lambda model: model.name)
        return replace(row.record, models=tuple(models))


class InMemoryQueue:
    """`TaskQueue` in memory: takes each task once; can be told to be unavailable."""

    def __init__(self) -> None:
        self.tasks: list[TrainingTask] = []
        self.refuses_after: int | None = None

    def enqueue(self, task: TrainingTask) -> None:
        if self.refuses_after is not None and len(self.tasks) >= self.refuses_after:
            raise QueueUnavailableError
        if task not in self.tasks:
            self.tasks.append(task)


def _shown(run: Run) -> Run:
    """Leave out what has lists of its own."""
    shown = (
        "task",
        "signature",
        "params",
        "features",
        "encoding",
        "classes",
        "series",
        "baselines",
        "next",
        "ignored_columns",
        "split",
        "check",
        "environment",
        "findings",
        "imports",
        "requirements",
    )
    models = (
        replace(
            model,
            published={name: model.published[name] for name in shown if name in model.published},
            curve={},
            remaining_s=None,
        )
        for model in run.models
    )
    return replace(run, models=tuple(models))


def _content(model: TrainedModel) -> list[tuple[str, str]]:
    return sorted((file.format, file.sha256) for file in model.files)


def _is_finished(row: RunRow) -> bool:
    return not any(model.record.status in UNFINISHED for model in row.models.values())


def _has_results(row: RunRow) -> bool:
    is_kept = row.record.status in {RunStatus.COMPLETED, RunStatus.CANCELLED}
    return is_kept and row.record.manifest is not None


def _is_leased(model: ModelRow, now: datetime) -> bool:
    return model.lease_expires_at is not None and model.lease_expires_at > now


def _drop_lease(model: ModelRow) -> None:
    model.lease_token = model.lease_expires_at = None


def _demand_lease(model: ModelRow, lease_token: str) -> None:
    if model.record.status is not ModelStatus.TRAINING or model.lease_token != lease_token:
        raise LeaseLostError


def _files(entry: Mapping[str, Any]) -> tuple[ModelFile, ...]:
    return tuple(
        ModelFile(
            format=file["format"],
            object_name=file["object"],
            generation=file.get("generation"),
            size_bytes=file["bytes"],
            sha256=file["sha256"],
            media_type=file["media_type"],
            loads_code=file["loads_code"],
        )
        for file in entry["files"]
    )


def _insert_results(row: RunRow, document: Mapping[str, Any]) -> None:
    members = {
        ResultKind.SCALERS: "scalers",
        ResultKind.VISUALIZATIONS: "charts",
        ResultKind.EVALUATION_TABLES: "tables",
    }
    for kind, member in members.items():
        row.results[kind] = [ResultItem(str(uuid.uuid4()), row.record.id, content) for content in document[member]]
