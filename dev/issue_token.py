"""Prints a token of the running stack: `make token USER=alice`."""

import os
import sys

from dev.faults import StackError
from dev.home import Home, home_from, read_env
from dev.keys import SCHEDULER_EMAIL, TASKS_EMAIL, USERS, Keys, user_by


def issue(home: Home, who: str) -> str:
    """Return a token for one of the users, the service role, the scheduler or the task queue.

    Raises:
        StackError: no stack runs, or there is no such caller.
    """
    if not home.env_file.exists():
        raise StackError(f"No stack runs with {home.path}; `make start` starts one.")
    keys = Keys(home)
    issuer = read_env(home.env_file)["SUPABASE_URL"] + "/auth/v1"
    if user := user_by(name=who):
        return keys.user_token(user, issuer)
    match who:
        case "service":
            return keys.role_token("service_role")
        case "scheduler":
            return keys.oidc_token(SCHEDULER_EMAIL)
        case "tasks":
            return keys.oidc_token(TASKS_EMAIL)
    names = ", ".join([*(user.name for user in USERS), "service", "scheduler", "tasks"])
    raise StackError(f"There is no caller {who!r}; there are {names}.")


def main() -> None:
    """Print the token for the caller named on the command line."""
    try:
        sys.stdout.write(issue(home_from(os.environ), sys.argv[1]) + "\n")
    except StackError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
