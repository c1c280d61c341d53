"""When to try again, and how long to wait before it."""

import random
import threading
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time

# Answers that say: not now. https://cloud.google.com/storage/docs/retry-strategy
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Backoff:
    """Waits that grow and differ from client to client, so that many clients do not come back at once.

    Attributes:
        attempts: Tries in all, the first included.
        first_s: Upper bound of the first wait; it doubles with every further one [s].
        longest_s: No wait is longer than this, whatever a server asks for [s].

    Source:
        "Full jitter": https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    attempts: int = 6
    first_s: float = 0.5
    longest_s: float = 30.0

    def wait_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """Return how long to wait after that many failures in a row [s].

        Args:
            failures: 1 after the first failure.
            retry_after_s: What the server asked for; waited at least, as far as `longest_s` allows.
        """
        bound = min(self.longest_s, self.first_s * 2 ** (failures - 1))
        jittered = random.uniform(0, bound)  # noqa: S311  (spreads load, hides nothing)
        return min(self.longest_s, (retry_after_s or 0) + jittered)


def retry_after_s(value: str | None) -> float | None:
    """Read a Retry-After header, which holds seconds or a date; None where it is absent or unreadable."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except ValueError:
        return None


def pause(seconds: float, stop: threading.Event | None = None) -> None:
    """Wait, but not longer than until `stop` is set."""
    (stop or threading.Event()).wait(seconds)
