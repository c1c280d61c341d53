"""Who calls."""

from dataclasses import dataclass, field
from enum import StrEnum


class CallerKind(StrEnum):
    """Who calls: a signed-in user, the product's own backend, the scheduler, the task queue, or somebody unknown."""

    USER = "user"
    SERVICE = "service"
    SCHEDULER = "scheduler"
    TASK = "task"
    ANYONE = "anyone"


@dataclass(frozen=True)
class Caller:
    """A caller whose token was verified.

    Attributes:
        kind: Which sort of token it was.
        user_id: `sub` of the token; a Supabase user's uuid for users.
        token: The token itself; reads are made with it, so that row-level security decides.
    """

    kind: CallerKind
    user_id: str
    token: str = field(repr=False)
