"""Looks at a `model.weights.h5` with h5py alone, before anything loads it: what lies in it, and what lies elsewhere.

HDF5 can point outside: links to other files, datasets whose bytes are in other files (external), and datasets made of
other datasets (virtual). A small file can also claim arrays of any size. Nothing is followed here and no array is read.

Source:
    research/models.md, section 2: CVE-2026-1669, CVE-2026-12480, and the bombs of Keras 3.12.3 and 3.12.4.
"""

from pathlib import Path
from typing import Any, Final

from shared.keras_archives import ArchiveFinding

# [groups and datasets]; a network of a thousand layers has ten thousand.
MAX_OBJECTS: Final = 100_000
# What arrays may claim together, for each byte of the file; Keras stores them plainly.
MAX_CLAIM: Final = 4
_SMALL_BYTES: Final = 1 << 20
_NUMBERS: Final = "fiub"


def inspect_weights(path: Path) -> ArchiveFinding | None:
    """Return why a file of weights must not be loaded, or None."""
    import h5py

    room = MAX_CLAIM * path.stat().st_size + _SMALL_BYTES
    try:
        with h5py.File(path, "r") as file:
            return _walk(file, room)
    # What h5py raises for files that are broken, or not what they claim.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        return _refused("not_hdf5", f"It is no HDF5 file that can be read: {error}", "/")


def _walk(file: Any, room: int) -> ArchiveFinding | None:
    import h5py

    seen: set[int] = set()
    waiting = [("", file)]
    while waiting:
        path, group = waiting.pop()
        for name in group:
            where = f"{path}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                return _refused("link", "It is a link to another place.", where)
            one = group[name]
            address = h5py.h5o.get_info(one.id).addr
            if address in seen:
                return _refused("link", "It is there twice, or leads back to what holds it.", where)
            seen.add(address)
            if len(seen) > MAX_OBJECTS:
                return _refused("too_large", f"It has more than {MAX_OBJECTS} groups and arrays.", where)
            if isinstance(one, h5py.Group):
                waiting.append((where, one))
                continue
            finding = _of_dataset(one, where)
            if finding is not None:
                return finding
            room -= one.nbytes
            if room < 0:
                return _refused("too_large", "Its arrays claim more than the file has.", where)
    return None


def _of_dataset(one: Any, where: str) -> ArchiveFinding | None:
    import h5py

    if not isinstance(one, h5py.Dataset):
        return _refused("members", "It is neither a group nor an array.", where)
    if one.is_virtual:
        return _refused("virtual_dataset", "Its numbers would be read from other arrays or files.", where)
    if one.external:
        return _refused("external_dataset", "Its numbers would be read from another file.", where)
    if one.dtype.kind not in _NUMBERS:
        return _refused("members", f"It holds {one.dtype}, which are no plain numbers.", where)
    return None


def _refused(code: str, message: str, where: str) -> ArchiveFinding:
    return ArchiveFinding(code, message[:300], f"model.weights.h5:{where}"[:300], is_refused=True)
