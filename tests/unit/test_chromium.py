"""Without a browser, whoever runs the tests is told how to get one."""

import os
import subprocess
import sys

import pytest

from dev import chromium
from dev import test as dev_test
from dev.home import REPOSITORY

SENTENCE = "The browser tests need Chromium; on Debian: apt-get install chromium."


class NoStack:
    """Fails where a stack would be started."""

    def __init__(self) -> None:
        pytest.fail("a stack was started")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A machine without programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_make_test_ends_at_once_and_says_how_to_get_a_browser(programs, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dev.test"])
    monkeypatch.setattr(dev_test, "Stack", NoStack)

    with pytest.raises(SystemExit) as ended:
        dev_test.main()

    assert ended.value.code == SENTENCE


def test_a_browser_test_fails_with_the_same_sentence(programs):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/browser/test_sign_in.py", "-k", "theme"]
    said = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "PATH": str(programs)}, capture_output=True, text=True, check=False
    )

    assert said.returncode == 1
    assert SENTENCE in said.stdout


@pytest.mark.parametrize("name", chromium.PROGRAMS)
def test_a_browser_is_found_by_each_of_its_names(programs, name):
    program = programs / name
    program.touch(mode=0o755)

    assert chromium.find() == str(program)
