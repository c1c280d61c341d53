"""The `data` of the answers. Only type checkers and the description of the API read this; no other bundle holds it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from shared.api.types import Bytes, Count, Crc32c, FileName, Keywords, Object, SessionName, Sha256, Time, Url, Uuid
from shared.records.documents import DocumentStatus
from shared.records.sessions import SessionStatus
from shared.records.training import ConversionStatus, LearningTask, ModelStatus, RunStatus
from shared.records.uploads import UploadState

Metrics = Annotated[
    Mapping[str, Mapping[str, float]],
    Keywords(description="Values by split (train, test) and metric, in the target's unit."),
]
Loss = list[float | None]


class Problem(TypedDict):
    """What every error says (RFC 9457), and two members that old callers read.

    Attributes:
        type: `urn:trainshed:error:` and the code.
        title: What the code means.
        detail: What happened this time.
        instance: Path of the request.
        code: Stable name; the status of each operation lists those it can have.
        retryable: The same request can succeed later as it is.
        request_id: Finds the lines in the log.
        details: Members that help a program, for example the missing chunks.
        error: As `detail`.
    """

    type: Annotated[str, Keywords(examples=["urn:trainshed:error:session_not_found"])]
    title: Annotated[str, Keywords(examples=["There is no such session."])]
    status: Annotated[int, Keywords(minimum=400, maximum=599, examples=[404])]
    detail: Annotated[str, Keywords(examples=["There is no such session."])]
    instance: Annotated[str, Keywords(examples=["/session/nothing-here"])]
    code: Annotated[str, Keywords(examples=["session_not_found"])]
    retryable: Annotated[bool, Keywords(examples=[False])]
    request_id: Annotated[str, Keywords(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])]
    details: Annotated[Object, Keywords(examples=[{}])]
    success: Literal[False]
    error: Annotated[str, Keywords(examples=["There is no such session."])]


class Health(TypedDict):
    """An instance that takes requests.

    Attributes:
        function: Its name in the manifest.
        revision: Of the platform; `local` on a developer's machine.
    """

    status: Literal["ok"]
    function: Annotated[str, Keywords(examples=["get-session"])]
    revision: Annotated[str, Keywords(examples=["get-session-00042-xyz"])]


class NewSession(TypedDict):
    """A session that was created, or found by its name.

    Attributes:
        session_id: The client's own name for it.
        uuid: The service's name for it.
        metadata: Of the first time.
    """

    session_id: SessionName
    uuid: Uuid
    status: SessionStatus
    created_at: Time
    metadata: Object


class Session(TypedDict):
    """A session in a list.

    Attributes:
        id: The service's name for it.
        session_id: The client's own name for it.
        n_dat: Rows of all its tables, once it is finalized.
    """

    id: Uuid
    session_id: SessionName
    status: SessionStatus
    created_at: Time
    n_dat: Count | None
    metadata: Object


class SessionPage(TypedDict):
    """A page of sessions, newest first.

    Attributes:
        count: Of this page.
        next_page_token: Empty at the end.
    """

    sessions: list[Session]
    count: Count
    next_page_token: Annotated[str, Keywords(examples=[""])]


class DataFile(TypedDict):
    """An assembled file of a session.

    Attributes:
        n_rows: Of a table.
        sha256: Where it is a table, or one was declared.
    """

    name: FileName
    size: Bytes
    modified: Time
    n_rows: Count | None
    sha256: Sha256 | None


class Failure(TypedDict):
    """Why an upload failed. Further members help a program, for example `line`."""

    code: Annotated[str, Keywords(examples=["data_set_invalid"])]
    detail: str


class SessionUpload(TypedDict):
    """An upload of a session.

    Attributes:
        size: None of a legacy upload until it is assembled.
    """

    uploadId: Uuid
    fileName: FileName
    size: Bytes | None
    state: UploadState
    failure: Failure | None


class SessionDetails(Session):
    """A session with its files and uploads, oldest first."""

    updated_at: Time
    files: list[DataFile]
    total_files: Count
    uploads: list[SessionUpload]


class DeletedSession(TypedDict):
    """What was removed.

    Attributes:
        deleted_from_database: Rows by table.
        files_deleted: Objects of both buckets.
    """

    session_id: SessionName
    deleted_from_database: Mapping[str, Count]
    files_deleted: Count
    status: Literal["deleted"]


class FinalizedSession(TypedDict):
    """A session that is closed to uploads.

    Attributes:
        n_dat: Rows of all its tables.
    """

    session_id: SessionName
    status: SessionStatus
    n_dat: Count
    database_saved: Literal[True]


class SignedChunk(TypedDict):
    """A request that stores one chunk, once.

    Attributes:
        size: Exactly so many bytes; of a legacy chunk at most.
        headers: Send exactly these.
    """

    index: Count
    size: Bytes
    url: Url
    method: Literal["PUT"]
    headers: Mapping[str, str]


class SignedRequest(TypedDict):
    """A request that the bucket takes once.

    Attributes:
        headers: Send exactly these.
    """

    url: Url
    method: Literal["PUT"]
    headers: Mapping[str, str]


class StoredFile(TypedDict):
    """What the bucket holds under a name."""

    size: Bytes
    crc32c: Crc32c
    generation: Count


class PublishedFile(TypedDict):
    """A file of a run that is being published.

    Attributes:
        name: Below the run's folder.
        object: Name of the object.
        stored: What is there; compare it.
        request: Writes what is not there.
    """

    name: str
    object: str
    stored: StoredFile | None
    request: SignedRequest | None


class PublishedFiles(TypedDict):
    """The files of a run that were asked about.

    Attributes:
        prefix: The run's folder in the artifacts bucket.
    """

    session_id: SessionName
    session_uuid: Uuid
    runId: Uuid
    prefix: str
    files: list[PublishedFile]


class StoredChunk(TypedDict):
    """A chunk that the bucket holds."""

    index: Count
    size: Bytes
    crc32c: Crc32c


class Upload(TypedDict):
    """One file of a session on its way into the bucket.

    Attributes:
        size: None of a legacy upload until it is assembled.
        expiresAt: When it may be swept; moves on while chunks are signed.
        crc32c: Once it is assembled.
        sha256: As declared, or once it is assembled, where it is a table.
        nRows: Of a table, once it is assembled.
        verifiedBytes: How much of the joined file has been read again, while it is assembled; None while nothing was.
    """

    uploadId: Uuid
    sessionId: SessionName
    fileName: FileName
    size: Bytes | None
    contentType: Annotated[str, Keywords(examples=["text/csv"])]
    chunkSize: Bytes
    totalChunks: Count
    state: UploadState
    expiresAt: Time
    crc32c: Crc32c | None
    sha256: Sha256 | None
    nRows: Count | None
    verifiedBytes: Bytes | None
    failure: Failure | None


class NewUpload(Upload):
    """An upload that was opened, or found.

    Attributes:
        isNew: It was opened just now, so that none of its chunks can be there.
        concurrency: How many chunks to send at once.
        chunks: The first ones, signed without checksums; none where nothing needs to be sent.
    """

    isNew: bool
    concurrency: Count
    chunks: list[SignedChunk]


class SignedChunks(TypedDict):
    """Signed requests for some chunks."""

    uploadId: Uuid
    expiresAt: Time
    chunks: list[SignedChunk]


class TableProblem(TypedDict):
    """Why a file cannot be read as a table."""

    code: Annotated[str, Keywords(examples=["data_set_invalid"])]
    detail: str


class TableColumn(TypedDict):
    """A column by its first rows."""

    name: str
    type: Annotated[str, Keywords(enum=["integer", "number", "boolean", "date", "text", "empty"])]


class TableView(TypedDict):
    """What the first chunk says of a table.

    Attributes:
        problem: Why it cannot be read as one.
    """

    delimiter: str | None
    encoding: str | None
    compression: str | None
    columns: list[TableColumn]
    problem: TableProblem | None


class UploadProgress(Upload):
    """An upload with what the bucket really holds of it.

    Attributes:
        concurrency: How many chunks to send at once.
        missing: Indices.
        table: As soon as the first chunk of a table is there.
    """

    concurrency: Count
    received: list[StoredChunk]
    receivedBytes: Bytes
    missing: list[Count]
    table: TableView | None


class AbortedUpload(TypedDict):
    """An upload that was given up."""

    uploadId: Uuid
    state: UploadState
    objectsDeleted: Count


class SavedChunk(TypedDict):
    """A chunk that came as a form.

    Attributes:
        progress: Percent of the chunks.
    """

    chunk_saved: Literal[True]
    chunk_index: Count
    total_chunks: Count
    progress: Annotated[float, Keywords(minimum=0, maximum=100)]
    upload_id: Uuid
    state: UploadState


class SignedLegacyChunk(TypedDict):
    """The signed request for a chunk of an old client."""

    upload_id: Uuid
    chunk_index: Count
    total_chunks: Count
    state: UploadState
    chunk: SignedChunk


SavedOrSignedChunk = SavedChunk | SignedLegacyChunk


class Sweep(TypedDict):
    """What a cleanup deleted, or would delete.

    Attributes:
        cleaned: Uploads.
        has_more: Call again.
    """

    cleaned: Count
    objects_deleted: Count
    bytes_freed: Bytes
    has_more: bool
    dry_run: bool


class LearningCurve(TypedDict):
    """The losses of a model so far, at most 200 points; equally long lists."""

    step: list[Count]
    train: Loss
    validation: Loss


class RunModel(TypedDict):
    """A model of a run.

    Attributes:
        path: `<run id>/<name>`.
        remaining_s: How long the rest of training will probably take [s].
        detail: How far it is, or why it failed.
        metrics: Values by split (train, test) and metric, in the target's unit.
    """

    id: Uuid
    name: Annotated[str, Keywords(examples=["linear_regression"])]
    path: str
    framework: Annotated[str, Keywords(examples=["sklearn"])]
    status: ModelStatus
    progress: Annotated[float, Keywords(minimum=0, maximum=1)]
    remaining_s: Count | None
    detail: str | None
    metrics: Metrics
    curve: LearningCurve | None


class Run(TypedDict):
    """A training of a session.

    Attributes:
        detail: Why it failed.
        stalled: In progress, and nothing has worked on it for ten minutes; the same request sets it going again.
        target: Column that is predicted.
    """

    run_id: Uuid
    session_id: SessionName
    status: RunStatus
    detail: str | None
    stalled: bool
    target: str | None
    task: LearningTask | None
    seed: int | None
    testFraction: float | None
    timeColumn: str | None
    horizon: int | None
    window: int | None
    created_at: Time
    finished_at: Time | None
    models: list[RunModel]


class TrainedByTask(TypedDict):
    """What a training task did.

    Attributes:
        status: What it left the model in; `gone` and `lease lost` where there was nothing left to do.
    """

    model_id: Uuid
    status: Annotated[str, Keywords(examples=["ready"])]


class ModelFile(TypedDict):
    """A file of a model.

    Attributes:
        loads_code: Opening it can run code that its writer chose.
    """

    format: Annotated[str, Keywords(examples=["skops"])]
    size: Bytes
    sha256: Sha256
    media_type: Annotated[str, Keywords(examples=["application/zip"])]
    loads_code: bool


class Requirement(TypedDict):
    """A package that opening a model needs.

    Attributes:
        package: Its name on PyPI.
        specifier: Which versions, in the form of PEP 440; empty for any.
        formats: Of the files that need it.
    """

    package: Annotated[str, Keywords(examples=["numpy"])]
    specifier: Annotated[str, Keywords(examples=[">=2"])]
    reason: str
    formats: tuple[str, ...]


class SourceFile(TypedDict):
    """A data set that a model was made from."""

    upload_id: Uuid
    file_name: FileName
    size: Bytes
    n_rows: Count
    sha256: Sha256 | None
    crc32c: Crc32c | None


class Lineage(TypedDict):
    """What a model was made from.

    Attributes:
        request: As asked for; a trainer of somebody else's may leave it empty.
        manifest: {object, generation, bytes, sha256} of the published manifest, or of the legacy document.
    """

    run_id: Uuid
    request: Mapping[str, Any]
    manifest: Mapping[str, Any] | None
    data_set: list[SourceFile]


class Conversion(TypedDict):
    """How far a model is on its way to another format.

    Attributes:
        detail: Why there is no file.
        finding: What was found in a file that is refused: {code, message, where}.
    """

    format: Annotated[str, Keywords(enum=["h5"])]
    status: ConversionStatus
    detail: str | None
    finding: Mapping[str, Any] | None


# `class` is a keyword, so this part cannot be written as a class.
ModelClass = TypedDict("ModelClass", {"class": str | None})


class Model(ModelClass):
    """A trained model in any state. What its trainer published beside this (docs/results.md) passes through.

    Attributes:
        path: `<run id>/<name>`; of a legacy model its place in the document.
        version: Of the content under its name, from 1, once it is ready.
        aliases: `latest` and `best`, where it is that.
        origin: Trained here, published by another trainer, or of an old document.
        class: Of the model, as it was read.
        claimed_class: What its writer called it, where that is not what was read.
        size: Of all its files [bytes].
        size_mb: The same [MiB].
        conversion: Of a Keras model that was asked for as .h5 and not published so.
        metrics: Values by split (train, test) and metric, in the target's unit.
        requires: What opening its files takes.
        requirements: Lines of a requirements.txt that repeats what it was made with.
        signature: Inputs and outputs.
        task: What it was trained for.
        features: Raw columns in order.
        encoding: How they become the inputs of its files.
        classes: Of a classification, in the order of the probabilities.
        series: Of a time series: window, horizon, season, what stands for missing values.
        baselines: Of a time series: metrics of forecasts without a model.
        next: Of a time series: times and forecasts after the last row.
        split: The rule that divided the rows.
        check: A few inputs with the predictions that a reloaded model must repeat.
    """

    id: Uuid
    run_id: Uuid
    path: str
    name: Annotated[str, Keywords(examples=["linear_regression"])]
    version: Count | None
    aliases: tuple[str, ...]
    origin: Annotated[str, Keywords(enum=["trained", "published", "legacy"])]
    claimed_class: str | None
    framework: Annotated[str, Keywords(examples=["sklearn"])]
    status: ModelStatus
    status_detail: str | None
    size: Bytes
    size_mb: Annotated[float, Keywords(minimum=0)]
    formats: list[ModelFile]
    conversion: Conversion | None
    metrics: Metrics
    requires: list[Requirement]
    requirements: tuple[str, ...]
    lineage: Lineage
    created_at: Time
    signature: NotRequired[Mapping[str, Any]]
    task: NotRequired[str]
    features: NotRequired[list[str]]
    encoding: NotRequired[list[Mapping[str, Any]]]
    classes: NotRequired[list[str]]
    series: NotRequired[Mapping[str, Any]]
    baselines: NotRequired[Mapping[str, Metrics]]
    next: NotRequired[Mapping[str, Any]]
    split: NotRequired[Mapping[str, Any]]
    check: NotRequired[Mapping[str, Any]]


class ConvertedByTask(TypedDict):
    """What a conversion task did.

    Attributes:
        status: `expired` where the model is gone, or the task came too late.
    """

    status: Annotated[str, Keywords(enum=["converted", "unsupported", "refused", "failed", "expired"])]
    detail: str | None


class FileOnItsWay(TypedDict):
    """A file that is being made; ask again after `Retry-After`."""

    status: Annotated[str, Keywords(enum=["pending"])]
    format: Annotated[str, Keywords(enum=["h5", "zip"])]
    detail: str


class BuiltByTask(TypedDict):
    """What a task made of a plan.

    Attributes:
        status: `gone` where the session was deleted meanwhile.
    """

    plan: str
    status: Annotated[str, Keywords(enum=["built", "gone"])]


class Document(TypedDict):
    """A results document of the old backend.

    Attributes:
        detail: What was found in it, or why it was refused.
        read_by: The call that has it read.
    """

    run_id: Uuid
    status: DocumentStatus
    detail: Mapping[str, Any]
    read_by: str | None


class ModelAddress(TypedDict):
    """Answer of GET /download-model-h5/{session_id} and GET /download-archive/{session_id} with `redirect=false`.

    Attributes:
        url: Leads to the file for a short time; nobody may keep it.
    """

    url: Url


class ModelList(TypedDict):
    """The models of a session, newest run first.

    Attributes:
        unread_documents: Legacy documents that nobody has read.
    """

    models: list[Model]
    count: Count
    unread_documents: Count
    documents: list[Document]


class SavedModels(TypedDict):
    """The models of a session after what was published is checked.

    Attributes:
        total_size: Of all files [bytes].
        unread_documents: Legacy documents that nobody has read.
    """

    session_id: SessionName
    models_saved: Count
    models: list[Model]
    total_size: Bytes
    unread_documents: Count
    documents: list[Document]


# `from` is a keyword, too.
Histogram = TypedDict("Histogram", {"from": list[float], "to": list[float], "count": list[Count]})
Histogram.__doc__ = "How many values lie between which edges, at most 30 bins of equal width."


class Series(TypedDict):
    """At most `points` points that keep the look of the whole: row from 0, and value."""

    x: list[float]
    y: list[float | None]


class CommonValue(TypedDict):
    """A value, and how often it occurs."""

    value: str
    count: Count


class Column(TypedDict):
    """Facts about a column; the statistics are there for numeric ones, `commonest` for others.

    Attributes:
        count: Of the rows with a value.
        missing: Of the rows without one.
        unique: Of the different values.
    """

    name: str
    type: Annotated[str, Keywords(enum=["integer", "number", "boolean", "text"])]
    count: Count
    missing: Count
    unique: Count
    mean: NotRequired[float | None]
    std: NotRequired[float | None]
    min: NotRequired[float | None]
    q25: NotRequired[float | None]
    median: NotRequired[float | None]
    q75: NotRequired[float | None]
    max: NotRequired[float | None]
    histogram: NotRequired[Histogram]
    series: NotRequired[Series]
    commonest: NotRequired[list[CommonValue]]


class PlottedFile(TypedDict):
    """A data set of a session with its columns.

    Attributes:
        n_rows_read: So many were looked at.
        is_sampled: Not all rows were.
    """

    name: FileName
    n_rows: Count
    n_rows_read: Count
    is_sampled: bool
    n_columns: Count
    columns: list[Column]


class PlotVariables(TypedDict):
    """The data sets of a session in numbers.

    Attributes:
        variables: Names of all columns that are shown.
    """

    session_id: SessionName
    files: list[PlottedFile]
    variables: list[str]


class ResultItem(TypedDict):
    """A scaler, chart or table as its trainer published it (docs/results.md); further members pass through."""

    id: Uuid
    run_id: Uuid
    name: Annotated[str, Keywords(examples=["linear_regression.inputs"])]


class Scalers(TypedDict):
    """The scalers of the newest completed run."""

    session_id: SessionName
    scalers: list[ResultItem]
    count: Count


class Visualizations(TypedDict):
    """The charts of the newest completed run."""

    session_id: SessionName
    visualizations: list[ResultItem]
    count: Count


class EvaluationTables(TypedDict):
    """The tables of the newest completed run."""

    session_id: SessionName
    evaluation_tables: list[ResultItem]
    count: Count
