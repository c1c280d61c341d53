"""What every `TaskQueue` does: in memory, and Cloud Tasks as its emulator plays it."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.cloud.tasks_v2 import Queue

from shared.adapters.cloud_tasks import CloudTasksQueue
from shared.errors import QueueUnavailableError
from shared.ports import TaskQueue
from shared.records.training import TrainingTask
from shared.settings import QueueSettings
from tests.fakes.training import InMemoryQueue

PATIENCE_S = 10


@dataclass
class Delivery:
    """A queue, what it has delivered (or holds for delivery), and one of its kind that does not answer."""

    queue: TaskQueue
    model_ids: Callable[[], list[str]]
    dead_queue: TaskQueue

    def wait_for(self, n_tasks: int) -> list[str]:
        """Return the model ids of the tasks once there are so many of them."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.model_ids()) < n_tasks and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.model_ids()


class Receiver(ThreadingHTTPServer):
    """Plays run-training: notes the body of every POST to /run-training."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/run-training":
            self.server.bodies.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["memory", "emulator"])
def delivery(request) -> Iterator[Delivery]:
    if request.param == "memory":
        queue, dead = InMemoryQueue(), InMemoryQueue()
        dead.refuses_after = 0
        yield Delivery(queue, lambda: [task.model_id for task in queue.tasks], dead)
        return
    functions = request.getfixturevalue("local_stack").functions_env
    parent = functions["TASKS_QUEUE"].rpartition("/queues/")[0]
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        settings = QueueSettings(
            queue=f"{parent}/queues/test-{uuid.uuid4().hex}",
            target_url=f"http://127.0.0.1:{receiver.server_port}",
            tasks_email="tasks@example.com",
            oidc_audience="trainshed",
            emulator_host=functions["CLOUD_TASKS_EMULATOR_HOST"],
        )
        queue = CloudTasksQueue(settings)
        queue._jobs._client.create_queue(parent=parent, queue=Queue(name=settings.queue))
        # Nothing listens on port 9 of the loopback.
        dead = CloudTasksQueue(settings._replace(emulator_host="127.0.0.1:9"))
        yield Delivery(queue, lambda: [json.loads(body)["modelId"] for body in receiver.bodies], dead)
        queue._jobs._client.delete_queue(name=settings.queue)
        receiver.shutdown()
        thread.join()


def a_task(number: int = 1) -> TrainingTask:
    return TrainingTask(str(uuid.uuid4()), number)


def test_every_task_is_delivered(delivery):
    tasks = [a_task() for _ in range(3)]
    for task in tasks:
        delivery.queue.enqueue(task)
    assert sorted(delivery.wait_for(3)) == sorted(task.model_id for task in tasks)


def test_queueing_a_task_again_is_harmless(delivery):
    task = a_task()
    delivery.queue.enqueue(task)
    delivery.queue.enqueue(task)
    assert set(delivery.wait_for(1)) == {task.model_id}


def test_another_number_is_another_task(delivery):
    task = a_task()
    delivery.queue.enqueue(task)
    delivery.queue.enqueue(TrainingTask(task.model_id, 2))
    assert delivery.wait_for(2) == [task.model_id] * 2


def test_a_queue_that_does_not_answer_is_unavailable(delivery, monkeypatch):
    monkeypatch.setattr("shared.adapters.cloud_tasks.RETRY_DEADLINE_S", 1.0)
    with pytest.raises(QueueUnavailableError) as failed:
        delivery.dead_queue.enqueue(a_task())
    assert failed.value.retryable


def test_the_queue_is_told_who_calls_and_a_name_it_takes_once():
    """What the emulator does not look at, as Cloud Tasks reads it."""
    settings = QueueSettings(
        queue="projects/p/locations/l/queues/q",
        target_url="https://run.example",
        tasks_email="tasks@example.com",
        oidc_audience="trainshed",
        emulator_host="",
    )
    message = CloudTasksQueue(settings)._jobs._message("m-2", {"modelId": "m"})
    assert message["name"] == "projects/p/locations/l/queues/q/tasks/m-2"
    request = message["http_request"]
    assert request["url"] == "https://run.example/run-training"
    assert request["oidc_token"] == {"service_account_email": "tasks@example.com", "audience": "trainshed"}
    assert request["headers"] == {"Content-Type": "application/json"}
    assert json.loads(request["body"]) == {"modelId": "m"}
