"""Makes a release: `make release VERSION=0.2.0`, or with DRY_RUN=1 to see what it would do.

From a clean main it dates "Unreleased" in CHANGELOG.md, sets the version of the service and of the Python client,
builds the bundles, commits and tags. Pushing is left to whoever runs it. The checks and tests are continuous
integration's.
"""

import argparse
import datetime as dt
import re
import subprocess
import sys
from pathlib import Path

from dev.bundles import write_bundles
from dev.faults import StackError
from dev.home import REPOSITORY

_UNRELEASED = "## Unreleased\n"
# Where the version stands, and how the line begins.
_PLACES = {"pyproject.toml": "version", "cli/trainshed/version.py": "VERSION"}
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


def git(tree: Path, *arguments: str) -> str:
    """Run git in a tree and return what it prints.

    Raises:
        StackError: git refuses.
    """
    done = subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(done.stderr.strip())
    return done.stdout.strip()


def dated(changelog: str, version: str, day: str) -> str:
    """Return the changelog with what is unreleased under the version, and an empty "Unreleased" above it.

    Raises:
        StackError: there is nothing unreleased.
    """
    _, found, rest = changelog.partition(_UNRELEASED)
    changes = rest.partition("\n## ")[0].strip()
    if not found or not changes:
        raise StackError('CHANGELOG.md has nothing under "Unreleased".')
    return changelog.replace(_UNRELEASED, f"{_UNRELEASED}\n## {version} - {day}\n", 1)


def demand_releasable(tree: Path, version: str) -> None:
    """Refuse what cannot be released.

    Raises:
        StackError: The version is none, or is not above the last one, or the tree is not as committed.
    """
    if not _VERSION.fullmatch(version):
        raise StackError(f"Give a version such as 0.2.0 with VERSION, not {version!r}.")
    if git(tree, "status", "--porcelain"):
        raise StackError("There are changes that are not committed.")
    numbers = [tuple(map(int, tag[1:].split("."))) for tag in git(tree, "tag").split() if _VERSION.fullmatch(tag[1:])]
    if tuple(map(int, version.split("."))) <= max(numbers, default=(0, 0, 0)):
        raise StackError(f"{version} is not above the last release.")


def release(tree: Path, version: str, day: str, *, dry_run: bool) -> list[str]:
    """Make a release of a tree.

    Returns:
        What was done, or would be, a line each.

    Raises:
        StackError: It cannot be released; nothing has changed then.
    """
    demand_releasable(tree, version)
    changelog = tree / "CHANGELOG.md"
    new_texts = {changelog: dated(changelog.read_text(), version, day)}
    for place, name in _PLACES.items():
        text = (tree / place).read_text()
        new_texts[tree / place] = re.sub(rf'(?m)^{name} = ".*"$', f'{name} = "{version}"', text, count=1)
    steps = [
        f"CHANGELOG.md: {version} of {day}",
        *(f"{place}: version {version}" for place in _PLACES),
        f"commit and tag v{version}",
    ]
    if dry_run:
        return [f"would do: {step}" for step in steps]
    for path, text in new_texts.items():
        path.write_text(text)
    bundles = write_bundles(tree / "build/bundles")
    git(tree, "commit", "--quiet", "--all", "--message", f"Release {version}")
    git(tree, "tag", "--annotate", f"v{version}", "--message", f"Trainshed {version}")
    return [*steps, f"{len(bundles)} bundles below build/bundles", f"now: git push origin HEAD v{version}"]


def main() -> None:
    """Release, or say in one sentence why not."""
    parser = argparse.ArgumentParser(prog="python -m dev.release")
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    day = dt.datetime.now(dt.UTC).date().isoformat()
    try:
        for line in release(REPOSITORY, options.version, day, dry_run=options.dry_run):
            sys.stdout.write(f"{line}\n")
    except StackError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
