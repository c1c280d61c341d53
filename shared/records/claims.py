"""What a claim of work finds."""

from enum import StrEnum


class ClaimOutcome(StrEnum):
    """What a claim found: the work is ours, done already, or in other hands."""

    CLAIMED = "claimed"
    DONE = "done"
    BUSY = "busy"
