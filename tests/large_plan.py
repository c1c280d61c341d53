"""An upload of 10 GiB through the functions' rules with real clients loaded and simulated objects; their memory.

`python -m tests.large_plan [--count]` prints, as JSON, the process's peak memory [bytes] after each function. The store
knows names, sizes and checksums as a bucket does and holds no bytes; with --count the file is a table whose 10 GiB are
made as they are read, and every one of them is hashed and counted.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import google_crc32c

from shared.adapters.csv_rows import CsvRowCounter
from shared.checksums import combine_crc32c, encode_crc32c
from shared.errors import ObjectExistsError, ObjectNotFoundError
from shared.records.objects import StoredObject, chunk_name
from shared.records.uploads import Upload
from shared.uploads import SIGNED_PER_CALL
from tests.factories import ALICE, a_caller
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.sessions import InMemoryDatabase, InMemorySessions, Subscription
from tests.fakes.signer import InMemorySigner
from tests.fakes.uploads import InMemoryUploads
from tests.upload_rules import UploadRules

GIB = 1 << 30
SIZE_BYTES = 10 * GIB
# 64 bytes a row, so that a piece, as large as the bucket's adapter gives it, begins and ends with one.
ROW = b'2026-11-23T12:00:00,18.25,1013.7,0.42,"north, east",'.ljust(63, b"7") + b"\n"
PIECE = ROW * ((1 << 20) // len(ROW))


class SimulatedStore:
    """`ObjectStore` without bytes: every object is a repetition of one row."""

    def __init__(self) -> None:
        self._objects: dict[str, StoredObject] = {}

    def simulate(self, upload: Upload) -> None:
        """Let every chunk of an upload be there."""
        for index in range(upload.total_chunks):
            name, size = chunk_name(upload.id, index), upload.chunk_bytes(index)
            self._objects[name] = StoredObject(name, 1, size, crc32c_of_rows(size))

    def list(self, prefix: str) -> "list[StoredObject]":
        return [self._objects[name] for name in sorted(self._objects) if name.startswith(prefix)]

    def stat(self, name: str) -> StoredObject:
        if name not in self._objects:
            raise ObjectNotFoundError(name)
        return self._objects[name]

    def compose(self, sources: Sequence[StoredObject], destination: str, content_type: str) -> StoredObject:
        if destination in self._objects:
            raise ObjectExistsError(destination)
        crc32c = combine_crc32c((source.crc32c, source.size_bytes) for source in sources)
        size = sum(source.size_bytes for source in sources)
        self._objects[destination] = StoredObject(destination, 1, size, crc32c)
        return self._objects[destination]

    def read(self, name: str, *, generation: int | None = None, start: int = 0) -> Iterator[bytes]:
        left = self.stat(name).size_bytes
        while left:
            # A copy: what comes from a socket is new memory, too.
            piece = bytes(bytearray(PIECE[: min(left, len(PIECE))]))
            left -= len(piece)
            yield piece

    def delete(self, objects: Sequence[StoredObject]) -> int:
        return sum(self._objects.pop(stored.name, None) is not None for stored in list(objects))


def crc32c_of_rows(size: int) -> str:
    crc32c = google_crc32c.value(PIECE)
    whole, rest = divmod(size, len(PIECE))
    parts = [(encode_crc32c(crc32c), len(PIECE))] * whole
    return combine_crc32c([*parts, (encode_crc32c(google_crc32c.value(PIECE[:rest])), rest)] if rest else parts)


def peak_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Go the whole way once, and say how much memory each part took."""
    # What a deployed function loads: the clients of the bucket and of the database, and numpy.
    import google.cloud.storage  # noqa: F401 - memory is measured with them
    import numpy  # noqa: F401, ICN001 - see above

    import functions.uploads.main  # noqa: F401 - see above

    peaks = {"loaded": peak_bytes()}
    is_table = "--count" in sys.argv
    database, store = InMemoryDatabase(), SimulatedStore()
    database.subscriptions[ALICE] = Subscription()
    InMemorySessions(database).init(ALICE, "large", {})
    signer = InMemorySigner(InMemoryObjectStore())
    rules = UploadRules(InMemoryUploads(database), InMemorySessions(database), store, signer, CsvRowCounter())
    name = "large.csv" if is_table else "large.bin"
    upload, _, _ = rules.create(ALICE, {"sessionId": "large", "fileName": name, "size": SIZE_BYTES})
    peaks["create"] = peak_bytes()
    for first in range(0, upload.total_chunks, SIGNED_PER_CALL):
        rules.sign_chunks(a_caller(), upload.id, [{"index": first + index} for index in range(SIGNED_PER_CALL)])
    peaks["sign"] = peak_bytes()
    store.simulate(upload)
    progress = rules.get(a_caller(), upload.id)
    peaks["get"] = peak_bytes()
    assembled = rules.assemble(ALICE, upload.id)
    peaks["assemble"] = peak_bytes()
    facts = {
        "chunks": len(progress.received),
        "size": assembled.size_bytes,
        "rows": assembled.n_rows,
        "left": len(store.list("")),
    }
    sys.stdout.write(json.dumps({"peaks": peaks, **facts}) + "\n")


if __name__ == "__main__":
    main()
