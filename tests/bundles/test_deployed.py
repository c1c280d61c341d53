"""Bundles as the platform runs them: unpacked alone, in an environment of their requirements and nothing else."""

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Deployed:
    """One function's bundle, unpacked beside an environment of its group."""

    python: Path
    folder: Path
    target: str
    environment: dict[str, str]

    def serve(self, port: int) -> subprocess.Popen[bytes]:
        """Start the real functions-framework command, as the platform does."""
        return start_tied(
            [self.python.parent / "functions-framework", "--target", self.target, "--host", "127.0.0.1",
             "--port", str(port)],
            cwd=self.folder,
            env=self.environment | {"THREADS": "8"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def modules_after(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str | None]]:
        """Answer one request in a fresh process; return its status and what is loaded, with its file."""
        program = (
            "import json, sys, functions_framework\n"
            "target, method, path, headers = json.loads(sys.argv[1])\n"
            "client = functions_framework.create_app(target, 'main.py').test_client()\n"
            "answer = client.open(path, method=method, headers=headers, json={} if method == 'POST' else None)\n"
            "files = {name: getattr(module, '__file__', None) for name, module in list(sys.modules.items())}\n"
            "sys.stdout.write(json.dumps([answer.status_code, files]))\n"
        )
        arguments = json.dumps([self.target, method, path, headers])
        done = subprocess.run(
            [self.python, "-c", program, arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        status, files = json.loads(done.stdout.splitlines()[-1])
        return status, files


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


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(process.stderr.read().decode())
        try:
            httpx.options(f"http://127.0.0.1:{port}/", timeout=5)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError


@pytest.mark.parametrize("name", sorted(MANIFEST))
def test_a_bundle_answers_from_its_own_requirements_under_functions_framework(
    name, pythons, tmp_path, local_stack, people
):
    deployed = deploy(name, tmp_path, pythons[MANIFEST[name]["requirements"]], local_stack)
    method, path = a_request(name)
    (port,) = free_ports(1, taken=set())
    process = deployed.serve(port)
    try:
        wait_for(port, process)
        body = {"json": {}} if method == "POST" else {}
        answer = httpx.request(
            method, f"http://127.0.0.1:{port}{path}", headers=headers_for(name, local_stack, people), timeout=60, **body
        )
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert answer.status_code < 500, answer.text
    document = answer.json()
    # Not the edge's own answer to a route or a token that it does not know.
    assert document.get("code") not in {"not_found", "unauthenticated", "forbidden", "method_not_allowed"}


@pytest.mark.parametrize("name", ["get-session", "get-upload", "list-models", "scalers", "get-training"])
def test_a_bundle_runs_its_own_copy_of_shared_and_loads_no_model_library(name, pythons, tmp_path, local_stack, people):
    deployed = deploy(name, tmp_path, pythons[MANIFEST[name]["requirements"]], local_stack)
    method, path = a_request(name)
    status, files = deployed.modules_after(method, path, headers_for(name, local_stack, people))
    assert status in {200, 404}
    assert Path(files["shared.web.endpoint"]).is_relative_to(tmp_path)
    assert not {module.partition(".")[0] for module in files} & (MODEL_LIBRARIES | {"pandas"})


def test_the_process_that_reads_hdf5_has_in_the_bundle_all_that_it_needs(pythons, tmp_path, local_stack):
    deployed = deploy("save-model", tmp_path, pythons["saving"], local_stack)
    program = (
        "import io, h5py\n"
        "from shared.adapters.hdf5_sandbox import Hdf5Sandbox\n"
        "buffer = io.BytesIO()\n"
        "with h5py.File(buffer, 'w') as file:\n"
        "    file['here'] = [1.0]\n"
        "    file['there'] = h5py.SoftLink('/here')\n"
        "print(Hdf5Sandbox().contents(buffer, 0, len(buffer.getvalue())).finding.where)\n"
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
    packages = next((pythons[group].parent.parent / "lib").glob("python3*/site-packages"))
    installed = {library for library in MODEL_LIBRARIES if (packages / library).exists()}
    assert bool(installed) == (group in GROUPS_WITH_MODEL_LIBRARIES)


def test_a_function_of_sessions_takes_less_than_60_mib_with_all_it_needs(pythons):
    packages = next((pythons["sessions"].parent.parent / "lib").glob("python3*/site-packages"))
    assert sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) <= 60 << 20
