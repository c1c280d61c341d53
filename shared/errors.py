"""Every error a client can see.

ServiceError
  InvalidRequestError 400        MissingFieldError, InvalidFieldError 422
  UnauthenticatedError 401
  SubscriptionRequiredError 402
  ForbiddenError 403             StorageLimitError
  NotFoundError 404              SessionNotFoundError, UploadNotFoundError, ModelNotFoundError, ...
  MethodNotAllowedError 405
  ConflictError 409              WrongStateError, ChunksMissingError, UploadsUnfinishedError, ...
  TooLargeError 413
  DataSetError 422               a file that cannot be read as what it claims to be
  ChartInvalidError 422, TableInvalidError 422    a published result that cannot be drawn or written
  ProcessingLimitError 429
  UnavailableError 503           StorageUnavailableError, DatabaseUnavailableError (both retryable)
  InternalError 500

Rules raise these; `shared/web/endpoint.py` turns them into problem details. The codes are part of the contract.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ServiceError(Exception):
    """An error with a stable code and a text that is safe to show.

    Attributes:
        code: Stable name, snake case, documented in docs/api.md.
        status: HTTP status of the answer.
        retryable: Whether the same request can succeed later without change.
        message: One sentence for people.
        details: JSON members that help a program, for example the missing chunk indices.
        retry_after_s: Seconds to wait before trying again, if known.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", *, retry_after_s: int | None = None, **details: Any) -> None:
        self.message = message or (type(self).__doc__ or "").strip().split("\n", 1)[0]
        self.details: Mapping[str, Any] = details
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class InvalidRequestError(ServiceError):
    """The request cannot be understood."""

    code = "invalid_request"
    status = 400


class InvalidFieldError(InvalidRequestError):
    """A field has a value that is not allowed."""

    code = "invalid_field"
    status = 422

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", field=field)


class InvalidPageTokenError(InvalidRequestError):
    """The page token was not made by this service, or for another list."""

    code = "invalid_page_token"


class UnauthenticatedError(ServiceError):
    """The request carries no valid access token."""

    code = "unauthenticated"
    status = 401


class SubscriptionRequiredError(ServiceError):
    """There is no active subscription."""

    code = "subscription_required"
    status = 402


class ForbiddenError(ServiceError):
    """The caller may not do this."""

    code = "forbidden"
    status = 403


class StorageLimitError(ForbiddenError):
    """The subscription's storage is used up."""

    code = "storage_limit_reached"


class NotFoundError(ServiceError):
    """There is no such thing, or it belongs to somebody else."""

    code = "not_found"
    status = 404


class SessionNotFoundError(NotFoundError):
    """There is no such session."""

    code = "session_not_found"


class UploadNotFoundError(NotFoundError):
    """There is no such upload."""

    code = "upload_not_found"


class ModelNotFoundError(NotFoundError):
    """There is no such model."""

    code = "model_not_found"


class RunNotFoundError(NotFoundError):
    """This session has not been trained."""

    code = "run_not_found"


class ChartNotFoundError(NotFoundError):
    """The newest results have no chart of this name."""

    code = "chart_not_found"


class TableNotFoundError(NotFoundError):
    """The newest results have no table of this name."""

    code = "table_not_found"


class MethodNotAllowedError(ServiceError):
    """This address does not take that method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = tuple(allowed)
        super().__init__(f"Use {' or '.join(self.allowed)}.", allowed=list(self.allowed))


class ConflictError(ServiceError):
    """The request does not fit the present state."""

    code = "conflict"
    status = 409


class WrongStateError(ConflictError):
    """The upload is in a state that does not allow this."""

    code = "wrong_state"


class FileExistsInSessionError(ConflictError):
    """The session already has an upload with this file name."""

    code = "file_exists"


class SessionFinalizedError(ConflictError):
    """The session is finalized and takes no more uploads."""

    code = "session_finalized"


class SessionNotFinalizedError(ConflictError):
    """The session must be finalized first."""

    code = "session_not_finalized"


class SessionBusyError(ConflictError):
    """The session is being worked on; try again shortly."""

    code = "session_busy"
    retryable = True


class ChunksMissingError(ConflictError):
    """Not all chunks are in the bucket."""

    code = "chunks_missing"


class ChunkMismatchError(ConflictError):
    """A chunk differs from what was agreed or sent before."""

    code = "chunk_mismatch"


class ChecksumMismatchError(ConflictError):
    """The assembled object differs from what was declared."""

    code = "checksum_mismatch"


class UploadsUnfinishedError(ConflictError):
    """Some uploads of the session are not assembled."""

    code = "uploads_unfinished"


class LeaseLostError(ConflictError):
    """Another call has taken over this work."""

    code = "lease_lost"
    retryable = True


class TrainingInProgressError(ConflictError):
    """The session is being trained already."""

    code = "training_in_progress"


class TrainingFinishedError(ConflictError):
    """The training is over; there is nothing left to cancel."""

    code = "training_finished"


class ModelBusyError(ConflictError):
    """Another task is training the model; come again when its lease may have run out."""

    code = "model_busy"
    retryable = True


class ModelUnavailableError(ConflictError):
    """The model does not exist in this form."""

    code = "model_unavailable"


class ManifestInvalidError(ConflictError):
    """The published results do not fit their manifest."""

    code = "manifest_invalid"


class RunPublishedError(ConflictError):
    """Nothing can be added to this run: it is published, or trained by this service."""

    code = "run_published"


class TooLargeError(ServiceError):
    """The request or the file is larger than allowed."""

    code = "too_large"
    status = 413


class DataSetError(ServiceError):
    """The file cannot be read as the table it claims to be."""

    code = "data_set_invalid"
    status = 422


class ChartInvalidError(ServiceError):
    """The chart cannot be drawn as it was published."""

    code = "chart_invalid"
    status = 422


class TableInvalidError(ServiceError):
    """The table cannot be written as it was published."""

    code = "table_invalid"
    status = 422


class ProcessingLimitError(ServiceError):
    """The subscription's uploads of this period are used up."""

    code = "processing_limit_reached"
    status = 429


class UnavailableError(ServiceError):
    """A service behind this one does not answer; try again."""

    code = "unavailable"
    status = 503
    retryable = True


class StorageUnavailableError(UnavailableError):
    """Object storage does not answer; try again."""

    code = "storage_unavailable"


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer; try again."""

    code = "database_unavailable"


class QueueUnavailableError(UnavailableError):
    """The task queue does not answer; try again."""

    code = "queue_unavailable"


class InternalError(ServiceError):
    """Something went wrong here. The request id finds it in the log."""


class ObjectNotFoundError(Exception):
    """The object store has no such object (or generation). Rules decide what that means."""


class ObjectExistsError(Exception):
    """A write or compose found its destination taken, or a generation changed."""


class JsonError(Exception):
    """Bytes are not the JSON they claim to be.

    Attributes:
        offset: Where, or a little before [bytes].
    """

    def __init__(self, message: str, offset: int) -> None:
        self.message = message
        self.offset = offset
        super().__init__(f"{message} (byte {offset})")


class SettingsError(Exception):
    """Settings are missing or wrong; the text names every one."""
