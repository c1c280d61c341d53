"""Bundles as the platform runs them: unpacked alone, in an environment of their requirements and nothing else."""

import io
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from container.app import load_manifest, routes_of
from dev.bundles import bundle_of
from dev.home import REPOSITORY, STACK_ENVIRONMENT, free_ports
from dev.processes import start_tied
from tests.local_stack import LocalStack

pytestmark = pytest.mark.slow

MANIFEST = load_manifest()
START_SECONDS = 60
# What only the functions that train and convert may have at hand.
MODEL_LIBRARIES = {"keras", "onnx", "sklearn", "skops", "tensorflow"}
GROUPS_WITH_MODEL_LIBRARIES = {"training", "converter"}
# All that a bundle imports of what is installed for it, until it has answered a request about something that is not
# there. SDKs load when they are needed: a cold start pays for what it uses.
AT_EVERY_START = {
    "blinker", "click", "cloudevents", "deprecation", "flask", "functions_framework", "gunicorn", "itsdangerous",
    "jinja2", "markupsafe", "packaging", "werkzeug", "google/cloud/functions", "google/cloud/functions_v1",
    "_distutils_hack",
}  # fmt: skip
TOKENS = {"_cffi_backend", "cryptography", "jwt"}
DATABASE = {"urllib3"}
# What a request needs to get as far as that; without one here, it is an empty object.
BODIES: Mapping[str, Mapping[str, object]] = {
    "init-session": {"sessionId": "bundle"},
    "create-upload": {"sessionId": "bundle", "fileName": "a.csv", "size": 5},
    "sign-chunks": {"chunks": [{"index": 0}]},
    "upload-chunk": {"sessionId": "bundle", "fileName": "a.csv", "chunkIndex": 0, "totalChunks": 1, "size": 5},
    "finalize-session": {"sessionId": "bundle"},
    "train": {"target": "y"},
    "publish": {
        "runId": "00000000-0000-4000-8000-000000000000",
        "files": [{"name": "model.skops", "size": 5, "crc32c": "AAAAAA=="}],
    },
    "run-training": {"modelId": "00000000-0000-4000-8000-000000000000"},
}


@dataclass(frozen=True)
class Deployed:
    """One function's bundle, unpacked beside an environment of its group."""

    python: Path
    folder: Path
    target: str
    environment: dict[str, str]

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run the real functions-framework command, as the platform does; yield its address once it answers."""
        (port,) = free_ports(1, taken=set())
        with self._errors.open("wb") as errors:
            process = start_tied(
                [self.python.parent / "functions-framework", "--target", self.target, "--host", "127.0.0.1",
                 "--port", str(port)],
                cwd=self.folder,
                env=self.environment | {"THREADS": "8", "PYTHONPROFILEIMPORTTIME": "1"},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )  # fmt: skip
        try:
            self._wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)

    def packages(self) -> set[str]:
        """Return what was imported while it served of what is installed; of Google's, the third name tells."""
        pattern = r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$"
        modules = [name.split(".") for name in re.findall(pattern, self._errors.read_text(), re.MULTILINE)]
        found = {"/".join(names[:3]) if names[0] == "google" else names[0] for names in modules}
        place = site_packages(self.python)
        endings = ("", ".py", ".*.so")
        # Namespaces, which are loaded at each start.
        return {
            name for name in found - {"google", "google/cloud"} if any(any(place.glob(name + end)) for end in endings)
        }

    @property
    def _errors(self) -> Path:
        return self.folder / "stderr.txt"

    def _wait_for(self, port: int, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if process.poll() is not None:
                raise AssertionError(self._errors.read_text())
            try:
                httpx.options(f"http://127.0.0.1:{port}/", timeout=5)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError


@pytest.fixture(scope="module")
def pythons(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """Environments by group of requirements, made when first asked for."""

    class Environments(dict[str, Path]):
        def __missing__(self, group: str) -> Path:
            place = tmp_path_factory.mktemp("environments") / group
            uv = str(STACK_ENVIRONMENT / "bin/uv")
            python = place / "bin/python"
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True)
            requirements = REPOSITORY / "requirements" / f"{group}.txt"
            install = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, requirements]
            subprocess.run(install, check=True)
            self[group] = python
            return python

    return Environments()


def deploy(name: str, folder: Path, python: Path, stack: LocalStack) -> Deployed:
    with zipfile.ZipFile(io.BytesIO(bundle_of(name, MANIFEST[name]).archive())) as archive:
        archive.extractall(folder)
    environment = {
        **{key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG", "TMPDIR"}},
        **stack.functions_env,
        "PYTHONPATH": "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Deployed(python, folder, MANIFEST[name]["target"], environment)


def site_packages(python: Path) -> Path:
    return next((python.parents[1] / "lib").glob("python3*/site-packages"))


def needed(entry: Mapping[str, Any]) -> set[str]:
    """Return the packages that a function of the manifest needs until it knows that something is not there."""
    verifies = entry["caller"] != "anyone"
    return (TOKENS if verifies else set()) | (DATABASE if entry.get("database", True) else set())


def a_request(name: str) -> tuple[str, str]:
    """Return method and path of a request about something that does not exist."""
    method, path = routes_of(MANIFEST[name])[0]
    for variable in ("session_id", "upload_id"):
        path = path.replace(f"{{{variable}}}", "00000000-0000-4000-8000-000000000000")
    return method, path


def headers_for(name: str, stack: LocalStack, people) -> dict[str, str]:
    caller = MANIFEST[name]["caller"]
    if caller == "scheduler":
        return {"Authorization": f"Bearer {stack.scheduler_token()}"}
    if caller == "anyone":
        return {}
    if caller in {"user", "user_or_service"}:
        return {"Authorization": f"Bearer {people.add().token}"}
    return {"Authorization": f"Bearer {stack.tasks_token()}"}


@pytest.mark.parametrize("name", sorted(MANIFEST))
def test_a_bundle_answers_from_its_own_requirements_and_imports_what_it_may(
    name, pythons, tmp_path, local_stack, people
):
    deployed = deploy(name, tmp_path, pythons[MANIFEST[name]["requirements"]], local_stack)
    method, path = a_request(name)
    body = {"json": BODIES.get(name, {})} if method == "POST" else {}
    with deployed.serving() as address:
        headers = headers_for(name, local_stack, people)
        answer = httpx.request(method, f"{address}{path}", headers=headers, timeout=60, **body)
    assert answer.status_code < 500, answer.text
    document = answer.json()
    # Not the edge's own answer to a route or a token that it does not know.
    assert document.get("code") not in {"not_found", "unauthenticated", "forbidden", "method_not_allowed"}
    # No less either: the request has come as far as the token and the database.
    assert deployed.packages() - AT_EVERY_START == needed(MANIFEST[name])


def test_a_bundle_runs_its_own_copy_of_shared(pythons, tmp_path, local_stack):
    deployed = deploy("get-session", tmp_path, pythons["sessions"], local_stack)
    program = (
        "import functions_framework as f; f.create_app('get_session', 'main.py'); import shared; print(shared.__file__)"
    )
    done = subprocess.run(
        [deployed.python, "-c", program], cwd=tmp_path, env=deployed.environment, capture_output=True, check=True
    )
    assert Path(done.stdout.decode().strip()).is_relative_to(tmp_path)


@pytest.mark.parametrize("group", sorted({entry["requirements"] for entry in MANIFEST.values()}))
def test_nothing_that_is_installed_stands_before_a_bundles_own_modules(group, pythons):
    # The framework puts a bundle at the end of the module search path.
    assert not {"shared", "shared.py", "main.py"} & {path.name for path in site_packages(pythons[group]).iterdir()}


def test_the_process_that_reads_hdf5_has_in_the_bundle_all_that_it_needs(pythons, tmp_path, local_stack):
    deployed = deploy("save-model", tmp_path, pythons["saving"], local_stack)
    program = (
        "import io, h5py\n"
        "from shared.adapters.hdf5_sandbox import Hdf5Sandbox\n"
        "from shared.adapters.hdf5_template import Hdf5Template\n"
        "buffer = io.BytesIO()\n"
        "with h5py.File(buffer, 'w') as file:\n"
        "    file['here'] = [1.0]\n"
        "    file['there'] = h5py.SoftLink('/here')\n"
        "print(Hdf5Sandbox(Hdf5Template()).contents(buffer, 0, len(buffer.getvalue())).finding.where)\n"
    )
    done = subprocess.run(
        [deployed.python, "-c", program],
        cwd=deployed.folder,
        env=deployed.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "/there\n"


@pytest.mark.parametrize("group", sorted({entry["requirements"] for entry in MANIFEST.values()}))
def test_model_libraries_are_installed_where_models_are_trained_or_converted_and_nowhere_else(group, pythons):
    installed = {library for library in MODEL_LIBRARIES if (site_packages(pythons[group]) / library).exists()}
    assert bool(installed) == (group in GROUPS_WITH_MODEL_LIBRARIES)


def test_a_function_of_sessions_takes_less_than_60_mib_with_all_it_needs(pythons):
    installed = site_packages(pythons["sessions"]).rglob("*")
    assert sum(file.stat().st_size for file in installed if file.is_file()) <= 60 << 20
