"""Reads functions/manifest.yaml, which travels in every bundle beside main.py."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_TREE = Path(__file__).resolve().parents[2]
# In the tree the list lies in functions/, in a bundle beside main.py.
_PLACES = (_TREE / "functions" / "manifest.yaml", _TREE / "manifest.yaml")


@dataclass(frozen=True)
class Route:
    """A method and a path pattern, for example POST /uploads/{upload_id}/assemble."""

    method: str
    pattern: str

    def variables(self, path: str) -> dict[str, str] | None:
        """Return the variables of a path, or None where it does not match."""
        expression = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(self.pattern))
        match = re.fullmatch(expression, path)
        return match.groupdict() if match else None


@dataclass(frozen=True)
class Function:
    """One entry of the manifest.

    Attributes:
        caller: user, user_or_service, scheduler or task.
        requirements: Dependency group of its bundle.
        memory_mib: Memory of an instance [MiB].
        timeout_s: Longest request [s].
        concurrency: Requests at once per instance.
    """

    name: str
    source: str
    target: str
    routes: tuple[Route, ...]
    caller: str
    requirements: str
    memory_mib: int
    timeout_s: int
    concurrency: int


@cache
def functions() -> Mapping[str, Function]:
    """Return the functions by name.

    Raises:
        FileNotFoundError: The manifest is neither in functions/ nor beside main.py.
    """
    place = next((path for path in _PLACES if path.is_file()), _PLACES[0])
    entries = yaml.load(place.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe, in C
    return {name: _read(name, entry) for name, entry in entries.items()}


def _read(name: str, entry: Mapping[str, Any]) -> Function:
    routes = entry["route"] if isinstance(entry["route"], list) else [entry["route"]]
    others = {key: value for key, value in entry.items() if key != "route"}
    return Function(name=name, routes=tuple(Route(*route.split(" ", 1)) for route in routes), **others)


@cache
def function_of(target: str) -> Function:
    """Return the function with this target.

    Raises:
        LookupError: The manifest has none.
    """
    for function in functions().values():
        if function.target == target:
            return function
    raise LookupError(f"functions/manifest.yaml has no function with the target {target}")
