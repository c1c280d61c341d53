"""Builds the console where its sources have changed: `python -m dev.console`.

Uses the standard library alone: dev/install.py calls it before the environments are of use.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys

from dev import npm

PAGE = npm.REPOSITORY / "console" / "dist"
# Beside what it was built with; a build by hand empties the page's own folder.
_STAMP = npm.REPOSITORY / "node_modules" / ".console-built"
# Both packages, and what they are built with.
_SOURCES = ("client/package.json", "client/tsconfig*.json", "client/src/**/*", "console/*.*", "console/public/**/*")
_SOURCES += ("console/src/**/*", "package-lock.json")


def is_current() -> bool:
    """Tell whether the page is built from the sources as they are now."""
    return (PAGE / "index.html").exists() and _STAMP.exists() and _STAMP.read_text() == _digest()


def build() -> None:
    """Build the client, then the page on it.

    Raises:
        SystemExit: The sources cannot be built; what is wrong has been said.
    """
    digest = _digest()
    program, environment = npm.command()
    for package in ("client", "console"):
        command = [*program, "run", "--silent", "build", "--workspace", package]
        built = subprocess.run(
            command,
            cwd=str(npm.REPOSITORY),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if built.returncode != 0:
            sys.stdout.write(built.stdout.decode(errors="replace"))
            sys.exit(f"{package}/ could not be built; the lines above say why.")
    _STAMP.write_text(digest)


def _digest() -> str:
    """Return a digest of the names and bytes of all sources."""
    digest = hashlib.sha256()
    files = {file for pattern in _SOURCES for file in npm.REPOSITORY.glob(pattern) if file.is_file()}
    for file in sorted(files):
        digest.update(f"{file.relative_to(npm.REPOSITORY)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    if not is_current():
        build()
