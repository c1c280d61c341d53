"""The command as people use it, against the real stack: signing in, looking, mending, odd names, bad luck."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.acceptance.conftest import setting
from tests.training_factories import a_model_file_content
from trainshed.publish import Publisher

NAMES = [
    "🚂 Züge.csv",
    'it\'s "quoted".csv',
    "100%2F.csv",
    "a%00b.csv",
    "<script>.csv",
    "[bold]x.csv",
    "--help.csv",
    "x" * 251 + ".csv",
]


class Person:
    """Somebody at a terminal: a configuration of their own, and the command."""

    def __init__(self, folder, url):
        hidden = ("TRAINSHED_", "SUPABASE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.environment = {**kept, "TRAINSHED_URL": url, "XDG_CONFIG_HOME": str(folder)}
        self.session_file = folder / "trainshed/session.json"

    def run(self, *arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", "trainshed", *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    def sign_in(self, user="ALICE"):
        email, password = setting(f"{user}_EMAIL"), setting(f"{user}_PASSWORD")
        return self.log_in("--email", email, "--password-stdin", input=f"{password}\n")

    def log_in(self, *arguments, **options):
        return self.run("login", "--publishable-key", setting("SUPABASE_PUBLISHABLE_KEY"), *arguments, **options)

    def change(self, **members):
        """Change what is kept of the sign-in."""
        document = json.loads(self.session_file.read_text())
        self.session_file.write_text(json.dumps(document | members))


@pytest.fixture
def person(tmp_path, service_url):
    return Person(tmp_path / "config", service_url)


def test_signing_in_staying_so_and_signing_out(person, bob):
    bob.init_session("bobs")
    try:
        assert person.sign_in("BOB").returncode == 0
        listed = person.run("sessions", "--json")
        assert "bobs" in {session["session_id"] for session in json.loads(listed.stdout)}
        kept = json.loads(person.session_file.read_text())
        # As an hour later: the token is at its end, and the next command renews it.
        person.change(ends_at=time.time() + 1)
        assert "bobs" in person.run("sessions").stdout
        renewed = json.loads(person.session_file.read_text())
        assert renewed["access_token"] != kept["access_token"]
        assert renewed["ends_at"] > time.time() + 600
        assert person.run("logout").returncode == 0
        assert not person.session_file.exists()
    finally:
        bob.delete_session("bobs")


def test_a_token_that_the_service_does_not_take_is_renewed_in_the_middle_of_an_upload(person, new_session, tmp_path):
    session = new_session("renewed")
    assert person.sign_in().returncode == 0
    # Signed by nobody; its end lies ahead, so only the service can know.
    person.change(access_token="e30.e30.e30")
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(9_000_000))
    done = person.run("upload", path, "--session", session)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_sign_in_that_has_ended_is_exit_code_3_and_says_what_to_do(person):
    assert person.sign_in().returncode == 0
    person.change(ends_at=0, refresh_token="e30.e30.e30")
    done = person.run("sessions")
    assert done.returncode == 3
    assert "Sign in again: trainshed login" in done.stderr


def test_a_wrong_password_and_no_terminal_to_ask_at(person):
    done = person.log_in("--email", setting("ALICE_EMAIL"), "--password-stdin", input="wrong\n")
    assert done.returncode == 3
    assert "Invalid login credentials" in done.stderr
    assert not person.session_file.exists()
    assert person.log_in(stdin=subprocess.DEVNULL).returncode == 2
    keyless = person.run("login", "--email", setting("ALICE_EMAIL"), "--password-stdin", input="wrong\n")
    assert keyless.returncode == 2
    assert "--publishable-key" in keyless.stderr


class TestDoctor:
    def test_all_is_well_and_nothing_is_left_behind(self, person, alice):
        assert person.sign_in().returncode == 0
        done = person.run("doctor", "--json")
        checks = json.loads(done.stdout)
        assert done.returncode == 0
        assert {check["name"]: check["is_ok"] for check in checks} == dict.fromkeys(
            ("versions", "checksums", "address", "clock", "sign-in", "upload"), True
        )
        assert [one for one in alice.sessions() if one["session_id"].startswith("doctor-")] == []

    def test_a_token_that_is_none_has_a_way_to_mend_it(self, person):
        person.environment["TRAINSHED_TOKEN"] = "e30.e30.e30"
        done = person.run("doctor")
        assert done.returncode == 1
        assert "FAIL sign-in" in done.stdout
        assert "trainshed login" in done.stdout
        assert "upload     not looked at" in done.stdout

    @pytest.mark.parametrize("path", ["", "/nothing"])
    def test_another_server_is_not_taken_for_the_service(self, person, path):
        person.environment["TRAINSHED_URL"] = setting("STORAGE_PUBLIC_URL") + path
        done = person.run("doctor")
        assert done.returncode == 1
        assert "not as Trainshed does" in done.stdout
        assert "-> Give the address" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_file_keeps_its_name_whatever_it_is(person, new_session, tmp_path, name):
    session = new_session("names")
    (tmp_path / name).write_text("x,y\n1,2\n")
    done = person.run("upload", tmp_path / name, "--session", session)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{name} is stored: 8 bytes")
    shown = person.run("sessions", session)
    assert name in shown.stdout
    assert json.loads(person.run("sessions", session, "--json").stdout)["files"][0]["name"] == name


def test_a_session_of_an_impossible_name_is_refused_naming_the_field(person, tmp_path):
    (tmp_path / "f").write_text("x")
    done = person.run("upload", tmp_path / "f", "--session", "a/b <script>")
    assert (done.returncode, done.stdout) == (1, "")
    assert "sessionId" in done.stderr


def test_charts_are_drawn_here_or_written_as_pictures(person, alice, new_session, tmp_path):
    session = new_session("plot")
    model = tmp_path / "forest.skops"
    model.write_bytes(a_model_file_content("skops"))
    with Publisher(alice, session) as run:
        run.add_model("forest", model, metrics={"test": {"rmse": 1.5}})
        run.add_chart("forest.fit", "scatter", {"a": [1.0, 2.0], "p": [1.1, 2.2]}, x="a", y="p", title="How it fits")
    drawn = person.run("plot", session, "--chart", "forest.fit")
    assert drawn.returncode == 0
    assert drawn.stdout.startswith("How it fits\n")
    for suffix, begins in ((".png", b"\x89PNG"), (".svg", b"<svg"), (".json", b"{")):
        path = tmp_path / f"fit{suffix}"
        assert person.run("plot", session, "--chart", "forest.fit", "--to", path).returncode == 0
        assert path.read_bytes().startswith(begins)
    unknown = person.run("plot", session, "--chart", "nothing")
    assert unknown.returncode == 1
    assert "it has: forest.fit" in unknown.stderr
    assert person.run("plot", session, "--chart", "forest.fit", "--to", "x.gif").returncode == 2
    downloaded = person.run("download", session, "--best", "--to", tmp_path / "models", "--json")
    assert [Path(file["file"]).name for file in json.loads(downloaded.stdout)] == ["forest.skops"]
    assert (tmp_path / "models/forest.skops").read_bytes() == model.read_bytes()
    archive = person.run("download", session, "--archive", "--to", tmp_path)
    assert (archive.returncode, archive.stderr) == (0, "")
    assert zipfile.is_zipfile(tmp_path / f"{session}.zip")


def test_columns_are_drawn_and_a_session_deleted(person, tmp_path):
    (tmp_path / "data.csv").write_text("x,word\n" + "".join(f"{x},w{x % 3}\n" for x in range(50)))
    session = f"columns-{os.getpid()}-{time.time_ns()}"
    done = person.run("upload", tmp_path / "data.csv", "--session", session, "--finalize")
    assert done.stdout.endswith(f"Session {session} is finalized with 50 rows.\n")
    overview = person.run("plot", session).stdout
    assert "data.csv: 50 rows" in overview
    drawn = person.run("plot", session, "--column", "x", "--column", "word").stdout
    assert "data.csv: x" in drawn
    assert "w0" in drawn
    refused = person.run("delete", session, stdin=subprocess.DEVNULL)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert person.run("delete", session, "--yes").returncode == 0
    assert person.run("sessions", session).returncode == 1
