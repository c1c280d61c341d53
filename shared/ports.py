"""What the rules need from outside, as protocols.

Every implementation is thread-safe: an instance serves several requests at once. Owners are user
ids that were verified; methods that take a `Caller` read with the caller's own token, so that
row-level security decides what exists. "Not found" is an error in `get`-like methods and "no
change" in `delete`-like ones. Every write is one transaction and safe to repeat.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from shared.records.callers import Caller
from shared.records.documents import DocumentClaim, JsonEvent
from shared.records.objects import SignedUrl, StoredObject
from shared.records.results import ResultItem, ResultKind
from shared.records.sessions import PageKey, Session
from shared.records.training import (
    Conversion,
    CurvePoint,
    Run,
    TrainingClaim,
    TrainingOutcome,
    TrainingRequest,
    TrainingTask,
)
from shared.records.uploads import AssembledObject, AssemblyClaim, DataFile, NewUpload, Upload


class SessionRepository(Protocol):
    """Keeps sessions."""

    def init(self, owner: str, session_id: str, metadata: Mapping[str, Any]) -> Session:
        """Create the session, or return the one the owner already has under this name."""

    def page(
        self,
        caller: Caller,
        *,
        limit: int,
        after: PageKey | None = None,
        user_id: str | None = None,
        search: str = "",
    ) -> list[Session]:
        """Return up to `limit` sessions, newest first, that follow `after`.

        Args:
            user_id: Only this user's; a service caller sees everybody's without it.
            search: Only those with this in their id, or in their title (`title` of the metadata), in either case.
        """

    def get(self, caller: Caller, session_id: str) -> Session:
        """Return the caller's session of that name.

        Raises:
            SessionNotFoundError: There is none, or it is somebody else's, or it is being deleted.
        """

    def finalize(self, owner: str, session_id: str) -> Session:
        """Close the session to uploads and sum up n_dat. Repeating it changes nothing.

        Raises:
            SessionNotFoundError: There is none.
            UploadsUnfinishedError: Names the uploads that are open, assembling, or failed and not replaced.
        """

    def begin_delete(self, owner: str, session_id: str) -> tuple[str, list[str]]:
        """Hide the session and stop its uploads and runs.

        Returns:
            The session's row id and the ids of its uploads, whose objects are to be deleted.

        Raises:
            SessionNotFoundError: There is none, or it is deleted already.
            SessionBusyError: An upload is being assembled right now.
        """

    def finish_delete(self, owner: str, session_uuid: str) -> dict[str, int]:
        """Delete every row of the session and free its quota.

        Returns:
            Rows deleted by table: sessions, uploads, training_results, models, scalers, visualizations,
            evaluation_tables.

        Raises:
            SessionNotFoundError: Another call has finished the deletion.
        """

    def unfinished_deletions(self, *, max_age_hours: int, limit: int) -> list[tuple[str, str]]:
        """Return (owner, session_id) of up to `limit` deletions begun over `max_age_hours` (at most 1) hours ago."""


class UploadRepository(Protocol):
    """Keeps uploads, their states and leases, and the quota they use."""

    def create(self, owner: str, upload: NewUpload) -> tuple[Upload, bool]:
        """Open an upload and count it against the owner's quota, both or neither.

        An open upload of the same session, file name, size and sha256 is returned instead of a second one, and nothing
        is counted: repeating a call whose answer was lost is harmless. A legacy upload is returned as long as its
        number of chunks is the same, whatever its state, because every one of its chunks comes through here.

        Returns:
            The upload, and whether it is new.

        Raises:
            SessionNotFoundError: The owner has no such session.
            SessionFinalizedError: It takes no more uploads.
            FileExistsInSessionError: Another upload holds the file name (details: uploadId, state).
            SubscriptionRequiredError: The owner has no active subscription.
            ProcessingLimitError: The period's uploads are used up (details: limit, used, resetsAt).
            StorageLimitError: The stored bytes would pass the plan's limit (details: limit, used).
            TooLargeError: The plan does not take files of this size (details: limit).
        """

    def get(self, caller: Caller, upload_id: str) -> Upload:
        """Return one of the caller's uploads.

        Raises:
            UploadNotFoundError: There is none, or it is somebody else's.
        """

    def of_session(self, caller: Caller, session_id: str) -> tuple[Session, list[Upload]]:
        """Return one of the caller's sessions with its uploads, oldest first.

        Raises:
            SessionNotFoundError: There is none, or it is somebody else's, or it is being deleted.
        """

    def find_assembled(self, owner: str, sha256: str, size_bytes: int) -> Upload | None:
        """Return the owner's newest assembled upload of exactly this content, or None."""

    def extend(self, owner: str, upload_id: str) -> Upload:
        """Push an open upload's expiry away, because its client is alive.

        Raises:
            UploadNotFoundError: There is none.
            WrongStateError: It is not open (details: state).
        """

    def claim(self, owner: str, upload_id: str, lease_token: str, lease_s: int) -> AssemblyClaim:
        """Take an open upload, or one whose lease ran out, for assembly.

        Exactly one of several simultaneous callers gets CLAIMED; the others get BUSY, or DONE once it is assembled.

        Raises:
            UploadNotFoundError: There is none.
            WrongStateError: It was aborted, expired or failed (details: state, failure).
        """

    def release(self, owner: str, upload_id: str, lease_token: str) -> None:
        """Give a claimed upload back unchanged; nothing happens if the lease was lost."""

    def report_verified(self, owner: str, upload_id: str, lease_token: str, verified_bytes: int) -> None:
        """Say how many bytes of a claimed upload's object were read so far, for whoever looks on.

        Raises:
            LeaseLostError: Another call has taken over.
        """

    def record(self, owner: str, upload_id: str, lease_token: str, assembled: AssembledObject) -> Upload:
        """Mark a claimed upload assembled. Repeating it returns the same upload.

        Raises:
            LeaseLostError: Another call has taken over.
        """

    def fail(self, owner: str, upload_id: str, lease_token: str, failure: Mapping[str, Any]) -> Upload:
        """Mark a claimed upload failed, with the reason, and free its quota. Repeating it returns the same upload.

        Raises:
            LeaseLostError: Another call has taken over.
        """

    def abort(self, owner: str, upload_id: str) -> Upload:
        """Mark an upload aborted and free its quota. Repeating it changes nothing.

        It may be open, failed, or claimed by a call whose lease ran out.

        Raises:
            UploadNotFoundError: There is none.
            WrongStateError: It is being assembled, is assembled or has expired (details: state).
        """

    def begin_sweep(self, *, max_age_hours: int, limit: int, dry_run: bool) -> list[Upload]:
        """Return up to `limit` uploads whose objects can go, oldest first.

        Stale open uploads are moved to `expiring` first, so that nothing can be assembled from them any more;
        finished ones (assembled, failed, aborted) are returned until `finish_sweep` was called for them. An upload
        under a live lease is never returned. With `dry_run`, nothing is changed.
        """

    def finish_sweep(self, upload_id: str) -> None:
        """Note that the upload's temporary objects are gone; `expiring` becomes `expired` and its quota is freed."""


class RowCounter(Protocol):
    """Counts the rows of delimited tables."""

    def count(self, pieces: Iterable[bytes], delimiter: str) -> int:
        """Count data rows the way `len(pandas.read_csv(...))` does, in one pass with bounded memory.

        Args:
            pieces: The table's bytes in an encoding that extends ASCII (shared/tables.py, plain_pieces).
            delimiter: One ASCII character.

        Raises:
            DataSetError: The bytes are no such table; details.line is the line in the file, from 1.
        """


class ObjectStore(Protocol):
    """One bucket."""

    def list(self, prefix: str) -> list[StoredObject]:
        """Return the objects below a prefix in name order."""

    def stat(self, name: str) -> StoredObject:
        """Describe one object.

        Raises:
            ObjectNotFoundError: There is none.
        """

    def compose(self, sources: Sequence[StoredObject], destination: str, content_type: str) -> StoredObject:
        """Join 1 to 32 objects, in order, into one that must not exist yet.

        Raises:
            ObjectNotFoundError: A source is gone.
            ObjectExistsError: The destination exists, or a source is no longer of the generation given.
        """

    def write(self, name: str, content: bytes | BinaryIO, content_type: str) -> StoredObject:
        """Create an object. Its crc32c is checked by the store.

        Raises:
            ObjectExistsError: There is one of that name.
        """

    def writing(self, name: str, content_type: str) -> AbstractContextManager[BinaryIO]:
        """Create an object of what is written inside the block, memory bounded.

        There is no object before the block ends, and none if it raises or is killed. The file can only be written.

        Raises:
            ObjectExistsError: There is one of that name; raised inside the block or at its end.
        """

    def read(self, name: str, *, generation: int | None = None, start: int = 0) -> Iterator[bytes]:
        """Stream an object's bytes from `start` in pieces of up to 1 MiB, memory bounded.

        Raises:
            ObjectNotFoundError: There is none (of that generation).
        """

    def delete(self, objects: Iterable[StoredObject]) -> int:
        """Delete objects of exactly these generations, several at a time.

        Returns:
            How many were there.
        """


class UrlSigner(Protocol):
    """Signs requests to one bucket."""

    def sign(
        self,
        method: str,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> SignedUrl:
        """Sign one request; it must then carry exactly these headers."""


class ResultRepository(Protocol):
    """Reads what trainers described."""

    def results(
        self, caller: Caller, session_id: str, kind: ResultKind, *, of_all_runs: bool = False
    ) -> list[ResultItem]:
        """Return one list of results of the newest run that has any, in the trainer's order; none without a run.

        With `of_all_runs`, those of every run, newest first.

        Those are completed runs, and cancelled ones of which a model was finished before.

        Raises:
            SessionNotFoundError: The caller has no such session.
        """


class TrainingRepository(ResultRepository, Protocol):
    """Keeps runs, their models and results. Leases work as those of uploads do."""

    def start(self, owner: str, session_id: str, request: TrainingRequest) -> tuple[Run, Sequence[TrainingTask]]:
        """Begin a run on the session's assembled tables, or return the one in progress for an equal request.

        Returns:
            The run, and the tasks that the queue must have: of a new run all, of a repeated request those that are
            not being worked on. A task that seems lost comes with a new number.

        Raises:
            SessionNotFoundError: The owner has no such session.
            SessionNotFinalizedError: It still takes uploads (details: status).
            TrainingInProgressError: Another request is being worked on (details: run_id).
            SubscriptionRequiredError: The owner has no active subscription.
            DataSetError: The session has no table.
        """

    def claim(self, model_id: str, lease_token: str, lease_s: int) -> TrainingClaim:
        """Take a queued model, or one whose lease ran out, for training.

        After 5 attempts that came to nothing, the model is failed instead and the answer is DONE.

        Raises:
            ModelNotFoundError: There is none, or its session is being deleted.
        """

    def report(
        self,
        model_id: str,
        lease_token: str,
        lease_s: int,
        progress: float,
        *,
        curve: Mapping[str, Any],
        remaining_s: int | None,
    ) -> None:
        """Note progress and extend the lease.

        Args:
            curve: The whole curve so far; see TrainedModel.
            remaining_s: What is probably left [s], if that is known.

        Raises:
            ModelNotFoundError: There is none, or its session is being deleted.
            LeaseLostError: Another call has taken over, or the run was cancelled.
        """

    def release(self, model_id: str, lease_token: str) -> None:
        """Give a claimed model back to the queue; nothing happens if the lease was lost."""

    def publish(self, model_id: str, lease_token: str, published: Mapping[str, Any]) -> tuple[Run, bool]:
        """Note what training came to; repeating it changes nothing.

        Returns:
            The run, and whether this was the last of its models to finish.

        Raises:
            ModelNotFoundError: There is none, or its session is being deleted.
            LeaseLostError: Another call has taken over.
        """

    def fail(self, model_id: str, lease_token: str, detail: str) -> tuple[Run, bool]:
        """Note why training failed; otherwise as `publish`."""

    def cancel(self, owner: str, session_id: str) -> tuple[Run, Sequence[TrainingTask]]:
        """Cancel the session's run in progress, so that it can be trained again at once.

        Models that are not finished become `cancelled`, and who trains them loses the lease. Models that were finished
        before stay. Repeating it changes nothing.

        Returns:
            The run, and the task that publishes what was finished, as long as that is not done.

        Raises:
            SessionNotFoundError: The owner has no such session.
            RunNotFoundError: It has not been trained.
            TrainingFinishedError: Its newest run has ended by itself (details: run_id, status).
        """

    def complete(self, run_id: str, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> Run:
        """Record a run's manifest and results, and move its session on. Repeating it changes nothing.

        A cancelled run stays cancelled, and a session that is being trained again stays in training.

        Raises:
            RunNotFoundError: There is none, or its session is being deleted.
            TrainingInProgressError: A model is not finished.
        """

    def record(self, owner: str, session_uuid: str, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> Run:
        """Take in the manifest of another trainer as a run of its own. Repeating it changes nothing.

        Raises:
            SessionNotFoundError: The owner has no such session.
            ManifestInvalidError: Its run_id is that of another session's run.
        """

    def mark(self, run_id: str, verdicts: Mapping[str, str | None]) -> Run:
        """Make pending models ready (None) or refused (the reason), by model id. Repeating it changes nothing."""

    def newest(self, caller: Caller, session_id: str) -> Run | None:
        """Return the newest run of a session, with the curves of its models and without what they published.

        None before the first.

        Raises:
            SessionNotFoundError: The caller has no such session.
        """

    def of_session(self, caller: Caller, session_id: str) -> tuple[str, list[Run]]:
        """Return the session's row id and its runs, newest first, with what lists show of published models.

        Raises:
            SessionNotFoundError: The caller has no such session.
        """


class DocumentRepository(Protocol):
    """Keeps legacy documents: their states and leases, and those that lie in the database themselves."""

    def claim(self, owner: str, run_id: str, lease_token: str, lease_s: int) -> DocumentClaim:
        """Take an unread document, or one whose lease ran out, for reading.

        Exactly one of several simultaneous callers gets CLAIMED; the others get BUSY, or DONE once it is read or
        refused.

        Raises:
            RunNotFoundError: The owner has no such document, or its session is being deleted.
        """

    def read(self, owner: str, run_id: str) -> Iterator[bytes]:
        """Stream a document that lies in the database, as JSON in UTF-8."""

    def release(self, run_id: str, lease_token: str) -> None:
        """Give a claimed document back; nothing happens if the lease was lost."""

    def record(
        self, owner: str, run_id: str, lease_token: str, reference: Mapping[str, Any], document: Mapping[str, Any]
    ) -> None:
        """Record what was found, all of it or nothing, and mark the document read. Repeating it changes nothing.

        Args:
            reference: What was read: object, generation, bytes, sha256.
            document: models, scalers, charts, tables: lists of what rows are made of; detail: what lists show of it.

        Raises:
            RunNotFoundError: Its session is being deleted, or gone.
            LeaseLostError: Another call has taken over.
        """

    def refuse(self, owner: str, run_id: str, lease_token: str, detail: Mapping[str, Any]) -> None:
        """Mark a document refused, with the reason. Repeating it changes nothing; raises as `record` does."""


class DocumentParser(Protocol):
    """Reads JSON in a stream."""

    def parse(self, pieces: Iterable[bytes]) -> Iterator[tuple[JsonEvent, Any]]:
        """Read one JSON document of any size with bounded memory.

        Yields:
            An event and its value: of a key and a text the text, of a number an int or a float (NaN and the infinities
            too, which JSON has not, but many writers), of a literal True, False or None. A text of more than 64 KiB may
            come in parts: LONG_TEXT with its first bytes, MORE_TEXT with the others, END_TEXT.

        Raises:
            JsonError: It is not JSON; what came before it was yielded.
        """


class KerasConverter(Protocol):
    """Writes Keras models in their old form."""

    def to_h5(self, archive: bytes) -> bytes | None:
        """Return the HDF5 file, without optimizer, of a `.keras` archive whose configuration was inspected.

        None if it cannot be made, or if the archive's weights must not be loaded.

        The same archive gives the same bytes.
        """


class ConversionRepository(Protocol):
    """Keeps what becomes of models that were asked for in another format."""

    def begin(self, owner: str, model_id: str, patience_s: int) -> Conversion:
        """Note that a model is to be converted, or return how far that is.

        An attempt that began more than `patience_s` ago and was not finished is followed by another; after three the
        conversion has failed.

        Raises:
            ModelNotFoundError: The owner has no such model, or its session is being deleted.
        """

    def finish(
        self, owner: str, model_id: str, conversion: Conversion, file: Mapping[str, Any] | None = None
    ) -> Conversion:
        """Note how an attempt ended, and add the file it made to the model's.

        Repeating it changes nothing; nor does an attempt that is not the newest.

        Returns:
            What is noted now.

        Raises:
            ModelNotFoundError: The owner has no such model, or its session is being deleted.
        """


class JobQueue(Protocol):
    """Hands jobs to one function, each at least once."""

    def enqueue(self, name: str, body: Mapping[str, Any]) -> None:
        """Queue a job; one that was queued before under its name is not queued again.

        Args:
            name: Of letters, digits and dashes.
            body: What the function gets, as JSON.

        Raises:
            QueueUnavailableError: The queue does not answer.
        """


class TaskQueue(Protocol):
    """Hands tasks to run-training, each at least once."""

    def enqueue(self, task: TrainingTask) -> None:
        """Queue a task; one that was queued before under its number is not queued again.

        Raises:
            QueueUnavailableError: The queue does not answer.
        """


class Progress(Protocol):
    """What a trainer calls while it works; what it raises ends the training."""

    def __call__(self, done: float, point: CurvePoint | None = None, /) -> None:
        """Take how much is done, 0 to 1, and, after a step of training, a point of the learning curve."""


class Trainer(Protocol):
    """Trains one model."""

    def train(
        self,
        name: str,
        request: TrainingRequest,
        data_set: Sequence[DataFile],
        folder: Path,
        progress: Progress,
    ) -> TrainingOutcome:
        """Read the tables, train, evaluate, and write the model's files into `folder`.

        The same request on the same data gives the same metrics.

        Args:
            progress: Called every few seconds, and after every epoch or iteration with its losses.

        Raises:
            DataSetError: The data cannot be trained on; the text says why.
        """


class ChartRenderer(Protocol):
    """Draws what shared/chart_templates.py makes of charts."""

    def png(self, spec: Mapping[str, Any], scale: float) -> bytes:
        """Return a PNG with `scale` pixels for each of the specification's.

        Raises:
            ChartInvalidError: It cannot be drawn.
        """

    def svg(self, spec: Mapping[str, Any]) -> bytes:
        """Return an SVG in UTF-8.

        Raises:
            ChartInvalidError: It cannot be drawn.
        """


class TableReader(Protocol):
    """Describes tables for plots."""

    def describe(self, file: DataFile, points: int, chosen: Collection[str] | None = None) -> Mapping[str, Any]:
        """Return n_rows, is_sampled and, for each column, statistics and a series of at most `points` points.

        Args:
            chosen: Names of columns to describe; None describes all.

        Raises:
            DataSetError: The file is not the table it claims to be.
        """
