"""What the `trainshed` command takes: commands, options and their help. What they do is in trainshed/commands.py."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from trainshed.settings import VARIABLES
from trainshed.version import VERSION

TASKS = ("regression", "classification", "time_series")
SHELLS = ("bash", "zsh", "fish")
_CODES = """\
exit codes:
  0    done
  1    refused: the service, the bucket or the file says no; repeating the command alone does not help
  2    wrong usage or settings
  3    not signed in, or the sign-in has ended
  4    nobody answers, or the service is busy: the same command may succeed later
  130  interrupted (Ctrl-C); 141: who reads the output went away

With --json, standard output holds one JSON document and nothing else; an error is a JSON document on standard error.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; it leaves `command`, the name of a function in trainshed/commands.py."""
    root = argparse.ArgumentParser(
        prog="trainshed",
        description="Upload data sets, train models on them, look at the results, download the models.",
        epilog=f"{VARIABLES}\n{_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"trainshed {VERSION}")
    commands = _Commands(root)
    _add_signing_in(commands)
    _add_uploading(commands)
    _add_sessions(commands)
    _add_training(commands)
    _add_models(commands)
    _add_tools(commands)
    return root


class _Commands:
    """Adds commands, each with --json and with examples in its help."""

    def __init__(self, root: argparse.ArgumentParser) -> None:
        self._parsers = root.add_subparsers(metavar="COMMAND", required=True, title="commands")

    def add(
        self, name: str, text: str, *examples: str, more: str = "", has_json: bool = True
    ) -> argparse.ArgumentParser:
        added = self._parsers.add_parser(
            name,
            help=text,
            description=f"{text}\n{more}" if more else text,
            epilog="\n".join(["examples:", *(f"  {example}" for example in examples)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if has_json:
            added.add_argument("--json", action="store_true", help="print the answer as JSON")
        added.set_defaults(command=name, json=False)
        return added


def _add_signing_in(commands: _Commands) -> None:
    login = commands.add(
        "login",
        "Sign in and stay signed in.",
        "trainshed login --url https://api.example.com --supabase-url https://abc.supabase.co \\",
        "    --publishable-key sb_publishable_...",
        "trainshed login --config https://console.example.com",
        "trainshed login --config config.json    # of: terraform output -json console_config",
        "trainshed login --email alice@example.com --password-stdin < password.txt",
        more="""
Asks for e-mail and password, and keeps tokens (never the password) in a file that only you can read. They are
renewed by themselves; `trainshed logout` ends it.""",
    )
    login.add_argument(
        "--config",
        metavar="FILE|URL",
        help="a console's config.json, or a console's address: says all of the next three, and where each function is "
        "if there is no one address (default: TRAINSHED_CONFIG)",
    )
    login.add_argument("--url", metavar="URL", help="address of the service (default: TRAINSHED_URL)")
    login.add_argument(
        "--supabase-url", metavar="URL", help="its Supabase project (default: SUPABASE_URL, or the service)"
    )
    login.add_argument("--publishable-key", metavar="KEY", help="of that project (default: SUPABASE_PUBLISHABLE_KEY)")
    login.add_argument("--email", metavar="EMAIL", help="default: TRAINSHED_EMAIL, or asked for")
    login.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    commands.add("logout", "End the sign-in and forget it.", "trainshed logout")


def _add_uploading(commands: _Commands) -> None:
    upload = commands.add(
        "upload",
        "Upload files into a session, or continue where an upload was left.",
        "trainshed upload flights.csv --session flights",
        "trainshed upload january.csv february.csv --session flights --finalize",
        "trainshed upload data/ --session flights           # every file below the folder",
        "trainshed upload flights.csv --upload-id 3f8a1c52-...                # begun on another machine",
        more="""
Interrupt it, kill it, unplug it: the same command continues, here or on another machine, and sends only what is
missing. It compares the file with what is stored first, so that no two files are mixed. A file below a folder gets
its path as its name, with _ for /. Standard input is not taken: the size must be known before the first byte.""",
    )
    upload.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder of files")
    upload.add_argument("--session", metavar="ID", help="created if there is none of this name")
    upload.add_argument("--upload-id", metavar="ID", help="continue this upload, of one file")
    upload.add_argument("--content-type", metavar="TYPE", help="media type, for example text/csv")
    upload.add_argument("--finalize", action="store_true", help="close the session to further uploads afterwards")
    abort = commands.add("abort", "Give an upload up and free its storage.", "trainshed abort 3f8a1c52-...")
    abort.add_argument("upload", metavar="UPLOAD")
    finalize = commands.add(
        "finalize", "Close a session to further uploads, so that it can be trained.", "trainshed finalize flights"
    )
    finalize.add_argument("session", metavar="SESSION")


def _add_sessions(commands: _Commands) -> None:
    sessions = commands.add(
        "sessions",
        "List your sessions, newest first, or show one.",
        "trainshed sessions",
        "trainshed sessions flights",
        "trainshed sessions --search boiler",
        "trainshed sessions --json | jq -r '.[].session_id'",
    )
    sessions.add_argument("session", nargs="?", metavar="SESSION", help="show its files and uploads")
    sessions.add_argument("--search", default="", metavar="TEXT", help="only those whose name or title has this in it")
    sessions.add_argument("--limit", type=_count, metavar="N", help="only the newest N")
    delete = commands.add(
        "delete",
        "Delete a session with its files, models and results.",
        "trainshed delete flights",
        "trainshed delete flights --yes    # without a question, for scripts",
    )
    delete.add_argument("session", metavar="SESSION")
    delete.add_argument("--yes", action="store_true", help="do not ask")


def _add_training(commands: _Commands) -> None:
    train = commands.add(
        "train",
        "Train models on a finalized session and show the progress.",
        "trainshed train flights --target arr_delay",
        "trainshed train flights --target arr_delay --models random_forest linear_regression --seed 7",
        "trainshed train flights --target load --task time_series --time-column hour --horizon 24",
        "trainshed train flights --target arr_delay --no-wait",
        more="""
Ctrl-C leaves the training running; `trainshed cancel` ends it.""",
    )
    train.add_argument("session", metavar="SESSION")
    train.add_argument("--target", required=True, metavar="COLUMN", help="what to predict")
    train.add_argument("--task", choices=TASKS, help="default: by the target's values")
    train.add_argument("--models", nargs="+", metavar="NAME", help="default: all that the service knows for the task")
    train.add_argument("--test-fraction", type=float, metavar="F", help="part of the rows kept back (default 0.2)")
    train.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same models (default 42)")
    train.add_argument("--time-column", metavar="COLUMN", help="of a time series: what orders the rows")
    train.add_argument("--horizon", type=_count, metavar="N", help="of a time series: how many steps ahead")
    train.add_argument("--window", type=_count, metavar="N", help="of a time series: how many steps back are seen")
    train.add_argument("--no-wait", action="store_true", help="start it and return")
    cancel = commands.add(
        "cancel", "Cancel the training of a session; what is finished stays.", "trainshed cancel flights"
    )
    cancel.add_argument("session", metavar="SESSION")


def _add_models(commands: _Commands) -> None:
    models = commands.add(
        "models",
        "List the models of a session.",
        "trainshed models flights",
        "trainshed models flights --json | jq '.[] | {name, metrics}'",
    )
    models.add_argument("session", metavar="SESSION")
    download = commands.add(
        "download",
        "Download models of a session; size and checksum are compared.",
        "trainshed download flights --to models",
        "trainshed download flights --best --format onnx",
        "trainshed download flights --path 3f8a.../random_forest --format all",
        "trainshed download flights --archive",
        more="""
A file that is there is replaced only with --force; a model that is there already is not fetched again.
Without --format each model comes in the format that is safe and complete to reload: keras, skops, or else the first
that runs no code. A pkl file can run code when it is opened, and comes only if you ask for it.""",
    )
    download.add_argument("session", metavar="SESSION")
    chosen = download.add_mutually_exclusive_group()
    chosen.add_argument("--path", metavar="PATH", help="one model, as `models` lists it (default: all)")
    chosen.add_argument("--best", action="store_true", help="the best model of each target")
    chosen.add_argument(
        "--archive", action="store_true", help="everything of the session as one zip that checks itself"
    )
    download.add_argument("--format", metavar="FORMAT", help="keras, h5, skops, onnx, pkl, ..., or all")
    download.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    download.add_argument("--force", action="store_true", help="replace files that are there")
    plot = commands.add(
        "plot",
        "Draw the columns of a session's data, or its charts.",
        "trainshed plot flights                                  # every column, and the charts' names",
        "trainshed plot flights --column arr_delay",
        "trainshed plot flights --chart random_forest.residuals",
        "trainshed plot flights --chart random_forest.residuals --to residuals.png --theme dark",
        more="""
In the terminal, or with --to as the picture that the service draws (.png, .svg, or .json for Vega-Lite).""",
    )
    plot.add_argument("session", metavar="SESSION")
    what = plot.add_mutually_exclusive_group()
    what.add_argument("--column", action="append", metavar="NAME", help="a column of the data; may be repeated")
    what.add_argument("--chart", metavar="NAME", help="a chart of the newest training")
    plot.add_argument("--to", type=Path, metavar="FILE", help="write a chart as a picture")
    plot.add_argument("--theme", choices=("light", "dark"), default="light", help="of the picture")


def _add_tools(commands: _Commands) -> None:
    commands.add(
        "doctor",
        "Check from here to the bucket what an upload needs, and say how to mend it.",
        "trainshed doctor",
        "trainshed doctor --json",
        more="""
It opens a session with an upload of a few bytes, and deletes it again.""",
    )
    completion = commands.add(
        "completion",
        "Print what makes a shell complete commands and options.",
        'eval "$(trainshed completion bash)"                      # in ~/.bashrc',
        'eval "$(trainshed completion zsh)"                       # in ~/.zshrc, after compinit',
        "trainshed completion fish > ~/.config/fish/completions/trainshed.fish",
        has_json=False,
    )
    completion.add_argument("shell", choices=SHELLS)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        SystemExit: 2 for wrong usage, 0 after help.
    """
    root = parser()
    _complete(root)
    return root.parse_args(arguments)


def _complete(root: argparse.ArgumentParser) -> None:
    """Answer the shell and exit, if it is a shell that asks (_ARGCOMPLETE)."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 - only completion in a shell needs it; every other call would wait for it

        argcomplete.autocomplete(root)
