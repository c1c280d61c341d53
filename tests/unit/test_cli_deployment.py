"""A deployment without a front door: each function at its own address, as the console's `config.json` lists them."""

import contextlib
import io
import json
import os
import re
from unittest import mock

import httpx
import pytest

from trainshed import deployment
from trainshed.__main__ import main
from trainshed.client import Client
from trainshed.deployment import Deployment, read_deployment
from trainshed.errors import ServiceError, SettingsError, UnreachableError
from trainshed.routes import ROUTES, url_of
from trainshed.settings import settings_from

URLS = {name: f"https://{name}.example.com" for name in ROUTES}
DOCUMENT = {"supabaseUrl": "https://s.example.com/", "supabasePublishableKey": "key-1", "urls": URLS}
READ = Deployment(URLS, "https://s.example.com", "key-1")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


@pytest.fixture
def console(monkeypatch):
    """A static host; what it was asked for, and how it answers."""
    asked = []

    def get(url, **_):
        asked.append(url)
        return asked_answer.pop() if asked_answer else httpx.Response(200, json=DOCUMENT)

    asked_answer = []
    monkeypatch.setattr(deployment.httpx, "get", get)
    return asked, asked_answer


class TestAddresses:
    def test_a_function_is_at_its_address_with_nothing_before_its_route(self):
        urls = URLS | {"get-session": "https://sessions.example.com/"}
        assert url_of(urls, "get-session", session_id="s 1") == "https://sessions.example.com/session/s%201"

    @pytest.mark.parametrize(
        ("base", "url"),
        [
            ("http://service", "http://service/api/training/uploads"),
            ("http://service/", "http://service/api/training/uploads"),
            ("http://service/ml", "http://service/ml/uploads"),
            ("http://service/api/training/", "http://service/api/training/uploads"),
        ],
    )
    def test_a_base_address_with_a_path_says_itself_where_the_functions_are(self, base, url):
        assert url_of(base, "create-upload") == url

    @pytest.mark.parametrize("urls", [{}, {"get-session": ""}])
    def test_a_function_that_the_map_lacks_is_named_with_what_to_do(self, urls):
        with Client(urls) as client, pytest.raises(SettingsError, match=r"function get-session\b.*function_urls"):
            client.get_session("s")

    def test_each_call_goes_to_its_own_function(self):
        asked = []

        def answer(request):
            asked.append(str(request.url))
            return httpx.Response(200, json={"data": {}})

        with Client(URLS, transport=httpx.MockTransport(answer)) as client:
            client.init_session("s")
            client.abort_upload("u")
        assert asked == ["https://init-session.example.com/init-session", f"{URLS['abort-upload']}/uploads/u/abort"]

    def test_who_does_not_answer_is_the_function(self):
        def answer(_):
            raise httpx.ReadTimeout("late")

        with (
            Client(URLS, transport=httpx.MockTransport(answer)) as client,
            pytest.raises(UnreachableError, match=r"^https://train\.example\.com does not answer"),
        ):
            client.train("s", "y")


class TestIds:
    @pytest.mark.parametrize("session_id", ["a/b", "", ".", "..", "a\nb", "../list-sessions"])
    def test_an_id_that_no_session_can_have_is_not_found_and_not_asked_for(self, session_id):
        with Client("http://127.0.0.1:1") as client:
            for call in (client.get_session, client.delete_session, client.list_models, client.get_training):
                with pytest.raises(ServiceError, match=f"There is no session {re.escape(repr(session_id))}") as refusal:
                    call(session_id)
                assert (refusal.value.status, refusal.value.code) == (404, "session_not_found")

    def test_an_id_that_no_upload_can_have_is_not_found(self):
        with Client("http://127.0.0.1:1") as client, pytest.raises(ServiceError, match="There is no upload") as refusal:
            client.get_upload("a/b")
        assert refusal.value.code == "upload_not_found"


class TestReading:
    def test_a_file_says_where_everything_is(self, config):
        assert read_deployment(str(config)) == READ

    def test_a_front_door_is_one_address(self, config):
        config.write_text(json.dumps({**DOCUMENT, "urls": None, "baseUrl": "https://train.example.com/"}))
        assert read_deployment(str(config)).place == "https://train.example.com"

    @pytest.mark.parametrize(
        "source",
        [
            "https://console.example.com/tools",
            "https://console.example.com/tools/",
            "https://console.example.com/tools/index.html",
            "https://console.example.com/tools/#/sessions/flights",
            "https://console.example.com/tools/config.json?x=1",
        ],
    )
    def test_a_console_is_known_by_its_address_as_the_browser_shows_it(self, console, source):
        assert read_deployment(source) == READ
        assert console[0] == ["https://console.example.com/tools/config.json"]

    def test_a_console_on_its_functions_server_says_only_the_path(self, console):
        console[1].append(httpx.Response(200, json={**DOCUMENT, "urls": None, "baseUrl": "/api/training"}))
        assert read_deployment("https://console.example.com").place == "https://console.example.com/api/training"

    @pytest.mark.parametrize("source", ["http://console.example.com", "ftp://console.example.com"])
    def test_an_address_that_others_could_change_on_the_way_is_not_asked(self, console, source):
        with pytest.raises(SettingsError, match="must begin with https://"):
            read_deployment(source)
        assert console[0] == []

    def test_a_console_here_needs_no_https(self, console):
        assert read_deployment("http://localhost:8080") == READ

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (httpx.Response(404), r"answers 404; give the address of a console"),
            (httpx.Response(301, headers={"Location": "https://elsewhere"}), "answers 301"),
            (httpx.Response(200, html="<html>"), "is no JSON"),
        ],
    )
    def test_another_answer_is_one_sentence(self, console, answer, said):
        console[1].append(answer)
        with pytest.raises(SettingsError, match=said):
            read_deployment("https://console.example.com")

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ([], "is no config.json"),
            ({"urls": URLS}, "lacks supabaseUrl and supabasePublishableKey"),
            ({**DOCUMENT, "urls": {}}, "needs baseUrl, or urls"),
            ({**DOCUMENT, "urls": {"train": "train.example.com"}}, r"urls\.train in .* must begin with http"),
            ({**DOCUMENT, "urls": None, "baseUrl": "/api"}, r"baseUrl in .* must begin with http"),
            ({**DOCUMENT, "supabaseUrl": "s.example.com"}, r"supabaseUrl in .* must begin with http"),
        ],
    )
    def test_what_a_file_lacks_is_named(self, config, document, said):
        config.write_text(json.dumps(document))
        with pytest.raises(SettingsError, match=said):
            read_deployment(str(config))

    def test_a_file_that_is_not_there_is_one_sentence(self, tmp_path):
        with pytest.raises(SettingsError, match=r"Cannot read .*: No such file"):
            read_deployment(str(tmp_path / "nothing.json"))


class TestSettings:
    def test_it_goes_with_a_token(self, config):
        settings = settings_from({"TRAINSHED_CONFIG": str(config), "TRAINSHED_TOKEN": "t"})
        assert (settings.place, settings.token) == (URLS, "t")

    def test_it_says_where_to_sign_in(self, config):
        people = {"TRAINSHED_EMAIL": "a@example.com", "TRAINSHED_PASSWORD": "secret"}
        settings = settings_from({"TRAINSHED_CONFIG": str(config), **people})
        with mock.patch("trainshed.auth.httpx.post") as post:
            post.return_value = httpx.Response(200, json={"access_token": "t", "expires_in": 60})
            assert settings.token() == "t"
        assert post.call_args[0] == ("https://s.example.com/auth/v1/token",)
        assert post.call_args[1]["headers"] == {"apikey": "key-1"}

    def test_two_answers_to_one_question_are_refused(self, config):
        with pytest.raises(SettingsError, match="set one of them"):
            settings_from({"TRAINSHED_CONFIG": str(config), "TRAINSHED_URL": "http://localhost:8080"})

    def test_a_kept_sign_in_is_used_where_it_was_made_and_nowhere_else(self, config, tmp_path):
        environment = {"XDG_CONFIG_HOME": str(tmp_path), "TRAINSHED_CONFIG": str(config)}
        assert log_in(environment, "--config", str(config)).returncode == 0
        assert settings_from(environment).token() == "t"
        config.write_text(json.dumps({**DOCUMENT, "urls": {**URLS, "train": "https://elsewhere.example.com"}}))
        assert settings_from(environment).token is None


class Done:
    def __init__(self, environment, arguments):
        outputs = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch("sys.stdin", io.StringIO("secret\n")),
            contextlib.redirect_stdout(outputs[0]),
            contextlib.redirect_stderr(outputs[1]),
        ):
            self.returncode = main(arguments)
        self.stdout, self.stderr = (output.getvalue() for output in outputs)


def log_in(environment, *options):
    with mock.patch("trainshed.auth.httpx.post") as post:
        post.return_value = httpx.Response(200, json={"access_token": "t", "refresh_token": "r", "expires_in": 3600})
        return Done(environment, ["login", "--email", "a@example.com", "--password-stdin", *options])


class TestLogin:
    def test_it_keeps_where_each_function_is(self, config, tmp_path):
        environment = {"XDG_CONFIG_HOME": str(tmp_path)}
        done = log_in(environment, "--config", str(config))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"Signed in at {len(URLS)} functions, each at its own address, as a@example.com.\n"
        assert settings_from(environment).place == URLS

    def test_the_environment_may_name_it(self, config, tmp_path):
        done = log_in({"XDG_CONFIG_HOME": str(tmp_path), "TRAINSHED_CONFIG": str(config)}, "--json")
        assert json.loads(done.stdout)["urls"] == URLS

    @pytest.mark.parametrize("option", ["--url", "--supabase-url", "--publishable-key"])
    def test_what_it_says_is_not_said_twice(self, config, tmp_path, option):
        done = log_in({"XDG_CONFIG_HOME": str(tmp_path)}, "--config", str(config), option, "http://x")
        assert (done.returncode, done.stdout) == (2, "")
        assert "give it alone" in done.stderr


def test_the_doctor_names_functions_that_the_map_lacks(config, tmp_path):
    config.write_text(json.dumps({**DOCUMENT, "urls": {"list-sessions": URLS["list-sessions"]}}))
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "TRAINSHED_CONFIG": str(config), "TRAINSHED_TOKEN": "t"}
    done = Done(environment, ["doctor", "--json"])
    address = next(check for check in json.loads(done.stdout) if check["name"] == "address")
    assert done.returncode == 1
    assert "init-session" in address["found"]
    assert "list-sessions" not in address["found"]
    assert "trainshed login --config" in address["fix"]
