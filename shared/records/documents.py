"""Results documents of the old backend."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.records.claims import ClaimOutcome


class DocumentStatus(StrEnum):
    """unread -> read | refused."""

    UNREAD = "unread"
    READ = "read"
    REFUSED = "refused"


@dataclass(frozen=True)
class LegacyDocument:
    """A results document of the old backend; a run of its own.

    Attributes:
        detail: What was found in it, or why it was refused: {code, message, path, byte}.
    """

    status: DocumentStatus
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class DocumentClaim:
    """The answer to taking up a document.

    Attributes:
        object_name: In the artifacts bucket; None for a document that lies in the database.
        busy_s: Where somebody else reads it: the rest of their lease [s].
    """

    outcome: ClaimOutcome
    object_name: str | None
    busy_s: int | None = None


class JsonEvent(StrEnum):
    """What a stream of JSON consists of."""

    START_OBJECT = "start_object"
    END_OBJECT = "end_object"
    START_LIST = "start_list"
    END_LIST = "end_list"
    KEY = "key"
    TEXT = "text"
    NUMBER = "number"
    LITERAL = "literal"
    LONG_TEXT = "long_text"
    MORE_TEXT = "more_text"
    END_TEXT = "end_text"
