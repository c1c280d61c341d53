"""The functions of the manifest as one WSGI app, for any place that runs containers.

The local stack serves the same app (dev/host.py).
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import functions_framework
import yaml
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule

from shared.web.endpoint import BASE_PATH

_TREE = Path(__file__).resolve().parents[1]
MANIFEST = _TREE / "functions/manifest.yaml"

# Their functions run where their packages are, in an image of their own.
HEAVY_GROUPS = frozenset({"training", "converter"})

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Entry = Mapping[str, Any]


def load_manifest(path: Path = MANIFEST) -> dict[str, dict[str, Any]]:
    """Return the manifest's entries by function name."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())
    return entries


def routes_of(entry: Entry) -> list[tuple[str, str]]:
    """Return the (method, path) pairs of a manifest entry."""
    routes = entry["route"]
    return [tuple(route.split(" ", 1)) for route in ([routes] if isinstance(routes, str) else routes)]


def url_map(entries: Mapping[str, Entry]) -> Map:
    """Return a map from method and path to the name of the function that serves them.

    A preflight belongs to the function whose route it asks about, so every path also takes OPTIONS.
    """
    return Map(
        [
            Rule(
                path.replace("{", "<").replace("}", ">"),
                endpoint=name,
                methods=[method, "OPTIONS"],
                strict_slashes=False,
                merge_slashes=False,
            )
            for name, entry in entries.items()
            for method, path in routes_of(entry)
        ],
        merge_slashes=False,
    )


def load_function(entry: Entry) -> Wsgi:
    """Return a function as functions-framework serves it; every call loads its main.py anew."""
    source = _TREE / "functions" / str(entry["source"]) / "main.py"
    app: Wsgi = functions_framework.create_app(target=entry["target"], source=str(source))
    return app


def build_app(apps: Mapping[str, Wsgi], entries: Mapping[str, Entry]) -> Wsgi:
    """Return one WSGI app that hands each request to its function's app.

    A path or method that no function has goes unanswered by any function in the cloud, where each has its
    own address; here it gets 404, or 405 with Allow.

    Args:
        apps: The functions by name.
        entries: What the manifest says of the same functions.
    """
    addresses = url_map(entries)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_ready":
            return _answer(start_response, "200 OK", {"functions": sorted(apps)}, "application/json")
        asked = addresses.bind_to_environ(environ)
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            method = environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", method)
        try:
            # A front door may send the whole path; the function takes off its base itself.
            name, _ = asked.match(environ["PATH_INFO"].removeprefix(BASE_PATH), method=method)
        except NotFound:
            return _refuse(start_response, "404 Not Found", "not_found", "No function has this path.")
        except MethodNotAllowed as error:
            allowed = ", ".join(sorted(set(error.valid_methods or ()) - {"HEAD"}))
            detail = f"This path takes {allowed.replace(', OPTIONS', '')}."
            return _refuse(start_response, "405 Method Not Allowed", "method_not_allowed", detail, ("Allow", allowed))
        return apps[name](environ, start_response)

    return app


def _refuse(
    start_response: Callable[..., Any], status: str, code: str, detail: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    number, _, title = status.partition(" ")
    problem = {
        "type": "about:blank",
        "title": title,
        "status": int(number),
        "detail": detail,
        "code": code,
        "retryable": False,
        "success": False,
        "error": detail,
    }
    return _answer(start_response, status, problem, "application/problem+json", *headers)


def _answer(
    start_response: Callable[..., Any], status: str, document: Any, kind: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = json.dumps(document).encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers])
    return [body]


def choose(entries: Mapping[str, dict[str, Any]], only: str | None, without: str | None) -> dict[str, dict[str, Any]]:
    """Return the entries that a host was asked to serve.

    Args:
        only: Names with commas between; of None or an empty text, all.
        without: The same of those to leave out.

    Raises:
        SystemExit: a name is not in the manifest.
    """
    wanted = set(only.split(",")) if only else set(entries)
    unwanted = set(without.split(",")) if without else set()
    for name in sorted((wanted | unwanted) - set(entries)):
        sys.exit(f"The manifest has no function {name!r}.")
    return {name: entry for name, entry in entries.items() if name in wanted - unwanted}


def from_environment() -> Wsgi:
    """Return the app with the functions that FUNCTIONS names, or with all that need no TensorFlow.

    Raises:
        SystemExit: One of them is not in the manifest.
    """
    manifest = load_manifest()
    light = (name for name, entry in manifest.items() if entry["requirements"] not in HEAVY_GROUPS)
    entries = choose(manifest, os.environ.get("FUNCTIONS") or ",".join(light), None)
    return build_app({name: load_function(entry) for name, entry in entries.items()}, entries)
