import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.local_stack import LocalStack, People, running_stack

# Examples are the same in every run, and none fails because a machine is slow.
settings.register_profile("trainshed", deadline=None, derandomize=True)
settings.load_profile("trainshed")

# Nothing here may find credentials of the person who runs it, or ask a metadata server for some.
os.environ.pop("GOOGLE_APPLICATION_CREDENTIALS", None)
os.environ["NO_GCE_CHECK"] = "true"

# Programs are started by a process that talks to queues by gRPC, whose own doings between fork and exec can abort what
# is being started. Read when gRPC is loaded.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# What a shell starts in the background ignores Ctrl-C, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def local_stack() -> Iterator[LocalStack]:
    """The running local stack; without one, the test fails with a sentence that says how to start it."""
    stack = running_stack()
    yield stack
    stack.close()


@pytest.fixture
def people(local_stack: LocalStack) -> Iterator[People]:
    """Users that exist for one test and leave nothing behind."""
    with People(local_stack) as people:
        yield people
