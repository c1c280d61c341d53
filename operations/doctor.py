"""Checks a deployment's storage on its own buckets: `make doctor`.

It is told where they are as the functions are, by the environment (shared/settings.py); without that, a running local
stack is checked. Run it as the functions' account to see what the functions may do:
`gcloud auth application-default login --impersonate-service-account=ACCOUNT`.
"""

import argparse
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from operations.storage_checks import Point, StorageChecks, Verdict
from shared.errors import SettingsError
from shared.settings import allowed_origins, storage_settings

INTERRUPTED = 130
# A write that was cut off may still be on its way into the bucket.
CUT_OFF_WRITE_S = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_COLOURS = {Verdict.OK: "green", Verdict.FAILED: "red", Verdict.UNKNOWN: "yellow", Verdict.INFORMATION: "cyan"}
_NO_SETTINGS = (
    "Set the functions' variables (UPLOADS_BUCKET, ARTIFACTS_BUCKET, SIGNER_EMAIL, ALLOWED_ORIGINS) for a deployment, "
    "or run `make start` for the local stack."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check every point and return the exit code: 1 if one failed."""
    parser = argparse.ArgumentParser(prog="doctor", description="Check a deployment's storage.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    as_json: bool = parser.parse_args(arguments).json
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    os.environ.update(local_settings(os.environ))
    console = Console(highlight=False, soft_wrap=True)
    points: list[Point] = []
    is_interrupted = False

    def report(point: Point) -> None:
        points.append(point)
        if not as_json:
            _show(console, point)

    try:
        checks = StorageChecks(storage_settings(os.environ), allowed_origins(os.environ))
    except SettingsError as error:
        report(Point("settings", Verdict.FAILED, str(error), _NO_SETTINGS))
    else:
        try:
            for point in checks.run():
                report(point)
        except KeyboardInterrupt:
            is_interrupted = True
            time.sleep(CUT_OFF_WRITE_S)
        finally:
            _ignore_signals()
            report(checks.clean_up())
    n_failed = sum(point.verdict is Verdict.FAILED for point in points)
    if as_json:
        document = {"ok": not n_failed and not is_interrupted, "points": [asdict(point) for point in points]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        n_unknown = sum(point.verdict is Verdict.UNKNOWN for point in points)
        ending = "Interrupted. " if is_interrupted else ""
        console.print(f"{ending}{len(points)} points: {n_failed} failed, {n_unknown} not checkable here.")
    if is_interrupted:
        return INTERRUPTED
    return 1 if n_failed else 0


def local_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the running local stack's functions; none where a deployment is named or no stack runs."""
    # Only the local stack's env file has this name; the store that it names beside it is the one without the door.
    if "STORAGE_INTERNAL_URL" in environment:
        home = Path(environment["SIGNER_KEY_FILE"]).parent.parent
    elif "UPLOADS_BUCKET" in environment:
        return {}
    else:
        home = Path(environment.get("TRAINSHED_HOME") or ".trainshed")
    # The first is there while the stack runs, the second stays.
    if not (home / "env").exists():
        return {}
    lines = (home / "functions.env").read_text(encoding="utf-8").splitlines()
    return dict(word.partition("=")[::2] for line in lines for word in shlex.split(line))


def _show(console: Console, point: Point) -> None:
    colour = _COLOURS[point.verdict]
    console.print(f"[{colour}]{point.verdict:<13}[/{colour}] {point.name:<28} {escape(point.finding)}")
    if point.fix:
        console.print(f"{'':<13} fix: {escape(point.fix)}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # A second one must not stop the cleaning up.
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
