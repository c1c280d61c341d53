"""Runs shared/adapters/keras_conversion.py in a process of its own, without environment, and judges how it ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from shared.adapters import keras_conversion
from shared.adapters.keras_conversion import VERDICT_NAME, Verdict
from shared.adapters.python_path import places_of

# Of the whole conversion [s]; less than convert-model may take (functions/manifest.yaml).
TIMEOUT_S: Final = 400
_LARGEST_VERDICT_BYTES: Final = 64 << 10
_STATUSES: Final = frozenset({"converted", "unsupported", "refused"})
# `-I` leaves out the environment, which may say where packages lie, and the working folder, so all places are said.
_PROGRAM: Final = """
import os, sys
sys.path[:] = sys.argv[1].split(os.pathsep)
from pathlib import Path
from shared.adapters.keras_conversion import main
main(Path(sys.argv[2]))
"""


def run(folder: Path, timeout_s: float = TIMEOUT_S) -> Verdict:
    """Convert the archive in a folder.

    Args:
        folder: Holds the archive as `model.keras`; gets `model.h5` if the answer is `converted`.

    Returns:
        How it ended: `refused` also where it took too long or too much, or ended its process; `failed` for a defect
        of ours.
    """
    folder = folder.resolve()
    command = [sys.executable, "-I", "-c", _PROGRAM, places_of(keras_conversion), str(folder)]
    environment = {
        "HOME": str(folder),
        "KERAS_HOME": str(folder),
        "TMPDIR": str(folder),
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "2",
    }
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program and our own paths
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = -signal.SIGXCPU
        finally:
            # Whatever it started lives in its group.
            _kill_group(process.pid)
            process.wait()
    if status == -signal.SIGXCPU:
        return Verdict.refused("too_expensive", "Converting it takes longer than a conversion may.")
    if status < 0:
        return Verdict.refused("crashed", f"Loading it ended the process with {signal.Signals(-status).name}.")
    verdict = _read(folder / VERDICT_NAME) if status == 0 else None
    if verdict is None:
        return Verdict("failed", f"The conversion ended with status {status} and without a verdict.")
    return verdict


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _read(path: Path) -> Verdict | None:
    """Read a verdict; its writer may have been taken over by the file it opened."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST_VERDICT_BYTES))
        finding = found["finding"]
        if found["status"] not in _STATUSES:
            return None
        return Verdict(
            found["status"],
            str(found["detail"]) if found["detail"] is not None else None,
            {key: str(finding[key]) for key in ("code", "message", "where")} if finding is not None else None,
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
