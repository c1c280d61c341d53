"""Writes what is deployed: `make bundles` makes one zip per function below build/bundles/.

A bundle is main.py of the function's area, its entry of the manifest as manifest.json, the modules of `shared` that
main.py imports, directly or through others, and the compiled requirements of its group as requirements.txt. Two builds
of the same files give the same bytes: names are sorted, times and modes fixed. The name carries a hash of the content,
so a changed function is another object. What only people read stays here.
"""

import ast
import functools
import hashlib
import io
import json
import os
import sys
import tokenize
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.app import load_manifest
from dev.home import REPOSITORY

BUNDLES = REPOSITORY / "build/bundles"
_PACKAGE = "shared"
_HASH_LENGTH = 16
# The earliest time that a zip archive can say.
_TIME = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE = 0o100644
_WITH_DOCSTRING = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Bundle:
    """One function's source as it is deployed.

    Attributes:
        files: Content by name inside the archive, sorted by name.
    """

    function: str
    files: Mapping[str, bytes]

    @property
    def file_name(self) -> str:
        """<function>-<hash of names and contents>.zip."""
        digest = hashlib.sha256()
        for name, content in self.files.items():
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
        return f"{self.function}-{digest.hexdigest()[:_HASH_LENGTH]}.zip"

    def archive(self) -> bytes:
        """Return the zip archive; the same bytes for the same files."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, content in self.files.items():
                entry = zipfile.ZipInfo(name, _TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = 3  # Unix, wherever it is built
                entry.external_attr = _REGULAR_FILE << 16
                archive.writestr(entry, content)
        return buffer.getvalue()


def bundle_of(name: str, entry: Mapping[str, Any], tree: Path = REPOSITORY) -> Bundle:
    """Gather the files of one function of the manifest.

    Raises:
        FileNotFoundError: Its requirements are not compiled, or a module it imports is not there.
    """
    main = tree / "functions" / entry["source"] / "main.py"
    modules = imported_modules(main, tree)
    # Who describes the API needs the whole list, others only what they are.
    entries = load_manifest() if tree / "shared/web/openapi.py" in modules else {name: entry}
    files = {
        "main.py": as_deployed(main.read_bytes()),
        "manifest.json": json.dumps(entries).encode(),
        "requirements.txt": (tree / "requirements" / f"{entry['requirements']}.txt").read_bytes(),
    }
    for path in modules:
        files[path.relative_to(tree).as_posix()] = as_deployed(path.read_bytes())
        # WebAssembly text goes with the Python module of its name, which runs it.
        if (text := path.with_suffix(".wat")).is_file():
            files[text.relative_to(tree).as_posix()] = text.read_bytes()
    return Bundle(name, dict(sorted(files.items())))


@functools.cache
def as_deployed(source: bytes) -> bytes:
    """Return Python source without comments and without the docstrings of modules and functions, a third of an archive.

    Lines keep their numbers. Docstrings of classes stay: errors and the description of the API are worded by them.
    """
    lines = source.splitlines(keepends=True)
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            before = lines[row - 1].decode()[:column]
            lines[row - 1] = before.rstrip().encode() + b"\n"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            text = node.body[0]
            last = text.end_lineno or text.lineno
            lines[text.lineno - 1] = b" " * text.col_offset + b'""\n'
            lines[text.lineno : last] = [b"\n"] * (last - text.lineno)
    return b"".join(lines)


def imported_modules(source: Path, tree: Path = REPOSITORY) -> set[Path]:
    """Return the files of `shared` that a file imports, directly or through others, also late."""
    found: set[Path] = set()
    waiting = [source]
    while waiting:
        for path in _imports(waiting.pop(), tree):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return found


def _imports(source: Path, tree: Path) -> Iterator[Path]:
    for node in _imports_of(source.read_bytes()):
        names = [alias.name for alias in node.names]
        modules = names if isinstance(node, ast.Import) else [node.module or ""]
        if isinstance(node, ast.ImportFrom):
            # `from shared.adapters import keras_models` names a module, `from shared.logs import write_log` does not.
            modules += [f"{node.module}.{name}" for name in names if _file_of(f"{node.module}.{name}", tree)]
        for module in modules:
            if module.split(".", maxsplit=1)[0] != _PACKAGE:
                continue
            path = _file_of(module, tree)
            if path is None:
                raise FileNotFoundError(f"{source} imports {module}, which is no module of {tree}.")
            yield path
            for parent in path.relative_to(tree).parents:
                package = tree / parent / "__init__.py"
                if parent != Path() and package.is_file():
                    yield package


@functools.cache
def _imports_of(source: bytes) -> Sequence[ast.Import | ast.ImportFrom]:
    return list(_imported_at_run_time(ast.parse(source)))


def _imported_at_run_time(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield all imports but those that only a type checker sees."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        children: list[ast.AST] = list(node.orelse)
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from _imported_at_run_time(child)


def _file_of(module: str, tree: Path) -> Path | None:
    base = tree.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def write_bundles(folder: Path) -> list[Path]:
    """Write every function's bundle, and delete the ones of earlier builds."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, entry in load_manifest().items():
        bundle = bundle_of(name, entry)
        path = folder / bundle.file_name
        partial = path.with_suffix(".partial")
        partial.write_bytes(bundle.archive())
        os.replace(partial, path)  # noqa: PTH105 - os.replace says that it is atomic
        written.append(path)
    for path in set(folder.glob("*.zip")) - set(written):
        path.unlink()
    return written


def main() -> None:
    """Write all bundles and say what they weigh."""
    for path in write_bundles(BUNDLES):
        sys.stdout.write(f"{path.stat().st_size:>8,} bytes  {path.relative_to(REPOSITORY)}\n")


if __name__ == "__main__":
    main()
