"""Runs gcloud-tasks-emulator on the loopback; the emulator's own command listens on every interface.

Runs in the stack's environment, not in the application's, and so imports nothing of this repository.
"""

import argparse
import logging
import threading
import time
from concurrent import futures

import grpc
from gcloud_tasks_emulator.cloudtasks_pb2_grpc import add_CloudTasksServicer_to_server
from gcloud_tasks_emulator.server import Greeter, Processor, QueueState
from google.cloud.tasks_v2 import Queue, Task

API_THREADS = 4
# As the queue's retry_config in Terraform; all retries together outlast the lease of a training task that was killed.
LEAST_BACKOFF_S = 5
MOST_BACKOFF_S = 60


class PatientQueues(QueueState):
    """Waits before a failed task is tried again, as Cloud Tasks does; the emulator tries again after 0.1 s."""

    def submit_task(self, task_name: str, force_run: bool = False) -> Task:
        """Deliver a task; if that fails, put it back only after a while."""
        task = super().submit_task(task_name, force_run)
        waiting = self._queue_tasks[task_name.rpartition("/tasks/")[0]]
        if task in waiting and task.last_attempt.response_status.code >= 400:
            waiting.remove(task)
            backoff_s = min(MOST_BACKOFF_S, LEAST_BACKOFF_S * 2 ** (task.dispatch_count - 1))
            timer = threading.Timer(backoff_s, waiting.append, [task])
            timer.daemon = True
            timer.start()
        return task


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--queue", required=True, help="projects/P/locations/L/queues/Q")
    parser.add_argument("--retries", type=int, required=True, help="after this many a failing task is dropped")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    state = PatientQueues("localhost", 80, options.retries)
    state.create_queue(options.queue.rsplit("/", 2)[0], Queue(name=options.queue))
    server = grpc.server(futures.ThreadPoolExecutor(API_THREADS))
    add_CloudTasksServicer_to_server(Greeter(state), server)
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    processor = Processor(state)
    processor.daemon = True
    processor.start()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
