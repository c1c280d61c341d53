"""What the service keeps: frozen dataclasses, their states, and the names of their objects.

Which state may follow which is decided by the SQL functions in infra/supabase/migrations, where a
transition and its condition are one statement; the states themselves are listed here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any


class CallerKind(StrEnum):
    """Who calls: a signed-in user, the product's own backend, the scheduler, or the task queue."""

    USER = "user"
    SERVICE = "service"
    SCHEDULER = "scheduler"
    TASK = "task"


@dataclass(frozen=True)
class Caller:
    """A caller whose token was verified.

    Attributes:
        kind: Which sort of token it was.
        user_id: `sub` of the token; a Supabase user's uuid for users.
        token: The token itself; reads are made with it, so that row-level security decides.
    """

    kind: CallerKind
    user_id: str
    token: str = field(repr=False)


class SessionStatus(StrEnum):
    """initialized -> uploading -> finalized -> training -> trained | failed."""

    INITIALIZED = "initialized"
    UPLOADING = "uploading"
    FINALIZED = "finalized"
    TRAINING = "training"
    TRAINED = "trained"
    FAILED = "failed"


@dataclass(frozen=True)
class Session:
    """One data set on its way from files to models.

    Attributes:
        id: Row id, a uuid made by the service.
        session_id: The client's own name for it, unique per user.
        n_dat: Rows of all data sets, known once finalized.
    """

    id: str
    session_id: str
    owner: str
    status: SessionStatus
    metadata: Mapping[str, Any]
    n_dat: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class PageKey:
    """Where a page of sessions ends: the keyset of its last row."""

    created_at: datetime
    id: str


class UploadState(StrEnum):
    """open -> assembling -> assembled | failed; open | failed -> aborted; open -> expiring -> expired."""

    OPEN = "open"
    ASSEMBLING = "assembling"
    ASSEMBLED = "assembled"
    FAILED = "failed"
    ABORTED = "aborted"
    EXPIRING = "expiring"
    EXPIRED = "expired"


@dataclass(frozen=True)
class NewUpload:
    """What a client asks to upload, with the chunk plan the server made for it.

    Attributes:
        size_bytes: Exact size; for legacy uploads unknown (None) until assembled.
        reserved_bytes: Counted against the storage quota from now on.
        sha256: Declared by the client, lower-case hex, or None.
        is_legacy: Chunks come through `upload-chunk` and may have any size.
    """

    session_id: str
    file_name: str
    content_type: str
    size_bytes: int | None
    reserved_bytes: int
    chunk_size_bytes: int
    total_chunks: int
    sha256: str | None = None
    is_legacy: bool = False


@dataclass(frozen=True)
class Upload:
    """One file of a session, from its first chunk to the assembled object.

    Attributes:
        session_uuid: Row id of its session; `session_id` is the client's name of it.
        expires_at: When an open upload may be swept; moves on while chunks are signed.
        sha256: Declared by the client while open; the object's own once assembled and read.
        failure: Why it failed: {"code": ..., "detail": ..., ...}.
    """

    id: str
    session_uuid: str
    session_id: str
    owner: str
    file_name: str
    content_type: str
    size_bytes: int | None
    chunk_size_bytes: int
    total_chunks: int
    state: UploadState
    is_legacy: bool
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    sha256: str | None = None
    object_name: str | None = None
    generation: int | None = None
    crc32c: str | None = None
    n_rows: int | None = None
    failure: Mapping[str, Any] | None = None

    def chunk_bytes(self, index: int) -> int:
        """Return the exact size of chunk `index` [bytes]; the last one takes the rest."""
        if self.size_bytes is None:
            raise ValueError("a legacy upload has no chunk plan")
        return min(self.chunk_size_bytes, self.size_bytes - index * self.chunk_size_bytes)


class ClaimOutcome(StrEnum):
    """What a claim found: the work is ours, done already, or in other hands."""

    CLAIMED = "claimed"
    DONE = "done"
    BUSY = "busy"


@dataclass(frozen=True)
class AssemblyClaim:
    """The answer to claiming an upload for assembly."""

    outcome: ClaimOutcome
    upload: Upload


@dataclass(frozen=True)
class AssembledObject:
    """The data set object as it was verified.

    Attributes:
        sha256: Lower-case hex, or None where nobody asked for it and the file is no table.
        n_rows: Rows as `len(pandas.read_csv(...))` counts them, or None where the file is no table.
    """

    object_name: str
    generation: int
    size_bytes: int
    crc32c: str
    sha256: str | None
    n_rows: int | None


@dataclass(frozen=True)
class StoredObject:
    """An object as the bucket describes it. `crc32c` is base64, big-endian."""

    name: str
    generation: int
    size_bytes: int
    crc32c: str
    updated_at: datetime | None = None


@dataclass(frozen=True)
class SignedUrl:
    """A URL that allows one request, and the headers that request must carry."""

    url: str
    method: str
    headers: Mapping[str, str]


def chunks_prefix(upload_id: str) -> str:
    """Return the prefix of an upload's chunks in the uploads bucket."""
    return f"chunks/{upload_id}/"


def chunk_name(upload_id: str, index: int) -> str:
    """Return the object name of one chunk; padded, so that listing order is numeric order."""
    return f"{chunks_prefix(upload_id)}{index:05d}"


def steps_prefix(upload_id: str) -> str:
    """Return the prefix of an upload's intermediate compose results."""
    return f"steps/{upload_id}/"


def data_sets_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's assembled data sets."""
    return f"datasets/{session_uuid}/"


def data_set_prefix(session_uuid: str, upload_id: str) -> str:
    """Return the prefix that holds an upload's assembled object and nothing else."""
    return f"{data_sets_prefix(session_uuid)}{upload_id}/"


def results_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's training results in the artifacts bucket."""
    return f"results/{session_uuid}/"


def models_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's saved models in the artifacts bucket."""
    return f"models/{session_uuid}/"


class RunStatus(StrEnum):
    """queued -> running -> completed | failed."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class ModelStatus(StrEnum):
    """queued -> training -> pending | failed; pending -> ready | refused.

    `pending` is published and not yet checked. `unsupported` is for documents of the old backend.
    """

    QUEUED = "queued"
    TRAINING = "training"
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"


# The models of the reference trainer and the framework of each.
TRAINABLE_MODELS: Mapping[str, str] = {
    "linear_regression": "sklearn",
    "random_forest": "sklearn",
    "dense_network": "keras",
}


@dataclass(frozen=True)
class TrainingRequest:
    """What is to be trained.

    Attributes:
        target: Column to predict.
        models: Names, keys of TRAINABLE_MODELS, without repetition.
        test_fraction: Part of the rows that is held out for evaluation, in (0, 1).
        seed: Decides the split and every random choice of the models.
    """

    target: str
    models: tuple[str, ...]
    test_fraction: float
    seed: int
    task: str = "regression"


@dataclass(frozen=True)
class DataFile:
    """One assembled table, pinned to the generation that a run was started with."""

    upload_id: str
    file_name: str
    content_type: str
    object_name: str
    generation: int
    size_bytes: int
    crc32c: str | None
    sha256: str | None
    n_rows: int


def data_files(uploads: Iterable[Upload]) -> tuple[DataFile, ...]:
    """Return the assembled tables among uploads, in their order."""
    return tuple(
        DataFile(
            upload_id=upload.id,
            file_name=upload.file_name,
            content_type=upload.content_type,
            object_name=upload.object_name,
            generation=upload.generation,
            size_bytes=upload.size_bytes,
            crc32c=upload.crc32c,
            sha256=upload.sha256,
            n_rows=upload.n_rows,
        )
        for upload in uploads
        if upload.state is UploadState.ASSEMBLED
        and upload.object_name is not None
        and upload.generation is not None
        and upload.size_bytes is not None
        and upload.n_rows is not None
    )


@dataclass(frozen=True)
class ModelFile:
    """One file of a model in the artifacts bucket.

    Attributes:
        format: keras, h5, skops or pkl.
        loads_code: Opening it can run code that its writer chose.
    """

    format: str
    object_name: str
    generation: int | None
    size_bytes: int
    sha256: str
    media_type: str
    loads_code: bool


@dataclass(frozen=True)
class TrainedModel:
    """One model of a run, from its task to its files.

    Attributes:
        path: Unique in its session: <run id>/<name>.
        progress: 0 to 1.
        attempts: Times that a task took it up.
        metrics: Values by split and metric, in the target's unit.
        published: What the task wrote (files, parameters, scalers, charts, ...); empty where it was not asked for.
    """

    id: str
    run_id: str
    session_uuid: str
    name: str
    path: str
    class_name: str | None
    framework: str
    status: ModelStatus
    status_detail: str | None
    progress: float
    attempts: int
    files: tuple[ModelFile, ...]
    metrics: Mapping[str, Mapping[str, float]]
    created_at: datetime
    updated_at: datetime
    published: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training of a session's data sets.

    Attributes:
        request: As asked for; a trainer of somebody else's may leave it empty.
        manifest: {object, generation, bytes, sha256} of the manifest, once there is one.
    """

    id: str
    session_uuid: str
    session_id: str
    owner: str
    status: RunStatus
    request: Mapping[str, Any]
    data_set: tuple[DataFile, ...]
    manifest: Mapping[str, Any] | None
    failure: str | None
    created_at: datetime
    finished_at: datetime | None
    models: tuple[TrainedModel, ...]

    @property
    def is_over(self) -> bool:
        """Whether its results, or its failure, are recorded."""
        return self.status in {RunStatus.COMPLETED, RunStatus.FAILED}


@dataclass(frozen=True)
class TrainingTask:
    """One message to the queue: train this model. The number tells a new task from a repeated one."""

    model_id: str
    number: int


@dataclass(frozen=True)
class TrainingClaim:
    """The answer to taking up a model, with its run.

    Attributes:
        are_models_finished: Nothing is left to train; the run's results can be published.
        busy_s: Where somebody else trains the model: the rest of their lease [s].
    """

    outcome: ClaimOutcome
    run: Run
    are_models_finished: bool
    busy_s: int | None = None


class ResultKind(StrEnum):
    """The lists of a run's results; the values are their tables."""

    SCALERS = "scalers"
    VISUALIZATIONS = "training_visualizations"
    EVALUATION_TABLES = "evaluation_tables"


@dataclass(frozen=True)
class ResultItem:
    """One scaler, chart or table as its trainer described it."""

    id: str
    run_id: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class WrittenFile:
    """A file that a trainer wrote into its working folder."""

    format: str
    path: Path
    media_type: str
    loads_code: bool


@dataclass(frozen=True)
class TrainingOutcome:
    """What training one model came to: files and a description for the manifest (docs/results.md).

    Attributes:
        metrics: By split ("train", "test") and metric ("rmse", "mae", "r2"), in the target's unit.
        signature: Inputs and outputs: names, dtype, shape, unit ("raw", or "scaled" by the named scaler).
        scalers: Parameters, formula and inverse of each.
        charts: Kind, titles, encoding and data columns of each.
        description: The rest of the manifest's entry: features, ignored columns, split, check, params, environment.
    """

    class_name: str
    files: tuple[WrittenFile, ...]
    metrics: Mapping[str, Mapping[str, float]]
    signature: Mapping[str, Any]
    scalers: tuple[Mapping[str, Any], ...]
    charts: tuple[Mapping[str, Any], ...]
    description: Mapping[str, Any]


# Version of the manifest that a trainer writes; a change that old readers misread gets another number.
MANIFEST_SCHEMA = 1


def run_prefix(session_uuid: str, run_id: str) -> str:
    """Return the prefix of one run's results in the artifacts bucket."""
    return f"{results_prefix(session_uuid)}{run_id}/"


def manifest_name(session_uuid: str, run_id: str) -> str:
    """Return the object name of a run's manifest: written last and once."""
    return f"{run_prefix(session_uuid, run_id)}manifest.json"


def model_prefix(session_uuid: str, run_id: str, name: str) -> str:
    """Return the prefix of one model's files; each attempt at training it has a folder below."""
    return f"{run_prefix(session_uuid, run_id)}{name}/"
