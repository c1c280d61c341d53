"""Ends a run at its n-th call to the outside, before or after that call's effect, for every n."""

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Killed(BaseException):
    """The process ended here. No error, so that no `except` of ours sees it."""


class Interruption:
    """Counts the calls of everything it wraps and interrupts one of them.

    Attributes:
        happened: The call was reached.
    """

    def __init__(self, at: int, *, is_after_effect: bool) -> None:
        self._at = at
        self._is_after_effect = is_after_effect
        self._n_calls = 0
        self._lock = threading.Lock()
        self.happened = False
        self.where = "nowhere"

    def __repr__(self) -> str:
        return f"{'after' if self._is_after_effect else 'before'} call {self._at}, {self.where}"

    def wrap(self, port: Any, error: Callable[[], BaseException] = Killed) -> Any:
        """Return the port with its calls counted; the n-th raises the error.

        `Killed` ends the process: all later calls raise it too, whichever thread makes them.
        """
        return _Wrapped(self, port, error)

    def call(self, method: Callable[..., Any], error: Callable[[], BaseException], *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self._n_calls += 1
            is_the_one = self._n_calls == self._at
            if self.happened and error is Killed:
                raise Killed
            if is_the_one:
                self.happened = True
                self.where = method.__qualname__
        if not is_the_one:
            return method(*args, **kwargs)
        if self._is_after_effect:
            result = method(*args, **kwargs)
            if isinstance(result, Iterator):
                list(result)
        raise error()


class _Wrapped:
    def __init__(self, interruption: Interruption, port: Any, error: Callable[[], BaseException]) -> None:
        self._interruption = interruption
        self._port = port
        self._error = error

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        return lambda *args, **kwargs: self._interruption.call(method, self._error, *args, **kwargs)


def every_interruption() -> Iterator[Interruption]:
    """Yield an interruption for every call that the run between two of them makes, before and after its effect."""
    for is_after_effect in (False, True):
        for at in itertools.count(1):
            interruption = Interruption(at, is_after_effect=is_after_effect)
            yield interruption
            if not interruption.happened:
                assert at > 1, "the run makes no calls: it proves nothing"
                break
