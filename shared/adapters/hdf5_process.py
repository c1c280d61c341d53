"""Reads HDF5 files of strangers, each in a process of its own that then ends.

What runs here: shared/adapters/hdf5_sandbox.py starts a process, which imports what reading takes and sees no file. For
each file it forks another one, which gets the file's bytes as it asks for them. Before the first of them that one is
sealed (shared/adapters/seccomp.py), so that a file that takes it over gains a process that can do nothing but answer.
"""

import gc
import io
import json
import os
import resource
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from shared.adapters.hdf5_template import STATUS, TASK
from shared.adapters.keras_h5 import H5pyConverter
from shared.adapters.keras_weights import inspect_weights
from shared.adapters.seccomp import seal
from shared.keras_archives import MAX_CONFIG_BYTES, ArchiveFinding
from shared.keras_files import Hdf5Contents

# A request for bytes: where, and how many; an answer has no place. What comes back is the bytes alone.
FRAME: Final = struct.Struct("<cQQ")
ASK, ANSWER = b"r", b"a"
MOST_ASKED_BYTES: Final = 1 << 20
# Address space [bytes] beyond what h5py and numpy map by being imported; save-model has 1 GiB for all. A file is
# converted in five times its memory.
MAX_MEMORY_BYTES: Final = {"contents": 192 << 20, "to_h5": 448 << 20}
MAX_CPU_S: Final = 60
_LONGEST_TEXT: Final = 300
_INPUT, _OUTPUT = 0, 1


def main() -> None:
    """Import everything, and do tasks until nobody asks for one."""
    _load_all()
    # Nothing of that is garbage: no process needs to look through it, and so to copy it.
    gc.freeze()
    gc.enable()
    fork_for_each(read_file)


def fork_for_each(work: Callable[[str, int], None]) -> None:
    """Do each task that comes through the standard input in a process of its own, one after the other."""
    with socket.socket(fileno=_INPUT) as tasks:
        while True:
            task, pipes, _, _ = socket.recv_fds(tasks, TASK.size, 1)
            if not task:
                return
            pid = os.fork()
            if not pid:
                _work_and_end(work, task, pipes[0])
            os.close(pipes[0])
            tasks.sendall(STATUS.pack(os.waitpid(pid, 0)[1]))


def _work_and_end(work: Callable[[str, int], None], task: bytes, pipe: int) -> NoReturn:
    """Do a task with the pipe in place of where tasks come from, and end this process whatever happens."""
    status = 1
    try:
        # It must not hear of the tasks that follow, nor say how it ended.
        os.dup2(pipe, _INPUT)
        os.dup2(pipe, _OUTPUT)
        os.close(pipe)
        name, n_bytes = TASK.unpack(task)
        work(name.rstrip(b"\0").decode(), n_bytes)
        status = 0
    finally:
        os._exit(status)


def read_file(task: str, n_bytes: int) -> None:
    """Do a task with a file of so many bytes, and answer: `contents` with JSON, `to_h5` with the file or nothing."""
    most_bytes = _mapped_bytes() + MAX_MEMORY_BYTES[task]
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    # At the first it ends with SIGXCPU, which says why; what holds that off ends at the second.
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seal()
    file = io.BufferedReader(_AskedFile(n_bytes), MOST_ASKED_BYTES // 16)
    answer = _to_h5(file) if task == "to_h5" else json.dumps(asdict(contents_of(file, n_bytes))).encode()
    _write(FRAME.pack(ANSWER, 0, len(answer)))
    _write(answer)


def contents_of(file: BinaryIO, n_bytes: int) -> Hdf5Contents:
    """Look at an HDF5 file."""
    try:
        finding = inspect_weights(file, n_bytes)
        return Hdf5Contents(finding) if finding is not None else _config_of(file)
    except MemoryError:
        message = "Reading it takes more memory than it may have."
        return Hdf5Contents(ArchiveFinding("too_large", message, "/", is_refused=True))


def _config_of(file: BinaryIO) -> Hdf5Contents:
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            config = opened.attrs.get("model_config")
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        message = f"Its configuration cannot be read: {error}"[:_LONGEST_TEXT]
        return Hdf5Contents(ArchiveFinding("not_hdf5", message, "model_config", is_refused=True))
    text = config.decode("utf-8", "replace") if isinstance(config, bytes) else config
    if text is not None and (not isinstance(text, str) or len(text) > MAX_CONFIG_BYTES):
        message = "It is no text that a configuration could be."
        return Hdf5Contents(ArchiveFinding("not_json", message, "model_config", is_refused=True))
    return Hdf5Contents(None, text)


def _to_h5(file: BinaryIO) -> bytes:
    try:
        return H5pyConverter().to_h5(file.read()) or b""
    except MemoryError:
        return b""


def _mapped_bytes() -> int:
    n_pages = Path("/proc/self/statm").read_text().split()[0]
    return int(n_pages) * resource.getpagesize()


def _load_all() -> None:
    """Do everything once, so that nothing is left to be imported by a process that can open no file."""
    import zipfile

    import h5py

    sample = io.BytesIO()
    with h5py.File(sample, "w") as file:
        file.attrs["model_config"] = "{}"
        file.create_dataset("layers/dense/vars/0", data=[1.0], dtype="f4")
        file["layers/dense/vars"].attrs["name"] = "dense"
    weights = sample.getvalue()
    contents_of(io.BytesIO(weights), len(weights))
    contents_of(io.BytesIO(b"none"), 4)
    archive = io.BytesIO()
    layer = {"class_name": "Dense", "config": {"name": "dense", "use_bias": False}}
    config = {"class_name": "Sequential", "config": {"layers": [layer]}}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("config.json", json.dumps(config))
        members.writestr("metadata.json", "{}")
        members.writestr("model.weights.h5", weights)
    H5pyConverter().to_h5(archive.getvalue())


class _AskedFile(io.RawIOBase):
    """The file, read by asking for each piece."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self._n_bytes = n_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._n_bytes}[whence] + offset
        if at < 0:
            raise ValueError("before the beginning of the file")
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        n_wanted = max(0, min(len(buffer), self._n_bytes - self._at, MOST_ASKED_BYTES))
        if not n_wanted:
            return 0
        _write(FRAME.pack(ASK, self._at, n_wanted))
        view, n_read = memoryview(buffer), 0
        while n_read < n_wanted:
            n_got = os.readv(_INPUT, [view[n_read:n_wanted]])
            if not n_got:
                raise EOFError
            n_read += n_got
        self._at += n_read
        return n_read


def _write(content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(_OUTPUT, view) :]
