"""Nothing runs while a pickle is read: watched by an audit hook, in a process of its own."""

import base64
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile_pickles import hostile_pickles
from tests.pickled_models import ALL_PROTOCOLS, fitted_objects, written

REPOSITORY = Path(__file__).parents[2]
# Every audit event counts: import, open, exec, compile, os.*, subprocess.*, socket.*, pickle.find_class, ctypes, ...
WATCHER = """
import base64, json, sys
reader, = sys.argv[1:]
if reader == "pickle":
    import pickle
    read = pickle.loads
else:
    from shared.pickles import PickleRefusedError, read_pickle
    def read(data):
        try:
            for archive in read_pickle(data, claimed_class="x").keras_archives:
                archive.content()
        except PickleRefusedError as refused:
            str(refused)
given = {name: base64.b64decode(data) for name, data in json.load(sys.stdin).items()}
before, events, is_reading = set(sys.modules), [], False

def watch(event, arguments):
    # The reader calls id() itself, to visit each object once.
    if is_reading and event != "builtins.id":
        events.append(event)

sys.addaudithook(watch)
seen = {}
for name, data in given.items():
    events.clear()
    is_reading = True
    try:
        read(data)
    finally:
        is_reading = False
    seen[name] = sorted(set(events))
json.dump({"events": seen, "modules": sorted(set(sys.modules) - before)}, sys.stdout)
"""


def watched(pickles, reader="shared"):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WATCHER, reader],
        input=json.dumps({name: base64.b64encode(data).decode() for name, data in pickles.items()}),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def of_hostile():
    return watched(hostile_pickles())


@pytest.mark.parametrize("name", hostile_pickles())
def test_a_hostile_pickle_causes_no_event_at_all(of_hostile, name):
    assert of_hostile["events"][name] == []


def test_no_module_is_imported_whatever_a_pickle_names(of_hostile):
    assert of_hostile["modules"] == []


def test_real_pickles_cause_no_event_and_import_nothing():
    pickles = {
        f"{name}, {protocol}": written(value, protocol)
        for name, value in fitted_objects().items()
        for protocol in ALL_PROTOCOLS
    }

    seen = watched(pickles)

    assert len(seen["events"]) == len(pickles)
    assert {name: events for name, events in seen["events"].items() if events} == {}
    assert seen["modules"] == []


def test_the_watcher_sees_what_pickle_does():
    seen = watched({"name": b"\x80\x04\x8c\x06string\x8c\x06digits\x93.", "plain": pickle.dumps(1)}, reader="pickle")

    assert seen["events"]["plain"] == []
    assert {"import", "pickle.find_class"} <= set(seen["events"]["name"])
    assert "string" in seen["modules"]


def test_the_reader_loads_no_pickle_module_and_no_library():
    code = (
        "import sys, shared.pickles; sys.exit(sorted({'pickle', '_pickle', 'numpy', 'joblib'} & set(sys.modules)) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
