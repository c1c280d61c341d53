"""Looks at HDF5 with h5py alone, before anything loads it: what lies in it, and what lies elsewhere.

HDF5 can point outside: links to other files, datasets whose bytes are in other files (external), and datasets made of
other datasets (virtual). A small file can also claim arrays of any size, or name filters that are programs. Nothing is
followed here and no array is read. The library itself may stumble over what is malformed, so this runs in processes
that may die: shared/adapters/hdf5_sandbox.py, keras_sandbox.py.

Source:
    research/models.md, section 2: CVE-2026-1669, CVE-2026-12480, and the bombs of Keras 3.12.3 and 3.12.4.
"""

from typing import Any, BinaryIO, Final

from shared.keras_archives import ArchiveFinding

# [groups and datasets]; a network of a thousand layers has ten thousand.
MAX_OBJECTS: Final = 100_000
# What arrays may claim together, for each byte of the file; Keras stores them plainly.
MAX_CLAIM: Final = 4
_SMALL_BYTES: Final = 1 << 20
_LONGEST_TEXT: Final = 300
_NUMBERS: Final = "fiub"
# deflate, shuffle, fletcher32: parts of the library, and at most 4 to 1 of numbers that were learned. Keras uses none.
_FILTERS: Final = frozenset({1, 2, 3})


def inspect_weights(file: BinaryIO, n_bytes: int) -> ArchiveFinding | None:
    """Return why a file of weights must not be loaded, with its place in HDF5, or None.

    Args:
        n_bytes: Of the whole file.
    """
    import h5py

    room = MAX_CLAIM * n_bytes + _SMALL_BYTES
    try:
        with h5py.File(file, "r") as opened:
            return _walk(opened, room)
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
    settings = one.id.get_create_plist()
    filters = {settings.get_filter(at)[0] for at in range(settings.get_nfilters())}
    if not filters <= _FILTERS:
        return _refused("filter", f"Its numbers are packed by the filter {min(filters - _FILTERS)}.", where)
    # numpy has no bfloat16 and no float8; h5py hands their bytes out as they are.
    is_small_float = one.dtype.kind == "V" and one.dtype.fields is None and one.dtype.itemsize <= 2
    if one.dtype.kind not in _NUMBERS and not is_small_float:
        return _refused("members", f"It holds {one.dtype}, which are no plain numbers.", where)
    return None


def _refused(code: str, message: str, where: str) -> ArchiveFinding:
    return ArchiveFinding(code, message[:_LONGEST_TEXT], where[:_LONGEST_TEXT], is_refused=True)
