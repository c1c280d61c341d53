"""Serves the functions of the manifest in one process, each as its own functions-framework app.

`python -m dev.host --port N [--only name,name] [--without name,name]`
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import functions_framework
import yaml
from gunicorn.app.base import BaseApplication
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule

from dev.home import REPOSITORY

MANIFEST = REPOSITORY / "functions/manifest.yaml"

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def load_manifest(path: Path = MANIFEST) -> dict[str, dict[str, Any]]:
    """Return the manifest's entries by function name."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())
    return entries


def routes_of(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the (method, path) pairs of a manifest entry."""
    routes = entry["route"]
    return [tuple(route.split(" ", 1)) for route in ([routes] if isinstance(routes, str) else routes)]


def url_map(entries: Mapping[str, Mapping[str, Any]]) -> Map:
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


def build_app(entries: Mapping[str, Mapping[str, Any]]) -> Wsgi:
    """Return one WSGI app that hands each request to its function's app.

    A path or method that no function has goes unanswered by any function in the cloud, where each has its
    own address; here it gets 404, or 405 with Allow.
    """
    apps: dict[str, Wsgi] = {
        name: functions_framework.create_app(
            target=entry["target"], source=str(REPOSITORY / "functions" / entry["source"] / "main.py")
        )
        for name, entry in entries.items()
    }
    addresses = url_map(entries)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_ready":
            return _answer(start_response, "200 OK", {"functions": sorted(apps)}, "application/json")
        asked = addresses.bind_to_environ(environ)
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            method = environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", method)
        try:
            name, _ = asked.match(method=method)
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


class _Gunicorn(BaseApplication):
    """The server that functions-framework runs in the cloud, with its settings."""

    def __init__(self, entries: Mapping[str, Mapping[str, Any]], port: int, threads: int) -> None:
        self._entries = entries
        self._settings = {
            "bind": f"127.0.0.1:{port}",
            "workers": 1,
            "threads": threads,
            "timeout": 0,
            "loglevel": "warning",
            "limit_request_line": 0,
            "control_socket_disable": True,
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Wsgi:
        return build_app(self._entries)


def choose(entries: Mapping[str, dict[str, Any]], only: str | None, without: str | None) -> dict[str, dict[str, Any]]:
    """Return the entries that a host was asked to serve.

    Raises:
        SystemExit: a name is not in the manifest.
    """
    wanted = set(only.split(",")) if only else set(entries)
    unwanted = set(without.split(",")) if without else set()
    for name in sorted((wanted | unwanted) - set(entries)):
        sys.exit(f"The manifest has no function {name!r}.")
    return {name: entry for name, entry in entries.items() if name in wanted - unwanted}


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(prog="python -m dev.host", description="Serve functions of the manifest.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--only", metavar="NAME,NAME", help="serve these functions")
    parser.add_argument("--without", metavar="NAME,NAME", help="serve all but these")
    parser.add_argument("--threads", type=int, default=16)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    sys.argv = sys.argv[:1]  # gunicorn would read the options as its own
    _Gunicorn(choose(load_manifest(), options.only, options.without), options.port, options.threads).run()


if __name__ == "__main__":
    main()
