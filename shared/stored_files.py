"""Objects as files that can be read anywhere, for readers that jump: of a large archive little is fetched."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO

from shared.records.objects import StoredObject

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore

_BUFFER_BYTES = 256 << 10


def stored_file(store: ObjectStore, stored: StoredObject) -> BinaryIO:
    """Open an object of exactly this generation for reading."""
    return io.BufferedReader(_StoredFile(store, stored), _BUFFER_BYTES)


class _StoredFile(io.RawIOBase):
    def __init__(self, store: ObjectStore, stored: StoredObject) -> None:
        super().__init__()
        self._store = store
        self._stored = stored
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stored.size_bytes}[whence] + offset
        if self._at < 0:
            raise ValueError("before the beginning of the object")
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._stored.size_bytes:
            return 0
        view = memoryview(buffer)
        n_read = 0
        for piece in self._store.read(self._stored.name, generation=self._stored.generation, start=self._at):
            part = piece[: len(view) - n_read]
            view[n_read : n_read + len(part)] = part
            n_read += len(part)
            if n_read == len(view):
                break
        self._at += n_read
        return n_read
