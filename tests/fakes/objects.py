"""A bucket in memory, and its signed URLs. It refuses what Cloud Storage refuses."""

import io
import itertools
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

import google_crc32c

from shared.checksums import encode_crc32c
from shared.errors import ObjectExistsError, ObjectNotFoundError
from shared.records.objects import StoredObject

MAX_SOURCES = 32
PIECE_BYTES = 1 << 20


class _Written(io.BytesIO):
    """As what writes to Cloud Storage: nothing can be read or written a second time."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation

    def readable(self) -> bool:
        return False


@dataclass(frozen=True)
class _Kept:
    described: StoredObject
    content: bytes
    content_type: str


class InMemoryObjectStore:
    """`ObjectStore` in memory."""

    def __init__(self) -> None:
        self._objects: dict[str, _Kept] = {}
        # In order, so that a prefix is found among a hundred thousand.
        self._names: list[str] = []
        self._generations = itertools.count(1)
        self._lock = threading.RLock()

    def list(self, prefix: str) -> "list[StoredObject]":
        with self._lock:
            first = bisect_left(self._names, prefix)
            names = itertools.takewhile(
                lambda name: name.startswith(prefix), itertools.islice(self._names, first, None)
            )
            return [self._objects[name].described for name in names]

    def stat(self, name: str) -> StoredObject:
        return self._kept(name).described

    def compose(self, sources: Sequence[StoredObject], destination: str, content_type: str) -> StoredObject:
        if not 1 <= len(sources) <= MAX_SOURCES:
            raise ValueError(f"compose takes 1 to {MAX_SOURCES} sources, not {len(sources)}")
        with self._lock:
            if destination in self._objects:
                raise ObjectExistsError(destination)
            kept = [self._kept(source.name, source.generation) for source in sources]
            return self._keep(destination, b"".join(part.content for part in kept), content_type)

    def write(self, name: str, content: bytes | BinaryIO, content_type: str) -> StoredObject:
        with self._lock:
            if name in self._objects:
                raise ObjectExistsError(name)
            return self._keep(name, content if isinstance(content, bytes) else content.read(), content_type)

    @contextmanager
    def writing(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        written = _Written()
        yield written
        self.write(name, written.getvalue(), content_type)

    def read(self, name: str, *, generation: int | None = None, start: int = 0) -> Iterator[bytes]:
        content = self._kept(name, generation).content
        for at in range(start, len(content), PIECE_BYTES):
            yield content[at : at + PIECE_BYTES]

    def delete(self, objects: Iterable[StoredObject]) -> int:
        n_deleted = 0
        for stored in objects:
            with self._lock:
                if stored.name in self._objects and self.stat(stored.name).generation == stored.generation:
                    del self._objects[stored.name]
                    del self._names[bisect_left(self._names, stored.name)]
                    n_deleted += 1
        return n_deleted

    def content(self, name: str) -> bytes:
        """Return an object's bytes, for tests to look at."""
        return self._kept(name).content

    def content_type(self, name: str) -> str:
        """Return an object's media type, for tests to look at."""
        return self._kept(name).content_type

    def names(self) -> "list[str]":
        """Return every object name in order."""
        return [stored.name for stored in self.list("")]

    def _kept(self, name: str, generation: int | None = None) -> _Kept:
        with self._lock:
            kept = self._objects.get(name)
        if kept is None or generation not in {None, kept.described.generation}:
            raise ObjectNotFoundError(name)
        return kept

    def _keep(self, name: str, content: bytes, content_type: str) -> StoredObject:
        described = StoredObject(
            name=name,
            generation=next(self._generations),
            size_bytes=len(content),
            crc32c=crc32c_of(content),
            updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        if name not in self._objects:
            insort(self._names, name)
        self._objects[name] = _Kept(described, content, content_type)
        return described


def crc32c_of(content: bytes) -> str:
    """Return a checksum as Cloud Storage writes it, computed by Google's library."""
    return encode_crc32c(google_crc32c.value(content))


def contents_of(store: InMemoryObjectStore) -> Mapping[str, bytes]:
    """Return every object's bytes by name."""
    return {name: store.content(name) for name in store.names()}
