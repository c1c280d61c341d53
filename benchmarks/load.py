"""One instance of a function under load, against the same select by bare httpx under the same framework.

`python -m benchmarks.load [SECONDS]` serves each under the real functions-framework command with eight threads, and
sends requests over eight connections with wrk where it is installed (Debian: wrk), else with threads of this process
that write prepared bytes. After a warm-up, ours and the peer take many short turns, and who begins alternates, so that
what else the machine does meets both; the ratio is the median of the turns' ratios.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httpx

from benchmarks.measuring import Figure, running_stack, show
from container.app import load_manifest
from dev.home import REPOSITORY, free_ports
from dev.processes import start_tied
from shared.adapters import supabase_sessions, supabase_uploads
from shared.records.callers import Caller
from tests.local_stack import LocalStack, People

CONCURRENCY = 8
SECONDS = 3.0
WARM_UP_S = 2.0
TURNS = 9
SESSION = "load"
LEAST_RATIO = 0.8
# What get-session asks, by the client that the figure is about, one for all requests.
PEER = """
import os
import httpx
client = httpx.Client(limits=httpx.Limits(max_connections=64, max_keepalive_connections=16))
address = os.environ["PEER_URL"]
headers = {"apikey": os.environ["PEER_KEY"], "Authorization": "Bearer " + os.environ["PEER_TOKEN"]}
def peer(request):
    answer = client.get(address, headers=headers)
    answer.raise_for_status()
    return answer.text, 200, {"Content-Type": "application/json"}
"""


@dataclass(frozen=True)
class Load:
    """What one run of the load came to: requests per second, and latencies [ms]."""

    rate: float
    p50_ms: float
    p99_ms: float


@contextmanager
def serving(source: Path, target: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Serve a target as the platform does; yields its address once it answers."""
    (port,) = free_ports(1, taken=set())
    process = start_tied(
        [REPOSITORY / ".venv/bin/functions-framework", "--target", target, "--source", source,
         "--host", "127.0.0.1", "--port", str(port)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "THREADS": str(CONCURRENCY), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                httpx.get(f"{address}/_health", timeout=30)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def loaded(address: str, headers: Mapping[str, str], seconds: float) -> Load:
    """Send the same request over and over on eight connections."""
    httpx.get(address, headers=dict(headers), timeout=60).raise_for_status()
    return _by_wrk(address, headers, seconds) if shutil.which("wrk") else _by_threads(address, headers, seconds)


def _by_wrk(address: str, headers: Mapping[str, str], seconds: float) -> Load:
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            "done = function(s, l) io.write(string.format('RESULT %f %f %f %d\\n', s.requests / s.duration * 1e6,"
            " l:percentile(50) / 1e3, l:percentile(99) / 1e3, s.errors.status)) end"
        )
        script.flush()
        command = ["wrk", "-t2", f"-c{CONCURRENCY}", f"-d{round(seconds)}s", "-s", script.name, *options, address]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"RESULT ([\d.]+) ([\d.]+) ([\d.]+) (\d+)", done.stdout)
    if not found or found[4] != "0":
        sys.exit(f"The load failed: {done.stdout}")
    return Load(float(found[1]), float(found[2]), float(found[3]))


def _by_threads(address: str, headers: Mapping[str, str], seconds: float) -> Load:
    parts = urlsplit(address)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}\r\n".encode()
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    def send() -> None:
        with socket.create_connection((parts.hostname or "", parts.port or 80)) as connection:
            while (begun := time.perf_counter()) < until:
                connection.sendall(request)
                _read_answer(connection)
                latencies.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=send) for _ in range(CONCURRENCY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles(latencies, n=100)
    return Load(len(latencies) / seconds, cuts[49] * 1e3, cuts[98] * 1e3)


def _read_answer(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 16)
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(1 << 16)


def select(stack: LocalStack, user: Caller) -> str:
    """Return the address that get-session reads."""
    query = {
        "select": f"{supabase_sessions.COLUMNS},uploads({supabase_uploads.COLUMNS})",
        "user_id": f"eq.{user.user_id}",
        "session_id": f"eq.{SESSION}",
        "uploads.order": "created_at,id",
    }
    return f"{stack.env['SUPABASE_URL']}/rest/v1/sessions?{urlencode(query)}"


def measured(stack: LocalStack, user: Caller, seconds: float) -> list[Figure]:
    """Measure get-session beside its peer, then the other routes that pages ask often."""
    token = {"Authorization": f"Bearer {user.token}"}
    peer_environment = {
        "PEER_URL": select(stack, user),
        "PEER_KEY": stack.env["SUPABASE_PUBLISHABLE_KEY"],
        "PEER_TOKEN": user.token,
    }
    figures = []
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        peer = Path(folder) / "main.py"
        peer.write_text(PEER)
        sources = REPOSITORY / "functions"
        with (
            serving(sources / "sessions/main.py", "get_session", stack.functions_env) as ours,
            serving(peer, "peer", peer_environment) as theirs,
        ):
            pair = ((f"{ours}/session/{SESSION}", token), (theirs, {}))
            for address, headers in pair:
                loaded(address, headers, WARM_UP_S)
            turns = []
            for turn in range(TURNS):
                first = turn % 2
                runs = [loaded(*pair[first], seconds), loaded(*pair[1 - first], seconds)]
                turns.append((runs[first], runs[1 - first]))
        ratio = statistics.median(mine.rate / other.rate for mine, other in turns)
        figures.append(
            Figure(
                f"get-session, {CONCURRENCY} at once",
                said([mine for mine, _ in turns]),
                f"the same select by bare httpx: {said([other for _, other in turns])}",
                f"{ratio:.2f} of its rate",
                f"{LEAST_RATIO} or more",
                ratio >= LEAST_RATIO,
            )
        )
    manifest = load_manifest()
    for name, path in (
        ("list-sessions", "/list-sessions"),
        ("list-models", f"/list-models-database/{SESSION}"),
        ("scalers", f"/scalers/{SESSION}"),
    ):
        source = REPOSITORY / "functions" / manifest[name]["source"] / "main.py"
        with serving(source, manifest[name]["target"], stack.functions_env) as address:
            loaded(f"{address}{path}", token, WARM_UP_S)
            alone = [loaded(f"{address}{path}", token, seconds)]
        figures.append(Figure(f"{name}, {CONCURRENCY} at once", said(alone), "", "", "no limit", reached=True))
    return figures


def said(runs: list[Load]) -> str:
    """Say the medians of several runs."""
    rate, p50, p99 = (statistics.median(values) for values in zip(*(vars(run).values() for run in runs), strict=True))
    return f"{rate:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def main() -> None:
    """Measure with one session of a user who exists for that long."""
    stack = running_stack()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with People(stack) as people:
        user = people.add()
        headers = {"Authorization": f"Bearer {user.token}", "Content-Type": "application/json"}
        address = f"{stack.env['TRAINSHED_URL']}/api/training/init-session"
        httpx.post(address, content=json.dumps({"sessionId": SESSION}), headers=headers).raise_for_status()
        figures = measured(stack, user, seconds)
    show("Load on one instance", figures)


if __name__ == "__main__":
    main()
