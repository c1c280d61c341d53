from collections.abc import Iterator

import pytest

from tests.stack.supervisor import Supervisor


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what starts stacks of its own last, so that a quick failure is seen quickly."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long a second start takes."""
    for report in terminalreporter.getreports("passed"):
        for name, seconds in report.user_properties:
            if name == "second_start_s":
                terminalreporter.write_line(f"A second start is ready after {seconds} s.")


@pytest.fixture
def supervisor(tmp_path) -> Iterator[Supervisor]:
    """A stack with a home of its own, ended with the test."""
    with Supervisor(tmp_path / "home") as supervisor:
        yield supervisor
