"""The process that those for HDF5 files are forked from (shared/adapters/hdf5_process.py).

It is started before anything else is loaded, where that can be, and imports h5py meanwhile.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import weakref
from contextlib import suppress
from typing import Final

from shared.adapters.python_path import places_of

# What is to be done: the name of a task, and the bytes of the file. What comes back is how the process for it ended,
# as os.waitpid has it.
TASK: Final = struct.Struct("<16sQ")
STATUS: Final = struct.Struct("<i")
# Looking for garbage would take a twentieth of the time that imports take.
_PROGRAM: Final = """
import gc, os, sys
gc.disable()
sys.path[:] = sys.argv[1].split(os.pathsep)
from shared.adapters.hdf5_process import main
main()
"""


class Hdf5Template:
    """Starts it. It gets nothing of this process' environment, and no file; it ends with this."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, places_of(sys.modules[__name__])]
        self.tasks, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and our own paths
                command,
                # Threads of numpy's would not be sealed with the others.
                env={"OPENBLAS_NUM_THREADS": "1"},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        # Ends it and the process that it forked last: once, when it is called or nobody has this template any more.
        self.end = weakref.finalize(self, _end, self._process, self.tasks)

    @property
    def is_alive(self) -> bool:
        """Whether it can fork."""
        # Looked at without taking its status: until that is taken, no other group can have its number.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.end.alive and os.waitid(os.P_PID, self._process.pid, options) is None

    def fork(self, task: str, n_bytes: int) -> socket.socket:
        """Let it fork a process for a task; return the pipe to that one."""
        pipe, theirs = socket.socketpair()
        # If it has ended, the pipe's other end closes, and no status will come.
        with theirs, suppress(ConnectionError):
            socket.send_fds(self.tasks, [TASK.pack(task.encode(), n_bytes)], [theirs.fileno()])
        pipe.setblocking(False)
        return pipe


def _end(process: subprocess.Popen[bytes], tasks: socket.socket) -> None:
    tasks.close()
    # They are a group of their own, which a sealed process cannot leave.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
