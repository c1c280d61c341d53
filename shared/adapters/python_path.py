"""Says where Python finds modules, for processes that are started without an environment."""

import os
import sys
from pathlib import Path
from types import ModuleType


def places_of(module: ModuleType) -> str:
    """Return `sys.path` as one text: first the folder of `shared`, by one of its adapters, then the rest."""
    root = str(Path(str(module.__file__)).resolve().parents[2])
    return os.pathsep.join([root, *(place for place in sys.path if Path(place).is_absolute() and place != root)])
