"""The rules of publishing: addresses at which a team's own training job writes what it made, each good for one write.

The service signs and the job writes; no byte passes through here. What was written counts when its manifest is there,
last, and was checked against the files (shared/manifests.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.checksums import decode_crc32c
from shared.errors import InvalidFieldError, RunPublishedError, TooLargeError
from shared.fields import is_uuid, read_existing_session_id, read_integer, read_list, read_text
from shared.publication import (
    FORMATS,
    LARGEST_FILE_BYTES,
    LARGEST_MANIFEST_BYTES,
    LARGEST_RUN_BYTES,
    MANIFEST_NAME,
    MOST_FILES,
    run_prefix,
)
from shared.records.callers import Caller
from shared.records.objects import SignedUrl, StoredObject
from shared.threads import RequestThreads

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore, TrainingRepository, UrlSigner

MOST_FILES_PER_CALL = 100
LONGEST_NAME = 300
SIGNED_AT_ONCE = 16
# Charts of the kind `picture` name such a file.
PICTURE_FORMATS: Mapping[str, str] = {"png": "image/png"}
_PART = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
NAME_PATTERN = rf"({_PART}/){{0,3}}{_PART}\.([a-z0-9]+)"
_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True)
class RunFile:
    """One file that a job has for a run.

    Attributes:
        name: Below the run's prefix, for example `forest/model.skops`.
        crc32c: Base64, big-endian.
    """

    name: str
    size_bytes: int
    crc32c: str
    media_type: str


@dataclass(frozen=True)
class RunFileState:
    """What is to be done about a file: nothing if it is `stored`, else `request` is to be sent.

    Attributes:
        stored: What the bucket holds under this name, whatever its bytes are.
    """

    file: RunFile
    object_name: str
    stored: StoredObject | None
    request: SignedUrl | None


@dataclass(frozen=True)
class RunState:
    """A run that is being published."""

    run_id: str
    session_uuid: str
    prefix: str
    files: Sequence[RunFileState]


class PublishingService:
    """Lets owners of sessions write the files of a run."""

    def __init__(self, runs: TrainingRepository, store: ObjectStore, signer: UrlSigner) -> None:
        self._runs = runs
        self._store = store
        self._signer = signer

    def sign(self, caller: Caller, session_id: str, run_id: Any, files: Any) -> RunState:
        """Sign a create-only PUT for each file that the bucket does not hold. Repeatable.

        Args:
            run_id: A uuid that the job chose; the same one continues what was begun.
            files: 1 to 100 of {"name", "size", "crc32c"}.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            InvalidFieldError: A field is not what it must be.
            TooLargeError: The run would have too many files or bytes (details: limit).
            RunPublishedError: The run has its manifest, or is one that this service trains, and a file is new.
        """
        name = read_existing_session_id(session_id)
        if not is_uuid(run_id) or run_id != run_id.lower():
            raise InvalidFieldError("runId", "must be a uuid in lower case")
        wanted = [_read_file(entry) for entry in read_list(files, "files", longest=MOST_FILES_PER_CALL)]
        if len({file.name for file in wanted}) != len(wanted):
            raise InvalidFieldError("files", "must have different names")
        session_uuid, runs = self._runs.of_session(caller, name)
        prefix = run_prefix(session_uuid, run_id)
        stored = {one.name.removeprefix(prefix): one for one in self._store.list(prefix)}
        new = [file for file in wanted if file.name not in stored]
        if new:
            if MANIFEST_NAME in stored or any(run.id == run_id for run in runs):
                raise RunPublishedError(run_id=run_id, file=new[0].name)
            _check_room(stored.values(), new)
        requests = self._signed(prefix, new)
        return RunState(
            run_id,
            session_uuid,
            prefix,
            [
                RunFileState(file, f"{prefix}{file.name}", stored.get(file.name), requests.get(file.name))
                for file in wanted
            ],
        )

    def _signed(self, prefix: str, files: Sequence[RunFile]) -> Mapping[str, SignedUrl]:
        def sign(file: RunFile) -> SignedUrl:
            headers = {
                "Content-Type": file.media_type,
                "x-goog-content-length-range": f"{file.size_bytes},{file.size_bytes}",
                "x-goog-hash": f"crc32c={file.crc32c}",
                "x-goog-if-generation-match": "0",
            }
            return self._signer.sign("PUT", f"{prefix}{file.name}", headers=headers)

        # The first signature builds the signer; the others share it.
        head = [sign(file) for file in files[:1]]
        with RequestThreads(SIGNED_AT_ONCE) as pool:
            rest = list(pool.map(sign, files[1:]))
        return {file.name: request for file, request in zip(files, head + rest, strict=True)}


def _check_room(stored: Iterable[StoredObject], new: Sequence[RunFile]) -> None:
    sizes = [one.size_bytes for one in stored] + [file.size_bytes for file in new]
    if len(sizes) > MOST_FILES:
        raise TooLargeError(f"A run may have {MOST_FILES} files.", limit=MOST_FILES)
    if sum(sizes) > LARGEST_RUN_BYTES:
        raise TooLargeError(f"The files of a run may have {LARGEST_RUN_BYTES} bytes together.", limit=LARGEST_RUN_BYTES)


def _read_file(entry: Any) -> RunFile:
    if not isinstance(entry, dict) or set(entry) != {"name", "size", "crc32c"}:
        raise InvalidFieldError("files", "each entry is an object with name, size and crc32c")
    name = read_text(entry["name"], "files.name", longest=LONGEST_NAME)
    found = _NAME.fullmatch(name)
    if found is None:
        raise InvalidFieldError(
            "files.name", "must be 1 to 4 parts of A-Z a-z 0-9 . _ - with / between them, and end in a format"
        )
    largest = LARGEST_FILE_BYTES
    if name == MANIFEST_NAME:
        media_type, largest = "application/json", LARGEST_MANIFEST_BYTES
    elif found[2] in FORMATS:
        media_type = FORMATS[found[2]].media_type
    elif found[2] in PICTURE_FORMATS:
        media_type = PICTURE_FORMATS[found[2]]
    else:
        known = ", ".join([*FORMATS, *PICTURE_FORMATS])
        raise InvalidFieldError("files.name", f"must be {MANIFEST_NAME} or end in one of {known}")
    try:
        decode_crc32c(entry["crc32c"])
    except (TypeError, ValueError) as error:
        raise InvalidFieldError("files.crc32c", "must be base64 of four big-endian bytes") from error
    size_bytes = read_integer(entry["size"], "files.size", least=1, most=largest)
    return RunFile(name, size_bytes, entry["crc32c"], media_type)
