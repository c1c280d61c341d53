"""Runs requests to the real functions in processes of their own, which end at a remote call that the request chooses.

`python -m tests.resilience.processes` imports everything once, reads a JSON list of requests per line, forks a process
for each, lets them start together, and writes a JSON list of what came of them. A process that is to die ends with
`os._exit`, so that nothing of ours can clean up, answer or give anything back.
"""

import faulthandler
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn, Self

from dev.home import REPOSITORY
from tests.local_stack import LocalStack

KILLED = 137
# A process that takes longer ends with a traceback: it hangs.
LONGEST_S = 120
# Chunks this small make an upload of 40 of them cheap; everything else of the functions is as in the cloud.
CHUNK_BYTES = 256
SOURCES = {"archives", "deletion", "saving", "sessions", "uploads"}


@dataclass(frozen=True)
class Request:
    """One request, and where the process that serves it ends.

    Attributes:
        dies_at: Number of the remote call at which it ends, from 1; never where it is None.
        is_after_effect: It ends once the call was answered, not before it is sent.
        warm_up: A request that is made first, so that those that start together really do.
        jitter_s: Each remote call waits a random time up to this.
    """

    method: str
    path: str
    token: str
    body: Mapping[str, Any] | None = None
    form: tuple[bytes, Mapping[str, Any]] | None = None
    dies_at: int | None = None
    is_after_effect: bool = False
    warm_up: "Request | None" = None
    jitter_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        document = asdict(self)
        if self.form:
            document["form"] = [self.form[0].decode("latin-1"), dict(self.form[1])]
        return document


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Attributes:
        status: HTTP status, None if the process was killed.
        calls: The remote calls it made, in the order they began.
        timeouts: What each of them waits at most [s], None for ever: to connect, and for a part of the answer.
    """

    status: int | None
    document: Mapping[str, Any] = field(default_factory=dict)
    calls: Sequence[str] = ()
    timeouts: Sequence[Sequence[float | None]] = ()

    @property
    def data(self) -> Mapping[str, Any]:
        assert "data" in self.document, self.document
        return self.document["data"]

    @property
    def is_success(self) -> bool:
        return self.status is not None and self.status < 300


class Processes:
    """The parent's end. One for all tests of a session; it holds no state between requests."""

    def __init__(self, stack: LocalStack, **environment: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the processes
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.resilience.processes"],
            cwd=REPOSITORY,
            env={**os.environ, **stack.functions_env, "PYTHONPATH": str(REPOSITORY), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
        self._log.close()

    def run(self, *requests: Request) -> list[Outcome]:
        """Serve requests, each in a process of its own, all at once."""
        self._process.stdin.write(json.dumps([request.as_json() for request in requests]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        outcomes = [Outcome(**outcome) for outcome in json.loads(line or "null") or []]
        for outcome in outcomes:
            # Anything but an answer or the death that was asked for is a defect of this harness.
            assert outcome.status is not None or outcome.document == {"exit": KILLED}, self._said(outcome)
        assert len(outcomes) == len(requests), self._said(line)
        return outcomes

    def _said(self, what: Any) -> str:
        self._log.seek(0)
        return f"{what}\n{self._log.read()[-5000:]}"


class _Deadly:
    """Counts a process's remote calls beneath the clients' own retries, and ends it at one of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self, dies_at: int | None = None, *, is_after_effect: bool = False, jitter_s: float = 0) -> None:
        self.calls: list[str] = []
        self.timeouts: list[tuple[float | None, float | None]] = []
        self._dies_at = dies_at
        self._is_after_effect = is_after_effect
        self._jitter_s = jitter_s

    def call(self, name: str, timeouts: tuple[float | None, float | None], send: Callable[[], Any]) -> Any:
        if self._jitter_s:
            time.sleep(random.uniform(0, self._jitter_s))
        with self._lock:
            self.calls.append(name)
            self.timeouts.append(timeouts)
            is_the_one = len(self.calls) == self._dies_at
        if is_the_one and not self._is_after_effect:
            os._exit(KILLED)
        answer = send()
        if is_the_one:
            os._exit(KILLED)
        return answer


def _patch_transports(deadly: _Deadly) -> None:
    """Get beneath what the adapters speak with: urllib3, also within Cloud Storage's client, the key sets', gRPC."""
    import urllib.request

    import grpc._channel
    import urllib3.connectionpool

    exchange = urllib3.connectionpool.HTTPConnectionPool.urlopen
    urlopen = urllib.request.OpenerDirector.open
    ask = grpc._channel._UnaryUnaryMultiCallable._blocking

    def exchange_one(pool: Any, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        wait = options["timeout"]
        name = f"{method} {url.partition('?')[0]}"
        return deadly.call(
            name, (wait.connect_timeout, wait.read_timeout), lambda: exchange(pool, method, url, *arguments, **options)
        )

    def open_url(director: Any, request: Any, data: Any = None, timeout: Any = None) -> Any:
        name = f"GET {getattr(request, 'full_url', request)}"
        return deadly.call(name, (timeout, timeout), lambda: urlopen(director, request, data, timeout))

    def ask_one(method: Any, request: Any, timeout: Any, *options: Any) -> Any:
        return deadly.call(str(method._method), (timeout, timeout), lambda: ask(method, request, timeout, *options))

    grpc._channel._UnaryUnaryMultiCallable._blocking = ask_one
    urllib3.connectionpool.HTTPConnectionPool.urlopen = exchange_one
    urllib.request.OpenerDirector.open = open_url


def main() -> None:
    """Serve lines of requests until the parent closes the pipe."""
    replies = os.fdopen(os.dup(1), "w")
    # What the functions log goes where the parent finds it if something is wrong here.
    os.dup2(2, 1)
    # Imported here and once, so that a fork has them; connections are made in the fork.
    import google.cloud.storage
    import google_crc32c

    from container.app import build_app, load_manifest
    from dev.host import load_held_functions
    from shared.uploads import UploadService

    UploadService.__init__.__kwdefaults__["least_chunk_bytes"] = CHUNK_BYTES
    entries = {name: entry for name, entry in load_manifest().items() if entry["source"] in SOURCES}
    app = build_app(load_held_functions(entries), entries)
    deadly = _Deadly()
    _patch_transports(deadly)
    assert google_crc32c.implementation == "c", google.cloud.storage.__version__
    for line in sys.stdin:
        replies.write(json.dumps(_serve(app, deadly, json.loads(line))) + "\n")
        replies.flush()


def _serve(app: Any, deadly: _Deadly, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    start_read, start_write = os.pipe()
    children = []
    for request in requests:
        ready_read, ready_write = os.pipe()
        reply_read, reply_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            # Only its parent may hold this open: closing it is the start.
            os.close(start_write)
            _child(app, deadly, request, (start_read, ready_write, reply_write))
        os.close(ready_write)
        os.close(reply_write)
        children.append((pid, ready_read, reply_read))
    for _, ready, _ in children:
        os.read(ready, 1)
        os.close(ready)
    os.close(start_write)
    os.close(start_read)
    outcomes = []
    for pid, _, reply in children:
        with os.fdopen(reply) as pipe:
            text = pipe.read()
        _, status = os.waitpid(pid, 0)
        outcomes.append(json.loads(text) if text else {"status": None, "document": {"exit": status >> 8}})
    return outcomes


def _child(app: Any, deadly: _Deadly, request: Mapping[str, Any], pipes: tuple[int, int, int]) -> NoReturn:
    start, ready, reply = pipes
    code = 1
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    try:
        if request["warm_up"]:
            _answer(app, request["warm_up"])
        deadly.forget(request["dies_at"], is_after_effect=request["is_after_effect"], jitter_s=request["jitter_s"])
        os.write(ready, b".")
        os.read(start, 1)
        status, document = _answer(app, request)
        outcome = {"status": status, "document": document, "calls": deadly.calls, "timeouts": deadly.timeouts}
        with os.fdopen(reply, "w") as pipe:
            json.dump(outcome, pipe)
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def _answer(app: Any, request: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    import io

    from werkzeug.test import Client

    options: dict[str, Any] = {"json": request["body"]} if request["body"] is not None else {}
    if request["form"]:
        content, metadata = request["form"]
        chunk = (io.BytesIO(content.encode("latin-1")), "chunk")
        options = {"data": {"chunk": chunk, "metadata": json.dumps(metadata)}}
    answer = Client(app).open(
        request["path"],
        method=request["method"],
        headers={"Authorization": f"Bearer {request['token']}"},
        **options,
    )
    return answer.status_code, answer.get_json()


if __name__ == "__main__":
    main()
