"""What `make bundles` writes: the same bytes each time, and nothing that is not imported."""

import ast
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from container.app import load_manifest
from dev.bundles import Bundle, as_deployed, bundle_of, imported_modules, write_bundles
from dev.home import REPOSITORY

LARGEST_BUNDLE_BYTES = 100 << 10


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    return {name: bundle_of(name, entry) for name, entry in load_manifest().items()}


def a_tree(folder: Path, **modules: str) -> Path:
    """Write modules of `shared`, dots as double underscores, and a main.py beside them."""
    for name, text in modules.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for place in (folder / "shared", folder / "shared/adapters"):
        if place.is_dir():
            (place / "__init__.py").touch()
    return folder / "main.py"


def names(found: set[Path], tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in found}


def test_modules_are_followed_through_others_and_into_functions(tmp_path):
    main = a_tree(
        tmp_path,
        main="from shared.a import name\n",
        shared__a="def name():\n    from shared.adapters import b\n    return b\n",
        shared__adapters__b="import shared.c\nimport json\n",
        shared__c="",
        shared__unused="",
    )
    expected = {
        "shared/__init__.py",
        "shared/a.py",
        "shared/adapters/__init__.py",
        "shared/adapters/b.py",
        "shared/c.py",
    }
    assert names(imported_modules(main, tmp_path), tmp_path) == expected


def test_what_only_a_type_checker_imports_is_left_out(tmp_path):
    main = a_tree(
        tmp_path,
        main="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import shared.a\nelse:\n    import shared.b\n",
        shared__a="",
        shared__b="",
    )
    assert names(imported_modules(main, tmp_path), tmp_path) == {"shared/__init__.py", "shared/b.py"}


def test_modules_that_import_each_other_are_found_once(tmp_path):
    main = a_tree(tmp_path, main="import shared.a\n", shared__a="import shared.b\n", shared__b="import shared.a\n")
    assert names(imported_modules(main, tmp_path), tmp_path) == {"shared/__init__.py", "shared/a.py", "shared/b.py"}


def test_a_module_that_is_not_there_is_named(tmp_path):
    main = a_tree(tmp_path, main="import shared.gone\n", shared__a="")
    with pytest.raises(FileNotFoundError, match=r"shared\.gone"):
        imported_modules(main, tmp_path)


def test_building_twice_writes_the_same_bytes_and_no_file_of_an_earlier_build_stays(tmp_path):
    (tmp_path / "init-session-0000000000000000.zip").touch()
    first = {path.name: path.read_bytes() for path in write_bundles(tmp_path)}
    second = {path.name: path.read_bytes() for path in write_bundles(tmp_path)}
    assert first == second
    assert {path.name for path in tmp_path.iterdir()} == set(first)
    assert len(first) == len(load_manifest())


def test_bytes_do_not_depend_on_the_process_that_builds(bundles, tmp_path):
    program = (
        "import sys; from pathlib import Path; from dev.bundles import write_bundles; write_bundles(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-R", "-c", program, str(tmp_path)], cwd=REPOSITORY, check=True)
    written = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}
    assert written == {bundle.file_name: hashlib.sha256(bundle.archive()).digest() for bundle in bundles.values()}


def programs(source: bytes) -> tuple[str, list[int]]:
    """Return what a source does, without the docstrings of modules and functions, and on which lines."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0].value.value = ""
    return ast.dump(tree), [node.lineno for node in ast.walk(tree) if hasattr(node, "lineno")]


def test_what_people_read_stays_behind_and_the_program_is_the_same(bundles):
    for name, content in bundles["save-model"].files.items():
        if name.startswith("shared/"):
            # On the same lines, which stack traces name.
            assert programs(content) == programs((REPOSITORY / name).read_bytes()), name
    source = b'"""M.\n\nN.\n"""\nx = "# no"  # yes\n# and\ndef f():\n    """One.\n\n    Two.\n    """\n    return 1\n'
    assert as_deployed(source) == b'""\n\n\n\nx = "# no"\n\ndef f():\n    ""\n\n\n\n    return 1\n'
    assert b'"""' in as_deployed(b'class A:\n    """Kept."""\n')


def test_a_changed_file_changes_the_name(bundles):
    bundle = bundles["get-session"]
    changed = Bundle(bundle.function, {**bundle.files, "main.py": bundle.files["main.py"] + b"\n"})
    assert changed.file_name != bundle.file_name


def test_an_archive_has_sorted_names_fixed_times_and_fixed_modes(bundles):
    with zipfile.ZipFile(io.BytesIO(bundles["train"].archive())) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_sources_of_a_bundle_take_less_than_100_kib(bundles):
    for bundle in bundles.values():
        sources = Bundle(
            bundle.function, {name: text for name, text in bundle.files.items() if name != "requirements.txt"}
        )
        assert len(sources.archive()) <= LARGEST_BUNDLE_BYTES, bundle.function


@pytest.mark.parametrize(
    ("function", "absent"),
    [
        ("scalers", ("shared/drawings.py", "shared/chart_templates.py")),
        ("create-upload", ("shared/training.py", "shared/adapters/supabase_training.py")),
        ("create-upload", ("shared/deletion.py", "shared/sweeping.py", "shared/publication.py")),
        ("visualizations", ("shared/adapters/gcs.py", "shared/records/uploads.py", "shared/records/training.py")),
        ("plot-variables", ("shared/publication.py", "shared/adapters/signing.py", "shared/records/training.py")),
        ("list-models", ("shared/adapters/reference_trainer.py", "shared/adapters/keras_models.py")),
    ],
)
def test_a_bundle_holds_nothing_of_other_areas(bundles, function, absent):
    assert not set(absent) & set(bundles[function].files)


@pytest.mark.parametrize("function", ["init-session", "list-sessions", "get-session", "scalers", "evaluation-tables"])
def test_a_bundle_that_only_asks_the_database_holds_nothing_of_buckets_and_what_lies_in_them(bundles, function):
    assert not {
        "shared/adapters/gcs.py",
        "shared/adapters/signing.py",
        "shared/deletion.py",
        "shared/publication.py",
        "shared/records/objects.py",
        "shared/threads.py",
    } & set(bundles[function].files)
    assert b"google-cloud" not in bundles[function].files["requirements.txt"]


def imported_in(source: str) -> tuple[set[str], set[str]]:
    """Return what a file imports of `shared`, as files: where it runs, and where only a type checker looks."""
    tree = ast.parse(source)
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen_by_type_checkers = {id(node) for guard in guarded for part in guard.body for node in ast.walk(part)}
    found: tuple[set[str], set[str]] = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules = {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            continue
        files = {f"{module.replace('.', '/')}.py" for module in modules if module.startswith("shared")}
        found[id(node) in seen_by_type_checkers].update(file for file in files if (REPOSITORY / file).is_file())
    return found


@pytest.mark.parametrize("name", load_manifest())
def test_a_bundle_holds_what_its_files_import_and_nothing_else(bundles, name):
    """As read from what is in the archive, not by following main.py as the bundler does."""
    files = {file: text.decode() for file, text in bundles[name].files.items() if file.endswith(".py")}
    assert "main.py" in files
    imported = set().union(*(imported_in(text)[0] for text in files.values()))
    packages = {f"{parent}/__init__.py" for file in imported for parent in list(Path(file).parents)[:-1]}
    assert set(files) == imported | packages | {"main.py"}


def test_the_counter_of_rows_goes_with_the_module_that_runs_it_and_nowhere_else(bundles):
    for bundle in bundles.values():
        assert ("shared/adapters/csv_rows.wat" in bundle.files) == ("shared/adapters/csv_rows.py" in bundle.files)
    assert "shared/adapters/csv_rows.wat" in bundles["assemble-upload"].files


def test_bundles_carry_no_protocols_and_those_that_start_often_no_records_of_training(bundles):
    contents = {name: set(zipfile.ZipFile(io.BytesIO(bundle.archive())).namelist()) for name, bundle in bundles.items()}
    assert {name for name, files in contents.items() if "shared/ports.py" in files} == set()
    for name in ("get-session", "create-upload", "scalers"):
        assert "shared/records/training.py" not in contents[name]
