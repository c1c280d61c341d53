"""Says whether bytes are a PNG picture, how large it is, without decoding it, and whose it is."""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from shared.publication import run_prefix
from shared.records.objects import pictures_prefix

# What charts say that are stored pictures (docs/results.md).
KIND: Final = "picture"
# [pixels] in each direction; browsers stop at 32,767, and a plot of matplotlib has hundreds.
MAX_PIXELS: Final = 20_000

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER: Final = struct.Struct(">8sI4sII")
# An empty IEND chunk with its CRC: every PNG ends so, and nothing may follow it.
# https://www.w3.org/TR/png-3/#11IEND
_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class Picture:
    """The size of a picture [pixels]."""

    width: int
    height: int


def read_png(file: BinaryIO) -> Picture | None:
    """Return the size of a PNG, or None if it is none, is cut off, has something after its end, or is larger than any.

    Source:
        https://www.w3.org/TR/png-3/#5DataRep
    """
    file.seek(0)
    begin = file.read(_HEADER.size)
    if len(begin) < _HEADER.size:
        return None
    signature, length, kind, width, height = _HEADER.unpack(begin)
    if (signature, length, kind) != (_SIGNATURE, 13, b"IHDR"):
        return None
    file.seek(-len(_END), 2)
    if file.read() != _END or not (1 <= width <= MAX_PIXELS and 1 <= height <= MAX_PIXELS):
        return None
    return Picture(width, height)


def is_own_picture(object_name: str, session_uuid: str, run_id: str) -> bool:
    """Say whether an object lies where the pictures of this session and this run do: who publishes names objects."""
    prefixes = (pictures_prefix(session_uuid), run_prefix(session_uuid, run_id))
    return object_name.startswith(prefixes) and "/../" not in object_name
