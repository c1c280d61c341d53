"""What callers send about results."""

from typing import Annotated, NotRequired, TypedDict

from shared.api.types import Keywords
from shared.results import JSON, TABLE_FORMATS


class WriteTable(TypedDict):
    """Query of GET /evaluation-tables/{session_id}.

    Attributes:
        name: Of one table; needed for a file.
        format: As data, or as a file.
    """

    name: NotRequired[Annotated[str, Keywords(examples=["evaluation"])]]
    format: NotRequired[Annotated[str, Keywords(enum=[JSON, *TABLE_FORMATS], default=JSON)]]
