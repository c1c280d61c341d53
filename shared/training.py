"""The rules of training: what may be asked for, how a model is trained and published, and when a run is complete.

A run is complete when its manifest is in the bucket: the files of every model come first, the manifest last and
create-only. Killed at any point and delivered again by the queue, the same tasks end in one manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared import publication
from shared.errors import (
    DataSetError,
    InvalidFieldError,
    LeaseLostError,
    ModelBusyError,
    ModelNotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
    RunNotFoundError,
    ServiceError,
    SessionNotFinalizedError,
)
from shared.fields import is_uuid, read_existing_session_id
from shared.learning_curves import LearningCurve
from shared.publication import manifest_name, model_prefix, run_prefix
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.objects import StoredObject
from shared.records.sessions import SessionStatus
from shared.records.training import (
    CurvePoint,
    LearningTask,
    ModelStatus,
    Run,
    TrainedModel,
    TrainingOutcome,
    TrainingRequest,
    WrittenFile,
    read_training_request,
)
from shared.records.uploads import DataFile, data_files
from shared.tables import detect_format, read_head
from shared.threads import RequestThreads
from shared.training_requests import TableHead, read_training_fields, settle_request

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import (
        ObjectStore,
        TaskQueue,
        Trainer,
        TrainingRepository,
        UploadRepository,
    )

HEAD_BYTES = 1 << 20
# A model whose task has been silent this long may be taken up by another one.
LEASE_S = 90
# A thread extends the lease as often, so that a single step of the work may take longer, and two calls may fail.
EXTENSIONS_PER_LEASE = 3
REPORT_EVERY_S = 1.0
# Below the time that the platform gives a task (functions/manifest.yaml), so that it ends with a reason.
LONGEST_TRAINING_S = 25 * 60
# Training counts up to here; writing the files takes the rest.
TRAINED = 0.95
# Before, how long the rest takes is a guess.
LEAST_KNOWN = 0.05
# As the database is patient with tasks (private.task_patience): who was silent for longer than this is probably dead.
STALLED_AFTER = timedelta(minutes=10)


class TrainingService:
    """What callers may ask of training."""

    def __init__(
        self,
        runs: TrainingRepository,
        queue: TaskQueue,
        uploads: UploadRepository,
        upload_store: ObjectStore,
    ) -> None:
        self._runs = runs
        self._queue = queue
        self._uploads = uploads
        self._upload_store = upload_store

    def start(self, caller: Caller, session_id: str, *, target: Any, **fields: Any) -> Run:
        """Begin a run, one queued task per model.

        Repeating a request that is being worked on returns its run and queues again what nobody works on, so a call
        that failed half-way is healed by the next one.

        Args:
            target: Column to predict.
            fields: What `read_training_fields` takes beside it.

        Raises:
            InvalidFieldError: A value that is not allowed, a column that does not fit the task.
            SessionNotFoundError: The caller has none of this name.
            SessionNotFinalizedError: It still takes uploads.
            DataSetError: The tables cannot be trained on.
            TrainingInProgressError: Another request is being worked on.
            SubscriptionRequiredError: The caller has no active subscription.
            QueueUnavailableError: The run is recorded, but not all of its tasks are queued; repeat the call.
        """
        asked = read_training_fields(target=target, **fields)
        session, uploads = self._uploads.of_session(caller, read_existing_session_id(session_id))
        if session.status in {SessionStatus.INITIALIZED, SessionStatus.UPLOADING}:
            raise SessionNotFinalizedError(status=session.status)
        files = data_files(uploads)
        request = settle_request(asked, [self._read_head(file) for file in files])
        run, tasks = self._runs.start(caller.user_id, session.session_id, request)
        for task in tasks:
            self._queue.enqueue(task)
        return run

    def get(self, caller: Caller, session_id: str) -> Run:
        """Return the newest run of a session.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            RunNotFoundError: It has not been trained.
        """
        run = self._runs.newest(caller, read_existing_session_id(session_id))
        if run is None:
            raise RunNotFoundError
        return run

    def cancel(self, caller: Caller, session_id: str) -> Run:
        """Cancel the run in progress; cancelling again answers the same run.

        What was finished before stays and is published by a task of its own, while the session can be trained again.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            RunNotFoundError: It has not been trained.
            TrainingFinishedError: The run is over already.
            QueueUnavailableError: The run is cancelled; repeat the call to have its finished models published.
        """
        run, tasks = self._runs.cancel(caller.user_id, read_existing_session_id(session_id))
        for task in tasks:
            self._queue.enqueue(task)
        return run

    def _read_head(self, file: DataFile) -> TableHead:
        content = b""
        try:
            for piece in self._upload_store.read(file.object_name, generation=file.generation):
                content += piece
                if len(content) >= HEAD_BYTES:
                    break
        except ObjectNotFoundError as error:
            raise DataSetError(f"The data set {file.file_name!r} is gone from the bucket.") from error
        is_whole = len(content) == file.size_bytes
        table_format = detect_format(file.file_name, file.content_type, content)
        header, rows = read_head(content, table_format, is_whole=is_whole)
        # Of a compressed table, only the beginning is unpacked.
        return TableHead(header, rows, file.n_rows, is_whole and table_format.compression is None)


def is_stalled(run: Run, now: datetime) -> bool:
    """Say whether a run is in progress by its status, and no task has given a sign of life for ten minutes."""
    return not run.is_over and now - run.last_sign_of_life > STALLED_AFTER


@dataclass(frozen=True)
class TaskResult:
    """What a training task did: the status it left the model in, and the run, where there still is one."""

    status: str
    run: Run | None


class TrainingRunner:
    """Does what the queue asks for: trains one model, and completes the run after the last one.

    `check` reads the published files back and marks the models; when a run is complete, its models can be downloaded.
    """

    def __init__(
        self,
        runs: TrainingRepository,
        trainer: Trainer,
        artifact_store: ObjectStore,
        check: Callable[[Run], Run],
        *,
        lease_s: int = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs = runs
        self._trainer = trainer
        self._store = artifact_store
        self._check = check
        self._lease_s = lease_s
        self._clock = clock

    def run(self, model_id: Any) -> TaskResult:
        """Train a model, publish its files, and complete the run if it was the last.

        Returns normally when the queue has nothing more to do: also where the session was deleted or the run cancelled
        meanwhile, or another task took over; what this task wrote is deleted then.

        Raises:
            InvalidFieldError: Not a model id.
            ModelBusyError: Another task trains it; if that one dies, this one must come again.
            ServiceError: Something did not answer; the model is queued again.
        """
        if not isinstance(model_id, str) or not is_uuid(model_id):
            raise InvalidFieldError("modelId", "must be a uuid")
        lease_token = str(uuid.uuid4())
        try:
            claim = self._runs.claim(model_id, lease_token, self._lease_s)
        except ModelNotFoundError:
            return TaskResult("gone", None)
        if claim.outcome is ClaimOutcome.BUSY:
            raise ModelBusyError(retry_after_s=claim.busy_s)
        run, are_finished = claim.run, claim.are_models_finished
        if claim.outcome is ClaimOutcome.CLAIMED:
            model = _model_of(run, model_id)
            prefix = f"{model_prefix(run.session_uuid, run.id, model.name)}attempt-{model.attempts}/"
            try:
                run, are_finished = self._train(run, model, prefix, lease_token)
            except ModelNotFoundError:
                self._delete(prefix)
                return TaskResult("gone", None)
            except LeaseLostError:
                self._delete(prefix)
                return TaskResult("lease lost", None)
        if _model_of(run, model_id).status is ModelStatus.CANCELLED:
            # What a task left that died before it could notice.
            self._delete(model_prefix(run.session_uuid, run.id, _model_of(run, model_id).name))
        if are_finished and run.awaits_manifest:
            try:
                run = self._complete(run)
            except RunNotFoundError:
                self._delete(run_prefix(run.session_uuid, run.id))
                return TaskResult("gone", None)
        return TaskResult(_model_of(run, model_id).status, run)

    def _train(self, run: Run, model: TrainedModel, prefix: str, lease_token: str) -> tuple[Run, bool]:
        is_settled, keep = False, None
        try:
            try:
                published = self._train_and_write(run, model, prefix, lease_token)
            except DataSetError as error:
                finished = self._runs.fail(model.id, lease_token, error.message)
            else:
                finished = self._runs.publish(model.id, lease_token, published)
                keep = prefix
            is_settled = True
        finally:
            if not is_settled:
                # Whatever it was, the next attempt need not wait for the lease to run out.
                with suppress(ServiceError):
                    self._runs.release(model.id, lease_token)
        self._delete_leftovers(model_prefix(run.session_uuid, run.id, model.name), keep=keep)
        return finished

    def _train_and_write(self, run: Run, model: TrainedModel, prefix: str, lease_token: str) -> dict[str, Any]:
        report = _Reporter(self._runs, model.id, lease_token, self._lease_s, self._clock)
        with tempfile.TemporaryDirectory(prefix="training-") as folder, report.keeping_lease():
            outcome = self._trainer.train(
                model.name,
                read_training_request(run.request),
                run.data_set,
                Path(folder),
                lambda done, point=None: report(done * TRAINED, point),
            )
            report.catch_up()
            files = []
            for file in outcome.files:
                files.append(self._write_file(prefix, file))
                report(TRAINED)
        return _published(model, outcome, files)

    def _write_file(self, prefix: str, file: WrittenFile) -> dict[str, Any]:
        with file.path.open("rb") as content:
            sha256 = publication.sha256_of(content)
            content.seek(0)
            # Every attempt has a folder of its own, so this cannot meet another one's file.
            stored = self._store.write(f"{prefix}model.{file.format}", content, file.media_type)
        return publication.file_entry(
            file.format,
            stored.name,
            size_bytes=stored.size_bytes,
            sha256=sha256,
            generation=stored.generation,
            crc32c=stored.crc32c,
            media_type=file.media_type,
        )

    def _complete(self, run: Run) -> Run:
        name = manifest_name(run.session_uuid, run.id)
        content = publication.manifest_bytes(_manifest(run))
        try:
            stored = self._store.write(name, content, "application/json")
        except ObjectExistsError:
            # An earlier try, or the task of another model, got this far. What the bucket has is the result.
            stored = self._store.stat(name)
            content = b"".join(self._store.read(name, generation=stored.generation))
        self._check(run)
        return self._runs.complete(run.id, _reference(stored, content), json.loads(content))

    def _delete_leftovers(self, prefix: str, *, keep: str | None) -> None:
        """Delete what killed and failed attempts left; the published files are all below `keep`."""
        self._store.delete(
            stored for stored in self._store.list(prefix) if keep is None or not stored.name.startswith(keep)
        )

    def _delete(self, prefix: str) -> None:
        self._store.delete(self._store.list(prefix))


class _Reporter:
    """Notes progress and the learning curve of one model, at most once a second, and keeps its lease alive."""

    def __init__(
        self,
        runs: TrainingRepository,
        model_id: str,
        lease_token: str,
        lease_s: int,
        clock: Callable[[], float],
    ) -> None:
        self._runs = runs
        self._model_id = model_id
        self._lease_token = lease_token
        self._lease_s = lease_s
        self._clock = clock
        self._started_at = self._reported_at = clock()
        self._curve = LearningCurve()
        self._progress = 0.0
        self._is_behind = False
        # The work reports, and beside it the thread that extends the lease.
        self._lock = threading.Lock()

    @contextmanager
    def keeping_lease(self) -> Iterator[None]:
        """Extend the lease until the work ends, or takes longer than it may."""
        has_ended = threading.Event()
        with RequestThreads(1) as pool:
            pool.submit(self._extend, has_ended)
            try:
                yield
            finally:
                has_ended.set()

    def _extend(self, has_ended: threading.Event) -> None:
        while not has_ended.wait(self._lease_s / EXTENSIONS_PER_LEASE):
            now = self._clock()
            if now - self._started_at > LONGEST_TRAINING_S:
                return
            try:
                with self._lock:
                    self._report(now)
            except (LeaseLostError, ModelNotFoundError):
                # The work finds that out at its next report.
                return
            except ServiceError:
                # There is time for another try.
                continue

    def __call__(self, done: float, point: CurvePoint | None = None, /) -> None:
        """Note how much is done, 0 to 1.

        Raises:
            DataSetError: It takes too long.
            LeaseLostError: Another task has taken over, or the run was cancelled.
            ModelNotFoundError: The session is being deleted.
        """
        now = self._clock()
        with self._lock:
            self._note(now, done, point)

    def _note(self, now: float, done: float, point: CurvePoint | None) -> None:
        self._progress = min(max(done, 0.0), 1.0)
        if point is not None:
            self._curve.add(point)
            self._is_behind = True
        if now - self._started_at > LONGEST_TRAINING_S:
            raise DataSetError(
                f"Training takes longer than {LONGEST_TRAINING_S // 60} minutes; send fewer rows or columns."
            )
        if now - self._reported_at >= REPORT_EVERY_S:
            self._report(now)

    def catch_up(self) -> None:
        """Note the last points of the curve, which came sooner after the ones before than is reported."""
        with self._lock:
            if self._is_behind:
                self._report(self._clock())

    def _report(self, now: float) -> None:
        self._reported_at = now
        remaining_s = None
        if self._progress >= LEAST_KNOWN:
            remaining_s = math.ceil((now - self._started_at) * (1 - self._progress) / self._progress)
        self._runs.report(
            self._model_id,
            self._lease_token,
            self._lease_s,
            self._progress,
            curve=self._curve.document(),
            remaining_s=remaining_s,
        )
        self._is_behind = False


def _model_of(run: Run, model_id: str) -> TrainedModel:
    return next(model for model in run.models if model.id == model_id)


def _published(model: TrainedModel, outcome: TrainingOutcome, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return publication.model_entry(
        model.name,
        model.framework,
        outcome.class_name,
        files,
        outcome.metrics,
        id=model.id,
        signature=outcome.signature,
        scalers=list(outcome.scalers),
        charts=list(outcome.charts),
        tables=list(outcome.tables),
        **outcome.description,
    )


def _manifest(run: Run) -> dict[str, Any]:
    """Describe a run whose models are finished. The same run gives the same bytes, whoever writes them, whenever."""
    models, scalers, charts, tables = [], [], [], []
    baselines: dict[str, Mapping[str, Mapping[str, float]]] = {}
    environment: dict[str, str] = {}
    for model in run.models:
        if not model.files:
            models.append(
                publication.unfinished_model_entry(
                    model.name, model.framework, model.status.value, model.status_detail, id=model.id
                )
            )
            continue
        published = dict(model.published)
        scalers += published["scalers"]
        charts += published.pop("charts")
        # Models that an older version trained have none.
        tables += published.pop("tables", [])
        baselines |= published.get("baselines", {})
        environment |= published["environment"]
        models.append(published | {"scalers": [scaler["name"] for scaler in published["scalers"]]})
    metrics = {model.name: model.metrics for model in run.models if model.files}
    return publication.manifest(
        run.session_uuid,
        run.id,
        models,
        scalers=scalers,
        tables=[_evaluation_table(read_training_request(run.request), metrics | baselines), *tables] if metrics else [],
        charts=charts,
        session_id=run.session_id,
        created_at=run.created_at.isoformat(),
        finished_at=max(model.updated_at for model in run.models).isoformat(),
        request=dict(run.request),
        seed=run.request["seed"],
        data_set=[_file_json(asdict(file)) for file in run.data_set],
        environment=environment,
    )


def _file_json(file: dict[str, Any]) -> dict[str, Any]:
    return {"object": file.pop("object_name"), "bytes": file.pop("size_bytes"), **file}


def _evaluation_table(
    request: TrainingRequest, metrics: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> dict[str, Any]:
    is_class = request.task is LearningTask.CLASSIFICATION
    unit = None if is_class else f"that of {request.target} (r2 and skills: none)"
    return publication.evaluation_table(f"Evaluation of the models for {request.target}", metrics, unit=unit)


def _reference(stored: StoredObject, content: bytes) -> dict[str, Any]:
    return {
        "object": stored.name,
        "generation": stored.generation,
        "bytes": stored.size_bytes,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
