from collections.abc import Callable, Iterator

import pytest

from tests.local_stack import LocalStack, People
from tests.resilience.processes import Processes
from tests.resilience.world import Services, World


@pytest.fixture(scope="session")
def processes(local_stack: LocalStack) -> Iterator[Processes]:
    with Processes(local_stack) as processes:
        yield processes


@pytest.fixture(scope="session")
def services(local_stack: LocalStack) -> Iterator[Services]:
    """The rules on the real adapters; their buckets lie behind the door that the functions use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", local_stack.functions_env["STORAGE_EMULATOR_HOST"])
        yield Services.on(local_stack)


@pytest.fixture
def new_world(local_stack: LocalStack, people: People, services: Services, processes: Processes) -> Callable[[], World]:
    """Make users of their own, each with a world that others do not touch."""
    return lambda: World(local_stack, people, services, processes)
