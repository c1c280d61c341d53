"""All rules of uploads on one set of ports, put together as functions/uploads/main.py does it."""

import time
from collections.abc import Callable

from shared.assembly import AssemblyService
from shared.chunks import LEAST_CHUNK_BYTES
from shared.legacy_chunks import LegacyChunkService
from shared.ports import ObjectStore, RowCounter, SessionRepository, UploadRepository, UrlSigner
from shared.sweeping import SweepService
from shared.uploads import UploadService


class UploadRules:
    """What callers may do with uploads, in one place for tests."""

    def __init__(
        self,
        uploads: UploadRepository,
        sessions: SessionRepository,
        store: ObjectStore,
        signer: UrlSigner,
        rows: RowCounter,
        *,
        least_chunk_bytes: int = LEAST_CHUNK_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assembly = AssemblyService(uploads, sessions, store, rows, clock=clock)
        service = UploadService(uploads, store, signer, assembly, least_chunk_bytes=least_chunk_bytes)
        sweeping = SweepService(uploads, store)
        legacy = LegacyChunkService(uploads, store, signer, assembly)
        self.create, self.sign_chunks, self.get = service.create, service.sign_chunks, service.get
        self.assemble, self.finalize_session = assembly.assemble, assembly.finalize_session
        self.abort, self.sweep = sweeping.abort, sweeping.sweep
        self.store_legacy_chunk, self.sign_legacy_chunk = legacy.store, legacy.sign
