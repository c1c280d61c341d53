"""The TypeScript client in a real Firefox, on the real stack."""

import shutil
import uuid
from collections.abc import Iterator

import pytest

from benchmarks.measuring import table_file
from dev import npm
from dev.console import PAGE
from dev.keys import USERS
from tests.client import firefox
from tests.programs import run
from trainshed.client import Client

CHUNK_BYTES = 8 << 20
N_CHUNKS = 5
DOCUMENT = '<!doctype html><input type="file"><script type="module" src="main.js"></script>'
# Counts what the client's worker answers.
SCRIPT = """
import { createClient } from "./index.js";
const Before = globalThis.Worker;
globalThis.hashed = 0;
globalThis.Worker = class extends Before {
  constructor(...of) {
    super(...of);
    this.addEventListener("message", ({ data }) => (globalThis.hashed += "text" in data ? 1 : 0));
  }
};
globalThis.createClient = createClient;
"""
UPLOAD = """async (token, sessionId) => {
  const client = createClient({ baseUrl: location.origin }, { getToken: () => token });
  const task = client.uploads.start(document.querySelector("input").files[0], { sessionId });
  const stored = [];
  task.on("progress", ({ storedBytes }) => stored.push(storedBytes));
  const upload = await task.done;
  return { upload, stored, hashed, columns: task.table.columns.map(({ name }) => name) };
}"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[firefox.Firefox]:
    program = firefox.program()
    if not program:
        pytest.fail("This test needs Firefox; on Debian: apt-get install firefox-esr.", pytrace=False)
    with firefox.running(program, tmp_path_factory.mktemp("firefox") / "profile") as browser:
        yield browser


@pytest.fixture
def page(local_stack) -> Iterator[str]:
    """The client's modules as they are built, beside the console: the bucket knows no other origin."""
    run("npm", "run", "--silent", "build", "-w", "client")
    name = f"client-{uuid.uuid4()}"
    shutil.copytree(npm.REPOSITORY / "client/dist", PAGE / name)
    (PAGE / name / "index.html").write_text(DOCUMENT)
    (PAGE / name / "main.js").write_text(SCRIPT)
    yield f"{local_stack.env['TRAINSHED_URL']}/{name}/index.html"
    shutil.rmtree(PAGE / name)


def test_a_file_of_several_chunks_goes_from_firefox_into_a_session(browser, page, local_stack, tmp_path):
    token = local_stack.keys.user_token(USERS[0], local_stack.issuer)
    session_id = f"firefox-{uuid.uuid4()}"
    with (
        Client(local_stack.env["TRAINSHED_URL"], token) as client,
        table_file(tmp_path, N_CHUNKS * CHUNK_BYTES) as (path, n_rows),
    ):
        client.init_session(session_id, {})
        browser.go(page)
        browser.choose("input", path)

        said = browser.call(UPLOAD, token, session_id)

        size = path.stat().st_size
        client.delete_session(session_id)
    upload = said["upload"]
    assert (upload["state"], upload["size"], upload["nRows"]) == ("assembled", size, n_rows)
    assert upload["totalChunks"] == N_CHUNKS
    assert said["hashed"] == N_CHUNKS
    assert said["stored"] == sorted(said["stored"])
    assert said["stored"][-1] == size
    assert said["columns"][0] == "time"
