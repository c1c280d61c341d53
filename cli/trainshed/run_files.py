"""The files of a run on their way into the artifacts bucket: written once; what is there already is compared."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import httpx
from google_crc32c import extend

from trainshed.answers import PublishedFile, SignedChunk
from trainshed.client import Client
from trainshed.errors import FileChangedError, PublishError, ServiceError
from trainshed.publication import MANIFEST_NAME
from trainshed.retry import TRANSIENT_STATUSES, pause, retry_after_s

_PIECE_BYTES = 1 << 20
_IS_PUBLISHED = "A run of this name is published already, with other results; give this one another name."


@dataclass(frozen=True)
class LocalFile:
    """A file of a run as it lies here; `crc32c` in base64, `sha256` in lower-case hex."""

    path: Path
    size_bytes: int
    crc32c: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file once for its size and checksums.

        Raises:
            PublishError: It cannot be read, or is empty.
        """
        sha256, crc32c, size_bytes = hashlib.sha256(), 0, 0
        try:
            with path.open("rb") as file:
                for piece in _pieces(file):
                    sha256.update(piece)
                    crc32c = extend(crc32c, piece)
                    size_bytes += len(piece)
        except OSError as error:
            raise PublishError(f"Cannot read {path}: {error.strerror}.") from error
        if not size_bytes:
            raise PublishError(f"{path} is empty.")
        return cls(path, size_bytes, crc32c_text(crc32c), sha256.hexdigest())


class Destination(Protocol):
    """Where the files of a run are written, each once."""

    def write(self, name: str, file: LocalFile | bytes, media_type: str) -> int:
        """Write a file below the run's prefix, unless the same bytes are there already.

        Returns:
            The object's generation.

        Raises:
            PublishError: Other bytes are there, or the bucket refuses these.
        """


class SignedRequests:
    """Writes through requests that the service signs; a token is all that is needed."""

    def __init__(self, client: Client, session_id: str, run_id: str) -> None:
        self._client = client
        self._session_id = session_id
        self._run_id = run_id

    def write(self, name: str, file: LocalFile | bytes, media_type: str) -> int:  # noqa: ARG002 - the service names it
        """Write one file; see `Destination`."""
        size, crc32c = _facts(file)
        backoff = self._client.backoff
        failures, reason = 0, ""
        while True:
            # A write whose answer was lost, or that came too late, is found stored as well.
            state = self._state(name, size, crc32c)
            if state["stored"] is not None:
                _compare(name, state["stored"]["size"], state["stored"]["crc32c"], size, crc32c)
                return state["stored"]["generation"]
            if failures >= backoff.attempts:
                raise PublishError(f"{name} could not be stored in {failures} tries ({reason}).")
            reason, asked_s = self._put(name, state, file, size)
            failures += 1
            if reason and failures < backoff.attempts:
                pause(backoff.wait_s(failures, asked_s))

    def _state(self, name: str, size: int, crc32c: str) -> PublishedFile:
        wanted = [{"name": name, "size": size, "crc32c": crc32c}]
        try:
            return self._client.sign_files(self._session_id, self._run_id, wanted)[0]
        except ServiceError as error:
            if error.code == "run_published":
                raise PublishError(_IS_PUBLISHED) from error
            raise

    def _put(self, name: str, state: PublishedFile, file: LocalFile | bytes, size: int) -> tuple[str, float | None]:
        """Send the bytes once.

        Returns:
            Why that is to be repeated, and after how many seconds; no reason where the object is there.
        """
        request = state["request"]
        if request is None:
            raise PublishError(f"The service signs no request for {name}.")
        chunk: SignedChunk = {"index": 0, "size": size, **request}
        sent = _Sent(file)
        try:
            answer = self._client.put_chunk(chunk, sent)
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__, None
        except OSError as error:
            raise PublishError(f"Cannot read {name}: {error.strerror}.") from error
        if answer.is_success or answer.status_code == httpx.codes.PRECONDITION_FAILED:
            return "", None
        sent.compare()
        if answer.status_code in TRANSIENT_STATUSES | {httpx.codes.FORBIDDEN} or "ExpiredToken" in answer.text:
            return str(answer.status_code), retry_after_s(answer.headers.get("Retry-After"))
        raise PublishError(f"The bucket refuses {name} ({answer.status_code}).")


class OwnRights:
    """Writes with the rights of the job's own service account."""

    def __init__(self, bucket: str, prefix: str) -> None:
        try:
            from google.cloud import storage  # noqa: PLC0415 - an extra, and half a second
        except ImportError as error:
            raise PublishError("To write with the job's own rights: pip install 'trainshed[storage]'.") from error
        self._bucket = storage.Client().bucket(bucket)
        self._prefix = prefix

    def write(self, name: str, file: LocalFile | bytes, media_type: str) -> int:
        """Write one file; see `Destination`."""
        from google.api_core.exceptions import GoogleAPIError, PreconditionFailed  # noqa: PLC0415 - as above

        size, crc32c = _facts(file)
        blob = self._bucket.blob(f"{self._prefix}{name}")
        blob.crc32c = crc32c
        try:
            with suppress(PreconditionFailed):
                if isinstance(file, bytes):
                    blob.upload_from_string(file, media_type, if_generation_match=0, checksum="crc32c")
                else:
                    blob.upload_from_filename(str(file.path), media_type, if_generation_match=0, checksum="crc32c")
            blob.reload()
        except GoogleAPIError as error:
            raise PublishError(f"The bucket refuses {name} ({error}).") from error
        _compare(name, blob.size, blob.crc32c, size, crc32c)
        return int(blob.generation)


class _Sent:
    """The bytes of a file as they go out; those of a file that changed meanwhile do not."""

    def __init__(self, file: LocalFile | bytes) -> None:
        self._file = file
        self._crc32c = 0
        self._n_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self._file, bytes):
            yield self._file
            return
        with self._file.path.open("rb") as opened:
            for piece in _pieces(opened):
                self._n_bytes += len(piece)
                if self._n_bytes > self._file.size_bytes:
                    raise _changed(self._file)
                self._crc32c = extend(self._crc32c, piece)
                yield piece
        if self._n_bytes < self._file.size_bytes:
            raise _changed(self._file)

    def compare(self) -> None:
        """Compare what went out, if it went out whole, with what was looked at before.

        Raises:
            FileChangedError: It is something else.
        """
        if not isinstance(self._file, LocalFile) or self._n_bytes < self._file.size_bytes:
            return
        if crc32c_text(self._crc32c) != self._file.crc32c:
            raise _changed(self._file)


def _changed(file: LocalFile) -> FileChangedError:
    return FileChangedError(f"{file.path.name} was changed while it was published.")


def _facts(file: LocalFile | bytes) -> tuple[int, str]:
    if isinstance(file, bytes):
        return len(file), crc32c_text(extend(0, file))
    return file.size_bytes, file.crc32c


def _compare(name: str, stored_bytes: int, stored_crc32c: str, size: int, crc32c: str) -> None:
    if (stored_bytes, stored_crc32c) == (size, crc32c):
        return
    if name == MANIFEST_NAME:
        raise PublishError(_IS_PUBLISHED)
    raise PublishError(f"The bucket holds other bytes as {name}.")


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def crc32c_text(crc32c: int) -> str:
    """Return a checksum as Cloud Storage writes it: base64 of four big-endian bytes."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()
