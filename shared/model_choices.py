"""How a download is chosen: what callers may say, and what is taken where they say nothing."""

from collections.abc import Mapping

DEFAULT_FORMATS: Mapping[str, str] = {"keras": "h5", "sklearn": "skops"}
DEFAULT_FRAMEWORK = "keras"
LATEST, BEST = "latest", "best"
ALIASES = (LATEST, BEST)
