"""Pure: what the chunks of an upload are, how a file is cut into them, and where an upload's objects lie."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.records.objects import SignedUrl, StoredObject, chunks_prefix, data_set_prefix, steps_prefix
from shared.records.uploads import Upload

MIB = 1 << 20
# Two levels of compose at most, 33 calls: ../docs/decisions/0003-chunk-plan.md
MOST_CHUNKS = 1024
LEAST_CHUNK_BYTES = 8 * MIB
LARGEST_LEGACY_CHUNK_BYTES = 31 * MIB


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


def plan_chunk_bytes(size: int, wish: int, *, least: int = LEAST_CHUNK_BYTES) -> int:
    """Return whole MiB per chunk: at least 8, at least what 1,024 chunks need, else what the client wishes."""
    needed = -(-size // MOST_CHUNKS)
    least_needed = max(least, -(-needed // MIB) * MIB if needed > least else 0)
    return max(least_needed, wish - wish % least)


def write_once(upload: Upload, index: int, crc32c: str | None = None) -> tuple[int, Mapping[str, str]]:
    """Return the most bytes a chunk may have, and the headers that its one write must carry."""
    # A legacy chunk may have any size the old way could carry.
    most = LARGEST_LEGACY_CHUNK_BYTES if upload.size_bytes is None else upload.chunk_bytes(index)
    least = 0 if upload.size_bytes is None else most
    headers = {"x-goog-content-length-range": f"{least},{most}", "x-goog-if-generation-match": "0"}
    return most, headers | ({"x-goog-hash": f"crc32c={crc32c}"} if crc32c else {})


def received_chunks(upload: Upload, stored: Iterable[StoredObject]) -> list[ReceivedChunk]:
    """Return an upload's chunks among what is stored below their prefix."""
    prefix = chunks_prefix(upload.id)
    return [ReceivedChunk(int(one.name.removeprefix(prefix)), one) for one in stored]


def missing_chunks(upload: Upload, received: Iterable[ReceivedChunk]) -> list[int]:
    """Return the indices of the chunks that are not stored, in order."""
    present = {chunk.index for chunk in received}
    return [index for index in range(upload.total_chunks) if index not in present]


def temporary_prefixes(upload: Upload) -> Sequence[str]:
    """Return where the objects lie that nobody needs once the upload is assembled.

    Sources come before what is composed of them, and are deleted first: a call whose lease ran out can then add
    nothing behind our back.
    """
    return [chunks_prefix(upload.id), steps_prefix(upload.id)]


def all_prefixes(upload: Upload) -> Sequence[str]:
    """Return where all objects of an upload lie, in the order in which they are deleted."""
    return [*temporary_prefixes(upload), data_set_prefix(upload.session_uuid, upload.id)]
