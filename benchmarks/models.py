"""What models cost: `python -m benchmarks.models` with pickles, listing, keras, download or bundles; or all of them.

`pickles`: reading a pickled model without running it, against opening it. Needs no stack. Each reading is a process of
its own, so that its peak memory is its own. `listing`: benchmarks/legacy_documents.py. `keras`:
benchmarks/keras_rescue.py. `download` and `bundles`: benchmarks/model_downloads.py.
"""

import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import MIB, Figure, show

N_PAIRS = 9
MOST_RATIO = 2.0
MOST_MEMORY = 6.0
# With 50,000 rows and unlimited depth a tree has 4.5 MB.
N_ROWS, N_TREES = 50_000, 11

# Prints the seconds of the second of two calls, and by how much the process grew over what it was without the file.
_READER = """
import sys, time
from pathlib import Path
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
how, path = sys.argv[1:]
if how == "inert":
    from shared.pickles import read_pickle
    read = lambda: read_pickle(Path(path).read_bytes())
else:
    import pickle, sklearn.ensemble
    read = lambda: pickle.loads(Path(path).read_bytes())
at_start = peak()
read()
grown = peak() - at_start
begun = time.perf_counter()
read()
print(time.perf_counter() - begun, grown)
"""


def write_forest(path: Path) -> None:
    """Fit a forest whose pickle has about 50 MB, and write it."""
    # Loaded here: the readers are to be measured without them.
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    rows = np.random.default_rng(1).normal(size=(N_ROWS, 3))
    forest = RandomForestRegressor(N_TREES, max_features=1, random_state=1).fit(rows, rows[:, 0] * rows[:, 1])
    path.write_bytes(pickle.dumps(forest, 5))


def reading(how: str, path: Path) -> tuple[float, int]:
    """Read the pickle in a new process; return the time [s] and the memory it took [bytes]."""
    command = [sys.executable, "-c", _READER, how, str(path)]
    took, grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(took), int(grown)


def measure_pickles() -> None:
    """Measure both in turns, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "forest.pkl")
        write_forest(path)
        begun = time.perf_counter()
        pairs = [(reading("inert", path), reading("pickle", path)) for _ in range(N_PAIRS)]
        size = path.stat().st_size
        sys.stdout.write(f"{N_PAIRS} pairs in {time.perf_counter() - begun:.0f} s\n")
    inert, loaded = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
    ratio = statistics.median(own[0] / peer[0] for own, peer in pairs)
    memory = max(own[1] for own, _ in pairs) / size
    peer_memory = max(peer[1] for _, peer in pairs) / size
    show(
        "Models",
        [
            Figure(
                f"inert read of a forest's pickle of {size / 1e6:.1f} MB",
                f"{inert * 1e3:.0f} ms",
                f"pickle.loads of it: {loaded * 1e3:.0f} ms",
                f"{ratio:.2f} times",
                f"{MOST_RATIO} or less",
                ratio <= MOST_RATIO,
            ),
            Figure(
                "memory of the inert read, the file included",
                f"{memory * size / MIB:.0f} MiB",
                f"pickle.loads: {peer_memory:.1f} times the file",
                f"{memory:.2f} times the file",
                f"{MOST_MEMORY} or less",
                memory <= MOST_MEMORY,
            ),
        ],
    )


def main() -> None:
    """Measure what the command line names."""
    names = sys.argv[1:] or ["pickles", "listing", "keras", "download", "bundles"]
    if "pickles" in names:
        measure_pickles()
    if "listing" in names:
        # It loads scikit-learn, which a process that starts measured ones has no need of.
        from benchmarks.legacy_documents import main as measure_listing

        measure_listing()
    if "keras" in names:
        from benchmarks.keras_rescue import main as measure_keras

        measure_keras()
    if {"download", "bundles"} & set(names):
        from benchmarks import model_downloads

        for name in ("download", "bundles"):
            if name in names:
                getattr(model_downloads, name)()


if __name__ == "__main__":
    main()
