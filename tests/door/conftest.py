import pytest

from tests.door.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack() -> Stack:
    return running_stack()
