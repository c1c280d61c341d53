"""Starts stacks the way `make start` does, and looks at them from outside."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.home import REPOSITORY, read_env
from dev.processes import start_tied
from dev.test import READY, free_pair

READY_SECONDS = 60
END_SECONDS = 30


class Supervisor:
    """`python -m dev.start` with a home and a port of its own; may be started several times."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_pair()
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def start(self, **environment: str) -> int | None:
        """Start, and wait until it is ready or has ended.

        Returns:
            None if it is ready, otherwise its exit code.
        """
        self.lines = []
        self.process = start_tied(
            [sys.executable, "-m", "dev.start"],
            cwd=REPOSITORY,
            env={**os.environ, "TRAINSHED_HOME": str(self.home), "PORT": str(self.port), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if any(line.startswith(READY) for line in self.lines):
                return None
            if self.process.poll() is not None:
                return self._ended()
            time.sleep(0.05)
        raise TimeoutError("".join(self.lines))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self._ended()

    def _ended(self) -> int:
        code = self.process.wait(END_SECONDS)
        self._reader.join()
        self.process.stdout.close()
        return code

    def settings(self) -> dict[str, str]:
        return read_env(self.home / "env")

    def server(self, name: str) -> int:
        """Return the process id of the server whose log has that name."""
        log = self.home / "logs" / f"{name}.log"
        return next(pid for pid in self.servers() if Path(f"/proc/{pid}/fd/1").readlink() == log)

    def servers(self) -> set[int]:
        """Return every process that writes into this home's logs."""
        logs = self.home / "logs"
        found = set()
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdecimal() and (process / "fd/1").readlink().is_relative_to(logs):
                    found.add(int(process.name))
            except OSError:
                continue
        return found

    def servers_end(self) -> bool:
        """Wait for all of them to be gone; False if some stay."""
        deadline = time.monotonic() + END_SECONDS
        while self.servers() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.servers()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.lines.extend(process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and not self.process.stdout.closed:
            self.end()
