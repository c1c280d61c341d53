"""What browsers may do with a bucket: `infra/storage.yaml` and the allowed origins."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from dev.home import REPOSITORY

STORAGE_FILE = REPOSITORY / "infra/storage.yaml"


@dataclass(frozen=True)
class CorsRule:
    """One bucket's answer to other origins."""

    origins: frozenset[str]
    methods: tuple[str, ...]
    response_headers: tuple[str, ...]
    max_age_seconds: int

    def preflight_headers(self, origin: str, method: str, wanted: Collection[str]) -> dict[str, str]:
        """Return the headers that let a browser go on; none if origin, method or a header is not allowed."""
        known = {header.lower() for header in self.response_headers}
        if origin not in self.origins or method not in self.methods or not {*wanted} <= known:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": ",".join(self.methods),
            "Access-Control-Allow-Headers": ",".join(self.response_headers),
            "Access-Control-Max-Age": str(self.max_age_seconds),
            "Vary": "Origin",
        }

    def response_headers_for(self, origin: str, method: str) -> dict[str, str]:
        """Return the headers that let a script read an answer; none if origin or method is not allowed."""
        if origin not in self.origins or method not in self.methods:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": ",".join(self.response_headers),
            "Vary": "Origin",
        }


def load_cors(buckets: Mapping[str, str], origins: Collection[str], path: Path = STORAGE_FILE) -> dict[str, CorsRule]:
    """Return the rule of each bucket.

    Args:
        buckets: bucket name by its entry in the file.
    """
    entries = yaml.safe_load(path.read_text())
    return {
        bucket: CorsRule(
            frozenset(origins),
            tuple(entries[entry]["cors"]["methods"]),
            tuple(entries[entry]["cors"]["response_headers"]),
            entries[entry]["cors"]["max_age_seconds"],
        )
        for entry, bucket in buckets.items()
    }
