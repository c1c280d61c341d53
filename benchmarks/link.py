"""A network of limited speed in front of a local server: `python -m benchmarks.link PORT BYTES_PER_S`.

It prints its own port. What clients send is passed on no faster than that, all connections together; answers come back
as they are. Bytes are moved inside the kernel, so that the link costs little of the processors that both ends share.
"""

import os
import socket
import sys
import time
from contextlib import suppress
from threading import Lock, Thread

_PIECE_BYTES = 1 << 16
# A link that was idle for so long sends at once what it could have sent meanwhile; so long can a sleep be late [s].
_BURST_S = 0.005


class Pace:
    """Hands out sending times, so that the bytes of all who ask come to a rate at most. Thread-safe."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = Lock()
        self._free_at = 0.0

    def wait(self, n_bytes: int) -> None:
        """Sleep until so many bytes more may have been sent."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() - _BURST_S) + n_bytes / self._bytes_per_s
            due_s = self._free_at - time.monotonic()
        if due_s > 0:
            time.sleep(due_s)


def relay(source: socket.socket, sink: socket.socket, pace: Pace | None) -> None:
    """Pass on what comes until it ends or either side is gone; then say so to the sink."""
    read_end, write_end = os.pipe()
    with suppress(OSError):
        while n_bytes := os.splice(source.fileno(), write_end, _PIECE_BYTES):
            if pace:
                pace.wait(n_bytes)
            while n_bytes:
                n_bytes -= os.splice(read_end, sink.fileno(), n_bytes)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    os.close(read_end)
    os.close(write_end)


def serve(listener: socket.socket, port: int, pace: Pace) -> None:
    """Connect everybody who comes to a port of this machine, for good."""
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        Thread(target=relay, args=(client, server, pace), daemon=True).start()
        Thread(target=relay, args=(server, client, None), daemon=True).start()


def main() -> None:
    """Serve until the process is ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    serve(listener, int(sys.argv[1]), Pace(float(sys.argv[2])))


if __name__ == "__main__":
    main()
