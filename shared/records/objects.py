"""Objects of the buckets: their names, and what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

_LONGEST_LAST_PART_BYTES = 230


@dataclass(frozen=True)
class StoredObject:
    """An object as the bucket describes it. `crc32c` is base64, big-endian."""

    name: str
    generation: int
    size_bytes: int
    crc32c: str
    updated_at: datetime | None = None


@dataclass(frozen=True)
class SignedUrl:
    """A URL that allows one request, and the headers that request must carry."""

    url: str
    method: str
    headers: Mapping[str, str]


def chunks_prefix(upload_id: str) -> str:
    """Return the prefix of an upload's chunks in the uploads bucket."""
    return f"chunks/{upload_id}/"


def chunk_name(upload_id: str, index: int) -> str:
    """Return the object name of one chunk; padded, so that listing order is numeric order."""
    return f"{chunks_prefix(upload_id)}{index:05d}"


def steps_prefix(upload_id: str) -> str:
    """Return the prefix of an upload's intermediate compose results."""
    return f"steps/{upload_id}/"


def data_sets_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's assembled data sets."""
    return f"datasets/{session_uuid}/"


def data_set_prefix(session_uuid: str, upload_id: str) -> str:
    """Return the prefix that holds an upload's assembled object and nothing else."""
    return f"{data_sets_prefix(session_uuid)}{upload_id}/"


def data_set_name(session_uuid: str, upload_id: str, file_name: str) -> str:
    """Return the object name of an upload's assembled object; a long file name lacks its middle there.

    Cloud Storage takes 1,024 bytes for a whole name, but file systems 255 for each part of a path, and who stores or
    fetches an object there first appends something, such as ".part".
    """
    last = file_name.encode()
    if len(last) > _LONGEST_LAST_PART_BYTES:
        half = (_LONGEST_LAST_PART_BYTES - 1) // 2
        # Where a cut goes through a character, the rest of it is left out.
        last = b"~".join(part.decode(errors="ignore").encode() for part in (last[:half], last[-half:]))
    return data_set_prefix(session_uuid, upload_id) + last.decode()


def models_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's saved models in the artifacts bucket."""
    return f"models/{session_uuid}/"


def pictures_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's legacy pictures in the artifacts bucket."""
    return f"pictures/{session_uuid}/"


def conversions_prefix(session_uuid: str) -> str:
    """Return the prefix of what was made of a session's models and is not checked yet, in the artifacts bucket."""
    return f"conversions/{session_uuid}/"


def archives_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's archives and their plans in the artifacts bucket."""
    return f"archives/{session_uuid}/"
