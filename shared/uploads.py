"""The rules of uploads: plan, sign, resume.

What follows: shared/assembly.py (assemble, finalize), shared/sweeping.py (abort, sweep). Old clients:
shared/legacy_chunks.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.assembly import AssemblyService
from shared.checksums import decode_crc32c
from shared.chunks import (
    LEAST_CHUNK_BYTES,
    MOST_CHUNKS,
    ReceivedChunk,
    SignedChunk,
    missing_chunks,
    plan_chunk_bytes,
    received_chunks,
    write_once,
)
from shared.errors import ChunksMissingError, DataSetError, InvalidFieldError, ObjectNotFoundError
from shared.fields import (
    read_content_type,
    read_existing_upload_id,
    read_file_name,
    read_integer,
    read_list,
    read_session_id,
    read_sha256,
)
from shared.records.callers import Caller
from shared.records.objects import chunk_name, chunks_prefix
from shared.records.uploads import NewUpload, Upload, UploadState
from shared.tables import (
    TableColumn,
    TableFormat,
    describe_columns,
    detect_format,
    first_bytes,
    is_table,
    read_head,
)
from shared.threads import RequestThreads

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore, UploadRepository, UrlSigner

# https://cloud.google.com/storage/quotas
LARGEST_FILE_BYTES = 5 << 40
SIGNED_PER_CALL = 128
CLIENT_CONCURRENCY = 6
# A signature is a call of some 50 ms where no key is at hand; 32 at once sign 1,024 chunks in 2 s.
SIGNED_AT_ONCE = 32


@dataclass(frozen=True)
class UploadProgress:
    """An upload and what the bucket really holds of it."""

    upload: Upload
    received: Sequence[ReceivedChunk]
    missing: Sequence[int]
    table: TableView | None = None


@dataclass(frozen=True)
class TableView:
    """What the first chunk says of a table, long before the last one is there.

    Attributes:
        problem: Why it cannot be read as a table, or None.
    """

    format: TableFormat | None
    columns: Sequence[TableColumn]
    problem: DataSetError | None


class UploadService:
    """What callers may do with uploads until all chunks are there."""

    def __init__(
        self,
        uploads: UploadRepository,
        store: ObjectStore,
        signer: UrlSigner,
        assembly: AssemblyService,
        *,
        least_chunk_bytes: int = LEAST_CHUNK_BYTES,
    ) -> None:
        self._uploads = uploads
        self._store = store
        self._signer = signer
        self._assembly = assembly
        self._least_chunk_bytes = least_chunk_bytes

    def create(self, owner: str, fields: Mapping[str, Any]) -> tuple[Upload, Sequence[SignedChunk], bool]:
        """Open an upload, or find the equal one that is open already.

        Where the owner has a file of the declared sha256 and size already, it is composed from that one at once and
        nothing needs to be sent.

        Args:
            owner: User id.
            fields: sessionId, fileName, size, and optionally contentType, sha256, chunkSize, presign.

        Returns:
            The upload, the first signed chunks (none if it is assembled), and whether it is new.

        Raises:
            InvalidFieldError: A field that is not allowed; 5 TiB is the largest size.
            ServiceError: As `UploadRepository.create`.
        """
        size = read_integer(fields["size"], "size", least=0, most=LARGEST_FILE_BYTES)
        wish = read_integer(fields.get("chunkSize", 0), "chunkSize", least=0, most=LARGEST_FILE_BYTES)
        n_signed = read_integer(fields.get("presign", SIGNED_PER_CALL), "presign", least=0, most=SIGNED_PER_CALL)
        chunk_size = plan_chunk_bytes(size, wish, least=self._least_chunk_bytes)
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
        if is_new and self._assembly.equal_object(upload):
            # Gone in this very moment: then the chunks are wanted after all.
            with suppress(ChunksMissingError):
                upload = self._assembly.assemble(owner, upload.id)
        if upload.state is not UploadState.OPEN:
            return upload, [], is_new
        first = range(min(upload.total_chunks, n_signed))
        return upload, self._signed(upload, dict.fromkeys(first)), is_new

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
        upload = self._uploads.get(caller, read_existing_upload_id(upload_id))
        for index in wanted:
            if index >= upload.total_chunks:
                raise InvalidFieldError("chunks", f"index {index} is beyond the last chunk, {upload.total_chunks - 1}")
        upload = self._uploads.extend(caller.user_id, upload.id)
        return upload, self._signed(upload, wanted)

    def _signed(self, upload: Upload, wanted: Mapping[int, str | None]) -> Sequence[SignedChunk]:
        def sign(index: int) -> SignedChunk:
            most, headers = write_once(upload, index, wanted[index])
            request = self._signer.sign("PUT", chunk_name(upload.id, index), headers=headers)
            return SignedChunk(index, most, request)

        # The first signature builds the signer; the others share it, and its connections, in parallel.
        indices = list(wanted)
        head = [sign(index) for index in indices[:1]]
        with RequestThreads(SIGNED_AT_ONCE) as pool:
            return head + list(pool.map(sign, indices[1:]))

    def get(self, caller: Caller, upload_id: str) -> UploadProgress:
        """Return an upload with the chunks that are in the bucket now.

        Raises:
            UploadNotFoundError: The caller has no such upload.
        """
        upload = self._uploads.get(caller, read_existing_upload_id(upload_id))
        if upload.state not in {UploadState.OPEN, UploadState.ASSEMBLING}:
            return UploadProgress(upload, [], [])
        received = received_chunks(upload, self._store.list(chunks_prefix(upload.id)))
        return UploadProgress(upload, received, missing_chunks(upload, received), self._table_view(upload, received))

    def _table_view(self, upload: Upload, received: Sequence[ReceivedChunk]) -> TableView | None:
        """Read the beginning of a table from its first chunk, if that is there."""
        first = next((chunk.stored for chunk in received if chunk.index == 0), None)
        if first is None or not is_table(upload.file_name, upload.content_type):
            return None
        head = b""
        with suppress(ObjectNotFoundError):
            head = first_bytes(self._store.read(first.name, generation=first.generation))
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
