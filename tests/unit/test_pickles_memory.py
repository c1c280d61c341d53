"""The most memory a pickle can make the reader take, measured in a process of its own for each way to try."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# [MiB] above the pickle itself; 236 were measured at most (CPython 3.11). The functions have 1 GiB.
MOST_MIB = 320
MEASURE = """
import struct, sys
from pathlib import Path
from shared.pickle_machine import MAX_HELD_BYTES, PickleRefusedError
from shared.pickles import read_pickle
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
wide = ("\\N{GRINNING FACE}" + "a" * 1500).encode()
most = MAX_HELD_BYTES
data = {
    "dicts": lambda: b"(" + b"}" * (most // 128 - 100) + b"t.",
    "noted lists": lambda: b"\\x80\\x04(" + b"]\\x94" * (most // 240 - 100) + b"t.",
    "objects with a state": lambda: b"cos\\nX\\nq\\x000(" + b"h\\x00)R}b" * (most // 528 - 100) + b"t.",
    "wide texts": lambda: b"(" + (b"X" + struct.pack("<I", len(wide)) + wide) * (most // 6200) + b"t.",
    "one in another": lambda: b"N" + b"\\x85" * (most // 128 - 100) + b".",
}[sys.argv[1]]()
before = peak()
read_pickle(data)
print(peak() - before)
"""


@pytest.mark.parametrize("way", ["dicts", "noted lists", "objects with a state", "wide texts", "one in another"])
def test_a_pickle_just_within_its_budget_takes_bounded_memory(way):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, way], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    # Below 40 MiB the pickle would not have been what it is meant to be.
    assert 40 < int(done.stdout) < MOST_MIB
