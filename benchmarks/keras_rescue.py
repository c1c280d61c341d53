"""A pickled Keras model to `.keras` and `.h5`, without Keras and through TensorFlow.

Run by `python -m benchmarks.models keras`. Each conversion is a process of its own, and the time it takes
to import what it needs counts. Needs no stack.
"""

import pickle
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import MIB, Figure, show

N_PAIRS = 5
LEAST_TIMES = 20
N_UNITS = 256

# Prints the seconds from the first import to the second file.
_CONVERSION = """
import sys, time
from pathlib import Path
how, pickled, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
begun = time.perf_counter()
if how == "own":
    from shared.adapters.hdf5_template import Hdf5Template
    template = Hdf5Template()
    import io
    from shared.adapters.hdf5_sandbox import Hdf5Sandbox
    from shared.keras_archives import inspect_archive
    from shared.pickles import read_pickle
    (archive,) = read_pickle(pickled.read_bytes()).keras_archives
    content = archive.content()
    assert inspect_archive(io.BytesIO(content)).refusal is None
    (folder / "own.keras").write_bytes(content)
    (folder / "own.h5").write_bytes(Hdf5Sandbox(template).to_h5(content))
else:
    import pickle
    import tensorflow
    network = pickle.loads(pickled.read_bytes())
    network.save(folder / "peer.keras")
    network.save(folder / "peer.h5", include_optimizer=False)
print(time.perf_counter() - begun)
"""


def write_network(path: Path) -> None:
    """Pickle a dense network of about 300 KiB."""
    # Loaded here: the other processes are to be measured without it.
    import keras

    layers = keras.layers
    network = keras.Sequential(
        [keras.Input((32,)), layers.Dense(N_UNITS, "relu"), layers.Dense(N_UNITS, "relu"), layers.Dense(1)]
    )
    path.write_bytes(pickle.dumps(network))


def converting(how: str, pickled: Path, folder: Path) -> float:
    """Convert in a new process; return the time [s]."""
    command = [sys.executable, "-c", _CONVERSION, how, str(pickled), str(folder)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    """Convert both ways in turns, and print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pickled = folder / "network.pkl"
        write_network(pickled)
        pairs = [(converting("own", pickled, folder), converting("peer", pickled, folder)) for _ in range(N_PAIRS)]
        size = pickled.stat().st_size
    own, peer = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    times = statistics.median(second / first for first, second in pairs)
    show(
        "Keras models out of legacy pickles",
        [
            Figure(
                f".keras and .h5 out of a pickle of {size / MIB:.1f} MiB, imports included",
                f"{own * 1e3:.0f} ms",
                f"the same through TensorFlow: {peer:.2f} s",
                f"{times:.0f} times faster",
                f"{LEAST_TIMES} times",
                times >= LEAST_TIMES,
            )
        ],
    )
