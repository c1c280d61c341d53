"""Runs gcloud-tasks-emulator as Cloud Tasks behaves where Trainshed relies on it.

The emulator's own command listens on every interface, forgets its tasks when it ends, takes a name twice and
tries a failing task again at once. Runs in the stack's environment, not in the application's, and so imports
nothing of this repository.
"""

import argparse
import logging
import threading
import time
from concurrent import futures
from pathlib import Path
from urllib.parse import quote

import grpc
from gcloud_tasks_emulator.cloudtasks_pb2_grpc import add_CloudTasksServicer_to_server
from gcloud_tasks_emulator.server import Greeter, Processor, QueueState
from google.api_core.exceptions import AlreadyExists
from google.cloud.tasks_v2 import Queue, Task

API_THREADS = 4
LONGEST_PAUSE_SECONDS = 30


class DurableQueues(QueueState):
    """Queues whose tasks are files until they have been done or given up.

    A task that was under way when the stack ended is delivered again, as Cloud Tasks may do too.
    """

    def __init__(self, folder: Path, retries: int) -> None:
        super().__init__("localhost", 80, retries)
        self._folder = folder
        self._names: set[str] = set()
        self._lock = threading.Lock()
        folder.mkdir(exist_ok=True)
        for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime):
            task = Task.deserialize(file.read_bytes())
            self.open(_queue_of(task.name))
            self.create_task(_queue_of(task.name), task)

    def open(self, name: str) -> None:
        """Create a queue, unless it exists."""
        self.create_queue(name.rsplit("/", 2)[0], Queue(name=name))

    def create_task(self, queue: str, task: Task) -> Task:
        """Queue a task and write it down.

        Raises:
            AlreadyExists: a task of that name was queued before.
        """
        with self._lock:
            if task.name in self._names:
                raise AlreadyExists(f"The task {task.name} existed recently.")
            created: Task = super().create_task(queue, task)
            self._names.add(created.name)
            self._file(created.name).write_bytes(Task.serialize(created))
        return created

    def delete_queue(self, name: str) -> None:
        """Delete a queue with its tasks."""
        for task in self._queue_tasks.get(name, ()):
            self._file(task.name).unlink(missing_ok=True)
        super().delete_queue(name)

    def submit_task(self, task_name: str, force_run: bool = False) -> Task:
        """Deliver a task; after a failure, wait longer each time before the queue goes on."""
        task: Task = super().submit_task(task_name, force_run)
        waiting = self._queue_tasks.get(_queue_of(task_name), ())
        if any(task.name == other.name for other in waiting):
            time.sleep(min(2**task.dispatch_count, LONGEST_PAUSE_SECONDS))
        else:
            self._file(task.name).unlink(missing_ok=True)
        return task

    def _file(self, task_name: str) -> Path:
        return self._folder / quote(task_name, safe="")


def _queue_of(task_name: str) -> str:
    return task_name.rsplit("/", 2)[0]


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where waiting tasks are kept")
    parser.add_argument("--queue", required=True, help="projects/P/locations/L/queues/Q")
    parser.add_argument("--retries", type=int, required=True, help="after this many a failing task is dropped")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    queues = DurableQueues(options.folder, options.retries)
    queues.open(options.queue)
    server = grpc.server(futures.ThreadPoolExecutor(API_THREADS))
    add_CloudTasksServicer_to_server(Greeter(queues), server)
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    processor = Processor(queues)
    processor.daemon = True
    processor.start()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
