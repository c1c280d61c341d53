"""Deletes the data of the stack: `make reset`."""

import os
import shutil
import sys

from dev.home import home_from

# Only what the stack itself makes: TRAINSHED_HOME may have been pointed at a folder with other things.
FOLDERS = ("keys", "logs", "postgres", "postgres.new", "run", "storage", "tasks")
FILES = ("env", "functions.env", "lock")


def main() -> None:
    """Delete database, buckets, keys and logs, unless a stack is using them."""
    home = home_from(os.environ)
    if home.is_running():
        sys.exit(f"A stack is running with {home.path}; end it first.")
    for name in FOLDERS:
        shutil.rmtree(home.path / name, ignore_errors=True)
    for name in FILES:
        (home.path / name).unlink(missing_ok=True)
    if home.path.is_dir() and not any(home.path.iterdir()):
        home.path.rmdir()
    sys.stdout.write(f"Deleted the data in {home.path}\n")


if __name__ == "__main__":
    main()
