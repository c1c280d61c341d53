"""Converts one `.keras` file of a stranger, in a process of its own that is limited and then ends.

What runs here: shared/adapters/keras_sandbox.py starts it. It looks at the file first, converts it with h5py where that
suffices, and otherwise lets Keras load it with `safe_mode=True` and `compile=False`. Limits of the operating system end
what asks for too much; an audit hook stops what reaches for files, processes or the network through Python. Neither is
a wall: the wall is that the service has nothing to give away.
"""

import json
import os
import resource
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from shared.adapters.keras_h5 import H5pyConverter
from shared.adapters.keras_weights import inspect_weights
from shared.keras_archives import WEIGHTS_NAME, ArchiveFinding, inspect_archive

ARCHIVE_NAME: Final = "model.keras"
H5_NAME: Final = "model.h5"
VERDICT_NAME: Final = "verdict.json"
# Address space [bytes]: TensorFlow maps 1.2 GB by being imported.
MAX_MEMORY_BYTES: Final = 3 << 30
MAX_CPU_S: Final = 240
# [bytes] of one written file.
MAX_FILE_BYTES: Final = 512 << 20
MAX_OPEN_FILES: Final = 256
# [bytes] of weights, unpacked.
MAX_WEIGHTS_BYTES: Final = 512 << 20
_LONGEST_TEXT: Final = 400
_FORBIDDEN: Final = (
    "ctypes.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
    "socket.",
    "subprocess.",
)
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Verdict:
    """How a conversion ended.

    Attributes:
        status: converted, unsupported, refused or failed.
        finding: {code, message, where} of a file that is refused.
    """

    status: str
    detail: str | None = None
    finding: dict[str, str] | None = None

    @classmethod
    def refused(cls, code: str, message: str, where: str = "$") -> "Verdict":
        """Refuse a file."""
        return cls("refused", f"{where}: {message} ({code})", {"code": code, "message": message, "where": where})


def main(folder: Path) -> None:
    """Convert the archive in a folder, and leave a verdict and the file there."""
    for limit, most in (
        (resource.RLIMIT_AS, MAX_MEMORY_BYTES),
        (resource.RLIMIT_CPU, MAX_CPU_S),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    try:
        verdict = convert(folder)
    except MemoryError:
        verdict = Verdict.refused("too_large", "Loading it takes more memory than a conversion may have.")
    partial = folder / "verdict.partial"
    partial.write_text(json.dumps(asdict(verdict)))
    partial.replace(folder / VERDICT_NAME)


def convert(folder: Path) -> Verdict:
    """Convert the archive in a folder to the .h5 file beside it."""
    archive = folder / ARCHIVE_NAME
    with archive.open("rb") as file:
        report = inspect_archive(file)
    stopping = report.refusal or next((one for one in report.findings if one.code == "lambda"), None)
    if stopping is not None:
        return _refusal(stopping)
    if report.findings:
        first = report.findings[0]
        return Verdict("unsupported", f"{first.where}: {first.message} ({first.code})")
    weights = folder / "weights.h5"
    _unpack(archive, weights)
    with weights.open("rb") as file:
        finding = inspect_weights(file, weights.stat().st_size)
    weights.unlink()
    if finding is not None:
        return _refusal(finding.inside(WEIGHTS_NAME))
    plain = H5pyConverter().to_h5(archive.read_bytes())
    if plain is not None:
        (folder / H5_NAME).write_bytes(plain)
        return Verdict("converted")
    return _with_keras(archive, folder / H5_NAME)


def _refusal(finding: ArchiveFinding) -> Verdict:
    return Verdict.refused(finding.code, finding.message, finding.where)


def _unpack(archive: Path, weights: Path) -> None:
    """Write the weights of an archive that was inspected; a member never gives more than it claims."""
    with zipfile.ZipFile(archive) as members:
        if members.getinfo(WEIGHTS_NAME).file_size > MAX_WEIGHTS_BYTES:
            raise MemoryError
        with members.open(WEIGHTS_NAME) as source, weights.open("wb") as target:
            while piece := source.read(1 << 20):
                target.write(piece)


def _with_keras(archive: Path, h5: Path) -> Verdict:
    import keras
    import numpy as np

    acts = _confine(archive.parent)
    try:
        model = keras.saving.load_model(archive, compile=False, safe_mode=True)
        # Without the training's settings, which the old form cannot always read back.
        model.save(h5, include_optimizer=False)
        again = keras.saving.load_model(h5, compile=False, safe_mode=True)
        pairs = zip(model.get_weights(), again.get_weights(), strict=True)
        is_equal = all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)
    except MemoryError:
        raise
    # Keras raises whatever a file of a stranger makes it raise, and any of it means the same: it cannot be converted.
    except Exception as error:  # noqa: BLE001
        if acts:
            return Verdict.refused("forbidden_act", f"Loading it tried {acts[0]}.")
        detail = f"Keras cannot write it as .h5: {type(error).__name__}: {error}"
        return Verdict("unsupported", detail[:_LONGEST_TEXT])
    if acts:
        return Verdict.refused("forbidden_act", f"Loading it tried {acts[0]}.")
    if not is_equal:
        return Verdict("unsupported", "The .h5 form does not give back the same weights.")
    return Verdict("converted")


def _confine(folder: Path) -> list[str]:
    """Forbid what no conversion needs, from now on and for good; return the list of what was tried."""
    acts: list[str] = []
    readable = (str(folder), sys.prefix, sys.base_prefix, *(path for path in sys.path if path))

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            is_written = bool((arguments[2] or 0) & _WRITING)
            places = (str(folder),) if is_written else readable
            is_allowed = path == os.devnull or any(path.startswith(f"{place}{os.sep}") for place in places)
            act = None if is_allowed else f"{'writing' if is_written else 'reading'} {path}"
        else:
            act = event if event.startswith(_FORBIDDEN) else None
        if act is not None:
            acts.append(act[:_LONGEST_TEXT])
            raise PermissionError(act)

    sys.addaudithook(watch)
    return acts
