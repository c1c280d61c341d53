"""The rules of training: what may be asked for, how a model is trained and published, and when a run is complete.

A run is complete when its manifest is in the bucket: the files of every model come first, the manifest last and
create-only. Killed at any point and delivered again by the queue, the same tasks end in one manifest.
"""

import hashlib
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from shared.fields import is_uuid, read_existing_session_id, read_integer, read_list, read_text
from shared.ports import ObjectStore, SessionRepository, TaskQueue, Trainer, TrainingRepository, UploadRepository
from shared.records import (
    MANIFEST_SCHEMA,
    TRAINABLE_MODELS,
    Caller,
    ClaimOutcome,
    DataFile,
    ModelStatus,
    Run,
    SessionStatus,
    StoredObject,
    TrainedModel,
    TrainingOutcome,
    TrainingRequest,
    WrittenFile,
    data_files,
    manifest_name,
    model_prefix,
    run_prefix,
)
from shared.tables import MISSING_CELLS, detect_format, is_number, read_head

DEFAULT_TEST_FRACTION = 0.2
TEST_FRACTIONS = (0.05, 0.5)
DEFAULT_SEED = 42
# numpy, and with it scikit-learn and Keras, takes seeds of 32 bits.
LARGEST_SEED = 2**32 - 1
# With fewer, a held-out part says nothing.
LEAST_ROWS = 10
HEAD_BYTES = 1 << 20
# A model whose task has been silent this long may be taken up by another one.
LEASE_S = 90
REPORT_EVERY_S = 1.0
# Below the time that the platform gives a task (functions/manifest.yaml), so that it ends with a reason.
LONGEST_TRAINING_S = 25 * 60
# Training counts up to here; writing the files takes the rest.
TRAINED = 0.95
_NAMED_COLUMNS = 30


class TrainingService:
    """What callers may ask of training."""

    def __init__(
        self,
        runs: TrainingRepository,
        queue: TaskQueue,
        sessions: SessionRepository,
        uploads: UploadRepository,
        upload_store: ObjectStore,
    ) -> None:
        self._runs = runs
        self._queue = queue
        self._sessions = sessions
        self._uploads = uploads
        self._upload_store = upload_store

    def start(
        self,
        caller: Caller,
        session_id: str,
        *,
        target: Any,
        models: Any = None,
        test_fraction: Any = None,
        seed: Any = None,
    ) -> Run:
        """Begin a run, one queued task per model.

        Repeating a request that is being worked on returns its run and queues again what nobody works on, so a call
        that failed half-way is healed by the next one.

        Args:
            target: Column to predict.
            models: Names of models; all of them if None.
            test_fraction: Part of the rows held out, 0.05 to 0.5; 0.2 if None.
            seed: 0 to 2**32 - 1; 42 if None.

        Raises:
            InvalidFieldError: A value that is not allowed, a target that is no numeric column of the tables.
            SessionNotFoundError: The caller has none of this name.
            SessionNotFinalizedError: It still takes uploads.
            DataSetError: The tables cannot be trained on.
            TrainingInProgressError: Another request is being worked on.
            SubscriptionRequiredError: The caller has no active subscription.
            QueueUnavailableError: The run is recorded, but not all of its tasks are queued; repeat the call.
        """
        request = _read_request(target, models, test_fraction, seed)
        session = self._sessions.get(caller, read_existing_session_id(session_id))
        if session.status in {SessionStatus.INITIALIZED, SessionStatus.UPLOADING}:
            raise SessionNotFinalizedError(status=session.status)
        self._check_tables(data_files(self._uploads.of_session(caller, session.session_id)), request.target)
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

    def _check_tables(self, files: Sequence[DataFile], target: str) -> None:
        """Find at the beginning of the tables what would otherwise only fail in the queue."""
        columns: dict[str, None] = {}
        others: set[str] = set()
        n_rows = 0
        for file in files:
            header, rows, has_all = self._read_head(file)
            columns.update(dict.fromkeys(header))
            if target not in header:
                continue
            at = header.index(target)
            texts = [row[at].strip() if at < len(row) else "" for row in rows]
            _check_numeric(target, texts)
            others |= {
                name
                for index, name in enumerate(header)
                if index != at and _is_numeric([row[index].strip() for row in rows if index < len(row)])
            }
            n_rows += sum(text not in MISSING_CELLS for text in texts) if has_all else file.n_rows
        if not columns:
            raise DataSetError("The session has no table to train on.")
        if target not in columns:
            raise InvalidFieldError("target", f"there is no column {target!r}; there are {_name_some(list(columns))}")
        if not others:
            raise DataSetError(f"There is no numeric column beside {target!r} to learn from.")
        if n_rows < LEAST_ROWS:
            raise DataSetError(
                f"At least {LEAST_ROWS} rows with a value of {target!r} are needed; there are {n_rows}.", rows=n_rows
            )

    def _read_head(self, file: DataFile) -> tuple[list[str], list[list[str]], bool]:
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
        return header, rows, is_whole and table_format.compression is None


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

        Returns normally when the queue has nothing more to do: also where the session was deleted meanwhile, or
        another task took over; what this task wrote is deleted then.

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
                return TaskResult("taken over", None)
        if are_finished and not run.is_over:
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
        report = self._reporter(model.id, lease_token)
        with tempfile.TemporaryDirectory(prefix="training-") as folder:
            outcome = self._trainer.train(
                model.name, _request_of(run), run.data_set, Path(folder), lambda done: report(done * TRAINED)
            )
            files = []
            for file in outcome.files:
                files.append(self._write_file(prefix, file))
                report(TRAINED)
        return _published(model, outcome, files)

    def _reporter(self, model_id: str, lease_token: str) -> Callable[[float], None]:
        started_at = reported_at = self._clock()

        def report(progress: float) -> None:
            nonlocal reported_at
            now = self._clock()
            if now - started_at > LONGEST_TRAINING_S:
                raise DataSetError(
                    f"Training takes longer than {LONGEST_TRAINING_S // 60} minutes; send fewer rows or columns."
                )
            if now - reported_at >= REPORT_EVERY_S:
                reported_at = now
                self._runs.report(model_id, lease_token, self._lease_s, min(max(progress, 0.0), 1.0))

        return report

    def _write_file(self, prefix: str, file: WrittenFile) -> dict[str, Any]:
        sha256 = hashlib.sha256()
        with file.path.open("rb") as content:
            while piece := content.read(1 << 20):
                sha256.update(piece)
            content.seek(0)
            # Every attempt has a folder of its own, so this cannot meet another one's file.
            stored = self._store.write(f"{prefix}model.{file.format}", content, file.media_type)
        return {
            "role": "model",
            "format": file.format,
            "object": stored.name,
            "generation": stored.generation,
            "bytes": stored.size_bytes,
            "crc32c": stored.crc32c,
            "sha256": sha256.hexdigest(),
            "media_type": file.media_type,
            "loads_code": file.loads_code,
        }

    def _complete(self, run: Run) -> Run:
        name = manifest_name(run.session_uuid, run.id)
        content = json.dumps(_manifest(run), sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
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


def _read_request(target: Any, models: Any, test_fraction: Any, seed: Any) -> TrainingRequest:
    names = list(TRAINABLE_MODELS) if models is None else read_list(models, "models", longest=len(TRAINABLE_MODELS))
    for name in names:
        if not isinstance(name, str) or name not in TRAINABLE_MODELS:
            raise InvalidFieldError("models", f"must be some of {', '.join(TRAINABLE_MODELS)}")
    if len(set(names)) < len(names):
        raise InvalidFieldError("models", "must not name a model twice")
    fraction = DEFAULT_TEST_FRACTION if test_fraction is None else test_fraction
    if not isinstance(fraction, int | float) or isinstance(fraction, bool):
        raise InvalidFieldError("testFraction", "must be a number")
    least, most = TEST_FRACTIONS
    if not least <= fraction <= most:
        raise InvalidFieldError("testFraction", f"must be from {least} to {most}")
    return TrainingRequest(
        target=read_text(target, "target", longest=1000),
        models=tuple(name for name in TRAINABLE_MODELS if name in names),
        test_fraction=float(fraction),
        seed=DEFAULT_SEED if seed is None else read_integer(seed, "seed", least=0, most=LARGEST_SEED),
    )


def _is_numeric(texts: Sequence[str]) -> bool:
    present = [text for text in texts if text not in MISSING_CELLS]
    return bool(present) and all(is_number(text) for text in present)


def _check_numeric(target: str, texts: Sequence[str]) -> None:
    for row, text in enumerate(texts, start=1):
        if text not in MISSING_CELLS and not is_number(text):
            shown = text if len(text) <= 40 else f"{text[:40]}..."
            raise InvalidFieldError("target", f"column {target!r} is not numeric: row {row} holds {shown!r}")


def _name_some(columns: Sequence[str]) -> str:
    rest = len(columns) - _NAMED_COLUMNS
    return ", ".join(columns[:_NAMED_COLUMNS]) + (f" and {rest} more" if rest > 0 else "")


def _request_of(run: Run) -> TrainingRequest:
    request = run.request
    return TrainingRequest(
        target=request["target"],
        models=tuple(request["models"]),
        test_fraction=request["test_fraction"],
        seed=request["seed"],
        task=request["task"],
    )


def _model_of(run: Run, model_id: str) -> TrainedModel:
    return next(model for model in run.models if model.id == model_id)


def _published(model: TrainedModel, outcome: TrainingOutcome, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "class": outcome.class_name,
        "framework": model.framework,
        "status": "completed",
        "detail": None,
        "files": list(files),
        "metrics": outcome.metrics,
        "signature": outcome.signature,
        "scalers": list(outcome.scalers),
        "charts": list(outcome.charts),
        **outcome.description,
    }


def _manifest(run: Run) -> dict[str, Any]:
    """Describe a run whose models are finished. The same run gives the same bytes, whoever writes them, whenever."""
    models, scalers, charts = [], [], []
    environment: dict[str, str] = {}
    for model in run.models:
        if model.status is ModelStatus.FAILED:
            models.append(
                {
                    "id": model.id,
                    "name": model.name,
                    "framework": model.framework,
                    "status": "failed",
                    "detail": model.status_detail,
                }
            )
            continue
        published = dict(model.published)
        scalers += published["scalers"]
        charts += published.pop("charts")
        environment |= published["environment"]
        models.append(published | {"scalers": [scaler["name"] for scaler in published["scalers"]]})
    is_completed = any(model["status"] == "completed" for model in models)
    return {
        "schema_version": MANIFEST_SCHEMA,
        "run_id": run.id,
        "session_uuid": run.session_uuid,
        "session_id": run.session_id,
        "status": "completed" if is_completed else "failed",
        "created_at": run.created_at.isoformat(),
        "finished_at": max(model.updated_at for model in run.models).isoformat(),
        "request": dict(run.request),
        "seed": run.request["seed"],
        "data_set": [_file_json(asdict(file)) for file in run.data_set],
        "environment": environment,
        "models": models,
        "scalers": scalers,
        "tables": [_evaluation_table(run)] if is_completed else [],
        "charts": charts,
        "metrics": {model["name"]: model["metrics"] for model in models if model["status"] == "completed"},
    }


def _file_json(file: dict[str, Any]) -> dict[str, Any]:
    return {"object": file.pop("object_name"), "bytes": file.pop("size_bytes"), **file}


def _evaluation_table(run: Run) -> dict[str, Any]:
    """One row per model, split and metric."""
    target = run.request["target"]
    return {
        "name": "evaluation",
        "title": f"Evaluation of the models for {target}",
        "columns": [
            {"name": "model", "type": "text"},
            {"name": "split", "type": "text"},
            {"name": "metric", "type": "text"},
            {"name": "value", "type": "number", "unit": f"that of {target} (r2: none)"},
        ],
        "rows": [
            {"model": model.name, "split": split, "metric": metric, "value": value}
            for model in run.models
            if model.status is not ModelStatus.FAILED
            for split, metrics in sorted(model.metrics.items(), reverse=True)
            for metric, value in sorted(metrics.items())
        ],
    }


def _reference(stored: StoredObject, content: bytes) -> dict[str, Any]:
    return {
        "object": stored.name,
        "generation": stored.generation,
        "bytes": stored.size_bytes,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
