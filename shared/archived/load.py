"""Opens the model in a folder of this archive: `from load import load; model = load("models/...")`."""

from pathlib import Path
from typing import Any

# What trees of scikit-learn consist of; the list is ours and not the file's.
TRUSTED = ["numpy.dtype", "sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]


class NothingToOpenError(ValueError):
    """There is no file, or none that can be opened without running code."""


def load(folder: str | Path, *, may_run_code: bool = False) -> Any:
    """Return the model; a .pkl runs code when it is opened, and is only opened if you say so."""
    files = {path.suffix: path for path in Path(folder).iterdir()}
    if ".keras" in files or ".h5" in files:
        import keras

        return keras.saving.load_model(files.get(".keras") or files[".h5"], compile=False)
    if ".skops" in files:
        import skops.io

        return skops.io.load(files[".skops"], trusted=TRUSTED)
    if ".pkl" in files and may_run_code:
        import pickle

        return pickle.loads(files[".pkl"].read_bytes())
    raise NothingToOpenError(f"{folder} has no file that can be opened without running code.")
