"""Runs every test on a stack of its own: the second half of `make test`.

`python -m dev.test [PYTEST ARGUMENT...]`
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from dev.home import REPOSITORY, Home, free_ports, is_free, read_env
from dev.processes import end_with_parent

READY = "Trainshed is ready: "
ACCEPTANCE = REPOSITORY / "tests/acceptance"


def main() -> None:
    """Start a stack with a temporary home, run pytest and the acceptance scripts, and end it."""
    home = Home(Path(tempfile.mkdtemp(prefix="trainshed-")))
    environment = {**os.environ, "TRAINSHED_HOME": str(home.path), "PORT": str(free_pair())}
    stack = subprocess.Popen(
        [sys.executable, "-m", "dev.start"],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - one system call, no lock
    )
    try:
        passed = wait_until_ready(stack) and run_tests(home, sys.argv[1:])
    finally:
        stack.send_signal(signal.SIGTERM)
        stack.communicate()
    if not passed:
        sys.exit(f"Tests failed. The servers' logs are in {home.logs}.")
    shutil.rmtree(home.path, ignore_errors=True)


def free_pair() -> int:
    """Return a port that is free together with the one above it."""
    return next(port for port in free_ports(20, taken=set()) if is_free(port) and is_free(port + 1))


def wait_until_ready(stack: subprocess.Popen[str]) -> bool:
    """Repeat what the stack says until it is ready; False if it ends before."""
    assert stack.stdout is not None
    for line in stack.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        if line.startswith(READY):
            return True
    return False


def run_tests(home: Home, arguments: list[str]) -> bool:
    """Run pytest, then each acceptance script; both see the stack's settings.

    Returns:
        True if everything passed.
    """
    settings = read_env(home.env_file)
    # The contract suite takes its object store from this variable; the emulator without the door ignores
    # the preconditions that the suite is about.
    settings["STORAGE_EMULATOR_HOST"] = settings["STORAGE_INTERNAL_URL"]
    environment = {**os.environ, **settings, "TRAINSHED_ENV": str(home.env_file)}
    scripts = [] if arguments else sorted(ACCEPTANCE.glob("*.sh"))
    pytest = [sys.executable, "-m", "pytest", *arguments]
    failed = [] if subprocess.run(pytest, cwd=REPOSITORY, env=environment, check=False).returncode == 0 else ["pytest"]
    for script in scripts:
        sys.stdout.write(f"{script.relative_to(REPOSITORY)}\n")
        sys.stdout.flush()
        if subprocess.run(["sh", str(script)], cwd=REPOSITORY, env=environment, check=False).returncode != 0:
            failed.append(script.name)
    if failed:
        sys.stdout.write(f"Failed: {', '.join(failed)}\n")
    return not failed


if __name__ == "__main__":
    main()
