"""The process that converts has limits, and may do nothing but convert: in a process of its own, as it is for good."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from shared.adapters import keras_conversion
from shared.adapters.keras_conversion import (
    ARCHIVE_NAME,
    H5_NAME,
    MAX_CPU_S,
    MAX_FILE_BYTES,
    MAX_MEMORY_BYTES,
    MAX_OPEN_FILES,
    VERDICT_NAME,
)

# What each does ends in an error; what was tried is told at the end.
ACTS = {
    "reading a file": ("open('/etc/passwd')", "reading /etc/passwd"),
    "writing a file": ("open(folder.parent / 'x', 'w')", "writing "),
    "reading through a link": ("open(folder / 'link')", "reading /etc/passwd"),
    "a connection": ("socket.create_connection(('127.0.0.1', 9))", "socket."),
    "a name's address": ("socket.getaddrinfo('localhost', 1)", "socket."),
    "a program": ("subprocess.run(['true'])", "subprocess.Popen"),
    "a shell": ("os.system('true')", "os.system"),
    "a process": ("os.fork()", "os.fork"),
    "another program in its place": ("os.execv('/bin/true', ['true'])", "os.exec"),
    "a library by its address": ("ctypes.CDLL(None)", "ctypes."),
}
CONFINED = """
import ctypes, json, os, socket, subprocess, sys
from pathlib import Path
from shared.adapters.keras_conversion import _confine
folder = Path(sys.argv[1])
acts = _confine(folder)
try:
    exec(sys.argv[2])
except PermissionError:
    print(json.dumps(acts))
"""
LIMITED = """
import json, resource, sys
from pathlib import Path
from shared.adapters import keras_conversion
from shared.adapters.keras_conversion import Verdict
def convert(folder):
    names = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE")
    return Verdict("converted", json.dumps([resource.getrlimit(getattr(resource, name)) for name in names]))
def greedy(folder):
    return Verdict("converted", str(len(bytes(1 << 40))))
keras_conversion.convert = {"convert": convert, "greedy": greedy}[sys.argv[2]]
keras_conversion.main(Path(sys.argv[1]))
"""


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("name", ACTS)
def test_what_no_conversion_needs_is_forbidden_and_told(tmp_path, name):
    act, told = ACTS[name]
    (tmp_path / "link").symlink_to("/etc/passwd")
    (first, *_) = json.loads(run(CONFINED, tmp_path, act))
    assert first.startswith(told)


def test_a_conversion_may_read_packages_and_read_and_write_its_folder(tmp_path):
    acts = (
        "open(folder / 'x', 'w').close(); open(folder / 'x').close(); open(os.__file__).close(); raise PermissionError"
    )
    assert json.loads(run(CONFINED, tmp_path, f"{acts}; raise PermissionError")) == []


def test_a_conversion_has_limits_that_nothing_in_it_can_raise(tmp_path):
    run(LIMITED, tmp_path, "convert")
    limits = json.loads(json.loads((tmp_path / VERDICT_NAME).read_text())["detail"])
    expected = [MAX_MEMORY_BYTES, MAX_CPU_S, MAX_FILE_BYTES, MAX_OPEN_FILES, 0]
    assert limits == [[most, most] for most in expected]
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] != MAX_CPU_S


def test_a_file_that_takes_more_memory_than_there_may_be_is_refused(tmp_path):
    run(LIMITED, tmp_path, "greedy")
    verdict = json.loads((tmp_path / VERDICT_NAME).read_text())
    assert (verdict["status"], verdict["finding"]["code"]) == ("refused", "too_large")


class _Saving:
    """Stands for `keras.saving`, and notes how files are loaded."""

    def __init__(self, error=None):
        self.loaded = []
        self._error = error

    def load_model(self, path, **options):
        self.loaded.append((path.name, options))
        if self._error is not None:
            raise self._error
        return SimpleNamespace(save=lambda *_, **__: None, get_weights=lambda: [np.ones(2)])


@pytest.fixture
def saving(monkeypatch):
    def put(error=None, acts=()):
        found = _Saving(error)
        monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(saving=found))
        monkeypatch.setattr(keras_conversion, "_confine", lambda folder: list(acts))
        return found

    return put


def test_keras_loads_in_its_safe_mode_and_compiles_nothing(saving, tmp_path):
    keras = saving()
    assert keras_conversion._with_keras(tmp_path / ARCHIVE_NAME, tmp_path / H5_NAME).status == "converted"
    safe = {"compile": False, "safe_mode": True}
    assert keras.loaded == [(ARCHIVE_NAME, safe), (H5_NAME, safe)]


@pytest.mark.parametrize("error", [None, ValueError("it failed")])
def test_a_file_whose_loading_tried_something_forbidden_is_refused_however_it_ended(saving, tmp_path, error):
    saving(error, acts=["socket.connect"])
    verdict = keras_conversion._with_keras(tmp_path / ARCHIVE_NAME, tmp_path / H5_NAME)
    assert (verdict.status, verdict.finding["code"]) == ("refused", "forbidden_act")
    assert "socket.connect" in verdict.detail


def test_a_file_that_keras_cannot_load_is_unsupported(saving, tmp_path):
    saving(ValueError("it failed"))
    verdict = keras_conversion._with_keras(tmp_path / ARCHIVE_NAME, tmp_path / H5_NAME)
    assert (verdict.status, verdict.detail) == ("unsupported", "Keras cannot write it as .h5: ValueError: it failed")
