"""Training on rows that do not fit into memory takes memory for a piece of them, not for all."""

import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
# Prints by how much a process grows that trains on so many rows, which are made while they are read.
TRAINER = """
import sys, tempfile
from pathlib import Path
import numpy as np
from shared.adapters import table_chunks, training_tables
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.records.training import TrainingRequest
from shared.records.uploads import DataFile

n_rows = int(sys.argv[1])
training_tables.MOST_CELLS = 200_000
table_chunks.CHUNK_ROWS = 10_000
names = [f"c{at}" for at in range(20)]
piece = b"".join(
    b",".join(b"%.3f" % value for value in (*row, row.sum())) + b"\\n"
    for row in np.random.default_rng(0).normal(size=(2_000, 20))
)

class Store:
    def read(self, name, generation=None, start=0):
        yield ",".join([*names, "y"]).encode() + b"\\n"
        for _ in range(n_rows // 2_000):
            yield piece

def peak():
    with open("/proc/self/status") as status:
        return int(status.read().partition("VmHWM:")[2].split()[0]) * 1024

file = DataFile("u", "t.csv", "text/csv", "t.csv", 1, len(piece) * (n_rows // 2_000) + 100, None, None, n_rows)
request = TrainingRequest("y", ("linear_regression",), 0.2, 1)
with tempfile.TemporaryDirectory() as folder:
    outcome = ReferenceTrainer(Store()).train("linear_regression", request, [file], Path(folder), lambda *_: None)
split = outcome.description["split"]
assert outcome.description["params"]["n_rows_learned_from"] == n_rows - split["n_test"]
assert outcome.metrics["test"]["r2"] > 0.999
print(peak())
"""


def peak_bytes(n_rows: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, str(n_rows)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_twenty_times_the_rows_take_no_more_memory():
    few, many = peak_bytes(30_000), peak_bytes(600_000)
    # The other 570,000 rows are 91 MiB as numbers; what importing takes and gives back hides half of that. Read piece
    # by piece they take 2 MiB.
    assert many - few < 20 * MIB
