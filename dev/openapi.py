"""Writes the description of the API: `make openapi` makes docs/openapi.yaml."""

import sys
from pathlib import Path

import yaml

from dev.home import REPOSITORY
from shared.web.openapi import document

DOCUMENT = REPOSITORY / "docs/openapi.yaml"
_NOTE = "# Made by `make openapi` of functions/manifest.yaml and shared/api; not edited by hand.\n"


class _Dumper(yaml.SafeDumper):
    """Repeats what is the same object, instead of pointing to it."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the base class's signature
        return True


def _write_text(dumper: _Dumper, content: str) -> yaml.Node:
    """Write several lines as several lines."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", content, style="|" if "\n" in content else None)


_Dumper.add_representer(str, _write_text)


def text() -> str:
    """Return the description as YAML."""
    return _NOTE + yaml.dump(document(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def main(path: Path = DOCUMENT) -> None:
    """Write the description."""
    path.write_text(text())
    sys.stdout.write(f"{path.relative_to(REPOSITORY)}\n")


if __name__ == "__main__":
    main()
