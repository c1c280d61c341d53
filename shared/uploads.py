"""The rules of uploads: plan, sign, resume, assemble, abort, sweep; and finalizing a session, which needs them all."""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from shared.checksums import EMPTY_CRC32C, combine_crc32c, decode_crc32c
from shared.compose import Step, plan_compose
from shared.errors import (
    ChecksumMismatchError,
    ChunkMismatchError,
    ChunksMissingError,
    ConflictError,
    DataSetError,
    InvalidFieldError,
    LeaseLostError,
    ObjectExistsError,
    ObjectNotFoundError,
    ServiceError,
    StorageUnavailableError,
    TooLargeError,
    UnavailableError,
    UploadNotFoundError,
    WrongStateError,
)
from shared.fields import (
    is_uuid,
    read_content_type,
    read_file_name,
    read_integer,
    read_list,
    read_session_id,
    read_sha256,
)
from shared.ports import ObjectStore, RowCounter, SessionRepository, UploadRepository, UrlSigner
from shared.records import (
    AssembledObject,
    Caller,
    ClaimOutcome,
    NewUpload,
    Session,
    SignedUrl,
    StoredObject,
    Upload,
    UploadState,
    chunk_name,
    chunks_prefix,
    data_set_prefix,
    steps_prefix,
)
from shared.tables import (
    HEAD_BYTES,
    TableColumn,
    TableFormat,
    describe_columns,
    detect_format,
    is_table,
    plain_pieces,
    read_ahead,
    read_head,
)

MIB = 1 << 20
# https://cloud.google.com/storage/quotas
LARGEST_FILE_BYTES = 5 << 40
# Two levels of compose at most, 33 calls: ../docs/decisions/0003-chunk-plan.md
MOST_CHUNKS = 1024
LEAST_CHUNK_BYTES = 8 * MIB
LARGEST_LEGACY_CHUNK_BYTES = 31 * MIB
SIGNED_PER_CALL = 128
CLIENT_CONCURRENCY = 6
# Longer than assemble-upload may run (functions/manifest.yaml), so that a lease outlives its holder and no longer.
LEASE_S = 330
PARALLEL_CALLS = 8
# A signature is a call of some 50 ms where no key is at hand; 32 at once sign 1,024 chunks in 2 s.
SIGNED_AT_ONCE = 32
SWEPT_PER_RUN = 200
# Each deletes up to 16 objects at once: as many calls as there are connections (shared/adapters/gcs.py).
SWEPT_AT_ONCE = 4
MOST_NAMED = 1000
DEFAULT_MAX_AGE_HOURS = 24
LARGEST_MAX_AGE_HOURS = 24 * 365
# What a sweep finds open or assembling (a dry run) or has moved to expiring.
_ABANDONED = {UploadState.OPEN, UploadState.ASSEMBLING, UploadState.EXPIRING}


@dataclass(frozen=True)
class SignedChunk:
    """One chunk, its exact size [bytes], and the request that may write it once."""

    index: int
    size_bytes: int
    request: SignedUrl


@dataclass(frozen=True)
class ReceivedChunk:
    """One chunk as the bucket has it."""

    index: int
    stored: StoredObject


@dataclass(frozen=True)
class UploadProgress:
    """An upload and what the bucket really holds of it."""

    upload: Upload
    received: Sequence[ReceivedChunk]
    missing: Sequence[int]
    table: "TableView | None" = None


@dataclass(frozen=True)
class TableView:
    """What the first chunk says of a table, long before the last one is there.

    Attributes:
        problem: Why it cannot be read as a table, or None.
    """

    format: TableFormat | None
    columns: Sequence[TableColumn]
    problem: DataSetError | None


@dataclass(frozen=True)
class LegacyChunk:
    """What an old client says about the chunk it sends."""

    session_id: Any
    file_name: Any
    index: Any
    total_chunks: Any


@dataclass(frozen=True)
class SweptUpload:
    """What a cleanup deleted, or would delete, of one upload."""

    upload: Upload
    n_objects: int
    freed_bytes: int


@dataclass(frozen=True)
class Sweep:
    """What one cleanup run did, or would do."""

    n_uploads: int
    n_objects: int
    freed_bytes: int
    has_more: bool


class UploadService:
    """What callers may do with uploads."""

    def __init__(
        self,
        uploads: UploadRepository,
        sessions: SessionRepository,
        store: ObjectStore,
        signer: UrlSigner,
        rows: RowCounter,
        *,
        least_chunk_bytes: int = LEAST_CHUNK_BYTES,
    ) -> None:
        self._uploads = uploads
        self._sessions = sessions
        self._store = store
        self._signer = signer
        self._rows = rows
        self._least_chunk_bytes = least_chunk_bytes

    def create(self, owner: str, fields: Mapping[str, Any]) -> tuple[Upload, Sequence[SignedChunk], bool]:
        """Open an upload, or find the equal one that is open already.

        Where the owner has a file of the declared sha256 and size already, it is composed from that one at once and
        nothing needs to be sent.

        Args:
            owner: User id.
            fields: sessionId, fileName, size, and optionally contentType, sha256, chunkSize.

        Returns:
            The upload, the first signed chunks (none if it is assembled), and whether it is new.

        Raises:
            InvalidFieldError: A field that is not allowed; 5 TiB is the largest size.
            ServiceError: As `UploadRepository.create`.
        """
        size = read_integer(fields["size"], "size", least=0, most=LARGEST_FILE_BYTES)
        wish = read_integer(fields.get("chunkSize", 0), "chunkSize", least=0, most=LARGEST_FILE_BYTES)
        chunk_size = self._chunk_size(size, wish)
        upload, is_new = self._uploads.create(
            owner,
            NewUpload(
                session_id=read_session_id(fields["sessionId"]),
                file_name=read_file_name(fields["fileName"]),
                content_type=read_content_type(fields.get("contentType", "application/octet-stream")),
                size_bytes=size,
                reserved_bytes=size,
                chunk_size_bytes=chunk_size,
                total_chunks=-(-size // chunk_size),
                sha256=read_sha256(fields["sha256"]) if "sha256" in fields else None,
            ),
        )
        if is_new and self._equal_object(upload):
            # Gone in this very moment: then the chunks are wanted after all.
            with suppress(ChunksMissingError):
                upload = self.assemble(owner, upload.id)
        if upload.state is not UploadState.OPEN:
            return upload, [], is_new
        first = range(min(upload.total_chunks, SIGNED_PER_CALL))
        return upload, self._signed(upload, dict.fromkeys(first)), is_new

    def _chunk_size(self, size: int, wish: int) -> int:
        """Return whole MiB per chunk: at least 8, at least what 1,024 chunks need, else what the client wishes."""
        needed = -(-size // MOST_CHUNKS)
        least = max(self._least_chunk_bytes, -(-needed // MIB) * MIB if needed > self._least_chunk_bytes else 0)
        return max(least, wish - wish % self._least_chunk_bytes)

    def sign_chunks(self, caller: Caller, upload_id: str, chunks: Any) -> tuple[Upload, Sequence[SignedChunk]]:
        """Sign write-once requests for some chunks; also moves the upload's expiry on.

        Args:
            caller: Whose upload it is.
            upload_id: Of the upload.
            chunks: 1 to 128 of {"index": int, "crc32c"?: base64}.

        Raises:
            InvalidFieldError: An index outside the upload, one given twice, or a crc32c that is none.
            UploadNotFoundError: The owner has no such upload.
            WrongStateError: It takes no more chunks.
        """
        wanted = _read_chunks(chunks)
        # Read first: a request that is refused extends nothing.
        upload = self._uploads.get(caller, _existing_id(upload_id))
        for index in wanted:
            if index >= upload.total_chunks:
                raise InvalidFieldError("chunks", f"index {index} is beyond the last chunk, {upload.total_chunks - 1}")
        upload = self._uploads.extend(caller.user_id, upload.id)
        return upload, self._signed(upload, wanted)

    def _signed(self, upload: Upload, wanted: Mapping[int, str | None]) -> Sequence[SignedChunk]:
        def sign(index: int) -> SignedChunk:
            # A legacy chunk may have any size the old way could carry.
            most = LARGEST_LEGACY_CHUNK_BYTES if upload.size_bytes is None else upload.chunk_bytes(index)
            least = 0 if upload.size_bytes is None else most
            headers = {"x-goog-content-length-range": f"{least},{most}", "x-goog-if-generation-match": "0"}
            if wanted[index]:
                headers["x-goog-hash"] = f"crc32c={wanted[index]}"
            request = self._signer.sign("PUT", chunk_name(upload.id, index), headers=headers)
            return SignedChunk(index, most, request)

        # The first signature builds the signer; the others share it, and its connections, in parallel.
        indices = list(wanted)
        head = [sign(index) for index in indices[:1]]
        with ThreadPoolExecutor(SIGNED_AT_ONCE) as pool:
            return head + list(pool.map(sign, indices[1:]))

    def get(self, caller: Caller, upload_id: str) -> UploadProgress:
        """Return an upload with the chunks that are in the bucket now.

        Raises:
            UploadNotFoundError: The caller has no such upload.
        """
        upload = self._uploads.get(caller, _existing_id(upload_id))
        if upload.state not in {UploadState.OPEN, UploadState.ASSEMBLING}:
            return UploadProgress(upload, [], [])
        progress = self._progress(upload)
        return replace(progress, table=self._table_view(progress))

    def _table_view(self, progress: UploadProgress) -> TableView | None:
        """Read the beginning of a table from its first chunk, if that is there."""
        upload = progress.upload
        if 0 in progress.missing or not progress.received or not is_table(upload.file_name, upload.content_type):
            return None
        first = min(progress.received, key=lambda chunk: chunk.index).stored
        head = b""
        with suppress(ObjectNotFoundError):
            head = _first_bytes(self._store.read(first.name, generation=first.generation))
        table_format = None
        columns: Sequence[TableColumn] = ()
        problem = None
        try:
            table_format = detect_format(upload.file_name, upload.content_type, head)
            header, rows = read_head(head, table_format, is_whole=len(head) == upload.size_bytes)
            columns = describe_columns(header, rows)
        except DataSetError as error:
            problem = error
        return TableView(table_format, columns, problem)

    def _progress(self, upload: Upload) -> UploadProgress:
        prefix = chunks_prefix(upload.id)
        received = [ReceivedChunk(int(stored.name.removeprefix(prefix)), stored) for stored in self._store.list(prefix)]
        present = {chunk.index for chunk in received}
        missing = [index for index in range(upload.total_chunks) if index not in present]
        return UploadProgress(upload, received, missing)

    def assemble(self, owner: str, upload_id: str) -> Upload:
        """Make one verified object of an upload's chunks.

        Every step is safe to repeat, and the order is claim, compose, verify, record, delete: killed at any point and
        called again, it ends in the same object, once.

        Returns:
            The upload: assembled, or still `assembling` where another call is at work.

        Raises:
            UploadNotFoundError: The owner has no such upload.
            WrongStateError: It was aborted, has expired or failed.
            ChunksMissingError: details.missing has their indices; the upload stays open.
            ChunkMismatchError: A chunk has not the size that was agreed; the upload stays open.
            ChecksumMismatchError: The object is not the one declared; it is deleted, the upload stays open.
            DataSetError: The file is no table though its name says so; the upload has failed.
            StorageUnavailableError: Try again.
        """
        lease_token = str(uuid.uuid4())
        claim = self._uploads.claim(owner, _existing_id(upload_id), lease_token, LEASE_S)
        upload = claim.upload
        if claim.outcome is not ClaimOutcome.CLAIMED:
            return upload
        try:
            return self._assemble_claimed(upload, lease_token)
        except (LeaseLostError, UploadNotFoundError):
            self._clear_if_ended(upload)
            raise

    def _assemble_claimed(self, upload: Upload, lease_token: str) -> Upload:
        owner = upload.owner
        try:
            stored = self._composed(upload, self._sources(upload))
            assembled = self._verified(upload, stored)
        except DataSetError as error:
            failure = {"code": error.code, "detail": error.message, **error.details}
            self._uploads.fail(owner, upload.id, lease_token, failure)
            # What cannot be deleted now, cleanup deletes; what the file is told about itself stays true.
            with suppress(UnavailableError):
                self._delete_all(upload)
            raise
        except ServiceError:
            self._uploads.release(owner, upload.id, lease_token)
            raise
        except ObjectNotFoundError as error:
            # Somebody took the upload over, or deleted the equal file it was made of; giving back a lost lease is
            # harmless.
            self._uploads.release(owner, upload.id, lease_token)
            raise LeaseLostError from error
        recorded = self._uploads.record(owner, upload.id, lease_token, assembled)
        # What cannot be deleted now, cleanup deletes: the data set is safe and the answer true.
        with suppress(UnavailableError):
            self._delete_temporary(upload)
            self._uploads.finish_sweep(upload.id)
        return recorded

    def _clear_if_ended(self, upload: Upload) -> None:
        """Delete what this call added to an upload that was ended and cleared away after its lease ran out.

        An empty object, and one made of an equal file, have no sources among the chunks that were cleared away.
        """
        lease_token = str(uuid.uuid4())
        with suppress(UnavailableError):
            try:
                self._uploads.claim(upload.owner, upload.id, lease_token, LEASE_S)
            except (WrongStateError, UploadNotFoundError):
                # It has ended for good: nobody will want its objects any more.
                self._delete_all(upload)
            else:
                # It is alive, in other hands or in none; in none it stays.
                self._uploads.release(upload.owner, upload.id, lease_token)

    def _equal_object(self, upload: Upload) -> StoredObject | None:
        """Return the object of an equal file of the same owner, if there is one."""
        if not upload.sha256 or not upload.size_bytes:
            return None
        equal = self._uploads.find_assembled(upload.owner, upload.sha256, upload.size_bytes)
        if equal is None or equal.object_name is None:
            return None
        with suppress(ObjectNotFoundError):
            return self._store.stat(equal.object_name)
        return None

    def _sources(self, upload: Upload) -> list[StoredObject]:
        """Return the chunks in order, or the object of an equal file where chunks are missing."""
        progress = self._progress(upload)
        if progress.missing:
            equal = self._equal_object(upload)
            if equal:
                return [equal]
            n_missing = len(progress.missing)
            raise ChunksMissingError(
                f"{n_missing} of {upload.total_chunks} chunks are missing; the first is {progress.missing[0]}.",
                missing=list(progress.missing[:MOST_NAMED]),
                n_missing=n_missing,
            )
        chunks = sorted(progress.received, key=lambda chunk: chunk.index)[: upload.total_chunks]
        for chunk in chunks:
            if upload.size_bytes is not None and chunk.stored.size_bytes != upload.chunk_bytes(chunk.index):
                raise ChunkMismatchError(
                    f"Chunk {chunk.index} has {chunk.stored.size_bytes} bytes instead of "
                    f"{upload.chunk_bytes(chunk.index)}.",
                    index=chunk.index,
                )
        return [chunk.stored for chunk in chunks]

    def _composed(self, upload: Upload, chunks: Sequence[StoredObject]) -> StoredObject:
        name = data_set_prefix(upload.session_uuid, upload.id) + upload.file_name
        if not chunks:
            return self._created_empty(name, upload.content_type)
        objects = {chunk.name: chunk for chunk in chunks}
        levels = plan_compose(list(objects), destination=name, steps_prefix=steps_prefix(upload.id))
        with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
            for level in levels:
                composed = pool.map(lambda step: self._compose_step(step, objects, upload.content_type), level)
                objects.update({stored.name: stored for stored in composed})
        return objects[name]

    def _compose_step(self, step: Step, objects: Mapping[str, StoredObject], content_type: str) -> StoredObject:
        sources = [objects[name] for name in step.sources]
        n_bytes = sum(source.size_bytes for source in sources)
        crc32c = combine_crc32c((source.crc32c, source.size_bytes) for source in sources)
        try:
            stored = self._store.compose(sources, step.destination, content_type)
        except ObjectExistsError:
            # An earlier try got this far, or this very call did and its answer was lost.
            stored = self._store.stat(step.destination)
        if (stored.size_bytes, stored.crc32c) != (n_bytes, crc32c):
            self._store.delete([stored])
            raise ChecksumMismatchError("The bucket joined the chunks to something else; assemble again.")
        return stored

    def _created_empty(self, name: str, content_type: str) -> StoredObject:
        try:
            return self._store.write(name, b"", content_type)
        except ObjectExistsError:
            return self._store.stat(name)

    def _verified(self, upload: Upload, stored: StoredObject) -> AssembledObject:
        """Read the object once where its rows or its sha256 are wanted."""
        sha256, n_rows = None, None
        counts = is_table(upload.file_name, upload.content_type)
        if counts or upload.sha256:
            digest = hashlib.sha256()
            # Reading and hashing go on while the rows are counted.
            pieces = read_ahead(self._hashed(stored, digest))
            n_rows = self._count_rows(upload, pieces) if counts else None
            # What counting left, or everything.
            for _ in pieces:
                pass
            sha256 = digest.hexdigest()
        if upload.sha256 and sha256 != upload.sha256:
            self._store.delete([stored])
            raise ChecksumMismatchError(
                "The file's sha256 is not the one declared. Compare the crc32c of the chunks with the file's.",
                declared=upload.sha256,
                actual=sha256,
            )
        return AssembledObject(
            object_name=stored.name,
            generation=stored.generation,
            size_bytes=stored.size_bytes,
            crc32c=stored.crc32c or EMPTY_CRC32C,
            sha256=sha256,
            n_rows=n_rows,
        )

    def _count_rows(self, upload: Upload, pieces: Iterator[bytes]) -> int:
        head = _first_bytes(pieces)
        table_format = detect_format(upload.file_name, upload.content_type, head)
        return self._rows.count(plain_pieces(chain([head], pieces), table_format), table_format.delimiter)

    def _hashed(self, stored: StoredObject, digest: "hashlib._Hash") -> Iterator[bytes]:
        n_bytes = 0
        for piece in self._store.read(stored.name, generation=stored.generation):
            digest.update(piece)
            n_bytes += len(piece)
            yield piece
        if n_bytes != stored.size_bytes:
            raise StorageUnavailableError("The bucket's answer broke off; try again.")

    def abort(self, owner: str, upload_id: str) -> tuple[Upload, int]:
        """Give an upload up and delete its chunks; repeating it is harmless.

        Returns:
            The upload, and how many objects were deleted.

        Raises:
            UploadNotFoundError: The owner has no such upload.
            WrongStateError: It is being assembled, is assembled or has expired.
        """
        upload = self._uploads.abort(owner, _existing_id(upload_id))
        n_objects = self._delete_all(upload)
        self._uploads.finish_sweep(upload.id)
        return upload, n_objects

    def _delete_temporary(self, upload: Upload) -> int:
        prefixes = (chunks_prefix(upload.id), steps_prefix(upload.id))
        return sum(self._store.delete(self._store.list(prefix)) for prefix in prefixes)

    def _delete_all(self, upload: Upload) -> int:
        # Sources go before what is composed of them: a call whose lease ran out can then add nothing behind our back.
        n_temporary = self._delete_temporary(upload)
        return n_temporary + self._store.delete(self._store.list(data_set_prefix(upload.session_uuid, upload.id)))

    def store_legacy_chunk(self, owner: str, chunk: LegacyChunk, content: bytes) -> tuple[Upload, int]:
        """Store a chunk that came through the function, and assemble once all are there.

        Returns:
            The upload, and how many of its chunks are stored.

        Raises:
            InvalidFieldError: A field that is not allowed.
            TooLargeError: The chunk has more than 31 MiB.
            ChunkMismatchError: Another chunk of this index was stored before.
            ServiceError: As `create` and `assemble`.
        """
        if len(content) > LARGEST_LEGACY_CHUNK_BYTES:
            raise TooLargeError(f"A chunk may have {LARGEST_LEGACY_CHUNK_BYTES} bytes.")
        upload, index = self._legacy_upload(owner, chunk, len(content))
        # Once the chunks are being joined, one that comes again would be left behind.
        if upload.state is UploadState.OPEN:
            self._store_once(chunk_name(upload.id, index), content, index)
            missing = self._progress(upload).missing
            if missing:
                # Every chunk is a sign of life; the call with the last one may have begun to assemble already.
                with suppress(WrongStateError):
                    upload = self._uploads.extend(owner, upload.id)
                return upload, upload.total_chunks - len(missing)
        return self.assemble(owner, upload.id), upload.total_chunks

    def sign_legacy_chunk(self, owner: str, chunk: LegacyChunk) -> tuple[Upload, SignedChunk]:
        """Sign the request that writes a chunk straight into the bucket.

        Raises:
            InvalidFieldError: A field that is not allowed.
            ServiceError: As `create`.
        """
        upload, index = self._legacy_upload(owner, chunk, LARGEST_LEGACY_CHUNK_BYTES)
        return upload, self._signed(upload, {index: None})[0]

    def _legacy_upload(self, owner: str, chunk: LegacyChunk, chunk_bytes: int) -> tuple[Upload, int]:
        total = read_integer(chunk.total_chunks, "totalChunks", least=1, most=MOST_CHUNKS)
        index = read_integer(chunk.index, "chunkIndex", least=0, most=total - 1)
        upload, _ = self._uploads.create(
            owner,
            NewUpload(
                session_id=read_session_id(chunk.session_id),
                file_name=read_file_name(chunk.file_name),
                content_type="application/octet-stream",
                size_bytes=None,
                # An estimate, put right when the file is assembled.
                reserved_bytes=total * chunk_bytes,
                chunk_size_bytes=max(chunk_bytes, 1),
                total_chunks=total,
                is_legacy=True,
            ),
        )
        return upload, index

    def _store_once(self, name: str, content: bytes, index: int) -> None:
        try:
            self._store.write(name, content, "application/octet-stream")
        except ObjectExistsError:
            stored = self._store.stat(name)
            same = b"".join(self._store.read(name, generation=stored.generation)) == content
            if not same:
                raise ChunkMismatchError(f"Chunk {index} was stored before with other bytes.", index=index) from None

    def finalize_session(self, caller: Caller, session_id: Any) -> Session:
        """Close a session to uploads and sum up its rows; repeating it is harmless.

        Uploads of old clients, which know no assembling, are assembled first if they are complete.

        Raises:
            InvalidFieldError: A name that is not allowed.
            SessionNotFoundError: The caller has no such session.
            UploadsUnfinishedError: details.uploads names those that are not assembled.
        """
        name = read_session_id(session_id)
        for upload in self._uploads.of_session(caller, name):
            # An assembly that died is taken up again; one that is alive answers that it is.
            if upload.is_legacy and upload.state in {UploadState.OPEN, UploadState.ASSEMBLING}:
                # Finalizing names it if it is incomplete or broken.
                with suppress(ConflictError, DataSetError):
                    self.assemble(caller.user_id, upload.id)
        return self._sessions.finalize(caller.user_id, name)

    def sweep(
        self,
        *,
        max_age_hours: Any = DEFAULT_MAX_AGE_HOURS,
        dry_run: bool = False,
        on_swept: Callable[[SweptUpload], None] = lambda _: None,
    ) -> Sweep:
        """Delete what abandoned and finished uploads left behind, up to 200 uploads a run and several at once.

        Args:
            max_age_hours: An open upload that was silent for so long is abandoned [h].
            dry_run: Only say what would go.
            on_swept: Told at once of each upload that was cleaned, so that a run that is killed or breaks off has said
                what it did. Called from several threads. A killed run may be repeated and tell of an upload again.

        Raises:
            InvalidFieldError: An age outside 0 to 8,760 hours.
            StorageUnavailableError: Try again; what is done is done.
        """
        age = read_integer(max_age_hours, "maxAgeHours", least=0, most=LARGEST_MAX_AGE_HOURS)
        uploads = self._uploads.begin_sweep(max_age_hours=age, limit=SWEPT_PER_RUN, dry_run=dry_run)

        def sweep_one(upload: Upload) -> SweptUpload:
            n_objects, n_bytes = 0, 0
            for prefix in _swept_prefixes(upload):
                objects = self._store.list(prefix)
                n_objects += len(objects) if dry_run else self._store.delete(objects)
                n_bytes += sum(stored.size_bytes for stored in objects)
            swept = SweptUpload(upload, n_objects, n_bytes)
            if not dry_run:
                if _is_cleaned(swept):
                    on_swept(swept)
                self._uploads.finish_sweep(upload.id)
            return swept

        with ThreadPoolExecutor(SWEPT_AT_ONCE) as pool:
            running = [pool.submit(sweep_one, upload) for upload in uploads]
            wait(running, return_when=FIRST_EXCEPTION)
            # Where one fails, the next ones would too, each after its own time limit.
            pool.shutdown(cancel_futures=True)
        _raise_first(running)
        all_swept = [future.result() for future in running]
        return Sweep(
            n_uploads=sum(map(_is_cleaned, all_swept)),
            n_objects=sum(swept.n_objects for swept in all_swept),
            freed_bytes=sum(swept.freed_bytes for swept in all_swept),
            has_more=len(uploads) == SWEPT_PER_RUN,
        )


def _swept_prefixes(upload: Upload) -> Sequence[str]:
    """Return where a sweep deletes, sources before what is composed of them (see `_delete_all`)."""
    prefixes = [chunks_prefix(upload.id), steps_prefix(upload.id)]
    if upload.state is not UploadState.ASSEMBLED:
        prefixes.append(data_set_prefix(upload.session_uuid, upload.id))
    return prefixes


def _is_cleaned(swept: SweptUpload) -> bool:
    """Tell whether there was anything to do: not where a finished upload had left nothing behind."""
    return bool(swept.freed_bytes or swept.n_objects) or swept.upload.state in _ABANDONED


def _raise_first(futures: Sequence[Future[SweptUpload]]) -> None:
    """Raise the first error, with the others as its notes."""
    errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
    if errors:
        for error in errors[1:]:
            errors[0].add_note(f"and {error!r}")
        raise errors[0]


def _first_bytes(pieces: Iterator[bytes]) -> bytes:
    """Take pieces until there is enough to see how a table is written."""
    head = bytearray()
    for piece in pieces:
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    return bytes(head)


def _existing_id(upload_id: str) -> str:
    if not is_uuid(upload_id):
        raise UploadNotFoundError
    return upload_id.lower()


def _read_chunks(value: Any) -> dict[int, str | None]:
    wanted: dict[int, str | None] = {}
    for entry in read_list(value, "chunks", longest=SIGNED_PER_CALL):
        if not isinstance(entry, dict) or set(entry) - {"index", "crc32c"}:
            raise InvalidFieldError("chunks", "each entry is an object with index and, if known, crc32c")
        index = read_integer(entry.get("index"), "chunks.index", least=0, most=MOST_CHUNKS - 1)
        if index in wanted:
            raise InvalidFieldError("chunks", f"index {index} is given twice")
        crc32c = entry.get("crc32c")
        if crc32c is not None:
            try:
                decode_crc32c(crc32c)
            except (ValueError, TypeError) as error:
                raise InvalidFieldError("chunks.crc32c", "must be base64 of four big-endian bytes") from error
        wanted[index] = crc32c
    return wanted
