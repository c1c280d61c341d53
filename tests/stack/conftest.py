from collections.abc import Iterator

import pytest

from tests.stack.supervisor import Supervisor


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what starts stacks of its own last, so that a quick failure is seen quickly."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture
def supervisor(tmp_path) -> Iterator[Supervisor]:
    """A stack with a home of its own, ended with the test."""
    with Supervisor(tmp_path / "home") as supervisor:
        yield supervisor
