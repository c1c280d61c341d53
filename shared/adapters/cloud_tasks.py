"""`TaskQueue` and `JobQueue` on Cloud Tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.errors import QueueUnavailableError
from shared.records.training import TrainingTask
from shared.settings import QueueSettings
from shared.tracing import span

if TYPE_CHECKING:
    from google.cloud.tasks_v2 import CloudTasksClient

TIMEOUT_S = 5.0
RETRY_DEADLINE_S = 20.0
# The longest that Cloud Tasks waits for an answer, and as long as run-training may take (functions/manifest.yaml).
# https://docs.cloud.google.com/tasks/docs/creating-http-target-tasks
DISPATCH_DEADLINE_S = 1800


class CloudTasksJobs:
    """One queue whose jobs are POSTed to one function. Thread-safe; the client is built on first use.

    Args:
        path: Of the function's route.
        deadline_s: How long the function may take.
    """

    def __init__(self, settings: QueueSettings, path: str, deadline_s: int = DISPATCH_DEADLINE_S) -> None:
        self._settings = settings
        self._path = path
        self._deadline_s = deadline_s

    @cached_property
    def _client(self) -> CloudTasksClient:
        from google.cloud.tasks_v2 import CloudTasksClient

        if not self._settings.emulator_host:
            return CloudTasksClient()
        import grpc
        from google.cloud.tasks_v2.services.cloud_tasks.transports import (
            CloudTasksGrpcTransport,
        )

        return CloudTasksClient(
            transport=CloudTasksGrpcTransport(channel=grpc.insecure_channel(self._settings.emulator_host))
        )

    def enqueue(self, name: str, body: Mapping[str, Any]) -> None:
        """Queue a job under a name that the queue takes once.

        Raises:
            QueueUnavailableError: The queue does not answer.
        """
        from google.api_core import exceptions, retry

        # The name is the same every time, so repeating the call is harmless.
        transient = retry.if_exception_type(
            exceptions.ServiceUnavailable, exceptions.DeadlineExceeded, exceptions.TooManyRequests
        )
        try:
            with span("queue create_task"):
                self._client.create_task(
                    request={"parent": self._settings.queue, "task": self._message(name, body)},
                    retry=retry.Retry(predicate=transient, initial=0.2, maximum=5.0, timeout=RETRY_DEADLINE_S),
                    timeout=TIMEOUT_S,
                )
        except exceptions.AlreadyExists:
            return
        except (exceptions.RetryError, exceptions.ServerError, exceptions.TooManyRequests) as error:
            raise QueueUnavailableError("The work could not be queued; repeat the request.") from error

    def _message(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        settings = self._settings
        return {
            "name": f"{settings.queue}/tasks/{name}",
            "dispatch_deadline": {"seconds": self._deadline_s},
            "http_request": {
                "http_method": "POST",
                "url": f"{settings.target_url}{self._path}",
                "headers": {"Content-Type": "application/json"},
                "body": json.dumps(body).encode(),
                "oidc_token": {
                    "service_account_email": settings.tasks_email,
                    "audience": settings.oidc_audience,
                },
            },
        }


class CloudTasksQueue:
    """Tasks of training, for run-training."""

    def __init__(self, settings: QueueSettings) -> None:
        self._jobs = CloudTasksJobs(settings, "/run-training")

    def enqueue(self, task: TrainingTask) -> None:
        """Queue a task under a name made of its model and number.

        Raises:
            QueueUnavailableError: The queue does not answer.
        """
        self._jobs.enqueue(f"{task.model_id}-{task.number}", {"modelId": task.model_id})
