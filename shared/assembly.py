"""The rules of assembling: from chunks to one verified object; and of finalizing a session, which may need that."""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from shared.checksums import EMPTY_CRC32C, combine_crc32c
from shared.chunks import all_prefixes, missing_chunks, received_chunks, temporary_prefixes
from shared.compose import Step, plan_compose
from shared.errors import (
    ChecksumMismatchError,
    ChunkMismatchError,
    ChunksMissingError,
    ConflictError,
    DataSetError,
    LeaseLostError,
    ObjectExistsError,
    ObjectNotFoundError,
    ServiceError,
    StorageUnavailableError,
    UnavailableError,
    UploadNotFoundError,
    WrongStateError,
)
from shared.fields import read_existing_upload_id, read_session_id
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.objects import StoredObject, chunks_prefix, data_set_name, steps_prefix
from shared.records.sessions import Session
from shared.records.uploads import AssembledObject, Upload, UploadState
from shared.tables import detect_format, first_bytes, is_table, plain_pieces, read_ahead
from shared.threads import RequestThreads

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore, RowCounter, SessionRepository, UploadRepository

# Longer than assemble-upload may run (functions/manifest.yaml), so that a lease outlives its holder and no longer.
LEASE_S = 330
PARALLEL_CALLS = 8
# Who looks on asks every two seconds (functions/uploads/main.py).
REPORT_EVERY_S = 2.0
MOST_NAMED = 1000


class AssemblyService:
    """Makes one object of an upload's chunks, exactly once."""

    def __init__(
        self,
        uploads: UploadRepository,
        sessions: SessionRepository,
        store: ObjectStore,
        rows: RowCounter,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._uploads = uploads
        self._sessions = sessions
        self._store = store
        self._rows = rows
        self._clock = clock

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
        claim = self._uploads.claim(owner, read_existing_upload_id(upload_id), lease_token, LEASE_S)
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
            assembled = self._verified(upload, lease_token, stored)
        except DataSetError as error:
            failure = {"code": error.code, "detail": error.message, **error.details}
            self._uploads.fail(owner, upload.id, lease_token, failure)
            # What cannot be deleted now, cleanup deletes; what the file is told about itself stays true.
            with suppress(UnavailableError):
                self._delete_below(all_prefixes(upload))
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
            self._delete_below(temporary_prefixes(upload))
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
                self._delete_below(all_prefixes(upload))
            else:
                # It is alive, in other hands or in none; in none it stays.
                self._uploads.release(upload.owner, upload.id, lease_token)

    def _sources(self, upload: Upload) -> list[StoredObject]:
        """Return the chunks in order, or the object of an equal file where chunks are missing."""
        received = received_chunks(upload, self._store.list(chunks_prefix(upload.id)))
        missing = missing_chunks(upload, received)
        if missing:
            equal = self.equal_object(upload)
            if equal:
                return [equal]
            n_missing = len(missing)
            raise ChunksMissingError(
                f"{n_missing} of {upload.total_chunks} chunks are missing; the first is {missing[0]}.",
                missing=missing[:MOST_NAMED],
                n_missing=n_missing,
            )
        chunks = sorted(received, key=lambda chunk: chunk.index)[: upload.total_chunks]
        for chunk in chunks:
            if upload.size_bytes is not None and chunk.stored.size_bytes != upload.chunk_bytes(chunk.index):
                raise ChunkMismatchError(
                    f"Chunk {chunk.index} has {chunk.stored.size_bytes} bytes instead of "
                    f"{upload.chunk_bytes(chunk.index)}.",
                    index=chunk.index,
                )
        return [chunk.stored for chunk in chunks]

    def _composed(self, upload: Upload, chunks: Sequence[StoredObject]) -> StoredObject:
        name = data_set_name(upload.session_uuid, upload.id, upload.file_name)
        if not chunks:
            return self._created_empty(name, upload.content_type)
        objects = {chunk.name: chunk for chunk in chunks}
        levels = plan_compose(list(objects), destination=name, steps_prefix=steps_prefix(upload.id))
        with RequestThreads(PARALLEL_CALLS) as pool:
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

    def _verified(self, upload: Upload, lease_token: str, stored: StoredObject) -> AssembledObject:
        """Read the object once where its rows or its sha256 are wanted."""
        sha256, n_rows = None, None
        counts = is_table(upload.file_name, upload.content_type)
        if counts or upload.sha256:
            digest = hashlib.sha256()
            # Reading and hashing go on while the rows are counted.
            pieces = read_ahead(self._reported(upload, lease_token, self._hashed(stored, digest)))
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
        head = first_bytes(pieces)
        table_format = detect_format(upload.file_name, upload.content_type, head)
        return self._rows.count(plain_pieces(chain([head], pieces), table_format), table_format.delimiter)

    def _hashed(self, stored: StoredObject, digest: hashlib._Hash) -> Iterator[bytes]:
        n_bytes = 0
        for piece in self._store.read(stored.name, generation=stored.generation):
            digest.update(piece)
            n_bytes += len(piece)
            yield piece
        if n_bytes != stored.size_bytes:
            raise StorageUnavailableError("The bucket's answer broke off; try again.")

    def _reported(self, upload: Upload, lease_token: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Pass pieces on, and say now and then how many bytes they were."""
        n_bytes, report_at = 0, self._clock() + REPORT_EVERY_S
        for piece in pieces:
            n_bytes += len(piece)
            if self._clock() >= report_at:
                try:
                    self._uploads.report_verified(upload.owner, upload.id, lease_token, n_bytes)
                    report_at = self._clock() + REPORT_EVERY_S
                except UnavailableError:
                    # Each further try might hold up for seconds what it only tells of.
                    report_at = math.inf
            yield piece

    def equal_object(self, upload: Upload) -> StoredObject | None:
        """Return the object of an equal file of the same owner, if there is one."""
        if not upload.sha256 or not upload.size_bytes:
            return None
        equal = self._uploads.find_assembled(upload.owner, upload.sha256, upload.size_bytes)
        if equal is None or equal.object_name is None:
            return None
        with suppress(ObjectNotFoundError):
            return self._store.stat(equal.object_name)
        return None

    def _delete_below(self, prefixes: Sequence[str]) -> None:
        for prefix in prefixes:
            self._store.delete(self._store.list(prefix))

    def finalize_session(self, caller: Caller, session_id: Any) -> Session:
        """Close a session to uploads and sum up its rows; repeating it is harmless.

        Uploads of old clients, which know no assembling, are assembled first if they are complete.

        Raises:
            InvalidFieldError: A name that is not allowed.
            SessionNotFoundError: The caller has no such session.
            UploadsUnfinishedError: details.uploads names those that are not assembled.
        """
        name = read_session_id(session_id)
        _, uploads = self._uploads.of_session(caller, name)
        for upload in uploads:
            # An assembly that died is taken up again; one that is alive answers that it is.
            if upload.is_legacy and upload.state in {UploadState.OPEN, UploadState.ASSEMBLING}:
                # Finalizing names it if it is incomplete or broken.
                with suppress(ConflictError, DataSetError):
                    self.assemble(caller.user_id, upload.id)
        return self._sessions.finalize(caller.user_id, name)
