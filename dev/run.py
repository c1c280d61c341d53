"""Serves one function alone with the real functions-framework command: `make run F=init-session PORT=9001`."""

import os
import sys

from container.app import load_manifest
from dev.faults import StackError
from dev.home import REPOSITORY, Home, home_from, is_free, read_env


def command_for(home: Home, name: str, port: str) -> list[str]:
    """Return the command that serves the function.

    Raises:
        StackError: there is no such function, the port cannot be used, or no stack runs.
    """
    manifest = load_manifest()
    if name not in manifest:
        raise StackError(
            f"There is no function {name!r}. Choose with F, for example F=init-session; "
            f"there are {', '.join(sorted(manifest))}."
        )
    if not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise StackError(f"Choose a port with PORT, for example PORT=9001, not {port!r}.")
    if not is_free(int(port)):
        raise StackError(f"Port {port} is in use by another program; choose another with PORT.")
    if not home.is_running():
        raise StackError(f"No stack runs with {home.path}; `make start` starts one.")
    entry = manifest[name]
    return [
        str(REPOSITORY / ".venv/bin/functions-framework"),
        "--target", entry["target"], "--source", f"functions/{entry['source']}/main.py",
        "--host", "127.0.0.1", "--port", port,
    ]  # fmt: skip


def main() -> None:
    """Become the functions-framework process, with the settings of the running stack."""
    home = home_from(os.environ)
    try:
        command = command_for(home, sys.argv[1], sys.argv[2])
    except StackError as error:
        sys.exit(f"{error}")
    sys.stdout.write(f"{sys.argv[1]} listens on http://127.0.0.1:{sys.argv[2]}; Ctrl-C ends it.\n")
    sys.stdout.flush()
    os.chdir(REPOSITORY)
    environment = {**os.environ, **read_env(home.functions_env_file), "PYTHONPATH": str(REPOSITORY)}
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
