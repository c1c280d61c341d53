"""`Hdf5Reader` and `KerasConverter` whose every look at HDF5 is a process of its own (shared/adapters/hdf5_process.py).

This process opens no HDF5 of others: the library may crash over it, or worse. It hands out the file's bytes as they are
asked for, in blocks that are kept for a while, so that of a file of gigabytes only what describes it is fetched.
"""

from __future__ import annotations

import io
import json
import os
import select
import signal
import threading
from collections import OrderedDict
from typing import BinaryIO, Final

from shared.adapters.hdf5_process import ANSWER, ASK, FRAME, MOST_ASKED_BYTES
from shared.adapters.hdf5_template import STATUS, Hdf5Template
from shared.errors import InternalError
from shared.keras_archives import MAX_CONFIG_BYTES, ArchiveFinding
from shared.keras_files import Hdf5Contents

# [blocks] that one look fetches, of a megabyte each: a network of a thousand layers needs two for each.
MAX_BLOCKS: Final = 4_096
# [blocks] that are kept.
_KEPT_BLOCKS: Final = 32
_BLOCK_BYTES: Final = 1 << 20
# [bytes] of an answer: a configuration as JSON in JSON.
_MOST_CONTENTS_BYTES: Final = 12 * MAX_CONFIG_BYTES
_SMALL_BYTES: Final = 1 << 20
# Without a sign [s]; longer than its 60 s of CPU take on a machine that is shared.
SILENCE_S: Final = 200
_MAGIC: Final = b"\x89HDF\r\n\x1a\n"


class Hdf5Sandbox:
    """Has a process for each file, one at a time.

    Args:
        template: What they are forked from. Where it was ended or has died, another one takes its place.
        silence_s: After which a process is ended.
    """

    def __init__(self, template: Hdf5Template, silence_s: float = SILENCE_S) -> None:
        self._template = template
        self._silence_s = silence_s
        self._is_taken = threading.Lock()

    def contents(self, file: BinaryIO, start: int, n_bytes: int) -> Hdf5Contents:
        """Look at the HDF5 file that begins at `start` of another file.

        Raises:
            UnavailableError: The other file cannot be read just now.
            InternalError: The process could not do its work, whatever the file.
        """
        try:
            return _read_contents(self._run("contents", file, start, n_bytes, _MOST_CONTENTS_BYTES))
        except _EndedError as error:
            return Hdf5Contents(error.finding)

    def to_h5(self, archive: bytes) -> bytes | None:
        """Return the HDF5 file of a `.keras` archive, or None if that takes Keras or its weights must not be loaded."""
        # Keras does not pack weights, so the same ones take as much again.
        most_bytes = 2 * len(archive) + _SMALL_BYTES
        try:
            content = self._run("to_h5", io.BytesIO(archive), 0, len(archive), most_bytes)
        except _EndedError:
            return None
        return content if content.startswith(_MAGIC) else None

    def _run(self, task: str, file: BinaryIO, start: int, n_bytes: int, most_bytes: int) -> bytes:
        """Let a process do a task, and return its answer."""
        with self._is_taken:
            if not self._template.is_alive:
                self._template.end()
                self._template = Hdf5Template()
            try:
                with self._template.fork(task, n_bytes) as pipe:
                    answer = self._serve(pipe.fileno(), _Blocks(file, start, n_bytes), most_bytes)
                status = self._receive(self._template.tasks.fileno(), STATUS.size)
            except BaseException:
                # The process for this file may still be there.
                self._template.end()
                raise
        if answer is not None and status is not None:
            return answer
        exit_code = os.waitstatus_to_exitcode(*STATUS.unpack(status)) if status is not None else None
        if exit_code == -signal.SIGXCPU:
            raise _EndedError("too_expensive", "Reading it takes longer than it may.")
        if exit_code is not None and exit_code < 0:
            raise _EndedError("crashed", f"Reading it ended the process with {signal.Signals(-exit_code).name}.")
        raise InternalError(f"The process that reads HDF5 ended with status {exit_code} and without an answer.")

    def _serve(self, pipe: int, blocks: _Blocks, most_bytes: int) -> bytes | None:
        """Give a process what it asks for, until it answers; None if it ends before."""
        while (frame := self._receive(pipe, FRAME.size)) is not None:
            kind, start, n_bytes = FRAME.unpack(frame)
            if kind == ANSWER and n_bytes <= most_bytes:
                return self._receive(pipe, n_bytes)
            if kind != ASK or n_bytes > MOST_ASKED_BYTES:
                raise _EndedError("crashed", "Reading it made the process ask for what it cannot have.")
            self._send(pipe, blocks.read(start, n_bytes))
        return None

    def _receive(self, pipe: int, n_bytes: int) -> bytes | None:
        content = bytearray()
        while len(content) < n_bytes:
            self._wait(pipe, select.POLLIN)
            try:
                piece = os.read(pipe, min(n_bytes - len(content), MOST_ASKED_BYTES))
            except ConnectionError:
                # It has ended without taking what was sent to it.
                return None
            if not piece:
                return None
            content += piece
        return bytes(content)

    def _send(self, pipe: int, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                self._wait(pipe, select.POLLOUT)
                view = view[os.write(pipe, view) :]
        except ConnectionError:
            # It has ended; how, its status says.
            return

    def _wait(self, pipe: int, event: int) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(self._silence_s * 1000):
            raise _EndedError("too_expensive", "Reading it takes longer than it may.")


class _EndedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        self.finding = ArchiveFinding(code, message, "/", is_refused=True)
        super().__init__(message)


class _Blocks:
    """A part of a file, of which the blocks that were read last are kept."""

    def __init__(self, file: BinaryIO, start: int, n_bytes: int) -> None:
        self._file = file
        self._start = start
        self._n_bytes = n_bytes
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._n_fetched = 0

    def read(self, start: int, n_bytes: int) -> bytes:
        """Return bytes that all lie in the part."""
        if start + n_bytes > self._n_bytes:
            raise _EndedError("crashed", "Reading it made the process ask for what it cannot have.")
        end = start + n_bytes
        pieces = [self._block(number) for number in range(start // _BLOCK_BYTES, -(-end // _BLOCK_BYTES))]
        at = start % _BLOCK_BYTES
        return b"".join(pieces)[at : at + n_bytes]

    def _block(self, number: int) -> bytes:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        self._n_fetched += 1
        if self._n_fetched > MAX_BLOCKS:
            raise _EndedError("too_expensive", f"What describes it is spread over more than {MAX_BLOCKS} MiB.")
        self._file.seek(self._start + number * _BLOCK_BYTES)
        block = self._file.read(min(_BLOCK_BYTES, self._n_bytes - number * _BLOCK_BYTES))
        self._kept[number] = block
        if len(self._kept) > _KEPT_BLOCKS:
            self._kept.popitem(last=False)
        return block


def _read_contents(answer: bytes) -> Hdf5Contents:
    """Make a record of an answer. Its writer read a file of a stranger, so it is believed in form only."""
    try:
        found = json.loads(answer)
        finding, config = found["finding"], found["config"]
        if finding is None:
            return Hdf5Contents(None, config if isinstance(config, str) else None)
        code, message, where = (str(finding[name]) for name in ("code", "message", "where"))
        return Hdf5Contents(ArchiveFinding(code, message, where, is_refused=True))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Hdf5Contents(
            ArchiveFinding("crashed", "Reading it left no answer that can be read.", "/", is_refused=True)
        )
