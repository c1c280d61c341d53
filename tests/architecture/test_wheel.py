"""The Python client is a wheel of its own: it can be built, and it works where nothing else of the repository is."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cli" / "trainshed"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "cli"
    # Building leaves folders behind, so it happens on a copy.
    copy = ["cp", "--recursive", "--dereference", ROOT / "cli", source]
    subprocess.run(copy, check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source], check=True)
    return next(folder.glob("trainshed-*.whl"))


def test_the_wheel_holds_every_module_and_its_types(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("trainshed/")}

    assert names == {f"trainshed/{path.name}" for path in (*PACKAGE.glob("*.py"), PACKAGE / "py.typed")}


def test_the_installed_wheel_imports_nothing_of_the_repository(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        "import sys; from trainshed import Client, upload_file; import trainshed.__main__ as command;"
        " print(command.__file__);"
        " print({'shared', 'functions', 'operations', 'dev', 'numpy', 'tensorflow'} & set(sys.modules))"
    )
    # The environment itself knows where the repository's client is; what is extracted here comes first.
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    python = [sys.executable, "-I", "-c", first + program]
    done = subprocess.run(python, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [str(tmp_path / "trainshed" / "__main__.py"), "set()"]


def test_the_wheels_script_is_there(wheel):
    archive = zipfile.ZipFile(wheel)
    entry_points = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))

    assert "trainshed = trainshed.__main__:command" in archive.read(entry_points).decode()


def test_the_wheel_needs_what_the_repository_installs_for_it():
    needed = tomllib.loads((ROOT / "cli" / "pyproject.toml").read_text())["project"]["dependencies"]
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["cli"]

    assert sorted(needed) == sorted(group)


CONSUMER = """
from pathlib import Path

from trainshed import Client, PasswordSignIn, TrainshedError, connect, upload_file
from trainshed.upload import Progress


def upload(client: Client) -> int | None:
    def show(progress: Progress) -> None:
        reveal_type(progress.stored_bytes)

    try:
        return upload_file(client, "s", Path("f"), on_progress=show).get("nRows")
    except TrainshedError:
        return None


with Client({"train": "https://train"}, PasswordSignIn("http://s", "key", "a@example.com", "secret")) as client:
    reveal_type(client.train("s", "y", models=["forest"], seed=7)["status"])
    for model in client.list_models("s")["models"]:
        for file in model["formats"]:
            reveal_type(client.download_model("s", Path("m"), path=model["path"], file=file))
    client.train("s", 7)
with connect() as other:
    reveal_type([session["n_dat"] for session in other.sessions()])
"""


def test_programs_that_use_the_client_are_checked_by_its_types(tmp_path):
    (tmp_path / "consumer.py").write_text(CONSUMER)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-codes", "--cache-dir=cache"]
    done = subprocess.run([*mypy, "consumer.py"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    statuses = " | ".join(f"Literal['{one}']" for one in ("queued", "running", "completed", "failed", "cancelled"))
    assert [line.split(": ", 2)[2] for line in done.stdout.splitlines()] == [
        'Revealed type is "int"',
        f'Revealed type is "{statuses}"',
        'Revealed type is "pathlib.Path"',
        'Argument 2 to "train" of "Client" has incompatible type "int"; expected "str"',
        'Revealed type is "list[int | None]"',
    ]
