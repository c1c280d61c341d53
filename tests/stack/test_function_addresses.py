"""The command where there is no front door: every function is an origin of its own, and serves its own routes alone."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from container.app import load_manifest
from shared.web.manifest import functions
from tests.stack.test_deployed_console import port_of_functions
from trainshed import Client, PasswordSignIn
from trainshed.errors import SettingsError

pytestmark = pytest.mark.slow


class Origin(BaseHTTPRequestHandler):
    """Passes on to the stack what the function's own address would take, and takes nothing else.

    Attributes:
        answered: Names of the functions that were called.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, name: str, behind: str, answered: set[str], *rest) -> None:
        self.name, self.behind, self.answered = name, behind, answered
        super().__init__(*rest)

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        routes = functions()[self.name].routes
        if not any(route.method == self.command and route.variables(path) is not None for route in routes):
            self._answer(httpx.Response(404, json={"code": "not_found", "detail": f"{self.name} has no {path}."}))
            return
        self.answered.add(self.name)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        url = f"{self.behind}{self.path}"
        self._answer(httpx.request(self.command, url, headers=headers, content=content, timeout=120))

    def _answer(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in {"content-length", "content-encoding", "connection", "transfer-encoding", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_: object) -> None:
        """The test says enough."""


class Console(BaseHTTPRequestHandler):
    """The console's host, as far as `config.json` goes."""

    def __init__(self, configuration: object, *rest) -> None:
        self.configuration = configuration
        super().__init__(*rest)

    def do_GET(self) -> None:
        is_there = self.path == "/console/config.json"
        self.send_response(200 if is_there else 404)
        self.end_headers()
        self.wfile.write(json.dumps(self.configuration).encode() if is_there else b"")

    def log_message(self, *_: object) -> None:
        """The test says enough."""


@contextmanager
def serving(handler) -> Iterator[str]:
    """Serve on a free port of this machine; return the origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def answered() -> set[str]:
    return set()


@pytest.fixture
def configuration(supervisor, answered) -> Iterator[dict[str, object]]:
    """What Terraform's output console_config holds without a front door."""
    assert supervisor.start() is None, supervisor.lines
    settings = supervisor.settings()
    behind = f"http://127.0.0.1:{port_of_functions(supervisor)}"
    names = [name for name, entry in load_manifest().items() if str(entry["caller"]).startswith("user")]
    with ExitStack() as origins:
        urls = {name: origins.enter_context(serving(partial(Origin, name, behind, answered))) for name in names}
        yield {
            "supabaseUrl": settings["SUPABASE_URL"],
            "supabasePublishableKey": settings["SUPABASE_PUBLISHABLE_KEY"],
            "urls": urls,
        }


@pytest.fixture
def run(tmp_path):
    """The command, as somebody who has no settings but those that are given."""
    hidden = ("TRAINSHED_", "SUPABASE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}

    def run(*arguments, environment=None, **options):
        done = subprocess.run(
            [sys.executable, "-m", "trainshed", *map(str, arguments)],
            env={**kept, "XDG_CONFIG_HOME": str(tmp_path / "config"), **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            **options,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_somebody_signs_in_by_the_console_and_trains_and_downloads(supervisor, configuration, answered, run, tmp_path):
    settings = supervisor.settings()
    table = tmp_path / "line.csv"
    table.write_text("x,y\n" + "".join(f"{n},{3 * n}\n" for n in range(200)))
    with serving(partial(Console, configuration)) as console:
        who = ("--email", settings["ALICE_EMAIL"], "--password-stdin")
        code, said, complaint = run(
            "login", "--config", f"{console}/console/#/sessions", *who, input=f"{settings['ALICE_PASSWORD']}\n"
        )
    assert (code, complaint) == (0, "")
    assert "each at its own address" in said

    # From here on the console is away: what is kept is enough.
    assert run("upload", table, "--session", "line", "--finalize")[::2] == (0, "")
    assert run("train", "line", "--target", "y", "--models", "linear_regression")[::2] == (0, "")
    code, listed, _ = run("models", "line", "--json")
    assert (code, [model["name"] for model in json.loads(listed)]) == (0, ["linear_regression"])
    assert run("download", "line", "--to", tmp_path / "models")[::2] == (0, "")
    (model,) = (tmp_path / "models").iterdir()
    assert model.stat().st_size > 0
    assert "line.csv: 200 rows" in run("plot", "line")[1]
    code, checks, _ = run("doctor", "--json")
    assert (code, {check["is_ok"] for check in json.loads(checks)}) == (0, {True})
    assert "line" in run("sessions")[1]
    assert run("delete", "line", "--yes")[0] == 0
    assert run("logout")[0] == 0

    used = {"init-session", "create-upload", "sign-chunks", "assemble-upload", "finalize-session", "train"}
    used |= {"get-training", "save-model", "list-models", "download-model", "plot-variables", "visualizations"}
    used |= {"get-session", "list-sessions", "get-upload", "abort-upload", "delete-session"}
    assert used <= answered


def test_a_job_takes_the_file_from_its_environment_and_python_the_map(supervisor, configuration, run, tmp_path):
    settings = supervisor.settings()
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    people = {"TRAINSHED_EMAIL": settings["ALICE_EMAIL"], "TRAINSHED_PASSWORD": settings["ALICE_PASSWORD"]}
    environment = {"TRAINSHED_CONFIG": str(tmp_path / "config.json"), **people}
    (tmp_path / "data.bin").write_bytes(os.urandom(1_000))

    assert run("upload", tmp_path / "data.bin", "--session", "job", environment=environment)[::2] == (0, "")

    code, listed, _ = run("sessions", "--json", environment=environment)
    assert (code, [session["session_id"] for session in json.loads(listed)]) == (0, ["job"])
    names = ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "ALICE_EMAIL", "ALICE_PASSWORD")
    sign_in = PasswordSignIn(*(settings[name] for name in names))
    with Client({"get-session": configuration["urls"]["get-session"]}, sign_in) as client:
        assert client.get_session("job")["total_files"] == 1
        with pytest.raises(SettingsError, match="function list-sessions"):
            client.list_sessions()
