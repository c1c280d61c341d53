"""Reads functions/manifest.yaml; in a bundle what it says of the function, manifest.json beside main.py."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_TREE = Path(__file__).resolve().parents[2]
_LIST = _TREE / "functions" / "manifest.yaml"
# Made by the bundler: reading YAML costs a cold start 20 ms.
_OF_BUNDLE = _TREE / "manifest.json"
# Of every function below its own URL; nobody needs a token for it.
HEALTH_PATH = "/_health"
_VARIABLE = re.compile(r"\\\{(\w+)\\\}")


class Route(NamedTuple):
    """A method and a path pattern, for example POST /uploads/{upload_id}/assemble."""

    method: str
    pattern: str

    def variables(self, path: str) -> dict[str, str] | None:
        """Return the variables of a path, or None where it does not match."""
        match = _expression(self.pattern).fullmatch(path)
        return match.groupdict() if match else None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(_VARIABLE.sub(r"(?P<\1>[^/]+)", re.escape(pattern)))


class Function(NamedTuple):
    """One entry of the manifest.

    Attributes:
        caller: user, user_or_service, scheduler, task or anyone.
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
        FileNotFoundError: There is neither the list nor a bundle's part of it.
    """
    return {name: _read(name, entry) for name, entry in _entries().items()}


def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]]
    if _OF_BUNDLE.is_file():
        entries = json.loads(_OF_BUNDLE.read_bytes())
    else:
        import yaml  # noqa: PLC0415 - only in the tree, where tools are

        entries = yaml.safe_load(_LIST.read_bytes())
    return entries


def _read(name: str, entry: Mapping[str, Any]) -> Function:
    routes = entry["route"] if isinstance(entry["route"], list) else [entry["route"]]
    # The rights in it are for Terraform and the local stack.
    others = {name: entry[name] for name in Function._fields if name in entry}
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
