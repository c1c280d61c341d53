"""A terminal that a test types into and looks at."""

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

# Far longer than anything takes; only a test that fails waits so long [s].
_LONGEST_S = 60
# Nothing is written for that long where a program waits for a key [s].
_QUIET_S = 5


class Terminal:
    """A program in a terminal of its own.

    Attributes:
        shown: What it has written, with all that a terminal obeys.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, columns: int = 80) -> None:
        self.shown = ""
        self._pid, self._file = pty.fork()
        if self._pid == 0:
            os.execvpe(command[0], list(command), dict(environment))
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until that has been written since the last thing that was waited for."""
        seen = len(self.shown)
        until = time.monotonic() + _LONGEST_S
        while text not in self.shown[seen:]:
            assert time.monotonic() < until, self.shown
            assert self._read(), self.shown

    def end(self, key: str = "") -> int:
        """Read until the program ends; return its exit code.

        Args:
            key: Typed, and again whenever nothing happens: a signal that comes between a question and the reading of
                its answer is not seen.
        """
        until = time.monotonic() + _LONGEST_S
        self.type(key)
        while self._read():
            assert time.monotonic() < until, self.shown
            if not select.select([self._file], [], [], _QUIET_S)[0]:
                self.type(key)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self) -> bool:
        if not select.select([self._file], [], [], _QUIET_S)[0]:
            return True
        try:
            content = os.read(self._file, 1 << 16)
        except OSError:  # how Linux tells that nobody holds the other end
            return False
        self.shown += content.decode(errors="replace")
        return bool(content)
