"""`ObjectStore` on Cloud Storage; the only importer of its client."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO

from shared.checksums import encode_crc32c
from shared.errors import ObjectExistsError, ObjectNotFoundError, StorageUnavailableError
from shared.records.objects import StoredObject
from shared.threads import RequestThreads
from shared.tracing import span

if TYPE_CHECKING:
    import requests
    from google.cloud.storage import Bucket, Client

# Of one HTTP exchange: connect, and between two packets of the answer.
TIMEOUT_S = (3.05, 20)
# The last try of a call begins before this. With its own time limit, a call ends below the shortest time limit of a
# function that uses storage, 60 s.
RETRY_DEADLINE_S = 25
# Tries of a read in a row that bring nothing, and the longest pause after the first of them.
READ_TRIES = 5
READ_PAUSE_S = 0.2
PIECE_BYTES = 1 << 20
PARALLEL_DELETES = 16
# Kept until a request carries them away; must be a multiple of 256 KiB.
WRITTEN_BYTES = 8 << 20
# https://docs.cloud.google.com/storage/docs/batch ; the client would take 1,000.
CALLS_PER_BATCH = 100
_LIST_FIELDS = "items(name,generation,size,crc32c,updated),nextPageToken"


class GcsObjectStore:
    """One bucket of Cloud Storage. Thread-safe; the client is built on first use."""

    def __init__(self, bucket: str) -> None:
        self._bucket_name = bucket

    @cached_property
    def _client(self) -> Client:
        import requests.adapters
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        is_emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
        client = Client(
            project=os.environ.get("GOOGLE_CLOUD_PROJECT") or "local",
            credentials=AnonymousCredentials() if is_emulated else None,
        )
        # It would ask for the bucket's location in a thread beside every call, for the sake of tracing, and again and
        # again where it may not know: functions have no storage.buckets.get.
        client._bucket_metadata_cache = None  # noqa: SLF001 - the setting for it is a variable of the whole process
        # As many connections as there are threads that delete or compose at once; the default of 10 warns and drops.
        pool = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=64)
        for scheme in ("https://", "http://"):
            _session(client).mount(scheme, pool)
        return client

    @property
    def _bucket(self) -> Bucket:
        return self._client.bucket(self._bucket_name)

    @cached_property
    def _retry(self) -> Any:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_deadline(RETRY_DEADLINE_S)

    def list(self, prefix: str) -> list[StoredObject]:
        """Return the objects below a prefix in name order: one call per 1,000 objects."""
        with span("storage list"), _translated():
            blobs = self._client.list_blobs(
                self._bucket, prefix=prefix, fields=_LIST_FIELDS, timeout=TIMEOUT_S, retry=self._retry
            )
            return [_described(blob) for blob in blobs]

    def stat(self, name: str) -> StoredObject:
        """Describe one object, or raise ObjectNotFoundError."""
        with span("storage stat"), _translated():
            blob = self._bucket.blob(name)
            blob.reload(timeout=TIMEOUT_S, retry=self._retry)
            return _described(blob)

    def compose(self, sources: Sequence[StoredObject], destination: str, content_type: str) -> StoredObject:
        """Join 1 to 32 objects into a new one; every source is pinned to its generation."""
        with span("storage compose"), _translated():
            bucket = self._bucket
            blob = bucket.blob(destination)
            blob.content_type = content_type
            blob.compose(
                [bucket.blob(source.name, generation=source.generation) for source in sources],
                if_generation_match=0,
                if_source_generation_match=[source.generation for source in sources],
                timeout=TIMEOUT_S,
                retry=self._retry,
            )
            return _described(blob)

    def write(self, name: str, content: bytes | BinaryIO, content_type: str) -> StoredObject:
        """Create an object, its crc32c sent along for the store to check."""
        failures: list[Exception] = []
        try:
            with span("storage write"), _translated():
                blob = self._bucket.blob(name)
                options = {
                    "content_type": content_type,
                    "if_generation_match": 0,
                    "checksum": "crc32c",
                    "timeout": TIMEOUT_S,
                    "retry": partial(self._retry, on_error=failures.append),
                }
                if isinstance(content, bytes):
                    blob.upload_from_string(content, **options)
                else:
                    blob.upload_from_file(content, rewind=True, **options)
                return _described(blob)
        except ObjectExistsError:
            # A try that seemed to fail may have written it, its answer lost: then the object has our bytes.
            stored = self.stat(name) if failures else None
            if stored is None or (stored.size_bytes, stored.crc32c) != _size_and_crc32c(content):
                raise
            return stored

    @contextmanager
    def writing(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        """Create an object of what is written inside the block: a resumable upload that ends with it."""
        from google.cloud.exceptions import from_http_response
        from google.cloud.storage.exceptions import InvalidResponse

        with span("storage write"), _translated():
            file = self._bucket.blob(name).open(
                "wb",
                chunk_size=WRITTEN_BYTES,
                ignore_flush=True,
                retry=self._retry,
                content_type=content_type,
                if_generation_match=0,
                checksum="crc32c",
                timeout=TIMEOUT_S,
            )
            try:
                yield file
                file.close()
            except InvalidResponse as error:
                # The client translates this everywhere but here.
                file._buffer.close()  # noqa: SLF001 - as below
                raise from_http_response(error.response) from error
            except BaseException:
                # Closing would make an object of what came so far. An upload that is left alone expires by itself.
                file._buffer.close()  # noqa: SLF001 - terminate() does this after a request that may fail
                raise

    def read(self, name: str, *, generation: int | None = None, start: int = 0) -> Iterator[bytes]:
        """Stream an object in pieces of up to 1 MiB over one connection, and over others where one breaks."""
        n_failures, offset = 0, start
        while True:
            try:
                for piece in self._read_once(name, generation, offset):
                    n_failures, offset = 0, offset + len(piece)
                    yield piece
            except StorageUnavailableError:
                n_failures += 1
                # Without a generation the rest might be another object's.
                if n_failures == READ_TRIES or (generation is None and offset > start):
                    raise
            else:
                return
            time.sleep(random.uniform(0.5, 1) * READ_PAUSE_S * 2 ** (n_failures - 1))  # noqa: S311 - no secret

    def _read_once(self, name: str, generation: int | None, start: int) -> Iterator[bytes]:
        query = {"alt": "media"} | ({"generation": str(generation)} if generation else {})
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with _translated():
            blob = self._bucket.blob(name)
            # Not blob.open(): it asks for every 40 MiB anew and copies each piece twice (docs/limits.md).
            url = f"{self._client._connection.API_BASE_URL}/download/storage/v1{blob.path}"  # noqa: SLF001 - as the client itself
            # Until the first byte: how long the rest takes is for the reader to say, who may be in another thread.
            with span("storage read"):
                answer = _session(self._client).get(url, params=query, headers=headers, stream=True, timeout=TIMEOUT_S)
            with answer:
                if answer.status_code == 416:
                    return
                _raise_for(answer)
                yield from answer.raw.stream(PIECE_BYTES, decode_content=False)

    def delete(self, objects: Iterable[StoredObject]) -> int:
        """Delete objects of exactly these generations: 100 in a request, and one by one what that left.

        A request for each costs eight times the CPU.
        """
        wanted = list(objects)
        batches = [wanted[at : at + CALLS_PER_BATCH] for at in range(0, len(wanted), CALLS_PER_BATCH)]
        with RequestThreads(PARALLEL_DELETES) as pool:
            answers = list(pool.map(self._delete_batch, batches))
            left = [stored for _, rest in answers for stored in rest]
            return sum(n_deleted for n_deleted, _ in answers) + sum(pool.map(self._delete_one, left))

    def _delete_batch(self, objects: Sequence[StoredObject]) -> tuple[int, Sequence[StoredObject]]:
        """Delete objects in one request that is not repeated; return how many were there, and those to try again."""
        if len(objects) == 1:
            return 0, objects
        try:
            with span("storage delete"), _translated(), self._client.batch(raise_exception=False) as batch:
                for stored in objects:
                    self._bucket.blob(stored.name).delete(if_generation_match=stored.generation, timeout=TIMEOUT_S)
        # No answer, none that can be read, or a store that knows no batches.
        except (StorageUnavailableError, ObjectNotFoundError, ValueError):
            return 0, objects
        statuses = [answer.status_code for answer in batch._responses]  # noqa: SLF001 - as in the client's own examples
        # 404 and 412: gone, or replaced by another generation that is not ours to delete.
        left = [
            stored
            for stored, status in zip(objects, statuses, strict=True)
            if not 200 <= status < 300 and status not in {404, 412}
        ]
        return sum(200 <= status < 300 for status in statuses), left

    def _delete_one(self, stored: StoredObject) -> bool:
        try:
            with span("storage delete"), _translated():
                self._bucket.blob(stored.name).delete(
                    if_generation_match=stored.generation, timeout=TIMEOUT_S, retry=self._retry
                )
        # Gone, or replaced by another generation that is not ours to delete.
        except (ObjectNotFoundError, ObjectExistsError):
            return False
        return True


def _session(client: Client) -> requests.Session:
    """Return the client's session, which carries its credentials: for the size of its pool, and for plain reads."""
    # It is private, and has no public way to either.
    session: requests.Session = client._http  # noqa: SLF001 - see above
    return session


def _described(blob: Any) -> StoredObject:
    return StoredObject(
        name=blob.name,
        generation=int(blob.generation),
        size_bytes=int(blob.size or 0),
        crc32c=blob.crc32c or "",
        updated_at=blob.updated,
    )


def _size_and_crc32c(content: bytes | BinaryIO) -> tuple[int, str]:
    import google_crc32c

    if isinstance(content, bytes):
        return len(content), encode_crc32c(google_crc32c.value(content))
    content.seek(0)
    n_bytes, crc32c = 0, 0
    while piece := content.read(PIECE_BYTES):
        n_bytes, crc32c = n_bytes + len(piece), google_crc32c.extend(crc32c, piece)
    return n_bytes, encode_crc32c(crc32c)


def _raise_for(answer: Any) -> None:
    from google.cloud.exceptions import from_http_response

    if answer.status_code >= 400:
        raise from_http_response(answer)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the client's errors into ours, in one place."""
    import requests
    import urllib3
    from google.api_core import exceptions
    from google.auth.exceptions import TransportError

    try:
        yield
    except exceptions.NotFound as error:
        raise ObjectNotFoundError(str(error)) from error
    except exceptions.PreconditionFailed as error:
        raise ObjectExistsError(str(error)) from error
    except (
        exceptions.ServerError,
        exceptions.TooManyRequests,
        exceptions.RetryError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        TransportError,
    ) as error:
        raise StorageUnavailableError from error
