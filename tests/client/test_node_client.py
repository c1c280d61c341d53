"""The TypeScript client, built and packed as it is published, in Node against the running stack."""

import json
import math
import os
import re
import tarfile
import uuid
from pathlib import Path

import pytest

from benchmarks.measuring import table_file
from dev.home import REPOSITORY, Home, read_env
from dev.keys import USERS, Keys
from tests.programs import run

HERE = Path(__file__).parent
CLIENT_PAGE = REPOSITORY / "docs/client.md"


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


def pack(package: str, folder: Path) -> Path:
    """Return the archive of a package, as it is published."""
    (packed,) = json.loads(
        run("npm", "pack", "--json", "--silent", "--ignore-scripts", "-w", package, "--pack-destination", str(folder))
    )
    return folder / packed["filename"]


@pytest.mark.parametrize("package", ["@trainshed/client", "@trainshed/uppy"])
def test_a_package_carries_what_it_exports_and_neither_sources_nor_tests(built, tmp_path, package):
    with tarfile.open(pack(package, tmp_path)) as archive:
        names = archive.getnames()
        texts = {name.removeprefix("package/"): archive.extractfile(name).read().decode() for name in names}
    manifest = json.loads(texts["package.json"])
    assert set(manifest["exports"]["."]) == {"types", "default"}
    for place in manifest["exports"]["."].values():
        assert place.removeprefix("./") in texts
    published = re.compile(r"dist/[\w/-]+(\.d\.ts|\.js)|package\.json|README\.md")
    assert not [name for name in texts if not published.fullmatch(name)]
    assert package != "@trainshed/client" or "dist/uploads/hash-worker.js" in texts
    assert manifest["license"] == json.loads((REPOSITORY / "package.json").read_text())["license"]
    # Where it was built is nobody's business.
    assert not [name for name, text in texts.items() if str(REPOSITORY) in text]


def test_the_packed_packages_are_loaded_and_typed_in_another_project(built, tmp_path):
    for package in ("@trainshed/client", "@trainshed/uppy"):
        installed = tmp_path / "node_modules" / package
        with tarfile.open(pack(package, tmp_path)) as archive:
            archive.extractall(tmp_path, filter="data")
        installed.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "package").rename(installed)
    (tmp_path / "node_modules/@uppy").symlink_to(REPOSITORY / "node_modules/@uppy")
    program = tmp_path / "program.mts"
    program.write_text(
        'import { createClient, type Session } from "@trainshed/client";\n'
        'import { Trainshed } from "@trainshed/uppy";\n'
        'import Uppy from "@uppy/core";\n'
        'const client = createClient({ urls: { "list-sessions": "https://a.example" } });\n'
        "export const newest = async (): Promise<Session | undefined> => (await client.sessions.list()).sessions[0];\n"
        'const plugin = new Uppy().use(Trainshed, { client, sessionId: "s" }).getPlugin("Trainshed");\n'
        "console.log(Object.keys(client).sort().join(), plugin instanceof Trainshed);\n"
    )

    settings = {"strict": True, "target": "es2022", "module": "nodenext", "types": []}
    # Uppy's own types speak of `Symbol.dispose`.
    settings["lib"] = ["es2022", "esnext.disposable", "dom"]
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": settings, "files": [program.name]}))
    run("npm", "exec", "--", "tsc", "-p", str(tmp_path))

    assert run("node", str(tmp_path / "program.mjs")) == "models,results,sessions,training,uploads true\n"


def test_the_size_of_the_client_is_reported_and_is_what_its_page_says(built):
    report = run("npm", "run", "--silent", "size", "-w", "@trainshed/client")

    found = dict(
        re.findall(r"^(page|worker) +[\d.]+ KiB minified, ([\d.]+) KiB gzip, [\d.]+ KiB brotli$", report, re.MULTILINE)
    )
    (said,) = re.findall(r"(\d+) KiB\nby gzip for the page, (\d+) KiB for the worker", CLIENT_PAGE.read_text())
    assert [math.ceil(float(found[name])) for name in ("page", "worker")] == [int(number) for number in said]
