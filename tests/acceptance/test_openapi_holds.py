"""The running stack keeps to docs/openapi.yaml.

Schemathesis calls every operation with what the description allows and with what it does not, and follows its links in
chains. Each answer must be one that the description names, in its form, and no 5xx. The requests are the same in every
run, and bounded; TRAINSHED_REQUESTS=200 makes as many of each kind.
"""

import os
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.local_stack import LocalStack, People, running_stack

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs/openapi.yaml").read_text())
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Answered by each function at its own URL; the front door has none for it.
WITHOUT_ROUTE = {"health"}
MANIFEST = yaml.safe_load((Path(__file__).parents[2] / "functions/manifest.yaml").read_text())
OF_THE_QUEUE = {entry["target"] for entry in MANIFEST.values() if entry["caller"] == "task"}
# Each with requests that are allowed, and as many that are not.
REQUESTS_PER_OPERATION = CHAINS = int(os.environ.get("TRAINSHED_REQUESTS", "12"))
LONGEST_CHAIN = 8
BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def loaded():
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    operations = [result.ok() for result in schema.get_all_operations()]
    return schema, {
        one.definition.raw["operationId"]: one
        for one in operations
        if one.definition.raw["operationId"] not in WITHOUT_ROUTE
    }


def takes_something(operation):
    return bool(operation.definition.raw["parameters"]) or "requestBody" in operation.definition.raw


SCHEMA, OPERATIONS = loaded()


class Callers:
    """Whose token and whose door an operation needs."""

    def __init__(self, stack: LocalStack, people: People) -> None:
        self._stack = stack
        self._people = people
        self.begin()
        self._tokens = {
            "cleanup": stack.scheduler_token(),
            **dict.fromkeys(OF_THE_QUEUE, stack.tasks_token()),
        }

    def begin(self) -> None:
        """Let a new user call from here on, who has nothing yet."""
        self._user_token = self._people.add().token

    def options(self, operation_id: str) -> dict:
        door = f"{self._stack.env['TRAINSHED_URL']}/api/training"
        if operation_id in OF_THE_QUEUE:
            # The front door has no way to these; the task queue's own has.
            door = self._stack.functions_env["TASKS_TARGET_URL"]
        token = self._tokens.get(operation_id, self._user_token)
        return {
            "base_url": door,
            "headers": {"Authorization": f"Bearer {token}"},
            "allow_redirects": False,
            "timeout": 60,
        }


@pytest.fixture(scope="module")
def callers():
    stack = running_stack()
    with People(stack) as people:
        yield Callers(stack, people)
    stack.close()


@pytest.mark.parametrize(
    ("operation_id", "mode"),
    [
        pytest.param(operation_id, mode, id=f"{operation_id}-{mode.value}")
        for operation_id, operation in OPERATIONS.items()
        for mode in GenerationMode
        # What takes nothing can be sent nothing wrong.
        if mode is GenerationMode.POSITIVE or takes_something(operation)
    ],
)
def test_every_answer_is_one_that_the_description_names(callers, operation_id, mode):
    options = callers.options(operation_id)

    @given(case=OPERATIONS[operation_id].as_strategy(generation_mode=mode))
    @settings(BOUNDED, max_examples=REQUESTS_PER_OPERATION)
    def call(case):
        case.validate_response(case.call(**options), checks=CHECKS)

    call()


def test_chains_of_calls_along_the_links_hold_too(callers):
    called = set()

    class Chain(SCHEMA.as_state_machine()):
        def setup(self):
            # What an earlier chain made would change what this one is answered, and Hypothesis counts on like for like.
            callers.begin()

        def get_call_kwargs(self, case):
            return callers.options(case.operation.definition.raw["operationId"])

        def validate_response(self, response, case, additional_checks=None, **kwargs):
            called.add((case.operation.definition.raw["operationId"], response.status_code))
            case.validate_response(response, checks=CHECKS)

    Chain.run(settings=settings(BOUNDED, max_examples=CHAINS, stateful_step_count=LONGEST_CHAIN))
    # Chains that find nothing they are about would prove little.
    found = {operation_id for operation_id, status in called if status < 300}
    assert {"init_session", "create_upload"} <= found, sorted(called)
