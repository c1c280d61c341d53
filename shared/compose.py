"""Plans how many objects become one, when a call joins 32 at most."""

from collections.abc import Sequence
from dataclasses import dataclass

# https://cloud.google.com/storage/docs/composite-objects
MAX_SOURCES = 32


@dataclass(frozen=True)
class Step:
    """One compose call: these sources, in order, become the destination."""

    sources: tuple[str, ...]
    destination: str


def plan_compose(
    chunks: Sequence[str], *, destination: str, steps_prefix: str, fan_in: int = MAX_SOURCES
) -> list[list[Step]]:
    """Group chunks into levels of compose calls.

    Args:
        chunks: Object names in upload order, at least one.
        destination: Name of the final object.
        steps_prefix: Where the results of the lower levels go.
        fan_in: Sources per call [objects].

    Returns:
        Levels in order of execution. The steps of a level are independent of each other; the last level is one step
        that writes the destination. 1 call for up to 32 chunks, 32 + 1 for 1,024, 33 + 2 + 1 for 1,025.

    Raises:
        ValueError: There are no chunks.
    """
    if not chunks:
        raise ValueError("nothing to compose")
    levels: list[list[Step]] = []
    names = list(chunks)
    while len(names) > fan_in:
        level = [
            Step(tuple(names[start : start + fan_in]), f"{steps_prefix}{len(levels)}-{start // fan_in:05d}")
            for start in range(0, len(names), fan_in)
        ]
        levels.append(level)
        names = [step.destination for step in level]
    levels.append([Step(tuple(names), destination)])
    return levels
