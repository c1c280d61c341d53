"""The `trainshed` command, also `python -m trainshed`. Exit codes are listed in its help (trainshed/arguments.py)."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.markup import escape

from trainshed.arguments import parse
from trainshed.commands import COMMANDS, Context, advice, show_doctor
from trainshed.display import progress_console
from trainshed.errors import (
    ChecksFailedError,
    FileChangedError,
    OutputError,
    ServiceError,
    SettingsError,
    SignInError,
    TrainshedError,
    UnreachableError,
)

# Nobody folds a pipe's lines, so what is in them is not cut off [characters].
_WIDTH_IN_A_PIPE = 1000
# What somebody can do about a refusal, by its code: those of docs/api.md, and http_403 of what is no Trainshed.
_ADVICE = {
    "forbidden": "Sign in as somebody who may (trainshed login), or ask whoever runs this deployment.",
    "storage_limit_reached": "Delete sessions that are no longer needed (trainshed delete), or ask for a larger plan.",
    "http_403": "Something on the way refuses it: try another network, without VPN or filter, or ask whoever runs this "
    "deployment.",
}
REFUSED, WRONG_USAGE, NOT_SIGNED_IN, TRY_LATER, INTERRUPTED, NO_READER = 1, 2, 3, 4, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = parse(arguments)
    errors = progress_console()
    command = COMMANDS[options.command]
    try:
        answer = command.run(Context(options, errors, os.environ))
        if options.json:
            _write(answer)
        else:
            _show(command.show(answer))
    except ChecksFailedError as error:
        if options.json:
            _write(error.checks)
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
        _drop_output()
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


def _write(document: Any) -> None:
    # An output that has no letters but English ones gets the others as JSON writes them there.
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    with _output():
        sys.stdout.write(json.dumps(document, ensure_ascii=not is_unicode, indent=2) + "\n")


def _show(parts: Sequence[Any]) -> None:
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE)
    with _output():
        with console.capture() as captured:
            for part in parts:
                console.print(part)
        # Not written by the console, which makes an error of its own of a reader that went away.
        sys.stdout.write(captured.get())


@contextmanager
def _output() -> Iterator[None]:
    """Make one sentence of a full disk."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise OutputError(f"Cannot write the output: {error.strerror}.") from error


def _drop_output() -> None:
    """Let nothing more be written: Python would complain once more when it flushes on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    if isinstance(error, ServiceError):
        if error.code in _ADVICE:
            return _ADVICE[error.code]
        if error.code == "file_exists":
            in_the_way = error.details.get("uploadId")
    return f"To give that upload up: trainshed abort {in_the_way}" if in_the_way else ""


def command() -> None:
    """Run the command and exit: the console script."""
    # Whoever starts us may have closed them: then there is nothing to read, and nobody who reads.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        # A name that cannot be written in the output's encoding is no reason to end.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())


if __name__ == "__main__":
    command()
