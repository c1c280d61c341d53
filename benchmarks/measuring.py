"""What the benchmarks share: the running stack, its processes' CPU time and memory, and the table of results."""

import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json import loads
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dev.home import home_from, read_env
from tests.local_stack import LocalStack

MIB = 1 << 20
GIB = 1 << 30
_MARKS = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One row of the table: a measured value, what it is compared with, and what it must reach, if anything."""

    what: str
    measured: str
    peer: str
    result: str
    limit: str
    reached: bool | None


def running_stack() -> LocalStack:
    """Return the stack of TRAINSHED_HOME, and let this process use the functions' door to its bucket."""
    home = home_from(os.environ)
    if not home.env_file.exists():
        sys.exit(f"No stack runs with {home.path}: start it with `make start`, with the same TRAINSHED_HOME.")
    env = read_env(home.env_file)
    os.environ["STORAGE_EMULATOR_HOST"] = env["STORAGE_INTERNAL_URL"]
    return LocalStack(env, home)


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print the table. A benchmark does not judge: the exit code says nothing about the figures."""
    one, five, _ = os.getloadavg()
    table = Table(title=f"{title} ({os.cpu_count()} cores; load {one:.1f}, over 5 minutes {five:.1f})")
    for column in ("what", "measured", "compared with", "result", "must reach", ""):
        table.add_column(column, overflow="fold")
    for figure in figures:
        table.add_row(
            figure.what,
            figure.measured,
            figure.peer,
            figure.result,
            figure.limit,
            _MARKS[figure.reached],
        )
    Console(width=None if sys.stdout.isatty() else 170).print(table)


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes [s]."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def median_of_pairs(n: int, first: Callable[[], float], second: Callable[[], float]) -> tuple[float, float, float]:
    """Measure two things in turns; return the median of each, and of the ratio first / second."""
    pairs = [(first(), second()) for _ in range(n)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def hand_out_memory(stack: LocalStack, size: int) -> None:
    """Let the machine have that much memory at hand for files, whoever comes next: write a file, and delete it [bytes].

    A virtual machine is slow at the first touch of memory. Of two that write files in turns, the one that comes after
    the larger deletion would be the quicker one, for nothing that it does.
    """
    path = stack.home.path / "memory"
    block = bytes(8 * MIB)
    with path.open("wb") as file:
        for _ in range(0, size, len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


class ServerProcess:
    """One server of the stack, with its children, seen through /proc."""

    def __init__(self, stack: LocalStack, name: str) -> None:
        self._pid: int = loads((stack.home.run / "pids.json").read_text())[name][0]

    def cpu_s(self) -> float:
        """Return the CPU time used so far, in user and in kernel mode [s]."""
        return sum((int(fields[11]) + int(fields[12])) / _TICKS_PER_S for fields in map(_stat, self._pids()))

    def peak_bytes(self) -> int:
        """Return the largest resident memory since `forget_peak` [bytes]."""
        return sum(self._status(pid, "VmHWM") for pid in self._pids())

    def forget_peak(self) -> None:
        """Let the peak begin at what is used now."""
        for pid in self._pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _pids(self) -> Iterator[int]:
        yield self._pid
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if int(_stat(int(folder.name))[1]) == self._pid:
                    yield int(folder.name)
            except (FileNotFoundError, ProcessLookupError):
                continue

    @staticmethod
    def _status(pid: int, name: str) -> int:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        return 0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the program's name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextmanager
def table_file(folder: Path, size: int) -> Iterator[tuple[Path, int]]:
    """Make a CSV file of about `size` bytes with quoted line ends in every hundredth row; yield it and its rows."""
    row = b"2026-11-23T12:00:00,18.25,1013.7,0.42,NNE,4711\n"
    odd = b'2026-11-23T12:00:00,18.25,1013.7,0.42,"first ""line""\nsecond, line",4711\n'
    hundreds = MIB // (99 * len(row) + len(odd))
    block = (row * 99 + odd) * hundreds
    n_blocks = size // len(block)
    path = folder / f"{uuid.uuid4()}.csv"
    try:
        with path.open("wb") as file:
            file.write(b"time,temperature,pressure,rain,wind,station\n")
            for _ in range(n_blocks):
                file.write(block)
        yield path, n_blocks * hundreds * 100
    finally:
        path.unlink(missing_ok=True)
