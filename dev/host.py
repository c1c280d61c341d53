"""Serves the functions of the manifest in one process, each as its own functions-framework app.

`python -m dev.host --port N [--only name,name] [--without name,name]`
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping

from gunicorn.app.base import BaseApplication

from container.app import Entry, Wsgi, build_app, choose, load_function, load_manifest
from dev.rights import Rights, held_to


def load_held_functions(entries: Mapping[str, Entry]) -> dict[str, Wsgi]:
    """Return functions by name, each with the rights of its own service account."""
    return {name: load_held_function(name, entry) for name, entry in entries.items()}


def load_held_function(name: str, entry: Entry) -> Wsgi:
    """Return a function that may do what its service account may, and no more."""
    buckets = {os.environ["UPLOADS_BUCKET"]: "uploads", os.environ["ARTIFACTS_BUCKET"]: "artifacts"}
    with held_to(Rights(name, entry, buckets)):
        return load_function(entry)


class _Gunicorn(BaseApplication):
    """The server that functions-framework runs in the cloud, with its settings."""

    def __init__(self, entries: Mapping[str, Entry], port: int, threads: int) -> None:
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
        return build_app(load_held_functions(self._entries), self._entries)


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
