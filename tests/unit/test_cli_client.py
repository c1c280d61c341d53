import hashlib
import json

import httpx
import pytest

from trainshed.auth import PasswordSignIn
from trainshed.client import Client
from trainshed.errors import DownloadError, ServiceError, SettingsError, SignInError, UnreachableError
from trainshed.retry import Backoff, retry_after_s
from trainshed.settings import client_from

QUICK = Backoff(attempts=3, first_s=0.001, longest_s=0.01)


class Script:
    """A transport that gives prepared answers in turn and keeps the requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def make_client(*answers, token="token-1"):
    script = Script(*answers)
    return script, Client("http://service/", token, backoff=QUICK, transport=httpx.MockTransport(script))


def success(**data):
    return httpx.Response(200, json={"success": True, "data": data})


def problem(status, code, *, retryable=False, headers=None, **details):
    document = {
        "status": status,
        "code": code,
        "detail": f"It is {code}.",
        "details": details,
        "retryable": retryable,
        "request_id": "request-1",
    }
    return httpx.Response(status, json=document, headers=headers)


def test_a_call_carries_the_token_and_goes_below_the_base_path():
    script, client = make_client(success(session_id="s"))
    with client:
        client.init_session("s", {"a": 1})
    request = script.requests[0]
    assert str(request.url) == "http://service/api/training/init-session"
    assert request.headers["Authorization"] == "Bearer token-1"
    assert json.loads(request.content) == {"sessionId": "s", "metadata": {"a": 1}}


def test_a_token_source_is_asked_before_every_call():
    tokens = iter(["first", "second"])
    script, client = make_client(success(), success(), token=lambda: next(tokens))
    with client:
        client.get_session("s")
        client.get_session("s")
    assert [request.headers["Authorization"] for request in script.requests] == ["Bearer first", "Bearer second"]


def test_without_a_token_no_authorization_is_sent():
    script, client = make_client(success(), token=None)
    with client:
        client.get_session("s")
    assert "Authorization" not in script.requests[0].headers


def test_a_session_id_cannot_leave_its_place_in_the_path():
    script, client = make_client(success())
    with client:
        client.get_session("..?x=1#%2F")
    assert script.requests[0].url.raw_path == b"/api/training/session/..%3Fx%3D1%23%252F"


def test_problem_details_become_a_typed_error():
    _, client = make_client(problem(409, "chunks_missing", missing=[3]))
    with client, pytest.raises(ServiceError) as refusal:
        client.get_session("s")
    error = refusal.value
    assert (error.status, error.code, error.detail) == (409, "chunks_missing", "It is chunks_missing.")
    assert (error.details, error.retryable, error.request_id) == ({"missing": [3]}, False, "request-1")


def test_a_gateway_s_error_page_becomes_a_typed_error():
    answers = [httpx.Response(502, html="<h1>Bad gateway</h1>", headers={"X-Request-Id": "r"}) for _ in range(3)]
    _, client = make_client(*answers)
    with client, pytest.raises(ServiceError) as refusal:
        client.get_session("s")
    assert (refusal.value.code, refusal.value.request_id) == ("http_502", "r")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"success": true}', b'{"data": 3}', b"<html>"], ids=lambda content: content.decode()
)
def test_a_success_that_is_not_ours_is_an_error(content):
    _, client = make_client(httpx.Response(200, content=content))
    with client, pytest.raises(UnreachableError, match="not one of this service"):
        client.get_session("s")


class TestRepeating:
    @pytest.mark.parametrize(
        "failure",
        [
            problem(503, "storage_unavailable", retryable=True),
            problem(409, "session_busy", retryable=True),
            httpx.Response(502, html="x"),
            httpx.ConnectError("refused"),
            httpx.ReadTimeout("late"),
            httpx.RemoteProtocolError("cut"),
        ],
        ids=lambda failure: type(failure).__name__,
    )
    def test_a_safe_call_is_repeated_after_a_passing_failure(self, failure):
        script, client = make_client(failure, success(session_id="s"))
        with client:
            assert client.get_session("s")["session_id"] == "s"
        assert len(script.requests) == 2

    @pytest.mark.parametrize(
        "failure", [problem(500, "internal_error"), problem(429, "processing_limit_reached"), problem(404, "not_found")]
    )
    def test_a_final_refusal_is_not_repeated(self, failure):
        script, client = make_client(failure)
        with client, pytest.raises(ServiceError):
            client.get_session("s")
        assert len(script.requests) == 1

    @pytest.mark.parametrize("failure", [httpx.ReadTimeout("late"), httpx.Response(502, html="x")])
    @pytest.mark.parametrize("call", ["train", "delete"])
    def test_a_call_that_may_have_had_an_effect_is_not_repeated(self, failure, call):
        script, client = make_client(failure)
        with client, pytest.raises((ServiceError, UnreachableError)):
            client.train("s", "y") if call == "train" else client.delete_session("s")
        assert len(script.requests) == 1

    def test_a_call_that_never_got_through_is_repeated_whatever_it_does(self):
        script, client = make_client(httpx.ConnectError("refused"), success(run_id="r"))
        with client:
            assert client.train("s", "y")["run_id"] == "r"
        assert len(script.requests) == 2

    def test_repeating_ends(self):
        script, client = make_client(*[httpx.ConnectError("refused")] * 5)
        with client, pytest.raises(UnreachableError, match="does not answer"):
            client.get_session("s")
        assert len(script.requests) == QUICK.attempts


class TestBackoff:
    def test_waits_grow_up_to_a_bound_and_differ(self):
        backoff = Backoff(attempts=9, first_s=1, longest_s=10)
        for failures, bound in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (9, 10)]:
            waits = [backoff.wait_s(failures) for _ in range(200)]
            assert 0 <= min(waits) < max(waits) <= bound
            assert max(waits) > bound / 2

    def test_what_the_server_asks_for_is_waited_at_least_but_not_for_ever(self):
        assert Backoff(first_s=1, longest_s=10).wait_s(1, 5.0) >= 5
        assert Backoff(first_s=1, longest_s=10).wait_s(1, 3600.0) == 10

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [(None, None), ("", None), ("7", 7.0), ("soon", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
    )
    def test_retry_after_is_seconds_or_a_date(self, value, seconds):
        assert retry_after_s(value) == seconds


def test_all_pages_of_sessions_are_read():
    pages = [
        success(sessions=[{"session_id": "b"}], count=1, next_page_token="next"),
        success(sessions=[{"session_id": "a"}], count=1, next_page_token=""),
    ]
    script, client = make_client(*pages)
    with client:
        assert [session["session_id"] for session in client.sessions()] == ["b", "a"]
    assert dict(script.requests[1].url.params) == {"limit": "50", "page_token": "next"}


def test_a_search_goes_with_every_page():
    pages = [
        success(sessions=[{"session_id": "b"}], count=1, next_page_token="next"),
        success(sessions=[], count=0, next_page_token=""),
    ]
    script, client = make_client(*pages)
    with client:
        assert len(list(client.sessions(search="50% & more"))) == 1
    assert [request.url.params["search"] for request in script.requests] == ["50% & more"] * 2


class TestDownload:
    CONTENT = b"a model" * 1000

    def file(self, **changes):
        described = {"format": "h5", "size": len(self.CONTENT), "sha256": hashlib.sha256(self.CONTENT).hexdigest()}
        return {**described, "loads_code": False, **changes}

    def moved(self):
        return httpx.Response(302, headers={"Location": "http://bucket/model.h5?signature=x"})

    def test_the_file_comes_from_the_bucket_without_the_access_token(self, tmp_path):
        script, client = make_client(self.moved(), httpx.Response(200, content=self.CONTENT))
        with client:
            client.download_model("s", tmp_path / "model.h5", path="run/model", file=self.file())
        assert (tmp_path / "model.h5").read_bytes() == self.CONTENT
        assert dict(script.requests[0].url.params) == {"path": "run/model", "format": "h5"}
        assert str(script.requests[1].url) == "http://bucket/model.h5?signature=x"
        assert "Authorization" not in script.requests[1].headers

    @pytest.mark.parametrize("changes", [{"size": 3}, {"sha256": "0" * 64}])
    def test_other_bytes_than_promised_leave_no_file_behind(self, tmp_path, changes):
        _, client = make_client(self.moved(), httpx.Response(200, content=self.CONTENT))
        with client, pytest.raises(DownloadError, match="promised"):
            client.download_model("s", tmp_path / "model.h5", file=self.file(**changes))
        assert list(tmp_path.iterdir()) == []

    def test_a_refusal_of_the_bucket_leaves_no_file_behind(self, tmp_path):
        _, client = make_client(self.moved(), httpx.Response(403))
        with client, pytest.raises(DownloadError, match="403"):
            client.download_model("s", tmp_path / "model.h5")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_does_not_exist_is_one_sentence(self, tmp_path):
        _, client = make_client(self.moved(), httpx.Response(200, content=self.CONTENT))
        with client, pytest.raises(DownloadError, match="No such file"):
            client.download_model("s", tmp_path / "nowhere" / "model.h5")

    def test_a_file_that_is_being_made_is_waited_for(self, tmp_path, monkeypatch):
        waits = []
        monkeypatch.setattr("trainshed.client.pause", waits.append)
        making = httpx.Response(202, json={"success": True, "data": {}}, headers={"Retry-After": "7"})
        script, client = make_client(making, making, self.moved(), httpx.Response(200, content=self.CONTENT))
        with client:
            client.download_archive("s", tmp_path / "s.zip")
        assert (tmp_path / "s.zip").read_bytes() == self.CONTENT
        assert script.requests[0].url.path == "/api/training/download-archive/s"
        assert waits == [7.0, 7.0]

    def test_waiting_for_a_file_ends(self, tmp_path, monkeypatch):
        monkeypatch.setattr("trainshed.client.pause", lambda _: None)
        making = [httpx.Response(202, headers={"Retry-After": "600"}) for _ in range(9)]
        _, client = make_client(*making)
        with client, pytest.raises(UnreachableError, match="ask again later"):
            client.download_archive("s", tmp_path / "s.zip")


class TestDrawing:
    def test_a_drawing_is_written_as_it_comes(self, tmp_path):
        script, client = make_client(httpx.Response(200, content=b"<svg/>"))
        with client:
            client.draw_chart("s", "m.fit", tmp_path / "fit.svg", picture_format="svg", theme="dark")
        assert (tmp_path / "fit.svg").read_bytes() == b"<svg/>"
        assert dict(script.requests[0].url.params) == {"name": "m.fit", "format": "svg", "theme": "dark"}

    def test_a_stored_picture_comes_from_the_bucket_without_the_access_token(self, tmp_path):
        moved = httpx.Response(302, headers={"Location": "http://bucket/p.png?signature=x"})
        script, client = make_client(moved, httpx.Response(200, content=b"png"))
        with client:
            client.draw_chart("s", "p", tmp_path / "p.png")
        assert (tmp_path / "p.png").read_bytes() == b"png"
        assert "Authorization" not in script.requests[1].headers

    def test_a_refusal_of_the_bucket_leaves_no_file_behind(self, tmp_path):
        moved = httpx.Response(302, headers={"Location": "http://bucket/p.png?signature=x"})
        _, client = make_client(moved, httpx.Response(403))
        with client, pytest.raises(DownloadError, match="403"):
            client.draw_chart("s", "p", tmp_path / "p.png")
        assert list(tmp_path.iterdir()) == []

    def test_a_table_comes_as_text(self):
        script, client = make_client(httpx.Response(200, content="model\r\nü\r\n".encode()))
        with client:
            assert client.evaluation_csv("s") == "model\r\nü\r\n"
        assert dict(script.requests[0].url.params) == {"name": "evaluation", "format": "csv"}


class TestSignIn:
    def sign_in(self, monkeypatch, *answers):
        script = Script(*answers)
        transport = httpx.MockTransport(script)

        def post(url, **options):
            options.pop("timeout")
            with httpx.Client(transport=transport) as client:
                return client.post(url, **options)

        monkeypatch.setattr(httpx, "post", post)
        return script, PasswordSignIn("http://supabase/", "sb_publishable_x", "alice@example.com", "secret")

    def token(self, token, seconds):
        return httpx.Response(200, json={"access_token": token, "expires_in": seconds})

    def test_a_password_is_exchanged_for_a_token_once(self, monkeypatch):
        script, sign_in = self.sign_in(monkeypatch, self.token("t1", 3600))
        assert [sign_in(), sign_in()] == ["t1", "t1"]
        request = script.requests[0]
        assert str(request.url) == "http://supabase/auth/v1/token?grant_type=password"
        assert request.headers["apikey"] == "sb_publishable_x"
        assert json.loads(request.content) == {"email": "alice@example.com", "password": "secret"}

    def test_a_token_that_is_about_to_end_is_replaced(self, monkeypatch):
        _, sign_in = self.sign_in(monkeypatch, self.token("t1", 30), self.token("t2", 3600))
        assert [sign_in(), sign_in(), sign_in()] == ["t1", "t2", "t2"]

    @pytest.mark.parametrize("member", ["msg", "message", "error_description"])
    def test_a_wrong_password_is_one_sentence(self, monkeypatch, member):
        _, sign_in = self.sign_in(monkeypatch, httpx.Response(400, json={member: "Invalid login credentials"}))
        with pytest.raises(SignInError, match=r"Cannot sign in as alice@example.com: Invalid login credentials\."):
            sign_in()

    @pytest.mark.parametrize("answer", [httpx.Response(200, json={}), httpx.Response(200, text="x")])
    def test_an_answer_without_a_token_is_an_error(self, monkeypatch, answer):
        _, sign_in = self.sign_in(monkeypatch, answer)
        with pytest.raises(SignInError, match="without a token"):
            sign_in()

    def test_a_service_that_is_away_is_an_error(self, monkeypatch):
        _, sign_in = self.sign_in(monkeypatch, httpx.ConnectError("refused"))
        with pytest.raises(SignInError, match="does not answer"):
            sign_in()


class TestSettings:
    def test_half_a_sign_in_names_what_is_missing(self):
        with pytest.raises(SettingsError, match="SUPABASE_PUBLISHABLE_KEY, TRAINSHED_PASSWORD"):
            client_from({"SUPABASE_URL": "http://s", "TRAINSHED_EMAIL": "a@example.com"})

    @pytest.mark.parametrize("name", ["TRAINSHED_URL", "SUPABASE_URL"])
    def test_an_address_without_a_scheme_is_named(self, name):
        with pytest.raises(SettingsError, match=f"{name} must begin with http"):
            client_from({name: "localhost:8080"})

    def test_a_token_needs_nothing_else(self):
        with client_from({"TRAINSHED_TOKEN": "t", "TRAINSHED_EMAIL": "a@example.com"}):
            pass
