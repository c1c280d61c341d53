"""Every error a caller of this package can see.

TrainshedError
  ServiceError            the service answered with an error; has its code and request id
  UnreachableError        no answer came, or none that can be read
  SettingsError           the environment does not say which service or which user
  SignInError             e-mail or password are wrong, or the sign-in service is away
  FileChangedError        the local file is not the one the upload was started with
  UploadError             the upload cannot go on, and repeating the command would not help
  PublishError            the run cannot be published as it is
  DownloadError           the downloaded file is not what was promised
  ChecksFailedError       the doctor found something that is wrong
  OutputError             the command's answer cannot be written
  TrainingFailedError     the run ended without results
"""

from collections.abc import Mapping, Sequence
from typing import Any


class TrainshedError(Exception):
    """Base of all errors of this package; its text is one sentence for people."""


class ServiceError(TrainshedError):
    """The service answered with an error (RFC 9457 problem details).

    Attributes:
        status: HTTP status.
        code: Stable name, listed in docs/api.md.
        detail: One sentence for people.
        details: JSON members that help a program, for example the missing chunk indices.
        retryable: Whether the same request can succeed later without change.
        request_id: Finds the service's log line.
        retry_after_s: Seconds to wait before trying again, if the service said so.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        details: Mapping[str, Any] | None = None,
        retryable: bool = False,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.details: Mapping[str, Any] = details or {}
        self.retryable = retryable
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class UnreachableError(TrainshedError):
    """No answer came, or none that can be read."""


class SettingsError(TrainshedError):
    """The environment does not say which service or which user."""


class SignInError(TrainshedError):
    """Signing in failed.

    Attributes:
        is_passing: The sign-in service does not answer; the same may succeed later.
    """

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


class FileChangedError(TrainshedError):
    """The local file is not the one the upload was started with.

    Attributes:
        chunk_index: First chunk that differs; None where the sizes or the whole files differ.
    """

    def __init__(self, message: str, chunk_index: int | None = None) -> None:
        super().__init__(message)
        self.chunk_index = chunk_index


class UploadError(TrainshedError):
    """The upload cannot go on."""


class PublishError(TrainshedError):
    """A run cannot be published as it is, or another one stands in its place."""


class DownloadError(TrainshedError):
    """The downloaded file is not what was promised, or cannot be written."""


class OutputError(TrainshedError):
    """What a command answers cannot be written, for example because the disk is full."""


class TrainingFailedError(TrainshedError):
    """The training run ended without results."""


class ChecksFailedError(TrainshedError):
    """The doctor found something that is wrong.

    Attributes:
        checks: All of them, as JSON objects.
    """

    def __init__(self, checks: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("Some checks failed.")
        self.checks = checks
