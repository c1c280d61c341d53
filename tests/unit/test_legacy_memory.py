"""Reading a large legacy document takes memory for its largest model, not for the document."""

import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
# Prints the peak of a process that reads a document of so many models, and how many bytes the document had.
READER = """
import base64, pickle, sys
from shared.adapters.json_documents import IjsonParser
from shared.legacy import _Reading
from shared.records.objects import StoredObject

n_models, n_numbers = map(int, sys.argv[1:])
model = base64.b64encode(pickle.dumps({"weights": bytes(8 << 20)}))

class Store:
    def write(self, name, content, media_type):
        self.content = content
        return StoredObject(name, 1, 0, "", None)
    def read(self, name, generation):
        self.content.seek(0)
        while piece := self.content.read(1 << 20):
            yield piece

def pieces():
    yield b'{"numbers": ['
    for _ in range(n_numbers):
        yield b"1234.5678," * 100_000
    yield b'0], "models": ['
    for _ in range(n_models):
        yield b'{"_model_type": "serialized_model", "_model_data": "'
        for at in range(0, len(model), 1 << 20):
            yield model[at : at + (1 << 20)]
        yield b'"},'
    yield b'{"' + b"x" * (48 << 10) + b'": {}}, "' + b"y" * (1 << 20)
    for _ in range(64):
        yield b"y" * (1 << 20)
    yield b'"]}'

def peak():
    with open("/proc/self/status") as status:
        return int(status.read().partition("VmHWM:")[2].split()[0]) * 1024

reading = _Reading(Store(), None, None, "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001")
before = peak()
found = reading.read(pieces(), IjsonParser())
assert len(found["models"]) == n_models
print(peak() - before, reading.measured["bytes"])
"""


def grown(n_models, n_numbers):
    done = subprocess.run(
        [sys.executable, "-c", READER, str(n_models), str(n_numbers)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return map(int, done.stdout.split())


def test_memory_is_bounded_by_the_largest_model_and_not_by_the_document():
    small, _ = grown(1, 1)
    large, size = grown(41, 10)
    assert size > 500 * MIB
    # Its pickle of 8 MiB is held twice for a moment, and a few pieces of the document.
    assert large < 64 * MIB
    assert large < small + 16 * MIB
