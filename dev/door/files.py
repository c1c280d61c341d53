"""Looks at, names, joins and deletes objects in the emulator's folder, at once and whatever their size.

fake-gcs-server's own compose and copy hold whole objects in memory, several times over, and it reads an object to
delete it. Its filesystem backend keeps an object as the file `<root>/<bucket>/<name>` with its attributes as JSON in
the extended attribute `user.metadata`, and caches nothing; so a finished file can be moved into place. The version of
the emulator is pinned, and tests/door notices if it keeps its files differently.
"""

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c

from dev.door.emulator import INCOMING_BUCKET, ObjectName
from shared.checksums import encode_crc32c

ATTRIBUTES = "user.metadata"
# Where fields of an object's resource come from.
FIELDS = {
    "contentType": "ContentType",
    "contentEncoding": "ContentEncoding",
    "contentDisposition": "ContentDisposition",
    "contentLanguage": "ContentLanguage",
    "cacheControl": "CacheControl",
    "storageClass": "StorageClass",
    "crc32c": "Crc32c",
    "md5Hash": "Md5Hash",
    "etag": "Etag",
    "metadata": "Metadata",
}
# Fits into the processor's cache, and its memory is used again: blocks of 4 MiB cost three times the CPU.
BLOCK_BYTES = 256 * 1024
# The emulator removes folders that have become empty, maybe the one that was just made.
MOVE_TRIES = 5


class UnstorableNameError(Exception):
    """A file system cannot hold an object of that name."""


class ObjectFiles:
    """The files of objects. Who changes one holds the lock of its name."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._last_generation = 0

    def has_bucket(self, bucket: str) -> bool:
        """Tell whether there is such a bucket."""
        return "/" not in bucket and bucket not in {"", ".", ".."} and (self._root / bucket).is_dir()

    def resource(self, named: ObjectName) -> dict[str, Any] | None:
        """Return an object's resource as the JSON API writes it, or None if there is no such object."""
        try:
            file = self._path(named)
            attributes, size = _attributes(file), file.stat().st_size
        except UnstorableNameError:
            return None
        except OSError as error:
            # No such file; a folder, which has no attributes; or a name that no file has.
            if error.errno in {errno.ENOENT, errno.ENODATA, errno.ENOTDIR, errno.ENAMETOOLONG}:
                return None
            raise
        resource = {
            "kind": "storage#object",
            "id": f"{named.bucket}/{named.name}",
            "bucket": named.bucket,
            "name": named.name,
            "size": str(size),
            "generation": str(attributes["Generation"]),
            "metageneration": "1",
            "timeCreated": attributes["Created"],
            "updated": attributes["Updated"],
        }
        return resource | {field: attributes[name] for field, name in FIELDS.items() if attributes.get(name)}

    def existing(self, named: ObjectName) -> dict[str, Any]:
        """Return the resource of an object that was stored a moment ago."""
        resource = self.resource(named)
        assert resource is not None, named
        return resource

    def delete(self, named: ObjectName) -> None:
        """Delete an object, if it is there."""
        self._path(named).unlink(missing_ok=True)

    def publish(self, staged: ObjectName, target: ObjectName, changes: Mapping[str, Any]) -> None:
        """Give a stored object another name, replacing what has that name.

        Args:
            changes: attributes that differ from the staged object's, in the emulator's spelling.

        Raises:
            UnstorableNameError: the name cannot be a file's.
        """
        file = self._path(staged)
        self._write_attributes(file, {**_attributes(file), **changes})
        self._move(file, target)

    def join(self, sources: Sequence[ObjectName], target: ObjectName, changes: Mapping[str, Any]) -> None:
        """Write the sources' bytes one after another as one object.

        Raises:
            UnstorableNameError: the name cannot be a file's.
            OSError: the disk is full, for example; nothing is left of the target.
        """
        draft = self._path(ObjectName(INCOMING_BUCKET, str(uuid.uuid4())))
        try:
            checksum = 0
            with draft.open("xb") as output:
                for block in self._blocks(sources):
                    # Computed from the bytes, not combined: the functions compare their combination with it.
                    checksum = google_crc32c.extend(checksum, block)
                    output.write(block)
            # A composite object has no MD5: https://cloud.google.com/storage/docs/composite-objects
            computed = {"Crc32c": encode_crc32c(checksum), "Md5Hash": "", "Etag": draft.name}
            self._write_attributes(draft, {**_attributes(self._path(sources[0])), **computed, **changes})
            self._move(draft, target)
        finally:
            draft.unlink(missing_ok=True)

    def _blocks(self, sources: Sequence[ObjectName]) -> Iterator[bytes]:
        for source in sources:
            with self._path(source).open("rb", buffering=0) as file:
                while block := file.read(BLOCK_BYTES):
                    yield block

    def _write_attributes(self, file: Path, attributes: Mapping[str, Any]) -> None:
        # Microseconds, as the emulator counts, and never the same number twice.
        self._last_generation = max(time.time_ns() // 1000, self._last_generation + 1)
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        stamped = {**attributes, "Generation": self._last_generation, "Created": now, "Updated": now}
        os.setxattr(file, ATTRIBUTES, json.dumps(stamped).encode())

    def _move(self, file: Path, target: ObjectName) -> None:
        path = self._path(target)
        for attempt in range(MOVE_TRIES):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file.replace(path)
            except FileNotFoundError:
                if attempt == MOVE_TRIES - 1:
                    raise
            except OSError as error:
                if error.errno in {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}:
                    raise UnstorableNameError(f"The emulator cannot hold {target.name!r}.") from error
                raise
            else:
                return

    def _path(self, named: ObjectName) -> Path:
        parts = named.name.split("/")
        if {"", ".", ".."} & {*parts, named.bucket} or "\0" in named.name or "/" in named.bucket:
            raise UnstorableNameError(f"The emulator cannot hold {named.name!r}.")
        return self._root.joinpath(named.bucket, *parts)


def changes_for(content_type: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return an object's content type and custom metadata in the emulator's spelling."""
    return {"ContentType": content_type, "Metadata": dict(metadata)}


def _attributes(file: Path) -> dict[str, Any]:
    attributes: dict[str, Any] = json.loads(os.getxattr(file, ATTRIBUTES))
    return attributes
