"""Sends a file of any size into object storage: chunk by chunk, in parallel, resumable at any point.

The order of things, each step safe to repeat in another process:

1. create or find the upload; the server says how large a chunk is and how many requests it wants at once
2. compare the chunks that the bucket holds with the local file (their crc32c), so that no two files are mixed
3. read each missing chunk for its crc32c, have PUT requests signed with it, send the bytes
4. where the bucket had some of them already, ask what it holds and compare those with the local crc32c
5. have the chunks assembled

No chunk is held in memory: it is read once for its checksum and once to be sent.
"""

import base64
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import BinaryIO, Self, cast

import httpx
from google_crc32c import extend

from trainshed.answers import NewUpload, SignedChunk, Upload, UploadProgress
from trainshed.client import Client
from trainshed.errors import FileChangedError, ServiceError, TrainshedError, UploadError
from trainshed.retry import TRANSIENT_STATUSES, pause, retry_after_s

# Of one object: https://cloud.google.com/storage/quotas
LARGEST_FILE_BYTES = 5 << 40
_PIECE_BYTES = 1 << 20
# A signature is refused at most that often in a row before we believe that it is not a matter of time.
_SIGNATURES_PER_CHUNK = 4
# Chunks may be swept or lost between two looks at the bucket; a third time it is no accident.
_ROUNDS = 3
# The service says anew how far it is every two seconds (REPORT_EVERY_S in shared/assembly.py).
WATCH_EVERY_S = 2.0
_MOST_CONCURRENCY = 32
# The bucket's error codes for "these are not the bytes you announced":
# https://cloud.google.com/storage/docs/xml-api/reference-status
_DAMAGED_CODES = frozenset({"BadDigest", "CrcMismatch", "InvalidDigest"})


@dataclass(frozen=True)
class Progress:
    """How far an upload is.

    Attributes:
        phase: comparing (with the bucket's chunks), uploading, assembling, or checking (the joined file).
        stored_bytes: Bytes that the bucket is known to hold.
        size_bytes: Size of the file.
        verified_bytes: How many of them the service has read again while it is checking.
    """

    phase: str
    upload_id: str
    stored_bytes: int
    size_bytes: int
    verified_bytes: int = 0

    @property
    def done_bytes(self) -> int:
        """How far the phase is [bytes]."""
        return self.verified_bytes if self.phase == "checking" else self.stored_bytes


@dataclass(frozen=True)
class ChunkPlan:
    """How a file is cut.

    Attributes:
        size_bytes: Size of the file.
        chunk_size_bytes: Size of each chunk but the last one, which takes the rest.
    """

    size_bytes: int
    chunk_size_bytes: int
    total_chunks: int

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """Take over the server's plan.

        Raises:
            UploadError: It does not cover the file exactly.
        """
        plan = cls(upload["size"] or 0, upload["chunkSize"], upload["totalChunks"])
        needed = max(1, -(-plan.size_bytes // plan.chunk_size_bytes)) if plan.chunk_size_bytes > 0 else -1
        # A file of 0 bytes may be one empty chunk or none.
        if plan.total_chunks != needed and not (plan.size_bytes == 0 and plan.total_chunks == 0):
            raise UploadError(f"The server plans {plan.total_chunks} chunks for {plan.size_bytes} bytes.")
        return plan

    def offset(self, index: int) -> int:
        """Return where a chunk begins [bytes]."""
        return index * self.chunk_size_bytes

    def size(self, index: int) -> int:
        """Return the size of a chunk [bytes]."""
        return min(self.chunk_size_bytes, self.size_bytes - self.offset(index))


class _StoppedError(Exception):
    """Another chunk failed or the user interrupted; nothing to report."""


class _Verdict(Enum):
    """What the bucket's answer to a chunk means."""

    STORED = auto()
    WAS_THERE = auto()
    SIGN_AGAIN = auto()
    TRY_AGAIN = auto()
    REFUSED = auto()


@dataclass(frozen=True)
class _Attempt:
    """One PUT of a chunk and its outcome.

    Attributes:
        asked_s: How long the bucket asks us to wait [s].
        is_damaged: What arrived was not what the checksum promised.
    """

    verdict: _Verdict
    reason: str = ""
    asked_s: float | None = None
    is_damaged: bool = False


def upload_file(
    client: Client,
    session_id: str,
    path: Path,
    *,
    upload_id: str | None = None,
    file_name: str | None = None,
    content_type: str | None = None,
    chunk_size: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Upload:
    """Upload a file into a session and return the assembled upload.

    Interrupted in any way and called again with the same arguments, it sends only what is missing.

    Args:
        session_id: An existing session.
        upload_id: Continue this upload; else the session's open upload of this file name, or a new one.
        file_name: Its name in the session; by default its name here.
        content_type: Of the file, for example text/csv.
        chunk_size: A wish; the server chooses [bytes].
        on_progress: Called in the calling thread, after each step forward.

    Raises:
        FileChangedError: The upload was started with another file.
        ServiceError: The service refuses the upload or the assembled file.
        UnreachableError: The service does not answer.
        UploadError: The file cannot be read, or the bucket refuses it.
    """
    try:
        size = path.stat().st_size
        # Before it is opened: a pipe would wait for its writer.
        if not path.is_file():
            raise UploadError(f"{path} is not a plain file.")
        name = file_name or path.name
        if size > LARGEST_FILE_BYTES:
            raise UploadError(
                f"{name} has {size:,} bytes; a file may have at most 5 TiB ({LARGEST_FILE_BYTES:,} bytes)."
            )
        with path.open("rb") as file:
            upload = _start(client, session_id, name, size, upload_id, content_type, chunk_size)
            return _Transfer(client, path, file, upload, on_progress).run()
    except OSError as error:
        raise UploadError(f"Cannot read {path}: {error.strerror}.") from error


def crc32c_of(file: BinaryIO, offset: int, size: int) -> str:
    """Return the crc32c of a range of a file, base64 and big-endian as Cloud Storage writes it.

    Raises:
        FileChangedError: The file ends before the range does.
    """
    crc32c = 0
    for piece in _pieces(file, offset, size):
        crc32c = extend(crc32c, piece)
    return _text(crc32c)


def _start(
    client: Client,
    session_id: str,
    name: str,
    size: int,
    upload_id: str | None,
    content_type: str | None,
    chunk_size: int | None,
) -> UploadProgress:
    if upload_id is None:
        try:
            created = client.create_upload(
                session_id, name, size, content_type=content_type, chunk_size=chunk_size, presign=0
            )
            if created["isNew"] and created["state"] == "open":
                return _nothing_sent(created)
            upload_id = created["uploadId"]
        except ServiceError as error:
            # Being assembled or done already: an earlier process got that far.
            if error.code != "file_exists" or error.details.get("state") not in {"assembling", "assembled"}:
                raise
            upload_id = str(error.details["uploadId"])
    upload = client.get_upload(upload_id)
    if upload["sessionId"] != session_id:
        raise UploadError(f"Upload {upload_id} belongs to session {upload['sessionId']}.")
    if upload["size"] != size:
        raise FileChangedError(
            f"{name} has {size} bytes, but upload {upload_id} is for a file of {upload['size']} bytes."
        )
    return upload


def _nothing_sent(created: NewUpload) -> UploadProgress:
    """Return what the bucket holds of an upload that was opened just now, without asking it."""
    missing = list(range(created["totalChunks"]))
    return cast("UploadProgress", {**created, "received": [], "receivedBytes": 0, "missing": missing})


class _Transfer:
    """One upload of one open file by this process."""

    def __init__(
        self,
        client: Client,
        path: Path,
        file: BinaryIO,
        upload: UploadProgress,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._client = client
        self._path = path
        self._file = file
        self._upload = upload
        self._id = upload["uploadId"]
        self._plan = ChunkPlan.of(upload)
        self._on_progress = on_progress
        self._stop = threading.Event()
        # crc32c of the local file's chunks, as far as they have been read.
        self._local: dict[int, str] = {}
        self._stored: set[int] = set()

    def run(self) -> Upload:
        state = self._upload["state"]
        if state == "assembled":
            self._compare_whole(self._upload)
            return self._upload
        if state in {"open", "assembling"}:
            return self._assemble_when_complete()
        reason = (self._upload.get("failure") or {}).get("detail", "")
        raise UploadError(f"Upload {self._id} is {state} and cannot go on. {reason}".strip())

    def _assemble_when_complete(self) -> Upload:
        for _ in range(_ROUNDS):
            if self._upload["state"] == "open" and not self._complete():
                continue
            self._report("assembling")
            try:
                with self._watched():
                    assembled = self._client.assemble_upload(self._id)
            except ServiceError as error:
                if error.code != "chunks_missing":
                    raise
                self._upload = self._client.get_upload(self._id)
                continue
            if self._upload["state"] != "open":
                # Another process sent the bytes; all we know of them is what the service says.
                self._compare_whole(assembled)
            return assembled
        raise UploadError(f"The bucket loses chunks of upload {self._id}; try again later.")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Report meanwhile how far the service has read the joined file."""
        has_ended = threading.Event()
        reporting = threading.Lock()

        def watch() -> None:
            while not has_ended.wait(WATCH_EVERY_S):
                # Only a look on, which may also outlive the client: the call that assembles says what became of it.
                with suppress(TrainshedError, RuntimeError):
                    verified_bytes = self._client.get_upload(self._id).get("verifiedBytes")
                    with reporting:
                        if verified_bytes is not None and not has_ended.is_set():
                            self._report("checking", verified_bytes)

        if self._on_progress is not None:
            threading.Thread(target=watch, name="watch-assembly", daemon=True).start()
        try:
            yield
        finally:
            with reporting:
                has_ended.set()

    def _complete(self) -> bool:
        """Send what is missing; tell whether the bucket then holds every chunk of this very file."""
        self._compare_stored()
        try:
            if self._send(self._upload["missing"]):
                return True
        except ServiceError as error:
            # Another process has sent the rest and begun to assemble.
            if error.code != "wrong_state" or error.details.get("state") not in {"assembling", "assembled"}:
                raise
        self._upload = self._client.get_upload(self._id)
        self._compare_stored()
        return self._upload["state"] != "open" or not self._upload["missing"]

    def _compare_stored(self) -> None:
        for chunk in sorted(self._upload["received"], key=lambda chunk: chunk["index"]):
            index = chunk["index"]
            offset, size = self._plan.offset(index), self._plan.size(index)
            if index not in self._local:
                self._local[index] = crc32c_of(self._file, offset, size)
            if chunk["crc32c"] != self._local[index]:
                raise FileChangedError(
                    f"{self._path.name} is not the file that upload {self._id} was started with: chunk {index} "
                    f"(bytes {offset} to {offset + size - 1}) differs from what the bucket holds.",
                    index,
                )
            self._stored.add(index)
            self._report("comparing")

    def _compare_whole(self, upload: Upload) -> None:
        local = crc32c_of(self._file, 0, self._plan.size_bytes)
        if upload.get("crc32c") != local:
            raise FileChangedError(f"{self._path.name} is not the file that was uploaded under this name.")
        self._stored.update(range(self._plan.total_chunks))
        self._report("comparing")

    def _send(self, missing: Sequence[int]) -> bool:
        """Send chunks; tell whether the bucket took every one from us, and so holds it to the crc32c we had signed."""
        self._stored.difference_update(missing)
        self._report("uploading")
        n_workers = max(1, min(self._upload.get("concurrency", 1), _MOST_CONCURRENCY))
        under_way: dict[Future[bool], int] = {}
        are_ours = True
        with ThreadPoolExecutor(n_workers, thread_name_prefix="put-chunk") as pool:
            try:
                # As many wait as are sent: the next batch is read and signed while bytes flow. A larger one would take
                # longer than that.
                n_ahead = 2 * n_workers
                for indices in _batches(missing, n_ahead):
                    for chunk in self._sign(indices):
                        under_way[pool.submit(self._put, chunk)] = chunk["index"]
                        while len(under_way) >= n_ahead:
                            are_ours &= self._collect(under_way)
                while under_way:
                    are_ours &= self._collect(under_way)
            except BaseException:
                # Ctrl-C included: the workers end at their next piece, and the pool waits for them.
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return are_ours

    def _collect(self, under_way: dict[Future[bool], int]) -> bool:
        """Wait for a chunk and take note of all that are stored; tell whether all of them are ours."""
        done, _ = wait(under_way, return_when=FIRST_COMPLETED)
        are_ours = True
        for future in done:
            index = under_way.pop(future)
            are_ours &= future.result()
            self._stored.add(index)
        self._report("uploading")
        return are_ours

    def _sign(self, indices: Sequence[int]) -> list[SignedChunk]:
        for index in indices:
            self._local[index] = crc32c_of(self._file, self._plan.offset(index), self._plan.size(index))
        return self._client.sign_chunks(self._id, {index: self._local[index] for index in indices})

    def _put(self, chunk: SignedChunk) -> bool:
        """Store one chunk: sign again what expired, wait and repeat what is passing, give up on the rest.

        Returns:
            Whether the bucket took it from us; it may have been there already.
        """
        index = chunk["index"]
        failures = signatures = 0
        backoff = self._client.backoff
        while True:
            attempt = self._attempt(chunk)
            if attempt.verdict in {_Verdict.STORED, _Verdict.WAS_THERE}:
                return attempt.verdict is _Verdict.STORED
            if attempt.is_damaged:
                self._check_unchanged(index)
            if attempt.verdict is _Verdict.REFUSED:
                raise UploadError(f"The bucket refuses chunk {index} ({attempt.reason}).")
            if attempt.verdict is _Verdict.SIGN_AGAIN:
                signatures += 1
                if signatures >= _SIGNATURES_PER_CHUNK:
                    raise UploadError(f"The bucket refuses the signature of chunk {index} ({attempt.reason}).")
                chunk = self._client.sign_chunks(self._id, {index: self._local[index]})[0]
                continue
            failures += 1
            if failures >= backoff.attempts:
                raise UploadError(f"Chunk {index} could not be stored in {failures} tries ({attempt.reason}).")
            pause(backoff.wait_s(failures, attempt.asked_s), self._stop)
            if self._stop.is_set():
                raise _StoppedError

    def _attempt(self, chunk: SignedChunk) -> _Attempt:
        with self._path.open("rb") as file:
            body = _Body(file, self._plan.offset(chunk["index"]), self._plan.size(chunk["index"]), self._stop)
            try:
                answer = self._client.put_chunk(chunk, body)
            except httpx.HTTPError as error:
                return _Attempt(_Verdict.TRY_AGAIN, str(error) or type(error).__name__)
        # 412: it is there already, by a request whose answer was lost or by another process.
        if answer.is_success or answer.status_code == httpx.codes.PRECONDITION_FAILED:
            return _Attempt(_Verdict.STORED if answer.is_success else _Verdict.WAS_THERE)
        code = _bucket_code(answer)
        reason = f"{answer.status_code} {code}".strip()
        if answer.status_code == httpx.codes.FORBIDDEN or code == "ExpiredToken":
            return _Attempt(_Verdict.SIGN_AGAIN, reason)
        if code in _DAMAGED_CODES:
            return _Attempt(_Verdict.TRY_AGAIN, reason, is_damaged=True)
        if answer.status_code in TRANSIENT_STATUSES:
            return _Attempt(_Verdict.TRY_AGAIN, reason, retry_after_s(answer.headers.get("Retry-After")))
        return _Attempt(_Verdict.REFUSED, reason)

    def _check_unchanged(self, index: int) -> None:
        """Tell damage on the way from a file that is no longer the one whose checksum was signed."""
        with self._path.open("rb") as file:
            if crc32c_of(file, self._plan.offset(index), self._plan.size(index)) != self._local[index]:
                raise FileChangedError(f"{self._path.name} was changed while it was uploaded.", index)

    def _report(self, phase: str, verified_bytes: int = 0) -> None:
        if self._on_progress is not None:
            stored = sum(self._plan.size(index) for index in self._stored)
            self._on_progress(Progress(phase, self._id, stored, self._plan.size_bytes, verified_bytes))


class _Body:
    """The bytes of a chunk as they go out, until somebody says stop."""

    def __init__(self, file: BinaryIO, offset: int, size: int, stop: threading.Event) -> None:
        self._pieces = _pieces(file, offset, size)
        self._stop = stop

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if self._stop.is_set():
                raise _StoppedError
            yield piece


def _pieces(file: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    file.seek(offset)
    while size > 0:
        piece = file.read(min(size, _PIECE_BYTES))
        if not piece:
            raise FileChangedError("The file became shorter while it was read.")
        size -= len(piece)
        yield piece


def _batches(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _bucket_code(answer: httpx.Response) -> str:
    """Return the error code in the bucket's XML, or nothing."""
    found = re.search(r"<Code>([A-Za-z]{1,64})</Code>", answer.text)
    return found[1] if found else ""


def _text(crc32c: int) -> str:
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()
