"""The TypeScript client, built and packed as it is published, in Node against the running stack."""

import json
import os
import tarfile
import uuid
from pathlib import Path

import pytest

from benchmarks.measuring import table_file
from dev.home import Home, read_env
from dev.keys import USERS, Keys
from tests.programs import run

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def built():
    run("npm", "run", "--silent", "build", "-w", "client", "-w", "client/uppy")


@pytest.fixture
def env():
    path = os.environ.get("TRAINSHED_ENV")
    if not path:
        pytest.fail("TRAINSHED_ENV is not set: run `make test`.", pytrace=False)
    return read_env(Path(path))


def test_a_file_goes_from_node_into_a_session_although_it_was_interrupted(built, env, tmp_path):
    token = Keys(Home(Path(os.environ["TRAINSHED_ENV"]).parent)).user_token(USERS[0], env["SUPABASE_URL"] + "/auth/v1")
    with table_file(tmp_path, 24 << 20) as (path, n_rows):
        address = env["TRAINSHED_URL"]
        said = run("node", str(HERE / "upload.mjs"), address, token, str(path), f"node-{uuid.uuid4()}")
    assert said == f"rows {n_rows}\n"


@pytest.mark.parametrize("package", ["@trainshed/client", "@trainshed/uppy"])
def test_a_package_carries_what_it_exports_and_neither_sources_nor_tests(built, tmp_path, package):
    (packed,) = json.loads(
        run("npm", "pack", "--json", "--silent", "--ignore-scripts", "-w", package, "--pack-destination", str(tmp_path))
    )
    with tarfile.open(tmp_path / packed["filename"]) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        manifest = json.load(archive.extractfile("package/package.json"))
    for place in manifest["exports"]["."].values():
        assert place.removeprefix("./") in names
    assert not [name for name in names if not name.startswith("dist/") and name not in {"package.json", "README.md"}]
    assert package != "@trainshed/client" or "dist/uploads/hash-worker.js" in names
