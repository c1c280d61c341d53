"""The JSON objects of the service's answers, as docs/api.md describes them; members not listed here pass through."""

from typing import Any, Literal, NotRequired, TypedDict

UploadState = Literal["open", "assembling", "assembled", "failed", "aborted", "expiring", "expired"]


class NewSession(TypedDict):
    """Answer of POST /init-session."""

    session_id: str
    uuid: str
    status: str
    created_at: str
    metadata: dict[str, Any]


class Session(TypedDict):
    """One row of GET /list-sessions. `id` is the row's uuid, `session_id` the client's own name."""

    id: str
    session_id: str
    status: str
    created_at: str
    n_dat: int | None
    metadata: dict[str, Any]


class SessionPage(TypedDict):
    """Answer of GET /list-sessions; `next_page_token` is empty at the end."""

    sessions: list[Session]
    count: int
    next_page_token: str


class DataFile(TypedDict):
    """An assembled file of a session; `size` in bytes."""

    name: str
    size: int
    modified: str
    n_rows: int | None
    sha256: str | None


class SessionUpload(TypedDict):
    """An upload as GET /session/{id} lists it."""

    uploadId: str
    fileName: str
    size: int | None
    state: UploadState


class SessionDetails(Session):
    """Answer of GET /session/{id}."""

    updated_at: str
    files: list[DataFile]
    total_files: int
    uploads: list[SessionUpload]


class DeletedSession(TypedDict):
    """Answer of POST /session/{id}/delete: rows removed by table, objects removed."""

    session_id: str
    deleted_from_database: dict[str, int]
    files_deleted: int
    status: str


class FinalizedSession(TypedDict):
    """Answer of POST /finalize-session; `n_dat` is the number of rows."""

    session_id: str
    status: str
    n_dat: int
    database_saved: bool


class SignedChunk(TypedDict):
    """A request that stores one chunk; send exactly these headers."""

    index: int
    size: int
    url: str
    method: str
    headers: dict[str, str]


class StoredChunk(TypedDict):
    """A chunk that the bucket holds; crc32c in base64, big-endian."""

    index: int
    size: int
    crc32c: str


class Upload(TypedDict):
    """An upload. Sizes in bytes; `crc32c`, `sha256` and `nRows` are known once assembled."""

    uploadId: str
    sessionId: str
    fileName: str
    size: int | None
    chunkSize: int
    totalChunks: int
    state: UploadState
    expiresAt: str
    crc32c: NotRequired[str | None]
    sha256: NotRequired[str | None]
    nRows: NotRequired[int | None]
    verifiedBytes: NotRequired[int | None]
    failure: NotRequired[dict[str, Any] | None]


class NewUpload(Upload):
    """Answer of POST /uploads; `chunks` are signed without checksums. One that is new has none stored."""

    isNew: bool
    concurrency: int
    chunks: list[SignedChunk]


class UploadProgress(Upload):
    """Answer of GET /uploads/{id}: what the bucket really holds."""

    concurrency: int
    received: list[StoredChunk]
    receivedBytes: int
    missing: list[int]


class AbortedUpload(TypedDict):
    """Answer of POST /uploads/{id}/abort."""

    uploadId: str
    state: UploadState
    objectsDeleted: int


class RunModel(TypedDict):
    """One model of a run; `progress` from 0 to 1, `metrics` by split (train, test) and metric."""

    id: str
    name: str
    status: str
    progress: float
    framework: NotRequired[str]
    detail: NotRequired[str | None]
    metrics: NotRequired[dict[str, dict[str, float]] | None]


class Run(TypedDict):
    """Answer of POST and GET /train/{id}."""

    run_id: str
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    target: str | None
    seed: int | None
    models: list[RunModel]
    testFraction: NotRequired[float | None]
    detail: NotRequired[str | None]


class ModelFile(TypedDict):
    """One file of a model; `loads_code`: opening it can run code that its writer chose."""

    format: str
    size: int
    sha256: str
    loads_code: bool
    media_type: NotRequired[str]


# `class` is a keyword, so this one cannot be written as a class.
Model = TypedDict(
    "Model",
    {
        "id": str,
        "path": str,
        "name": str,
        "class": str | None,
        "framework": str,
        "status": str,
        "status_detail": NotRequired[str | None],
        "size": int,
        "size_mb": NotRequired[float],
        "formats": list[ModelFile],
        "aliases": NotRequired[list[str]],
        "metrics": NotRequired[dict[str, dict[str, float]] | None],
        "created_at": NotRequired[str],
        # What the trainer published about it (docs/results.md).
        "signature": NotRequired[dict[str, Any]],
        "features": NotRequired[list[str]],
        "split": NotRequired[dict[str, Any]],
        "check": NotRequired[dict[str, Any]],
        "encoding": NotRequired[list[dict[str, Any]]],
        "classes": NotRequired[list[str]],
        "series": NotRequired[dict[str, Any]],
    },
)


class ModelList(TypedDict):
    """Answer of GET /list-models-database/{id}."""

    models: list[Model]
    count: int


class SavedModels(TypedDict):
    """Answer of POST /save-model/{id}."""

    models_saved: int
    models: list[Model]
    total_size: int
    session_id: str


class SignedRequest(TypedDict):
    """A request that the bucket takes; send exactly these headers."""

    url: str
    method: str
    headers: dict[str, str]


class StoredFile(TypedDict):
    """What the bucket holds; crc32c in base64, big-endian."""

    size: int
    crc32c: str
    generation: int


class PublishedFile(TypedDict):
    """A file of a run that is being published: either `stored`, or to be sent by `request`."""

    name: str
    object: str
    stored: StoredFile | None
    request: SignedRequest | None


class Column(TypedDict):
    """Facts about a column; the statistics are there for numeric ones."""

    name: str
    type: str
    count: int
    missing: int
    mean: NotRequired[float | None]
    std: NotRequired[float | None]
    min: NotRequired[float | None]
    max: NotRequired[float | None]


class PlottedFile(TypedDict):
    """A data set of a session with its columns."""

    name: str
    n_rows: int
    columns: list[Column]


class PlotVariables(TypedDict):
    """Answer of GET /plot-variables/{id}."""

    session_id: str
    files: list[PlottedFile]
    variables: list[str]
