"""Reads what clients send: types, ranges and characters, each fault naming its field."""

import re
import unicodedata
import uuid
from typing import Any

from shared.errors import InvalidFieldError, SessionNotFoundError, UploadNotFoundError

_SESSION_ID = re.compile(r"[A-Za-z0-9._~:@-]{1,128}")
# RFC 6838, section 4.2, in our length.
_MEDIA_NAME = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,59}"
_CONTENT_TYPE = re.compile(f"{_MEDIA_NAME}/{_MEDIA_NAME}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
# No file system of a user's has longer ones: https://en.wikipedia.org/wiki/Comparison_of_file_systems#Limits
LONGEST_FILE_NAME = 255


def read_session_id(value: Any, field: str = "sessionId") -> str:
    """Return a client's name for a session: 1 to 128 of A-Z a-z 0-9 . _ ~ : @ - and not dots alone."""
    text = read_text(value, field, longest=128)
    if not _SESSION_ID.fullmatch(text) or not text.strip("."):
        raise InvalidFieldError(field, "1 to 128 of the characters A-Z a-z 0-9 . _ ~ : @ - are allowed")
    return text


def read_existing_session_id(text: str) -> str:
    """Return a name that a session can have; any other is the name of none and raises SessionNotFoundError."""
    try:
        return read_session_id(text)
    except InvalidFieldError as error:
        raise SessionNotFoundError from error


def read_text(value: Any, field: str, *, longest: int) -> str:
    """Return a non-empty text of at most `longest` characters without control characters."""
    if not isinstance(value, str):
        raise InvalidFieldError(field, "must be a text")
    if not 1 <= len(value) <= longest:
        raise InvalidFieldError(field, f"must have 1 to {longest} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise InvalidFieldError(field, "must not contain control characters")
    return value


def read_file_name(value: Any, field: str = "fileName") -> str:
    """Return a plain file name: no path, no control characters, at most 255 characters."""
    name = unicodedata.normalize("NFC", read_text(value, field, longest=LONGEST_FILE_NAME))
    if "/" in name or "\\" in name or not name.strip(". "):
        raise InvalidFieldError(field, "must be a file name without a path")
    # A Windows path without a backslash: "C:data.csv" names a place on a drive.
    if re.match(r"[A-Za-z]:", name):
        raise InvalidFieldError(field, "must be a file name without a drive")
    # A few characters are two when they are composed as all are.
    return read_text(name, field, longest=LONGEST_FILE_NAME)


def read_content_type(value: Any, field: str = "contentType") -> str:
    """Return a media type such as text/csv, without parameters."""
    text = read_text(value, field, longest=121)
    if not _CONTENT_TYPE.fullmatch(text):
        raise InvalidFieldError(field, "must be a media type such as text/csv")
    return text.lower()


def read_sha256(value: Any, field: str = "sha256") -> str:
    """Return a SHA-256 as 64 lower-case hexadecimal digits."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise InvalidFieldError(field, "must be 64 hexadecimal digits")
    return value.lower()


def read_integer(value: Any, field: str, *, least: int, most: int) -> int:
    """Return a whole number in [least, most]; true and 3.0 are not whole numbers here."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidFieldError(field, "must be a whole number")
    if not least <= value <= most:
        raise InvalidFieldError(field, f"must be from {least} to {most}")
    return value


def read_number_text(value: str, field: str, *, least: int, most: int) -> int:
    """Return a whole number that came as text, for example in a query."""
    if not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise InvalidFieldError(field, "must be a whole number")
    return read_integer(int(value), field, least=least, most=most)


def read_boolean(value: Any, field: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise InvalidFieldError(field, "must be true or false")
    return value


def read_boolean_text(value: str, field: str) -> bool:
    """Return what a query says as `true` or `false`."""
    if value not in {"true", "false"}:
        raise InvalidFieldError(field, "must be true or false")
    return value == "true"


def read_list(value: Any, field: str, *, longest: int) -> list[Any]:
    """Return a list of 1 to `longest` entries."""
    if not isinstance(value, list):
        raise InvalidFieldError(field, "must be a list")
    if not 1 <= len(value) <= longest:
        raise InvalidFieldError(field, f"must have 1 to {longest} entries")
    return value


def is_uuid(value: Any) -> bool:
    """Say whether a value is a uuid in its usual form, so that the database can be asked for it."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def read_existing_upload_id(text: str) -> str:
    """Return an id that an upload can have; any other is the id of none and raises UploadNotFoundError."""
    if not is_uuid(text):
        raise UploadNotFoundError
    return text.lower()
