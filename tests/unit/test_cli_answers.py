"""What each command asks of the service and what it prints: every function answers as it is told to here."""

import contextlib
import hashlib
import io
import json
import os
import resource
import time
from email.utils import formatdate
from unittest import mock

import httpx
import pytest

from shared.web.manifest import functions
from tests.fakes.upload_service import crc32c
from trainshed import client as client_module
from trainshed.__main__ import NOT_SIGNED_IN, REFUSED, TRY_LATER, main
from trainshed.client import Client
from trainshed.commands import COMMANDS
from trainshed.errors import UnreachableError
from trainshed.retry import Backoff

CONTENT = {"skops": b"a forest", "pkl": b"a pickle", "keras": b"a network", "h5": b"another form"}
URL = "http://service"


def a_file(form):
    sha256 = hashlib.sha256(CONTENT[form]).hexdigest()
    return {"format": form, "size": len(CONTENT[form]), "sha256": sha256, "loads_code": form == "pkl"}


def a_model(name, *forms, run="r1", framework="sklearn", **more):
    formats = [a_file(form) for form in forms]
    described = {"name": name, "path": f"{run}/{name}", "class": "a.B", "status": "ready", "size": 8}
    return {**described, "framework": framework, "formats": formats, **more}


RUN = {
    "run_id": "r",
    "target": "y",
    "status": "completed",
    "models": [{"name": "forest", "status": "ready", "progress": 1.0, "metrics": {"test": {"rmse": 1.25}}}],
}
SESSION = {"session_id": "s1", "status": "finalized", "created_at": "2026-01-02T03:04:05+00:00", "n_dat": 3}
COLUMN = {"name": "x", "type": "integer", "missing": 0, "mean": 2.0, "min": 1.0, "max": 3.0}
TABLE = {"name": "d.csv", "n_rows": 3, "columns": [COLUMN]}
CHART = {"name": "fit", "kind": "line", "title": "How it fits", "data": {"x": [1.0, 2.0], "y": [1.0, 3.0]}}
UPLOAD = {
    "uploadId": "u1",
    "sessionId": "s1",
    "fileName": "f",
    "size": 1,
    "chunkSize": 1000,
    "totalChunks": 1,
    "state": "assembled",
    "crc32c": "T9LiWA==",
}
DATA = {
    "init-session": {"session_id": "s1", "uuid": "", "status": "initialized"},
    "list-sessions": {"sessions": [SESSION], "count": 1, "next_page_token": ""},
    "get-session": {**SESSION, "files": [], "uploads": [], "total_files": 2},
    "delete-session": {"session_id": "s1", "files_deleted": 4},
    "create-upload": {**UPLOAD, "state": "open", "isNew": True, "concurrency": 1},
    "sign-chunks": {"chunks": [{"index": 0, "size": 1, "url": "http://bucket/0", "method": "PUT", "headers": {}}]},
    "assemble-upload": UPLOAD,
    "get-upload": {**UPLOAD, "received": [{"index": 0, "size": 17, "crc32c": crc32c(b"trainshed doctor\n")}]},
    "abort-upload": {"uploadId": "u1", "state": "aborted", "objectsDeleted": 3},
    "finalize-session": {"session_id": "s1", "status": "finalized", "n_dat": 3},
    "train": {**RUN, "status": "queued"},
    "get-training": RUN,
    "cancel-training": {**RUN, "status": "cancelled"},
    "save-model": {"models": []},
    "list-models": {"models": [a_model("forest", "pkl", "skops")], "count": 1},
    "plot-variables": {"files": [TABLE]},
    "visualizations": {"visualizations": [CHART]},
}


class Service:
    """Answers each function's request with its data, and the bucket's with the file that was asked for.

    Attributes:
        asked: (function, query, body) of each request, in order.
        data: What each function answers.
        refusals: Answers of functions that refuse.
        bucket: What the bucket answers instead.
    """

    def __init__(self):
        self.bucket = None
        self.asked = []
        self.data = dict(DATA)
        self.refusals = {}

    def __call__(self, request):
        if request.url.host == "bucket":
            return self.bucket or httpx.Response(200, content=CONTENT.get(request.url.path.strip("/"), b""))
        path = request.url.path.removeprefix("/api/training")
        name = next(
            function.name
            for function in functions().values()
            for route in function.routes
            if route.method == request.method and route.variables(path) is not None
        )
        query = dict(request.url.params)
        self.asked.append((name, query, json.loads(request.content or b"{}")))
        if name in self.refusals:
            return self.refusals[name]
        if name in {"download-model", "download-archive"}:
            return httpx.Response(302, headers={"Location": f"http://bucket/{query.get('format', 'zip')}"})
        if "format" in query:
            return httpx.Response(200, content=b"a picture")
        return httpx.Response(200, json={"success": True, "data": self.data[name]})

    def names(self):
        return [name for name, _, _ in self.asked]

    def body(self, wanted):
        return next(body for name, _, body in self.asked if name == wanted)

    def query(self, wanted):
        return next(query for name, query, _ in self.asked if name == wanted)


class Input(io.StringIO):
    """Standard input; a terminal, or none."""

    def __init__(self, text, *, terminal):
        super().__init__(text)
        self._terminal = terminal

    def isatty(self):
        return self._terminal


class Done:
    def __init__(self, code, stdout, stderr):
        self.code, self.stdout, self.stderr = code, stdout, stderr


@pytest.fixture
def service(monkeypatch):
    service = Service()
    transport = httpx.MockTransport(service)

    def make(place, token):
        return Client(place, token, backoff=Backoff(attempts=1), transport=transport)

    monkeypatch.setattr("trainshed.settings.Client", make)
    monkeypatch.setattr("trainshed.checks.Client", make)
    monkeypatch.setattr("trainshed.checks.httpx.get", lambda url, **_: httpx.Client(transport=transport).get(url))
    monkeypatch.setattr("trainshed.display.time.sleep", lambda _: None)
    return service


@pytest.fixture
def tokens(monkeypatch):
    """Supabase Auth; what it was asked for."""
    asked = []

    def post(url, **options):
        asked.append((url, options))
        return httpx.Response(200, json={"access_token": "t", "refresh_token": "r", "expires_in": 3600})

    monkeypatch.setattr("trainshed.auth.httpx.post", post)
    return asked


@pytest.fixture
def run(tmp_path):
    def run(*arguments, typed="", terminal=False, **environment):
        outputs = io.StringIO(), io.StringIO()
        kept = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(tmp_path / "config"), "TRAINSHED_URL": URL}
        with (
            mock.patch.dict(os.environ, kept | environment, clear=True),
            mock.patch("sys.stdin", Input(typed, terminal=terminal)),
            contextlib.redirect_stdout(outputs[0]),
            contextlib.redirect_stderr(outputs[1]),
        ):
            try:
                code = main([*map(str, arguments)])
            except SystemExit as end:
                code = end.code
        return Done(code, *(output.getvalue() for output in outputs))

    return run


# Each command that has --json, with the least that it takes.
LINES = {
    "login": ["login", "--email", "a@example.com", "--password-stdin"],
    "logout": ["logout"],
    "upload": ["upload", "f", "--session", "s1", "--finalize"],
    "abort": ["abort", "u1"],
    "finalize": ["finalize", "s1"],
    "sessions": ["sessions"],
    "delete": ["delete", "s1", "--yes"],
    "train": ["train", "s1", "--target", "y"],
    "cancel": ["cancel", "s1"],
    "models": ["models", "s1"],
    "download": ["download", "s1"],
    "plot": ["plot", "s1"],
    "doctor": ["doctor"],
}


@pytest.fixture
def _in_a_folder_with_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("x")


@pytest.mark.usefixtures("_in_a_folder_with_a_file", "tokens")
class TestJson:
    def test_every_command_but_that_for_shells_is_tried(self):
        assert LINES.keys() == COMMANDS.keys() - {"completion"}

    @pytest.mark.parametrize("name", LINES)
    def test_an_answer_is_one_document_and_nothing_else(self, service, run, name):
        done = run(*LINES[name], "--json", typed="secret\n")
        json.loads(done.stdout)
        assert done.stderr == ""
        assert "\x1b" not in done.stdout

    @pytest.mark.parametrize("name", LINES)
    def test_without_it_the_same_is_said_to_people(self, service, run, name):
        done = run(*LINES[name], typed="secret\n", TERM="xterm-256color")
        assert done.stdout.strip()
        assert "\x1b" not in done.stdout + done.stderr
        with pytest.raises(ValueError, match=r"Expecting|Extra"):
            json.loads(done.stdout)

    @pytest.mark.parametrize("name", sorted(LINES.keys() - {"login", "logout", "doctor"}))
    def test_an_error_is_a_document_on_standard_error_and_standard_output_is_empty(self, service, run, name):
        problem = {"code": "subscription_required", "detail": "No.", "request_id": "q", "details": {"a": 1}}
        service.refusals = dict.fromkeys(DATA, httpx.Response(402, json=problem))
        done = run(*LINES[name], "--json")
        said = json.loads(done.stderr)
        assert (done.code, done.stdout) == (REFUSED, "")
        assert (said["code"], said["exit_code"], said["request_id"]) == ("subscription_required", 1, "q")
        assert said["details"] == {"a": 1}

    def test_a_sign_in_that_fails_is_a_document_on_standard_error(self, service, run, monkeypatch):
        answer = httpx.Response(400, json={"message": "Invalid login credentials"})
        monkeypatch.setattr("trainshed.auth.httpx.post", lambda *_, **__: answer)
        done = run(*LINES["login"], "--json", typed="secret\n")
        assert (done.code, done.stdout) == (NOT_SIGNED_IN, "")
        assert json.loads(done.stderr)["exit_code"] == NOT_SIGNED_IN

    def test_what_the_doctor_finds_is_its_answer(self, service, run):
        service.refusals["list-sessions"] = httpx.Response(
            401, json={"code": "unauthenticated", "detail": "No."}, headers={"Content-Type": "application/json"}
        )
        done = run("doctor", "--json")
        assert done.code == REFUSED
        assert {check["name"]: check["is_ok"] for check in json.loads(done.stdout)}["sign-in"] is False
        assert done.stderr == ""


class TestLogin:
    def test_the_password_is_a_line_of_standard_input_whatever_ends_it(self, run, tokens):
        for typed in ("se cret \n", "se cret \r\n", "se cret "):
            assert run("login", "--email", "a@example.com", "--password-stdin", typed=typed).code == 0
        assert {options["json"]["password"] for _, options in tokens} == {"se cret "}

    def test_settings_say_what_options_do_not(self, run, tokens):
        environment = {"SUPABASE_URL": "http://s/", "SUPABASE_PUBLISHABLE_KEY": "key-1"}
        people = {"TRAINSHED_EMAIL": "a@example.com", "TRAINSHED_PASSWORD": "secret"}
        done = run("login", "--json", **environment, **people)
        assert json.loads(done.stdout)["url"] == URL
        assert tokens[0][0] == "http://s/auth/v1/token"
        assert tokens[0][1]["headers"] == {"apikey": "key-1"}
        assert tokens[0][1]["json"] == {"email": "a@example.com", "password": "secret"}

    def test_options_go_before_settings(self, run, tokens):
        options = (
            "--url",
            "http://other/",
            "--supabase-url",
            "http://t",
            "--publishable-key",
            "k2",
            "--email",
            "b@c.de",
        )
        environment = {"SUPABASE_URL": "http://s", "SUPABASE_PUBLISHABLE_KEY": "k1", "TRAINSHED_EMAIL": "a@b.cd"}
        done = run("login", *options, "--json", TRAINSHED_PASSWORD="x", **environment)
        assert json.loads(done.stdout)["url"] == "http://other"
        assert (tokens[0][0], tokens[0][1]["headers"]) == ("http://t/auth/v1/token", {"apikey": "k2"})
        assert tokens[0][1]["json"]["email"] == "b@c.de"

    def test_without_a_terminal_nobody_is_asked(self, run, tokens):
        for options in ([], ["--email", "a@example.com"]):
            done = run("login", *options, typed="a@example.com\n")
            assert (done.code, done.stdout) == (2, "")
            assert "--password-stdin" in done.stderr
        assert tokens == []

    def test_who_lacks_the_projects_key_is_told_so(self, run, monkeypatch):
        answer = httpx.Response(401, json={"message": "No API key found in request"})
        monkeypatch.setattr("trainshed.auth.httpx.post", lambda *_, **__: answer)
        who = ("--email", "a@example.com", "--password-stdin")
        done = run("login", *who, typed="x\n")
        assert (done.code, "Give the project's key: --publishable-key" in done.stderr) == (2, True)
        done = run("login", *who, "--publishable-key", "wrong", typed="x\n")
        assert (done.code, "Give the project's key" in done.stderr) == (NOT_SIGNED_IN, False)


@pytest.mark.usefixtures("_in_a_folder_with_a_file")
class TestUpload:
    def test_options_are_asked_for(self, service, run):
        done = run("upload", "f", "--session", "s1", "--content-type", "text/csv", "--finalize")
        assert (done.code, done.stderr) == (0, "")
        assert service.body("init-session") == {"sessionId": "s1"}
        assert service.body("create-upload")["contentType"] == "text/csv"
        assert service.body("finalize-session") == {"sessionId": "s1"}
        assert done.stdout.endswith("\nSession s1 is finalized with 3 rows.\n")

    def test_an_upload_id_is_of_one_file(self, service, run, tmp_path):
        (tmp_path / "g").write_text("x")
        done = run("upload", "f", "g", "--upload-id", "u1")
        assert (done.code, service.asked) == (2, [])
        assert "give one file" in done.stderr


class TestSessions:
    def test_a_search_and_a_limit_are_kept_to(self, service, run):
        service.data["list-sessions"] = {"sessions": [SESSION] * 3, "count": 3, "next_page_token": ""}
        done = run("sessions", "--search", "boiler", "--limit", "2", "--json")
        assert len(json.loads(done.stdout)) == 2
        assert service.query("list-sessions")["search"] == "boiler"

    def test_one_is_shown_with_what_is_not_uploaded_yet(self, service, run):
        uploads = [{**UPLOAD, "state": "open"}, {**UPLOAD, "fileName": "done.csv"}]
        service.data["get-session"] = {**DATA["get-session"], "uploads": uploads}
        done = run("sessions", "s1")
        assert service.names() == ["get-session"]
        assert "Uploads that are no files" in done.stdout
        assert "done.csv" not in done.stdout

    def test_no_line_is_folded_in_a_pipe(self, service, run):
        session = {**SESSION, "session_id": "x" * 128}
        service.data["list-sessions"] = {"sessions": [session], "count": 1, "next_page_token": ""}
        assert "x" * 128 in run("sessions").stdout

    def test_a_list_without_sessions_says_how_to_begin(self, service, run):
        service.data["list-sessions"] = {"sessions": [], "count": 0, "next_page_token": ""}
        assert run("sessions").stdout == "No sessions found. Begin one with: trainshed upload\n"
        assert run("sessions", "--json").stdout == "[]\n"

    @pytest.mark.parametrize(
        ("typed", "is_deleted"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("yeah\n", False)]
    )
    def test_deleting_asks_first_and_takes_only_yes_for_it(self, service, run, typed, is_deleted):
        done = run("delete", "s1", "--json", typed=typed, terminal=True)
        # The question is not part of the answer.
        assert bool(done.stdout and json.loads(done.stdout)) is is_deleted
        assert "Delete s1 with 2 files and all results? [y/N]" in done.stderr
        assert ("delete-session" in service.names(), done.code == 0) == (is_deleted, is_deleted)

    def test_deleting_with_yes_asks_nothing(self, service, run):
        done = run("delete", "s1", "--yes")
        assert (done.code, done.stderr) == (0, "")
        assert "delete-session" in service.names()


class TestTraining:
    @pytest.mark.parametrize(
        ("option", "field", "value"),
        [
            ("--task", "task", "time_series"),
            ("--test-fraction", "testFraction", 0.3),
            ("--seed", "seed", 7),
            ("--time-column", "timeColumn", "hour"),
            ("--horizon", "horizon", 24),
            ("--window", "window", 48),
        ],
    )
    def test_an_option_is_asked_for_and_nothing_else(self, service, run, option, field, value):
        assert run("train", "s1", "--target", "y", option, str(value)).code == 0
        assert service.body("train") == {"target": "y", field: value}

    def test_only_the_models_that_are_named_are_trained(self, service, run):
        assert run("train", "s1", "--target", "y", "--models", "forest", "line").code == 0
        assert service.body("train") == {"target": "y", "models": ["forest", "line"]}

    def test_it_is_waited_for_unless_that_is_not_wanted(self, service, run):
        assert run("train", "s1", "--target", "y", "--no-wait").code == 0
        assert service.names() == ["train"]
        done = run("train", "s1", "--target", "y")
        assert service.names()[-1] == "get-training"
        assert done.stdout == "forest: test rmse 1.25\n"

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    def test_a_run_that_comes_to_nothing_is_exit_code_1(self, service, run, status):
        service.data["get-training"] = {**RUN, "status": status}
        assert run("train", "s1", "--target", "y").code == REFUSED

    def test_cancelling_cancels(self, service, run):
        assert run("cancel", "s1").code == 0
        assert service.names() == ["cancel-training"]

    def test_giving_an_upload_up_says_what_is_deleted(self, service, run):
        assert run("abort", "u1").stdout == "Upload u1 is aborted; 3 objects are deleted.\n"


def test_a_session_without_models_says_how_to_train_some(service, run):
    service.data["list-models"] = {"models": [], "count": 0}
    assert "Train some with: trainshed train" in run("models", "s1").stdout
    assert run("models", "s1", "--json").stdout == "[]\n"


class TestDownload:
    def files(self, run, folder, *options):
        done = run("download", "s1", "--to", folder, *options)
        found = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
        return done, found

    @pytest.mark.parametrize(
        ("forms", "options", "expected"),
        [
            (["pkl", "skops"], [], ["skops"]),
            (["h5", "keras"], [], ["keras"]),
            (["pkl"], [], []),
            (["pkl", "skops"], ["--format", "pkl"], ["pkl"]),
            (["pkl", "skops"], ["--format", "all"], ["pkl", "skops"]),
            (["skops"], ["--format", "keras"], []),
        ],
    )
    def test_what_is_safe_comes_by_itself_and_the_rest_when_it_is_asked_for(
        self, service, run, tmp_path, forms, options, expected
    ):
        service.data["list-models"] = {"models": [a_model("forest", *forms)], "count": 1}
        done, found = self.files(run, tmp_path / "to", *options)
        assert found == {f"forest.{form}": CONTENT[form] for form in expected}
        assert done.code == (0 if expected else REFUSED)
        assert bool(expected) != ("no such model to download" in done.stderr)

    def test_models_are_recorded_before_they_are_listed(self, service, run, tmp_path):
        self.files(run, tmp_path / "to")
        assert service.names() == ["save-model", "list-models", "download-model"]

    def test_h5_of_a_network_is_made_when_it_is_asked_for(self, service, run, tmp_path):
        service.data["list-models"] = {"models": [a_model("net", "keras", framework="keras")], "count": 1}
        _, found = self.files(run, tmp_path / "to", "--format", "h5")
        assert found == {"net.h5": CONTENT["h5"]}

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ([], {"r1-forest.skops", "r2-forest.skops", "line.skops"}),
            (["--best"], {"line.skops"}),
            (["--path", "r2/forest"], {"forest.skops"}),
            (["--path", "r3/forest"], set()),
        ],
    )
    def test_models_are_chosen_and_told_apart(self, service, run, tmp_path, options, expected):
        models = [a_model("forest", "skops"), a_model("forest", "skops", run="r2")]
        models.append(a_model("line", "skops", aliases=["best", "latest"]))
        service.data["list-models"] = {"models": models, "count": 3}
        _, found = self.files(run, tmp_path / "to", *options)
        assert found.keys() == expected

    def test_what_the_list_promises_is_compared(self, service, run, tmp_path):
        model = a_model("forest", "skops")
        model["formats"][0]["sha256"] = "0" * 64
        service.data["list-models"] = {"models": [model], "count": 1}
        done, found = self.files(run, tmp_path / "to")
        assert (done.code, found) == (REFUSED, {})

    def test_another_file_of_that_name_is_replaced_only_on_request(self, service, run, tmp_path):
        service.data["list-models"] = {"models": [a_model("a", "skops"), a_model("forest", "skops")], "count": 2}
        (tmp_path / "forest.skops").write_text("mine")
        done = run("download", "s1", "--to", tmp_path)
        assert (done.code, "--force" in done.stderr) == (REFUSED, True)
        # Nothing comes at all, so that the way out is the same command.
        assert "download-model" not in service.names()
        assert (tmp_path / "forest.skops").read_text() == "mine"
        assert run("download", "s1", "--to", tmp_path, "--force").code == 0
        assert (tmp_path / "forest.skops").read_bytes() == CONTENT["skops"]

    def test_a_model_that_is_there_is_not_fetched_again(self, service, run, tmp_path):
        (tmp_path / "forest.skops").write_bytes(CONTENT["skops"])
        done = run("download", "s1", "--to", tmp_path)
        assert (done.code, done.stdout) == (0, f"{tmp_path}/forest.skops: 8 bytes\n")
        assert "download-model" not in service.names()

    def test_an_archive_that_is_there_is_replaced_only_on_request(self, service, run, tmp_path):
        (tmp_path / "s1.zip").write_text("mine")
        assert run("download", "s1", "--archive", "--to", tmp_path).code == REFUSED
        assert (tmp_path / "s1.zip").read_text() == "mine"
        assert run("download", "s1", "--archive", "--to", tmp_path, "--force").code == 0
        assert (tmp_path / "s1.zip").read_bytes() == b""

    def test_a_folder_that_cannot_be_made_is_one_sentence(self, service, run, tmp_path):
        (tmp_path / "to").write_text("")
        done = run("download", "s1", "--to", tmp_path / "to")
        assert (done.code, done.stderr.startswith("Cannot make the folder")) == (REFUSED, True)


class TestBadDownloads:
    """The bucket cuts off, is busy, or the disk is full."""

    def client(self, *answers):
        moved = httpx.Response(302, headers={"Location": "http://bucket/model"})
        left = [moved, *answers]
        asked = []

        def answer(request):
            asked.append(str(request.url))
            return left.pop(0)

        client = Client(URL, backoff=Backoff(attempts=3, first_s=0.001), transport=httpx.MockTransport(answer))
        return client, asked

    def cut(self):
        def pieces():
            yield b"half a "
            raise httpx.RemoteProtocolError("peer closed connection")

        return httpx.Response(200, content=pieces())

    @pytest.mark.parametrize("status", [None, 429, 503])
    def test_it_starts_again_and_the_file_is_whole(self, tmp_path, status):
        bad = self.cut() if status is None else httpx.Response(status, headers={"Retry-After": "0"})
        client, asked = self.client(bad, httpx.Response(200, content=b"a whole model"))
        with client:
            client.download_model("s", tmp_path / "model.h5")
        assert (tmp_path / "model.h5").read_bytes() == b"a whole model"
        assert len(asked) == 3
        assert [path.name for path in tmp_path.iterdir()] == ["model.h5"]

    def test_one_that_breaks_off_each_time_ends_and_leaves_what_was_there(self, tmp_path):
        (tmp_path / "model.h5").write_bytes(b"an older one")
        client, asked = self.client(*(self.cut() for _ in range(9)))
        with client, pytest.raises(UnreachableError, match=r"download of model\.h5 broke off"):
            client.download_model("s", tmp_path / "model.h5")
        assert len(asked) == 1 + 3
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older one"]

    def test_what_the_bucket_asks_for_is_waited(self, tmp_path, monkeypatch):
        waits = []
        monkeypatch.setattr(client_module, "pause", waits.append)
        client, _ = self.client(
            httpx.Response(503, headers={"Retry-After": "7"}), httpx.Response(200, content=b"a model")
        )
        with client:
            client.download_model("s", tmp_path / "model.h5")
        assert len(waits) == 1
        assert waits[0] >= 7

    def test_a_full_disk_is_one_sentence_and_leaves_nothing(self, tmp_path):
        client, _ = self.client(httpx.Response(200, content=bytes(1 << 16)))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
        try:
            with client, pytest.raises(Exception, match=r"Cannot write .*model\.h5: File too large\."):
                client.download_model("s", tmp_path / "model.h5")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(tmp_path.iterdir()) == []


class TestPlot:
    def test_only_the_columns_that_were_named_are_asked_for_and_no_charts(self, service, run):
        done = run("plot", "s1", "--column", "x", "--column", "a,b", "--json")
        assert done.code == 0
        assert service.query("plot-variables")["columns"] == 'x,"a,b"'
        assert service.names() == ["plot-variables"]

    def test_an_overview_names_the_charts(self, service, run):
        assert "Charts: fit" in run("plot", "s1").stdout

    @pytest.mark.parametrize(("suffix", "form"), [(".png", "png"), (".SVG", "svg"), (".json", "vega-lite")])
    def test_a_picture_is_drawn_as_its_name_says_and_in_the_theme(self, service, run, tmp_path, suffix, form):
        to = tmp_path / f"fit{suffix}"
        assert run("plot", "s1", "--chart", "fit", "--to", to, "--theme", "dark").code == 0
        assert to.read_bytes() == b"a picture"
        assert service.query("visualizations") == {"name": "fit", "format": form, "theme": "dark"}

    @pytest.mark.parametrize("options", [["--to", "x.png"], ["--chart", "fit", "--to", "x.gif"]])
    def test_a_picture_of_nothing_or_of_no_known_form_is_wrong_usage(self, service, run, options):
        assert run("plot", "s1", *options).code == 2
        assert service.asked == []

    def test_a_chart_that_is_not_there_is_answered_with_those_that_are(self, service, run):
        done = run("plot", "s1", "--chart", "nothing")
        assert (done.code, "it has: fit" in done.stderr) == (REFUSED, True)


class TestDoctor:
    """What it finds, besides what a real stack can be made to do (tests/acceptance)."""

    def check(self, run, name):
        done = run("doctor", "--json")
        checks = {check["name"]: check for check in json.loads(done.stdout)}
        assert done.code == (REFUSED if any(check["is_ok"] is False for check in checks.values()) else 0)
        return checks[name]

    def test_it_leaves_nothing_behind(self, service, run):
        assert self.check(run, "upload")["is_ok"]
        assert service.names()[-2:] == ["abort-upload", "delete-session"]

    @pytest.mark.parametrize(("skew_s", "is_ok"), [(-3600, False), (-30, True), (30, True), (3600, False)])
    def test_a_clock_that_is_wrong_is_found(self, service, run, skew_s, is_ok):
        there = {"Date": formatdate(time.time() - skew_s, usegmt=True)}
        service.refusals["list-sessions"] = httpx.Response(
            200, json={"data": service.data["list-sessions"]}, headers=there
        )
        found = self.check(run, "clock")
        assert found["is_ok"] is is_ok
        assert is_ok or ("ahead of" if skew_s > 0 else "behind") in found["found"]

    def test_a_page_is_not_taken_for_the_service(self, service, run):
        service.refusals["list-sessions"] = httpx.Response(200, html="<h1>Welcome</h1>")
        found = self.check(run, "address")
        assert (found["is_ok"], "not as Trainshed does" in found["found"]) == (False, True)
        assert service.names() == ["list-sessions"]

    def test_without_a_sign_in_nothing_is_uploaded(self, service, run):
        service.refusals["list-sessions"] = httpx.Response(401, json={"code": "unauthenticated", "detail": "No."})
        assert self.check(run, "upload")["is_ok"] is None
        assert "init-session" not in service.names()

    @pytest.mark.parametrize(("code", "fix"), [("SignatureDoesNotMatch", "proxy"), ("NoSuchBucket", "make doctor")])
    def test_a_bucket_that_refuses_is_found(self, service, run, code, fix):
        service.bucket = httpx.Response(403, text=f"<Error><Code>{code}</Code></Error>")
        found = self.check(run, "upload")
        assert (found["is_ok"], code in found["found"], fix in found["fix"]) == (False, True, True)
        assert service.names()[-1] == "delete-session"

    def test_what_is_stored_is_compared(self, service, run):
        service.data["get-upload"] = {**UPLOAD, "received": []}
        assert "does not see" in self.check(run, "upload")["found"]

    def test_a_full_quota_has_its_own_way_out(self, service, run):
        problem = {"code": "processing_limit_reached", "detail": "No more."}
        service.refusals["create-upload"] = httpx.Response(429, json=problem)
        found = self.check(run, "upload")
        assert (found["found"], "next period" in found["fix"]) == ("No more.", True)

    def test_slow_checksums_are_found(self, service, run, monkeypatch):
        monkeypatch.setattr("trainshed.checks.google_crc32c.implementation", "python")
        assert "pip install" in self.check(run, "checksums")["fix"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(503, json={"code": "storage_unavailable", "detail": "No.", "retryable": True}), TRY_LATER),
        (httpx.Response(401, json={"code": "unauthenticated", "detail": "No."}), NOT_SIGNED_IN),
        (httpx.Response(404, json={"code": "session_not_found", "detail": "No."}), REFUSED),
        (httpx.Response(500, json={"code": "internal_error", "detail": "No."}), REFUSED),
    ],
)
def test_the_exit_code_says_whether_trying_again_helps(service, run, answer, code):
    service.refusals["get-session"] = answer
    assert run("sessions", "s1").code == code


def test_a_sign_in_service_that_is_away_may_be_tried_later(service, run, monkeypatch):
    monkeypatch.setattr("trainshed.auth.httpx.post", mock.Mock(side_effect=httpx.ConnectError("refused")))
    done = run("login", "--email", "a@example.com", "--password-stdin", typed="x\n")
    assert done.code == TRY_LATER


def test_ctrl_c_while_a_training_is_waited_for_says_that_it_goes_on(service, run, monkeypatch):
    monkeypatch.setattr("trainshed.commands.wait_for_training", mock.Mock(side_effect=KeyboardInterrupt))
    done = run("train", "s1", "--target", "y")
    assert (done.code, done.stdout) == (130, "")
    assert done.stderr == "Interrupted. Training goes on; see: trainshed models s1\n"
