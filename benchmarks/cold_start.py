"""From the start of a process to its first 200, against a bare functions-framework hello.

`python -m benchmarks.cold_start [ROUNDS] [all | FUNCTION...]` unpacks the bundles of one function of each kind, of all,
or of those named, beside an environment of their requirements, starts each with the real functions-framework command,
and asks until it answers 200; the hello in turns with them, in the same environment. Functions without a request in
REQUESTS are asked for their health. `all` installs every group, which takes minutes and gigabytes. The sizes of all
bundles are measured too.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.measuring import MIB, Figure, running_stack, show
from container.app import load_manifest
from dev.bundles import Bundle, bundle_of
from dev.home import REPOSITORY, STACK_ENVIRONMENT, free_ports
from dev.processes import start_tied
from shared.web.manifest import HEALTH_PATH
from tests.local_stack import LocalStack, People

ROUNDS = 7
LARGEST_MIB = 128
LARGEST_BUNDLE_KIB = 100
LARGEST_INSTALLED_MIB = 60
HELLO = "def hello(request):\n    return 'hello'\n"
SESSION = "cold-start"
# Of requirements; the others have none: they take tasks, or do what is worth waiting for.
LIMITS = {"sessions": 1.5, "results": 1.5, "uploads": 1.9, "models": 1.9}
OF_EACH_KIND = ("get-session", "scalers", "create-upload", "list-models")
# What each function is asked that can answer 200 about a session without files.
REQUESTS: Mapping[str, tuple[str, str, Mapping[str, object] | None]] = {
    "init-session": ("POST", "/init-session", {"sessionId": SESSION}),
    "list-sessions": ("GET", "/list-sessions", None),
    "get-session": ("GET", f"/session/{SESSION}", None),
    "create-upload": ("POST", "/uploads", {"sessionId": SESSION, "fileName": "a.csv", "size": 5}),
    "list-models": ("GET", f"/list-models-database/{SESSION}", None),
    "plot-variables": ("GET", f"/plot-variables/{SESSION}", None),
    "visualizations": ("GET", f"/visualizations/{SESSION}", None),
    "scalers": ("GET", f"/scalers/{SESSION}", None),
    "evaluation-tables": ("GET", f"/evaluation-tables/{SESSION}", None),
    "describe": ("GET", "/openapi.json", None),
}


@dataclass(frozen=True)
class Program:
    """What is started: its folder, its target, and a request that it answers with 200."""

    name: str
    python: Path
    folder: Path
    target: str
    method: str
    path: str
    limit: float | None
    body: Mapping[str, object] | None = None
    environment: Mapping[str, str] | None = None


@contextmanager
def running(program: Program, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program as the platform does."""
    process = start_tied(
        [program.python.parent / "functions-framework", "--target", program.target, "--host", "127.0.0.1",
         "--port", str(port)],
        cwd=program.folder,
        env={"PATH": os.environ["PATH"], "THREADS": "8", "PYTHONPATH": "", **(program.environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def started(program: Program, token: str) -> tuple[float, float, int]:
    """Start a program; return the seconds to its first 200, the CPU seconds it took, and its peak memory [bytes]."""
    (port,) = free_ports(1, taken=set())
    begun = time.perf_counter()
    with running(program, port) as process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        while True:
            try:
                answer = client.request(
                    program.method, program.path, json=program.body, headers={"Authorization": f"Bearer {token}"}
                )
            except httpx.TransportError:
                time.sleep(0.005)
                continue
            answer.raise_for_status()
            seconds = time.perf_counter() - begun
            pids = [process.pid, *children_of(process.pid)]
            return seconds, sum(map(cpu_s, pids)), max(map(peak_bytes, pids))


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """Return the peak of a process without what it shares with the one it was forked from, which has less."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


def programs(folder: Path, stack: LocalStack, names: Iterable[str]) -> Iterator[Program]:
    """Unpack one bundle after the other."""
    manifest = load_manifest()
    for name in names:
        entry = manifest[name]
        place = folder / name
        python = environment_of(entry["requirements"], folder)
        with zipfile.ZipFile(io.BytesIO(bundle_of(name, entry).archive())) as archive:
            archive.extractall(place)
        # The platform's build compiles what it deploys.
        subprocess.run([python, "-m", "compileall", "-q", place], check=True)
        method, path, body = REQUESTS.get(name, ("GET", HEALTH_PATH, None))
        limit = LIMITS.get(entry["requirements"])
        yield Program(name, python, place, entry["target"], method, path, limit, body, stack.functions_env)


def environment_of(group: str, folder: Path) -> Path:
    """Return the Python of an environment with a group's requirements, as compiled as the platform has them."""
    python = folder / "environments" / group / "bin/python"
    if not python.exists():
        uv = str(STACK_ENVIRONMENT / "bin/uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, python.parent.parent], check=True)
        install = [uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", "--python", python]
        subprocess.run([*install, REPOSITORY / f"requirements/{group}.txt"], check=True)
    return python


def sizes(folder: Path) -> list[Figure]:
    """Measure the largest bundle, and the sessions' bundle with all that is installed for it."""
    manifest = load_manifest()
    bundles = {}
    for name, entry in manifest.items():
        files = dict(bundle_of(name, entry).files)
        # The list of dependencies, mostly hashes, counts as one of them.
        del files["requirements.txt"]
        bundles[name] = Bundle(name, files).archive()
    name, bundle = max(bundles.items(), key=lambda named: len(named[1]))
    packages = environment_of("sessions", folder).parents[1] / "lib"
    installed = [file for file in packages.rglob("*") if file.is_file()]
    kib = len(bundle) / 1024
    installed_mib = (sum(file.stat().st_size for file in installed) + len(bundles["get-session"])) / MIB
    return [
        Figure(
            f"largest of {len(bundles)} bundles without dependencies, {name}", f"{kib:.0f} KiB", "", f"{kib:.0f} KiB",
            f"{LARGEST_BUNDLE_KIB} KiB or less", kib <= LARGEST_BUNDLE_KIB,
        ),
        Figure(
            "sessions with dependencies", f"{installed_mib:.0f} MiB", "", f"{installed_mib:.0f} MiB",
            f"{LARGEST_INSTALLED_MIB} MiB or less", installed_mib <= LARGEST_INSTALLED_MIB,
        ),
    ]  # fmt: skip


def measured(stack: LocalStack, token: str, rounds: int, names: Iterable[str]) -> list[Figure]:
    """Start every bundle in turns with the hello."""
    with tempfile.TemporaryDirectory(prefix="cold-start-") as name:
        folder = Path(name)
        (folder / "main.py").write_text(HELLO)
        figures = []
        for program in programs(folder, stack, names):
            hello = Program("hello", program.python, folder, "hello", "GET", "/", 1.0)
            pairs = [(started(program, token), started(hello, token)) for _ in range(rounds)]
            wall = statistics.median(ours[0] / bare[0] for ours, bare in pairs)
            # The kernel counts in hundredths of a second: one pair alone would be a rough ratio.
            cpu = sum(ours[1] for ours, _ in pairs) / sum(bare[1] for _, bare in pairs)
            memory = max(ours[2] for ours, _ in pairs) / MIB
            figures.append(
                Figure(
                    f"start to first 200, {program.name}{' (health)' if program.path == HEALTH_PATH else ''}",
                    f"{statistics.median(ours[0] for ours, _ in pairs):.2f} s"
                    f" ({statistics.median(ours[1] for ours, _ in pairs):.2f} s of CPU)",
                    f"bare hello: {statistics.median(bare[0] for _, bare in pairs):.2f} s"
                    f" ({statistics.median(bare[1] for _, bare in pairs):.2f} s of CPU)",
                    f"{wall:.2f} times ({cpu:.2f} times the CPU)",
                    f"{program.limit} or less" if program.limit else "no limit",
                    program.limit is None or wall <= program.limit,
                )
            )
            figures.append(
                Figure(
                    f"peak memory of that, {program.name}",
                    f"{memory:.0f} MiB",
                    f"bare hello: {max(bare[2] for _, bare in pairs) / MIB:.0f} MiB",
                    f"{memory:.0f} MiB",
                    f"{LARGEST_MIB} MiB or less" if program.limit else "no limit",
                    program.limit is None or memory <= LARGEST_MIB,
                )
            )
        return figures + sizes(folder)


def main() -> None:
    """Measure with a session of a user who exists for that long."""
    stack = running_stack()
    words = sys.argv[1:]
    rounds = int(words.pop(0)) if words and words[0].isdigit() else ROUNDS
    names = load_manifest() if words == ["all"] else words or OF_EACH_KIND
    with People(stack) as people:
        user = people.add()
        authorization = {"Authorization": f"Bearer {user.token}"}
        address = f"{stack.env['TRAINSHED_URL']}/api/training/init-session"
        httpx.post(address, json={"sessionId": SESSION}, headers=authorization, timeout=30).raise_for_status()
        figures = measured(stack, user.token, rounds, names)
    show("Cold start", figures)


if __name__ == "__main__":
    main()
