"""Starts the stack's servers as children, waits until they answer, and ends them all."""

import asyncio
import contextlib
import ctypes
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dev.faults import StackError
from dev.home import REPOSITORY, Home, write_private

READY_SECONDS = 90
POLL_SECONDS = 0.05
STOP_SECONDS = 10
LOG_LINES_SHOWN = 15

# <linux/prctl.h>: the signal a process gets when the one that started it is gone.
PR_SET_PDEATHSIG = 1
# The servers talk to each other by the loopback, whatever proxy the machine has for the world outside.
_WITHOUT_PROXY = dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1")
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Server:
    """One child: how to start it, how to know that it is ready, how to end it.

    Attributes:
        is_ready: answers whether the server takes requests; asked until it does.
        stop_signal: what makes the program end in good order.
    """

    name: str
    command: Sequence[str]
    is_ready: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM


class Processes:
    """The running children of one supervisor.

    Children are started from the main thread only: on Linux they are told to end when the thread that
    started them does.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._running: dict[str, tuple[Server, asyncio.subprocess.Process]] = {}
        self._first_death = asyncio.Event()

    async def start(self, server: Server) -> float:
        """Start a server and wait until it is ready.

        Returns:
            Seconds it took.

        Raises:
            StackError: it ended, or is not ready in time; the error shows the end of its log.
        """
        begun = time.monotonic()
        log = self._log(server.name)
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *server.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **_WITHOUT_PROXY, "PYTHONUNBUFFERED": "1", **server.environment},
                cwd=REPOSITORY,
                # Its own group: Ctrl-C reaches the supervisor alone, which ends the children in order.
                start_new_session=True,
                preexec_fn=functools.partial(end_with_parent, server.stop_signal),
            )
        self._running[server.name] = (server, process)
        self._record()
        waiter = asyncio.ensure_future(process.wait())
        waiter.add_done_callback(lambda _: self._first_death.set())
        while not await server.is_ready():
            if process.returncode is not None:
                raise self._death(server.name)
            if time.monotonic() - begun > READY_SECONDS:
                raise StackError(f"{server.name} did not answer in {READY_SECONDS} s.\n{self._tail(server.name)}")
            await asyncio.sleep(POLL_SECONDS)
        return time.monotonic() - begun

    async def watch(self) -> None:
        """Wait until a child ends by itself.

        Raises:
            StackError: always; names the child and shows the end of its log.
        """
        await self._first_death.wait()
        name = next(name for name, (_, process) in self._running.items() if process.returncode is not None)
        raise self._death(name)

    async def stop(self) -> None:
        """End every child, the last started first, and wait for each."""
        while self._running:
            _, (server, process) = self._running.popitem()
            if process.returncode is None:
                _signal_group(process.pid, server.stop_signal)
                try:
                    await asyncio.wait_for(process.wait(), STOP_SECONDS)
                except TimeoutError:
                    _signal_group(process.pid, signal.SIGKILL)
                    await process.wait()
            # Whatever a child left behind in its group goes with it.
            _signal_group(process.pid, signal.SIGKILL)
        self._record()

    def end_stale(self) -> list[str]:
        """End children of an earlier supervisor that was killed before it could.

        Returns:
            Their names.
        """
        if not self._pid_file.exists():
            return []
        ended = []
        for name, (pid, started) in json.loads(self._pid_file.read_text()).items():
            if started and _start_time(pid) == started:
                ended.append(name)
                _signal_group(pid, signal.SIGINT if name == "postgres" else signal.SIGTERM)
                deadline = time.monotonic() + STOP_SECONDS
                while _start_time(pid) == started and time.monotonic() < deadline:
                    time.sleep(POLL_SECONDS)
                _signal_group(pid, signal.SIGKILL)
        self._pid_file.unlink()
        return ended

    @property
    def _pid_file(self) -> Path:
        return self._home.run / "pids.json"

    def _record(self) -> None:
        """Write down who runs, with start times, since a process id alone may be somebody else's later."""
        pids = {name: (process.pid, _start_time(process.pid)) for name, (_, process) in self._running.items()}
        write_private(self._pid_file, json.dumps(pids).encode())

    def _log(self, name: str) -> Path:
        return self._home.logs / f"{name}.log"

    def _death(self, name: str) -> StackError:
        _, process = self._running[name]
        code = process.returncode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        return StackError(f"{name} {how}.\n{self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"The end of {self._log(name)}:", *(f"  {line}" for line in lines)])


def answers(url: str, *, headers: Mapping[str, str] | None = None) -> Callable[[], Awaitable[bool]]:
    """Return a readiness check: a GET of that address succeeds."""

    async def is_ready() -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(url, headers=headers, timeout=10)).is_success
            except httpx.TransportError:
                return False

    return is_ready


def listens(port: int) -> Callable[[], Awaitable[bool]]:
    """Return a readiness check: something accepts connections on that loopback port."""

    async def is_ready() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    return is_ready


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send this process that signal when the thread that started it ends (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, number)


def start_tied(command: Sequence[str | Path], **options: Any) -> "subprocess.Popen[Any]":
    """Start a program that ends with the thread that starts it (Linux); options are those of `subprocess.Popen`."""
    # Forbidden because another thread may hold a lock when the process forks; the one system call it makes takes none.
    return subprocess.Popen(command, preexec_fn=end_with_parent, **options)  # noqa: PLW1509 - see above


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _start_time(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; empty if it is gone or the system cannot tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # Field 22 of proc(5); the name in field 2 may hold spaces and brackets, hence the split at the last one.
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return "" if state == "Z" else started
