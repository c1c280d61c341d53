"""An HTTP proxy that hurts: it stands before one server and does to chosen requests what networks and servers do."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Fault(StrEnum):
    """What happens to one request."""

    TOO_MANY = "429"
    BROKEN = "500"
    AWAY = "503"
    CUT_REQUEST = "the connection is cut before the request is passed on"
    LOSE_REPLY = "the reply is lost after the effect"
    CUT_REPLY = "the reply is cut half-way"
    LATE_REPLY = "the reply comes after the caller has given up"
    LATE_EFFECT = "the effect comes after the caller has given up"


class Plan:
    """Says which requests go wrong, and counts all of them; shared by the proxies before all servers."""

    def __init__(self, *, late_s: float) -> None:
        self.late_s = late_s
        self._lock = threading.Condition()
        self._n_under_way = 0
        self.clear()

    def clear(self) -> None:
        self.calls: list[str] = []
        self._choose: Callable[[int], Fault | None] = lambda _: None

    def hurt(self, at: int, fault: Fault, *, for_good: bool = False) -> None:
        """Let the fault happen to one request, counted from 1, and to every later one if it is there for good."""
        self.clear()
        self._choose = lambda number: fault if number == at or (for_good and number > at) else None

    @contextmanager
    def fault(self, call: str) -> Iterator[Fault | None]:
        with self._lock:
            self._n_under_way += 1
            self.calls.append(call)
            fault = self._choose(len(self.calls))
        try:
            yield fault
        finally:
            with self._lock:
                self._n_under_way -= 1
                self._lock.notify_all()

    def settle(self) -> None:
        """Wait until no request is under way, late effects included."""
        with self._lock:
            assert self._lock.wait_for(lambda: not self._n_under_way, timeout=30)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers go out whole and at once.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: "_Server"
    log_message = lambda *_: None  # noqa: E731 - as short as it is silent

    def _pass_on(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.plan.fault(f"{self.command} {self.path.partition('?')[0]}") as fault:
            self._suffer(fault, content)

    def _suffer(self, fault: Fault | None, content: bytes) -> None:
        plan = self.server.plan
        if fault in {Fault.TOO_MANY, Fault.BROKEN, Fault.AWAY}:
            self._reply(int(fault), [("Content-Type", "text/html")], b"<h1>Not now</h1>")
            return
        if fault is Fault.CUT_REQUEST:
            self._cut()
            return
        if fault is Fault.LATE_EFFECT:
            time.sleep(plan.late_s)
        status, headers, body = self._ask_server(content)
        if fault is Fault.LATE_REPLY:
            time.sleep(plan.late_s)
        if fault in {Fault.LOSE_REPLY, Fault.LATE_REPLY, Fault.LATE_EFFECT}:
            self._cut()
        elif fault is Fault.CUT_REPLY:
            self._reply(status, headers, body, n_sent=len(body) // 2)
            self._cut()
        else:
            self._reply(status, headers, body)

    do_GET = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815 - names that http.server looks for

    def _ask_server(self, content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        headers["Host"] = self.server.target
        with closing(http.client.HTTPConnection(self.server.target, timeout=30)) as connection:
            connection.request(self.command, self.path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes, *, n_sent: int | None = None) -> None:
        try:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:n_sent])
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def _cut(self) -> None:
        # The other end sees a reset, not an end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    plan: Plan
    target: str

    def handle_error(self, *_: object) -> None:
        """A caller that has gone away is what the test is about."""


@contextmanager
def proxy_before(url: str, plan: Plan) -> Iterator[str]:
    """Serve as `url` does, but for the plan's faults; yields the proxy's own URL."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.plan, server.target = plan, urlsplit(url).netloc
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
