"""A function as the platform runs it: it ends in good order, and sends spans where it is told to."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from container.app import load_manifest
from dev.home import REPOSITORY, free_ports
from dev.processes import start_tied
from tests.resilience.proxy import Plan, proxy_before

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER_SPAN = "00f067aa0ba902b7"


@contextmanager
def serving(stack, name, **environment) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Serve one function with the real functions-framework command; yields its process and address."""
    entry = load_manifest()[name]
    (port,) = free_ports(1, taken=set())
    process = start_tied(
        [REPOSITORY / ".venv/bin/functions-framework", "--target", entry["target"],
         "--source", REPOSITORY / "functions" / entry["source"] / "main.py",
         "--host", "127.0.0.1", "--port", str(port)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "THREADS": "8", **stack.functions_env, **environment},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                httpx.get(f"{address}/_health", timeout=60)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield process, address
    finally:
        process.kill()
        process.wait()


class SlowCompose(Plan):
    """Lets every compose take its time, and says when the first one has begun."""

    def __init__(self) -> None:
        super().__init__(late_s=0)
        self.begun = threading.Event()

    @contextmanager
    def fault(self, call):
        with super().fault(call) as fault:
            if call.endswith("/compose"):
                self.begun.set()
                time.sleep(2)
            yield fault


def test_an_assembly_in_flight_is_finished_before_the_process_ends(alice):
    upload = alice.uploaded(b"a,b\n1,2\n")
    stack = alice.api.stack
    plan, answers = SlowCompose(), []
    with (
        proxy_before(stack.functions_env["STORAGE_EMULATOR_HOST"], plan) as storage,
        serving(stack, "assemble-upload", STORAGE_EMULATOR_HOST=storage) as (process, address),
    ):

        def assemble():
            headers = {"Authorization": f"Bearer {alice.caller.token}"}
            path = f"{address}/uploads/{upload['uploadId']}/assemble"
            answers.append(httpx.post(path, headers=headers, timeout=60))

        caller = threading.Thread(target=assemble)
        caller.start()
        assert plan.begun.wait(60)
        process.send_signal(signal.SIGTERM)
        caller.join(60)
        process.wait(timeout=60)

    assert [answer.status_code for answer in answers] == [200]
    assert answers[0].json()["data"]["state"] == "assembled"
    assert process.returncode == 0


class Receiver(ThreadingHTTPServer):
    """Collects what an OTLP exporter sends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Collect)
        self.spans = []


class _Collect(BaseHTTPRequestHandler):
    log_message = lambda *_: None  # noqa: E731 - as short as it is silent

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(content)
        self.server.spans += [
            span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans
        ]
        self.send_response(200)
        self.end_headers()


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_spans_of_a_request_are_sent_before_its_answer(alice, receiver):
    upload = alice.uploaded(b"a,b\n1,2\n")
    endpoint = f"http://127.0.0.1:{receiver.server_port}"
    headers = {
        "Authorization": f"Bearer {alice.caller.token}",
        "traceparent": f"00-{TRACE}-{CALLER_SPAN}-01",
    }
    with serving(alice.api.stack, "get-upload", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as (_, address):
        receiver.spans.clear()
        httpx.get(f"{address}/uploads/{upload['uploadId']}", headers=headers, timeout=60).raise_for_status()
        spans = list(receiver.spans)

    by_name = {span.name: span for span in spans}
    request = by_name["get_upload"]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert request.parent_span_id.hex() == CALLER_SPAN
    assert {name for name, span in by_name.items() if span.parent_span_id == request.span_id} >= {
        "database uploads",
        "storage list",
    }


def test_signatures_and_reads_are_spans_of_the_request_in_whatever_thread_they_run(alice, receiver):
    upload = alice.uploaded(b"a,b\n1,2\n")
    endpoint = f"http://127.0.0.1:{receiver.server_port}"
    token = {"Authorization": f"Bearer {alice.caller.token}"}
    calls = {"sign-chunks": ("chunks", {"chunks": [{"index": 0}]}), "assemble-upload": ("assemble", {})}
    for function, (last, body) in calls.items():
        with serving(alice.api.stack, function, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as (_, address):
            path = f"{address}/uploads/{upload['uploadId']}/{last}"
            httpx.post(path, json=body, headers=token, timeout=60).raise_for_status()

    requests = {span.span_id: span.name for span in receiver.spans if span.name in {"sign_chunks", "assemble_upload"}}
    below = {(requests.get(span.parent_span_id), span.name) for span in receiver.spans}
    assert below >= {
        ("sign_chunks", "storage sign"),
        ("assemble_upload", "storage compose"),
        ("assemble_upload", "storage read"),
    }
