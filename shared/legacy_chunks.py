"""The rules of chunks that old clients send: through the function, or straight into the bucket without a plan."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.assembly import AssemblyService
from shared.chunks import (
    LARGEST_LEGACY_CHUNK_BYTES,
    MOST_CHUNKS,
    SignedChunk,
    missing_chunks,
    received_chunks,
    write_once,
)
from shared.errors import ChunkMismatchError, ObjectExistsError, TooLargeError, WrongStateError
from shared.fields import read_file_name, read_integer, read_session_id
from shared.records.objects import chunk_name, chunks_prefix
from shared.records.uploads import NewUpload, Upload, UploadState

if TYPE_CHECKING:
    # Only type checkers need the protocols, and every cold start would pay for them.
    from shared.ports import ObjectStore, UploadRepository, UrlSigner


@dataclass(frozen=True)
class LegacyChunk:
    """What an old client says about the chunk it sends."""

    session_id: Any
    file_name: Any
    index: Any
    total_chunks: Any


class LegacyChunkService:
    """Takes the chunks of clients that know no plan and no assembling."""

    def __init__(
        self, uploads: UploadRepository, store: ObjectStore, signer: UrlSigner, assembly: AssemblyService
    ) -> None:
        self._uploads = uploads
        self._store = store
        self._signer = signer
        self._assembly = assembly

    def store(self, owner: str, chunk: LegacyChunk, content: bytes) -> tuple[Upload, int]:
        """Store a chunk that came through the function, and assemble once all are there.

        Returns:
            The upload, and how many of its chunks are stored.

        Raises:
            InvalidFieldError: A field that is not allowed.
            TooLargeError: The chunk has more than 31 MiB.
            ChunkMismatchError: Another chunk of this index was stored before.
            ServiceError: As `UploadRepository.create` and `AssemblyService.assemble`.
        """
        if len(content) > LARGEST_LEGACY_CHUNK_BYTES:
            raise TooLargeError(f"A chunk may have {LARGEST_LEGACY_CHUNK_BYTES} bytes.")
        upload, index = self._upload(owner, chunk, len(content))
        # Once the chunks are being joined, one that comes again would be left behind.
        if upload.state is UploadState.OPEN:
            self._store_once(chunk_name(upload.id, index), content, index)
            received = received_chunks(upload, self._store.list(chunks_prefix(upload.id)))
            missing = missing_chunks(upload, received)
            if missing:
                # Every chunk is a sign of life; the call with the last one may have begun to assemble already.
                with suppress(WrongStateError):
                    upload = self._uploads.extend(owner, upload.id)
                return upload, upload.total_chunks - len(missing)
        return self._assembly.assemble(owner, upload.id), upload.total_chunks

    def sign(self, owner: str, chunk: LegacyChunk) -> tuple[Upload, SignedChunk]:
        """Sign the request that writes a chunk straight into the bucket.

        Raises:
            InvalidFieldError: A field that is not allowed.
            ServiceError: As `UploadRepository.create`.
        """
        upload, index = self._upload(owner, chunk, LARGEST_LEGACY_CHUNK_BYTES)
        most, headers = write_once(upload, index)
        return upload, SignedChunk(index, most, self._signer.sign("PUT", chunk_name(upload.id, index), headers=headers))

    def _upload(self, owner: str, chunk: LegacyChunk, chunk_bytes: int) -> tuple[Upload, int]:
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
