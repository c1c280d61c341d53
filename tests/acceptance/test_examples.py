"""The notebooks of docs/examples run as they stand, cell by cell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import sign_in_as

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs/examples").glob("*.ipynb"))


def program_of(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_twice_from_top_to_bottom(service_url, alice, notebook, tmp_path):
    environment = {**os.environ, "TRAINSHED_URL": service_url, "TRAINSHED_TOKEN": sign_in_as("ALICE")()}
    command = [sys.executable, "-W", "error", "-c", program_of(notebook)]
    try:
        for _ in range(2):
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
        models = alice.list_models("diabetes")["models"]
        assert {(model["name"], model["status"]) for model in models} == {("linear", "ready"), ("forest", "ready")}
        assert [model["name"] for model in models if "best" in model["aliases"]] != []
    finally:
        alice.delete_session("diabetes")


def test_notebooks_hold_no_output():
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text())["cells"]
        assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
