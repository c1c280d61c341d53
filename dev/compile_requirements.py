"""Compiles the dependency groups of pyproject.toml into requirements/*.txt: `make requirements`.

requirements/dev.txt comes first and binds the others, so that every bundle runs the versions that the tests
ran. The groups of the stack and of the infrastructure's checks are resolved alone. Versions already in a file stay;
delete the file to move them.
"""

import os
import subprocess
import sys

from container.app import load_manifest
from dev.home import REPOSITORY, STACK_ENVIRONMENT

LOWEST_PYTHON = "3.11"


def main() -> None:
    """Compile every group that is installed somewhere."""
    bundles = sorted({str(entry["requirements"]) for entry in load_manifest().values()})
    compile_group("dev")
    for group in [*bundles, "container", "container-training"]:
        compile_group(group, "--constraint", "requirements/dev.txt")
    compile_group("stack")
    compile_group("infra")


def compile_group(group: str, *options: str) -> None:
    """Write requirements/<group>.txt."""
    command = [
        str(STACK_ENVIRONMENT / "bin/uv"), "pip", "compile", "--quiet", "--universal",
        "--python-version", LOWEST_PYTHON, "--generate-hashes", "--no-emit-index-url",
        "--group", f"pyproject.toml:{group}", "--output-file", f"requirements/{group}.txt", *options,
    ]  # fmt: skip
    environment = {**os.environ, "UV_CUSTOM_COMPILE_COMMAND": "make requirements"}
    if subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode != 0:
        sys.exit(f"Compiling the group {group!r} failed.")


if __name__ == "__main__":
    main()
