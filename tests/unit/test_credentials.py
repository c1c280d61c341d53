"""The sign-in that `trainshed login` keeps."""

import errno
import json
import os
import stat
import threading
import time

import httpx
import pytest

from trainshed import auth
from trainshed.client import Client
from trainshed.credentials import SavedSession, SavedSignIn, load, log_in, log_out, save, session_file
from trainshed.deployment import Deployment
from trainshed.errors import ServiceError, SettingsError, SignInError
from trainshed.retry import Backoff
from trainshed.settings import settings_from


class AuthService:
    """Supabase Auth as far as tokens go: a refresh token is good for one use."""

    def __init__(self, monkeypatch):
        self.requests = []
        self.number = 0
        self.refresh_token = ""
        self.fault = None
        self.lock = threading.Lock()
        monkeypatch.setattr(auth.httpx, "post", self.post)

    def post(self, url, *, params, headers, timeout, json=None):
        with self.lock:
            self.requests.append((url, params, headers, json))
            if self.fault:
                raise self.fault
            if "scope" in params:
                self.refresh_token = ""
                return httpx.Response(204)
            if params["grant_type"] == "refresh_token" and json["refresh_token"] != self.refresh_token:
                return httpx.Response(400, json={"message": "Invalid Refresh Token: Already Used"})
            if params["grant_type"] == "password" and json["password"] != "secret":
                return httpx.Response(400, json={"message": "Invalid login credentials"})
            self.number += 1
            self.refresh_token = f"refresh-{self.number}"
            tokens = {"access_token": f"access-{self.number}", "refresh_token": self.refresh_token}
            return httpx.Response(200, json={**tokens, "expires_in": 3600})


@pytest.fixture
def service(monkeypatch):
    return AuthService(monkeypatch)


@pytest.fixture
def path(tmp_path):
    return session_file({"XDG_CONFIG_HOME": str(tmp_path / "config")})


def signed_in(path):
    return log_in(path, Deployment("http://trainshed", "http://supabase", "key-1"), "alice@example.com", "secret")


def ended(path):
    """Let the kept access token be at its end."""
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"ends_at": time.time() + 5}))
    return SavedSignIn(path, load(path))


def test_the_file_is_for_its_owner_alone_and_holds_no_password(service, path):
    session = signed_in(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "secret" not in path.read_text()
    assert load(path) == session


def test_its_place_follows_xdg_and_ignores_a_relative_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert session_file({"XDG_CONFIG_HOME": "/c"}).as_posix() == "/c/trainshed/session.json"
    for environment in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "c"}):
        assert session_file(environment) == tmp_path / ".config/trainshed/session.json"


def test_a_wrong_password_keeps_nothing(service, path):
    with pytest.raises(SignInError, match=r"Cannot sign in as alice@example\.com: Invalid login credentials\."):
        log_in(path, Deployment("http://trainshed", "http://supabase", ""), "alice@example.com", "wrong")
    assert load(path) is None
    assert "apikey" not in service.requests[0][2]


def test_a_file_that_others_can_read_is_refused_with_the_way_to_mend_it(service, path):
    signed_in(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="Run: chmod 600 /"):
        load(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": 1}', "\0"])
def test_a_file_that_is_no_sign_in_says_to_sign_in_again(path, content):
    path.parent.mkdir(parents=True)
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="Sign in again: trainshed login"):
        load(path)


def test_a_folder_that_cannot_be_made_is_one_sentence(service, tmp_path):
    (tmp_path / "config").write_text("")
    with pytest.raises(SettingsError, match="Cannot use"):
        signed_in(tmp_path / "config/trainshed/session.json")


def test_a_token_that_is_valid_is_not_renewed(service, path):
    signed_in(path)
    source = SavedSignIn(path, load(path))
    assert [source(), source()] == ["access-1", "access-1"]
    assert len(service.requests) == 1


def test_a_token_at_its_end_is_renewed_and_the_new_refresh_token_kept(service, path):
    signed_in(path)
    source = ended(path)
    assert [source(), source()] == ["access-2", "access-2"]
    assert load(path).refresh_token == "refresh-2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir() if one.suffix == ".part"] == []


def test_two_processes_renew_once(service, path):
    signed_in(path)
    sources = [ended(path) for _ in range(8)]
    threads = [threading.Thread(target=source) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {source() for source in sources} == {"access-2"}
    assert len(service.requests) == 2


def test_a_sign_in_that_was_ended_elsewhere_says_to_sign_in_again(service, path):
    signed_in(path)
    source = ended(path)
    service.refresh_token = "another"
    with pytest.raises(SignInError, match=r"has ended: .*Already Used\. Sign in again: trainshed login") as refusal:
        source()
    assert not refusal.value.is_passing


def test_a_sign_in_service_that_is_away_is_passing(service, path):
    signed_in(path)
    source = ended(path)
    service.fault = httpx.ConnectError("refused")
    with pytest.raises(SignInError, match="does not answer"):
        source()
    service.fault = None
    assert source() == "access-2"


def test_logging_out_ends_it_here_and_there(service, path):
    signed_in(path)
    source = ended(path)
    assert log_out(path).email == "alice@example.com"
    assert load(path) is None
    assert service.refresh_token == ""
    with pytest.raises(SignInError, match="Sign in again"):
        source()
    assert log_out(path) is None


def test_logging_out_succeeds_when_the_service_is_away(service, path):
    signed_in(path)
    service.fault = httpx.ConnectError("refused")
    assert log_out(path) is not None
    assert load(path) is None


class TestWhoCounts:
    def kept(self, tmp_path):
        path = session_file({"XDG_CONFIG_HOME": str(tmp_path)})
        save(path, SavedSession("http://here", "http://s", "", "alice@example.com", "t", "r", time.time() + 3600))
        return {"XDG_CONFIG_HOME": str(tmp_path)}

    def test_the_kept_sign_in_says_where_and_who(self, tmp_path):
        settings = settings_from(self.kept(tmp_path))
        assert (settings.place, settings.token(), settings.caller) == ("http://here", "t", "of alice@example.com")

    def test_it_says_where_each_function_is(self, service, tmp_path):
        path, urls = session_file({"XDG_CONFIG_HOME": str(tmp_path)}), {"get-session": "http://get-session"}
        log_in(path, Deployment(urls, "http://s", ""), "alice@example.com", "secret")
        settings = settings_from({"XDG_CONFIG_HOME": str(tmp_path)})
        assert (settings.place, settings.token()) == (urls, "access-1")

    def test_a_sign_in_of_the_version_before_is_still_one(self, tmp_path):
        environment = self.kept(tmp_path)
        path = session_file(environment)
        document = json.loads(path.read_text())
        del document["urls"]
        path.write_text(json.dumps(document))
        assert settings_from(environment).place == "http://here"

    def test_a_token_goes_before_it(self, tmp_path):
        settings = settings_from(self.kept(tmp_path) | {"TRAINSHED_TOKEN": "mine"})
        assert settings.token == "mine"

    def test_it_is_not_sent_to_another_service(self, tmp_path):
        settings = settings_from(self.kept(tmp_path) | {"TRAINSHED_URL": "http://elsewhere"})
        assert (settings.place, settings.token) == ("http://elsewhere", None)


class TestRefusedTokens:
    """A service may refuse a token before its time; then it is renewed, once for each request."""

    def client(self, path, accepted):
        def answer(request):
            if request.headers["Authorization"] in accepted:
                return httpx.Response(200, json={"success": True, "data": {"session_id": "s"}})
            return httpx.Response(401, json={"code": "unauthenticated", "detail": "The token has ended."})

        source = SavedSignIn(path, load(path))
        transport = httpx.MockTransport(answer)
        return Client("http://trainshed", source, backoff=Backoff(first_s=0.001), transport=transport)

    def test_it_is_renewed_and_the_call_repeated(self, service, path):
        signed_in(path)
        with self.client(path, {"Bearer access-2"}) as client:
            assert client.get_session("s")["session_id"] == "s"
        assert len(service.requests) == 2

    def test_a_new_token_that_is_refused_too_is_the_end(self, service, path):
        signed_in(path)
        with self.client(path, set()) as client, pytest.raises(ServiceError) as refusal:
            client.get_session("s")
        assert refusal.value.code == "unauthenticated"
        assert len(service.requests) == 2

    def test_many_threads_that_meet_the_same_refusal_renew_once(self, service, path):
        signed_in(path)
        everybody_was_refused = threading.Barrier(8)

        def answer(request):
            if request.headers["Authorization"] == "Bearer access-1":
                everybody_was_refused.wait(timeout=30)
                return httpx.Response(401, json={"code": "unauthenticated", "detail": "The token has ended."})
            return httpx.Response(200, json={"success": True, "data": {"session_id": "s"}})

        source = SavedSignIn(path, load(path))
        with Client("http://trainshed", source, transport=httpx.MockTransport(answer)) as client:
            threads = [threading.Thread(target=client.get_session, args=("s",)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert source() == "access-2"
        assert service.number == 2

    def test_one_that_was_made_by_somebody_else_meanwhile_is_not_taken(self, service, path):
        signed_in(path)
        source = ended(path)
        log_in(path, Deployment("http://trainshed", "http://supabase", "key-1"), "bob@example.com", "secret")
        with pytest.raises(SignInError, match="The sign-in was ended"):
            source()
        assert load(path).email == "bob@example.com"


def test_a_disk_that_is_full_leaves_the_sign_in_that_was_there(service, path, monkeypatch):
    signed_in(path)
    kept = load(path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trainshed.credentials.os.fsync", full)
    with pytest.raises(SettingsError, match="No space left on device"):
        signed_in(path)
    assert load(path) == kept
    assert [one.name for one in path.parent.iterdir() if one.suffix == ".part"] == []
