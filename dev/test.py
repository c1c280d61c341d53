"""Runs every test on stacks of its own: the second half of `make test`.

`python -m dev.test [PYTEST ARGUMENT...]`

Without arguments, in three shares at the same time: those below `tests` that need no stack, those that count what is on
a stack or bring its servers down, and the others, on a second one. The last line counts all.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from dev import chromium
from dev.home import REPOSITORY, Home, free_ports, is_free, read_env
from dev.processes import start_tied

READY = "Trainshed is ready: "
TESTS = REPOSITORY / "tests"
ACCEPTANCE = TESTS / "acceptance"
# What is in these changes nothing on a stack: most need none, some start their own.
ALONE = ("architecture", "fuzz", "infrastructure", "stack", "unit")
# These have a stack for themselves: long, and mostly waiting for time-outs and leases to pass.
SLOW = ("bundles", "database", "doctor", "resilience", "scale")


@dataclass
class Share:
    """One run of pytest.

    Attributes:
        environment: Of a stack.
        report: JUnit XML that pytest writes, with the counts.
        log: Where its output goes until it is shown; None is the terminal.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    report: Path
    log: Path | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start it."""
        command = [sys.executable, "-m", "pytest", *self.arguments, f"--junit-xml={self.report}"]
        output = self.log.open("wb") if self.log else None
        try:
            return start_tied(
                command,
                cwd=REPOSITORY,
                env=dict(self.environment),
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
            )
        finally:
            if output:
                output.close()

    def counts(self) -> Counter[str]:
        """Return how many tests passed, failed and were skipped; one failed if there is no report."""
        if not self.report.exists():
            return Counter(failed=1)
        counts: Counter[str] = Counter()
        for suite in ET.parse(self.report).getroot().iter("testsuite"):
            number = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
            failed = number["failures"] + number["errors"]
            passed = number["tests"] - failed - number["skipped"]
            counts.update(passed=passed, failed=failed, skipped=number["skipped"])
        return counts


class Stack:
    """A local stack with a temporary home.

    Attributes:
        home: Its folder; it is there until `end` is told that all went well.
    """

    def __init__(self) -> None:
        self.home = Home(Path(tempfile.mkdtemp(prefix="trainshed-")))
        self._process = start_tied(
            [sys.executable, "-m", "dev.start"],
            cwd=REPOSITORY,
            env={**os.environ, "TRAINSHED_HOME": str(self.home.path), "PORT": str(free_pair())},
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> bool:
        """Repeat what it says until it is ready; False if it ends before."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            say(line)
            if line.startswith(READY):
                return True
        return False

    def environment(self) -> dict[str, str]:
        """Return the environment in which programs find it."""
        settings = read_env(self.home.env_file)
        # The contract suite takes its object store from this variable; the emulator without the door ignores
        # the preconditions that the suite is about.
        settings["STORAGE_EMULATOR_HOST"] = settings["STORAGE_INTERNAL_URL"]
        return {**os.environ, **settings, "TRAINSHED_ENV": str(self.home.env_file)}

    def end(self, *, passed: bool) -> None:
        """End its servers; delete its home if nobody will look for a reason there."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate()
        if passed:
            shutil.rmtree(self.home.path, ignore_errors=True)


def main() -> None:
    """Start what is needed, run pytest and the acceptance scripts, and end it."""
    arguments = sys.argv[1:]
    if not arguments and not chromium.find():
        # Known now, rather than after all that comes before the browser's tests.
        sys.exit(f"The browser tests need Chromium; {chromium.HOW_TO_GET}")
    stacks: list[Stack] = []
    passed = False
    try:
        # One after the other: each looks for ports that nobody has.
        for _ in range(1 if arguments else 2):
            stacks.append(Stack())
            if not stacks[-1].wait_until_ready():
                break
        else:
            passed = run_tests(stacks, arguments)
    finally:
        for stack in stacks:
            stack.end(passed=passed)
    if not passed:
        logs = " and ".join(str(stack.home.logs) for stack in stacks)
        sys.exit(f"Tests failed. The servers' logs are in {logs}.")


def free_pair() -> int:
    """Return a port that is free together with the one above it."""
    return next(port for port in free_ports(20, taken=set()) if is_free(port) and is_free(port + 1))


def run_tests(stacks: Sequence[Stack], arguments: Sequence[str]) -> bool:
    """Run the tests, then each acceptance script; all see a stack's settings.

    Args:
        stacks: One, and another where everything is run.
        arguments: Of pytest; none runs everything.

    Returns:
        True if everything passed.
    """
    first, environment = stacks[0].home.path, stacks[0].environment()
    if arguments:
        shares = [Share(arguments, environment, first / "tests.xml")]
    else:
        others = [name for name in folders_of_tests() if name not in {*ALONE, *SLOW}]
        # What this one says is shown as it comes, that of the others when it is done.
        shares = [
            Share(below_tests(others), environment, first / "others.xml"),
            Share(below_tests(SLOW), stacks[1].environment(), first / "slow.xml", first / "slow.log"),
            Share(below_tests(ALONE), environment, first / "alone.xml", first / "alone.log"),
        ]
    running = [(share, share.start()) for share in shares]
    failed = []
    for share, process in running:
        if process.wait() != 0:
            failed.append(f"pytest {' '.join(share.arguments)}")
        if share.log:
            say(share.log.read_text(errors="replace"))
    scripts = [] if arguments else sorted(ACCEPTANCE.glob("*.sh"))
    for script in scripts:
        say(f"{script.relative_to(REPOSITORY)}\n")
        if subprocess.run(["sh", str(script)], cwd=REPOSITORY, env=environment, check=False).returncode != 0:
            failed.append(script.name)
    if failed:
        say(f"Failed: {', '.join(failed)}\n")
    counts = sum((share.counts() for share in shares), Counter[str]())
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    say(f"{counts['passed']} passed, {counts['failed']} failed{skipped}\n")
    return not failed


def folders_of_tests() -> list[str]:
    """Return the names of the folders below `tests` that hold some."""
    return sorted(path.name for path in TESTS.iterdir() if any(path.glob("test_*.py")))


def below_tests(names: Sequence[str]) -> list[str]:
    """Return folders as pytest takes them."""
    return [f"tests/{name}" for name in names]


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
