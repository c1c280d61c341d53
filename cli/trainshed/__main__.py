"""The `trainshed` command, also `python -m trainshed`. Exit codes are listed in its help (trainshed/arguments.py)."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from trainshed.arguments import parse
from trainshed.commands import COMMANDS, Context, advice, show_doctor
from trainshed.display import progress_console
from trainshed.errors import (
    ChecksFailedError,
    FileChangedError,
    ServiceError,
    SettingsError,
    SignInError,
    TrainshedError,
    UnreachableError,
)

# Nobody folds a pipe's lines, so what is in them is not cut off [characters].
_WIDTH_IN_A_PIPE = 1000
REFUSED, WRONG_USAGE, NOT_SIGNED_IN, TRY_LATER, INTERRUPTED, NO_READER = 1, 2, 3, 4, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = parse(arguments)
    errors = progress_console()
    command = COMMANDS[options.command]
    try:
        answer = command.run(Context(options, errors, os.environ))
        if options.json:
            _write(json.dumps(answer, ensure_ascii=False, indent=2))
        else:
            _show(command.show(answer))
    except ChecksFailedError as error:
        if options.json:
            _write(json.dumps(error.checks, ensure_ascii=False, indent=2))
        else:
            _show(show_doctor(error.checks))
        return REFUSED
    except TrainshedError as error:
        code = exit_code(error)
        _complain(error, code, options, errors)
        return code
    except KeyboardInterrupt:
        errors.print(escape(f"Interrupted. {advice(options)}"))
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    return 0


def exit_code(error: TrainshedError) -> int:
    """Return the exit code of an error, by what can be done about it."""
    if isinstance(error, SettingsError):
        return WRONG_USAGE
    if isinstance(error, SignInError):
        return TRY_LATER if error.is_passing else NOT_SIGNED_IN
    if isinstance(error, UnreachableError):
        return TRY_LATER
    if isinstance(error, ServiceError):
        if error.code == "unauthenticated":
            return NOT_SIGNED_IN
        return TRY_LATER if error.retryable else REFUSED
    return REFUSED


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _show(parts: Sequence[Any]) -> None:
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    # Not written by the console, which makes an error of its own of a reader that went away.
    sys.stdout.write(captured.get())
    sys.stdout.flush()


def _complain(error: TrainshedError, code: int, options: Namespace, errors: Console) -> None:
    way_out = _way_out(error, options)
    if options.json:
        document = {"error": str(error), "exit_code": code, "advice": way_out or None}
        if isinstance(error, ServiceError):
            document |= {"code": error.code, "details": dict(error.details), "request_id": error.request_id}
        sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    errors.print(f"[red]{escape(' '.join(part for part in (_sentence(error), way_out) if part))}[/red]")


def _sentence(error: TrainshedError) -> str:
    if not isinstance(error, ServiceError):
        return str(error)
    request = f" (request {error.request_id})" if error.request_id else ""
    return f"{error.detail}{request}"


def _way_out(error: TrainshedError, options: Namespace) -> str:
    """Say what to do about an error, where there is one thing to do."""
    if isinstance(error, ServiceError) and error.code == "unauthenticated":
        return " ".join(["Sign in: trainshed login", *([advice(options)] if options.command == "upload" else [])])
    _, upload_id = getattr(options, "current", None) or (None, None)
    in_the_way = upload_id if isinstance(error, FileChangedError) else None
    if isinstance(error, ServiceError) and error.code == "file_exists":
        in_the_way = error.details.get("uploadId")
    return f"To give that upload up: trainshed abort {in_the_way}" if in_the_way else ""


def command() -> None:
    """Run the command and exit: the console script."""
    sys.exit(main())


if __name__ == "__main__":
    command()
