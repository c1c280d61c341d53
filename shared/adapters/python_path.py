"""Says where Python finds modules, for processes that are started without an environment."""

import os
import sys
from types import ModuleType


def places_of(module: ModuleType) -> str:
    """Return `sys.path` as one text: first the folder of `shared`, by one of its adapters, then the rest."""
    root = str(module.__file__).rsplit(os.sep, 3)[0]
    return os.pathsep.join([root, *(place for place in sys.path if place.startswith(os.sep) and place != root)])
