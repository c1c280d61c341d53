"""The queue keeps what it took, through failures and restarts."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google.api_core.exceptions
import grpc
import pytest
from google.cloud.tasks_v2 import CloudTasksClient, Queue
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from dev.home import Home, read_env

pytestmark = pytest.mark.slow


class Receiver(ThreadingHTTPServer):
    """Takes tasks, and refuses as many of them first as it is told to."""

    def __init__(self, refusals: int = 0) -> None:
        self.bodies: list[dict] = []
        self.refusals = refusals
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait_for(self, count: int) -> list[dict]:
        deadline = time.monotonic() + 20
        while len(self.bodies) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.bodies


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = self.server.refusals > 0
        self.server.refusals -= refused
        if not refused:
            self.server.bodies.append(json.loads(body))
        self.send_response(503 if refused else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Tasks:
    """A queue of the supervisor's stack that delivers to a receiver of the test's."""

    def __init__(self, supervisor, name: str) -> None:
        functions = read_env(Home(supervisor.home).functions_env_file)
        channel = grpc.insecure_channel(functions["CLOUD_TASKS_EMULATOR_HOST"])
        self.client = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        self.parent = functions["TASKS_QUEUE"].rpartition("/queues/")[0]
        self.queue = f"{self.parent}/queues/{name}"

    def open(self) -> None:
        self.client.create_queue(parent=self.parent, queue=Queue(name=self.queue))

    def add(self, receiver: Receiver, number: int) -> None:
        url = f"http://127.0.0.1:{receiver.server_port}/"
        request = {"url": url, "http_method": "POST", "body": json.dumps({"number": number}).encode()}
        task = {"name": f"{self.queue}/tasks/{number}", "http_request": request}
        self.client.create_task(parent=self.queue, task=task)


def test_a_name_is_taken_once_and_a_refused_task_is_delivered_again(supervisor):
    assert supervisor.start() is None, supervisor.lines
    tasks = Tasks(supervisor, "again")
    tasks.open()
    with Receiver(refusals=1) as receiver:
        tasks.add(receiver, 1)
        with pytest.raises(google.api_core.exceptions.AlreadyExists):
            tasks.add(receiver, 1)
        tasks.add(receiver, 2)

        delivered = receiver.wait_for(2)
        receiver.shutdown()

    assert sorted(body["number"] for body in delivered) == [1, 2]


def test_a_task_that_waits_is_delivered_after_a_restart(supervisor):
    assert supervisor.start() is None, supervisor.lines
    with Receiver(refusals=1000) as receiver:
        tasks = Tasks(supervisor, "kept")
        tasks.open()
        tasks.add(receiver, 7)
        supervisor.end()
        receiver.refusals = 0
        assert receiver.bodies == []

        assert supervisor.start() is None, supervisor.lines

        assert receiver.wait_for(1) == [{"number": 7}]
        receiver.shutdown()
