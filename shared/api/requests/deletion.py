"""What the scheduler sends about what is to be cleared away."""

from typing import Annotated, NotRequired, TypedDict

from shared.api.types import Keywords
from shared.sweeping import DEFAULT_MAX_AGE_HOURS, LARGEST_MAX_AGE_HOURS


class Cleanup(TypedDict):
    """Body of POST /cleanup.

    Attributes:
        maxAgeHours: What was silent for so long is swept.
        dryRun: Count, delete nothing.
    """

    maxAgeHours: NotRequired[
        Annotated[int, Keywords(minimum=0, maximum=LARGEST_MAX_AGE_HOURS, default=DEFAULT_MAX_AGE_HOURS)] | None
    ]
    dryRun: NotRequired[Annotated[bool, Keywords(default=False, examples=[True])] | None]
