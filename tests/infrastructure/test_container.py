"""The container: its Dockerfile by rules, and its command run on what it holds, with its packages alone."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import httpx
import pytest
import yaml

from container.app import HEAVY_GROUPS, load_manifest, routes_of
from dev.home import REPOSITORY, STACK_ENVIRONMENT, free_ports
from dev.processes import start_tied

DOCKERFILE = REPOSITORY / "container/Dockerfile"
HADOLINT = REPOSITORY / ".venv-infra/bin/hadolint"
START_SECONDS = 120


def instructions(name: str) -> list[str]:
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def test_hadolint_finds_nothing():
    assert HADOLINT.exists(), "hadolint is missing: `make check` installs it."
    done = subprocess.run([HADOLINT, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_finds_what_is_wrong(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /tmp && pip install flask\n")
    done = subprocess.run([HADOLINT, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert {"DL3007", "DL3013"} <= set(re.findall(r"DL\d+", done.stdout))


def test_the_image_runs_as_nobody_and_installs_by_hash():
    assert instructions("USER") == ["10001"]
    assert "--require-hashes" in " ".join(instructions("RUN"))


def test_what_is_copied_is_not_kept_out():
    kept = (REPOSITORY / ".dockerignore").read_text().splitlines()
    sources = {words.split()[0].split("/")[0] for words in instructions("COPY") if not words.startswith("--from")}
    assert kept[1] == "*"
    assert sources <= {line.removeprefix("!") for line in kept if line.startswith("!")}


def test_the_knative_example_is_a_service_with_the_threads_of_its_concurrency():
    service = yaml.safe_load((REPOSITORY / "container/knative.yaml").read_text())
    spec = service["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["THREADS"] == str(spec["containerConcurrency"])
    assert container["securityContext"]["runAsNonRoot"] is True


@pytest.mark.slow
def test_what_the_image_holds_serves_every_light_function(tmp_path, local_stack, people):
    for words in instructions("COPY"):
        source, target = words.split()[-2:]
        if target.startswith("/app/"):
            shutil.copytree(REPOSITORY / source, tmp_path / target.removeprefix("/"))
    app = tmp_path / "app"
    uv = STACK_ENVIRONMENT / "bin/uv"
    environment = tmp_path / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    install = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", environment / "bin/python"]
    subprocess.run([*install, REPOSITORY / "requirements/container.txt"], check=True)
    (port,) = free_ports(1, taken=set())
    (command,) = instructions("CMD")
    process = start_tied(
        [environment / "bin" / words if not index else words for index, words in enumerate(json.loads(command))],
        cwd=app,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PORT": str(port), **local_stack.functions_env},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        ready = wait_until_ready(port, process)
        assert ready == sorted(
            name for name, entry in load_manifest().items() if entry["requirements"] not in HEAVY_GROUPS
        )
        headers = {"Authorization": f"Bearer {people.add().token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/training", headers=headers, timeout=60) as client:
            assert client.post("/init-session", json={"sessionId": "from-a-container"}).status_code == 200
            assert client.get("/session/from-a-container").json()["data"]["status"] == "initialized"
            assert client.get("/nothing").status_code == 404
            for name in ready:
                for method, path in routes_of(load_manifest()[name]):
                    answer = client.request(method, path.replace("{", "").replace("}", ""), json={})
                    # By the function, whatever it thinks of the request; the container itself has these two answers.
                    problem = answer.json() if "problem" in answer.headers["Content-Type"] else {}
                    assert problem.get("code") not in {"not_found", "method_not_allowed"}, (name, answer.text)
                    assert answer.status_code < 500, (name, answer.text)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> list[str]:
    """Return the functions that the server says it serves."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(process.stderr.read().decode())
        try:
            return httpx.get(f"http://127.0.0.1:{port}/_ready", timeout=30).json()["functions"]
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError(shlex.join(map(str, process.args)))
