"""What each function of the manifest takes, answers and refuses: the table that `docs/openapi.yaml` is made of.

Which path, method and caller a function has stands in functions/manifest.yaml; here is the rest, by its target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared import errors
from shared.api import answers
from shared.api.requests import charts, deletion, models, publishing, results, sessions, training, uploads, variables
from shared.drawings import CHART_FORMATS
from shared.results import TABLE_FORMATS

# What is refused in the same way everywhere.
COMMON_ERRORS: tuple[type[errors.ServiceError], ...] = (
    errors.InvalidRequestError,
    errors.TooLargeError,
    errors.InvalidFieldError,
    errors.InternalError,
    errors.UnavailableError,
    errors.DatabaseUnavailableError,
)
_SIGNING = (errors.StorageUnavailableError,)
_ASSEMBLING = (
    errors.WrongStateError,
    errors.ChunksMissingError,
    errors.ChunkMismatchError,
    errors.ChecksumMismatchError,
    errors.LeaseLostError,
    errors.DataSetError,
    errors.StorageUnavailableError,
)
_CREATING = (
    errors.SessionNotFoundError,
    errors.SessionFinalizedError,
    errors.SessionBusyError,
    errors.FileExistsInSessionError,
    errors.SubscriptionRequiredError,
    errors.ProcessingLimitError,
    errors.StorageLimitError,
)


@dataclass(frozen=True)
class Operation:
    """One function as callers see it.

    Attributes:
        tag: Under what it is listed.
        summary: A few words.
        description: What a caller should know beside the names; Markdown.
        answers: `data` of the successes by status, as TypedDicts.
        refuses: Errors it answers beside COMMON_ERRORS.
        body: TypedDict of the JSON body. One without a required member may be left out.
        form: TypedDict of a multipart form that can be sent instead.
        is_lenient: Further members of the body are ignored.
        query: TypedDict of the query parameters.
        files: Media types of a 200 that is a file, with an ETag that a 304 answers.
        redirects: A 302 leads to a short-lived address of a file.
        is_resource: The first success names the new thing's address in Location.
        links: Targets that take what the first success answers: where the value lies in `data`, by parameter.
    """

    tag: str
    summary: str
    description: str
    answers: Mapping[int, Any] = field(default_factory=dict)
    refuses: Sequence[type[errors.ServiceError]] = ()
    body: type[Any] | None = None
    form: type[Any] | None = None
    is_lenient: bool = False
    query: type[Any] | None = None
    files: Sequence[str] = ()
    redirects: bool = False
    is_resource: bool = False
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


_SESSION = {"session_id": "session_id"}
_UPLOAD = {"upload_id": "uploadId"}

OPERATIONS: Mapping[str, Operation] = {
    "init_session": Operation(
        tag="Sessions",
        summary="Create a session",
        description="Repeating it returns the same session with its first metadata.",
        body=sessions.InitSession,
        answers={200: answers.NewSession},
        refuses=(errors.SessionBusyError,),
        links={
            "get_session": _SESSION,
            "create_upload": {"sessionId": "session_id"},
            "finalize_session": {"sessionId": "session_id"},
            "upload_chunk": {"sessionId": "session_id"},
            "train": _SESSION,
            "get_training": _SESSION,
            "list_models": _SESSION,
            "save_model": _SESSION,
            "publish": _SESSION,
            "plot_variables": _SESSION,
            "visualizations": _SESSION,
            "scalers": _SESSION,
            "evaluation_tables": _SESSION,
            "delete_session": _SESSION,
        },
    ),
    "list_sessions": Operation(
        tag="Sessions",
        summary="List sessions",
        description="Newest first, in pages; with `search`, those whose id or title has it in it. The product's"
        " backend, calling with the secret key, may give `user_id`.",
        query=sessions.ListSessions,
        answers={200: answers.SessionPage},
        refuses=(errors.InvalidPageTokenError,),
    ),
    "get_session": Operation(
        tag="Sessions",
        summary="Read a session",
        description="With its files and uploads.",
        answers={200: answers.SessionDetails},
        refuses=(errors.SessionNotFoundError,),
    ),
    "delete_session": Operation(
        tag="Sessions",
        summary="Delete a session",
        description="Removes every row and object of it. Interrupted and repeated, the rest goes too.",
        answers={200: answers.DeletedSession},
        refuses=(errors.SessionNotFoundError, errors.SessionBusyError, errors.StorageUnavailableError),
    ),
    "create_upload": Operation(
        tag="Uploads",
        summary="Open an upload",
        description="Answers 201, or 200 with the open upload of the same name, size and sha256: an interrupted client "
        "finds its upload again by asking the same. Where the caller has assembled a file of this sha256 and size "
        "before, nothing needs to be sent: the state is `assembled`.",
        body=uploads.CreateUpload,
        answers={201: answers.NewUpload, 200: answers.NewUpload},
        refuses=(*_CREATING, *_ASSEMBLING),
        is_resource=True,
        links={
            "sign_chunks": _UPLOAD,
            "get_upload": _UPLOAD,
            "assemble_upload": _UPLOAD,
            "abort_upload": _UPLOAD,
            "finalize_session": {"sessionId": "sessionId"},
            "delete_session": {"session_id": "sessionId"},
        },
    ),
    "sign_chunks": Operation(
        tag="Uploads",
        summary="Sign chunks",
        description="Signed PUT requests, each good for one write, and moves `expiresAt` on. "
        "PUT the bytes with exactly the headers of the answer; 412 means that the chunk is there already.",
        body=uploads.SignChunks,
        answers={200: answers.SignedChunks},
        refuses=(errors.UploadNotFoundError, errors.WrongStateError, *_SIGNING),
    ),
    "get_upload": Operation(
        tag="Uploads",
        summary="Read an upload",
        description="What the bucket really holds of it: to resume from there.",
        answers={200: answers.UploadProgress},
        refuses=(errors.UploadNotFoundError, errors.StorageUnavailableError),
    ),
    "assemble_upload": Operation(
        tag="Uploads",
        summary="Assemble an upload",
        description="Makes one verified object of the chunks and counts the rows of a table. Safe to repeat. "
        "202: another call is at it; ask again after `Retry-After`.",
        answers={200: answers.Upload, 202: answers.Upload},
        refuses=(errors.UploadNotFoundError, *_ASSEMBLING),
    ),
    "abort_upload": Operation(
        tag="Uploads",
        summary="Abort an upload",
        description="Gives it up and deletes its chunks; repeatable.",
        answers={200: answers.AbortedUpload},
        refuses=(errors.UploadNotFoundError, errors.WrongStateError, errors.StorageUnavailableError),
    ),
    "upload_chunk": Operation(
        tag="Old and scheduled calls",
        summary="Send a chunk the old way",
        description="A form with the bytes stores the chunk; the file is assembled with its last one. JSON with the "
        "metadata alone answers the signed request for the chunk instead.",
        body=uploads.LegacyChunk,
        form=uploads.LegacyForm,
        is_lenient=True,
        answers={200: answers.SavedOrSignedChunk},
        refuses=(*_CREATING, *_ASSEMBLING, errors.UploadNotFoundError),
    ),
    "finalize_session": Operation(
        tag="Sessions",
        summary="Finalize a session",
        description="Closes it to uploads and sums up its rows; repeatable.",
        body=uploads.FinalizeSession,
        answers={200: answers.FinalizedSession},
        refuses=(errors.SessionNotFoundError, errors.UploadsUnfinishedError, errors.SessionBusyError),
    ),
    "cleanup": Operation(
        tag="Old and scheduled calls",
        summary="Sweep abandoned uploads",
        description="For Cloud Scheduler. Bounded; call it again while `has_more`.",
        body=deletion.Cleanup,
        answers={200: answers.Sweep},
        refuses=(errors.StorageUnavailableError,),
    ),
    "save_model": Operation(
        tag="Models",
        summary="Save models",
        description="Checks the files of published models and has unread legacy documents read; repeatable.",
        answers={200: answers.SavedModels},
        refuses=(
            errors.SessionNotFoundError,
            errors.ManifestInvalidError,
            errors.SessionBusyError,
            errors.StorageUnavailableError,
        ),
    ),
    "publish": Operation(
        tag="Models",
        summary="Publish models of one's own",
        description="Signed requests by which a job writes the files of a run, each once, and last its manifest.",
        body=publishing.Publish,
        answers={200: answers.PublishedFiles},
        refuses=(errors.SessionNotFoundError, errors.RunPublishedError, errors.StorageUnavailableError),
    ),
    "list_models": Operation(
        tag="Models",
        summary="List models",
        description="In every state, newest run first, with what is needed to use them.",
        answers={200: answers.ModelList},
        refuses=(errors.SessionNotFoundError,),
    ),
    "download_model": Operation(
        tag="Models",
        summary="Download a model",
        description="Leads to a short-lived address in the bucket. 202: the .h5 file of a network that only Keras can "
        "write is being made; ask again after `Retry-After`.",
        query=models.ChooseModel,
        answers={200: answers.ModelAddress, 202: answers.FileOnItsWay},
        redirects=True,
        refuses=(
            errors.SessionNotFoundError,
            errors.ModelNotFoundError,
            errors.ModelUnavailableError,
            errors.QueueUnavailableError,
            errors.StorageUnavailableError,
        ),
    ),
    "download_archive": Operation(
        tag="Models",
        summary="Download everything of a session",
        description="Leads to a short-lived address of a zip with all models, scalers, tables and charts, and a "
        "program that checks them. 202: it is being built; ask again after `Retry-After`.",
        query=models.ChooseArchive,
        answers={200: answers.ModelAddress, 202: answers.FileOnItsWay},
        redirects=True,
        refuses=(
            errors.SessionNotFoundError,
            errors.SessionBusyError,
            errors.QueueUnavailableError,
            errors.StorageUnavailableError,
        ),
    ),
    "build_archive": Operation(
        tag="Old and scheduled calls",
        summary="Build one archive",
        description="For Cloud Tasks.",
        body=models.BuildArchive,
        answers={200: answers.BuiltByTask},
        refuses=(errors.SessionBusyError, errors.StorageUnavailableError),
    ),
    "convert_model": Operation(
        tag="Old and scheduled calls",
        summary="Convert one model",
        description="For Cloud Tasks. Reads and writes by signed addresses alone.",
        body=models.ConvertModel,
        answers={200: answers.ConvertedByTask},
        refuses=(errors.StorageUnavailableError,),
    ),
    "plot_variables": Operation(
        tag="Data set",
        summary="Describe the columns",
        description="Statistics, a histogram and a thinned-out series for each column of the session's tables.",
        query=variables.PlotColumns,
        answers={200: answers.PlotVariables},
        refuses=(errors.SessionNotFoundError, errors.DataSetError, errors.StorageUnavailableError),
    ),
    "visualizations": Operation(
        tag="Results",
        summary="Read or draw charts",
        description="Of the newest completed run: as data, or one of them drawn. A stored picture is a 302.",
        query=charts.DrawChart,
        answers={200: answers.Visualizations},
        files=tuple(CHART_FORMATS.values()),
        redirects=True,
        refuses=(
            errors.SessionNotFoundError,
            errors.ChartNotFoundError,
            errors.ChartInvalidError,
            errors.StorageUnavailableError,
        ),
    ),
    "scalers": Operation(
        tag="Results",
        summary="Read scalers",
        description="Of the newest completed run, as numbers and formulas.",
        answers={200: answers.Scalers},
        refuses=(errors.SessionNotFoundError,),
    ),
    "evaluation_tables": Operation(
        tag="Results",
        summary="Read or write tables",
        description="Of the newest completed run: as data, or one of them as a file.",
        query=results.WriteTable,
        answers={200: answers.EvaluationTables},
        files=tuple(TABLE_FORMATS.values()),
        refuses=(errors.SessionNotFoundError, errors.TableNotFoundError, errors.TableInvalidError),
    ),
    "train": Operation(
        tag="Training",
        summary="Train models",
        description="Queues one task per model. Repeating the request while it runs answers the same run.",
        body=training.Train,
        answers={202: answers.Run},
        refuses=(
            errors.SessionNotFoundError,
            errors.SessionNotFinalizedError,
            errors.SessionBusyError,
            errors.TrainingInProgressError,
            errors.SubscriptionRequiredError,
            errors.DataSetError,
            errors.QueueUnavailableError,
            errors.StorageUnavailableError,
        ),
        is_resource=True,
        links={
            "get_training": _SESSION,
            "cancel_training": _SESSION,
            "list_models": _SESSION,
            "delete_session": _SESSION,
        },
    ),
    "get_training": Operation(
        tag="Training",
        summary="Read the newest run",
        description="With the progress of its models.",
        answers={200: answers.Run},
        refuses=(errors.SessionNotFoundError, errors.RunNotFoundError),
    ),
    "cancel_training": Operation(
        tag="Training",
        summary="Cancel the run in progress",
        description="What was finished before stays. Cancelling again answers the same run.",
        answers={200: answers.Run},
        refuses=(
            errors.SessionNotFoundError,
            errors.RunNotFoundError,
            errors.TrainingFinishedError,
            errors.QueueUnavailableError,
        ),
    ),
    "describe": Operation(
        tag="Operation",
        summary="Describe the API",
        description="This document as JSON, and as a page for people.",
        files=("application/json", "text/html"),
    ),
    "run_training": Operation(
        tag="Old and scheduled calls",
        summary="Train one model",
        description="For Cloud Tasks. After the last model, publishes the run.",
        body=training.RunTraining,
        answers={200: answers.TrainedByTask},
        refuses=(errors.ModelBusyError, errors.ManifestInvalidError, errors.StorageUnavailableError),
    ),
}
