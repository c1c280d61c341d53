import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.tokens import RenewableToken
from trainshed.auth import PasswordSignIn
from trainshed.client import Client
from trainshed.errors import DownloadError, ServiceError, SettingsError, SignInError, UnreachableError
from trainshed.retry import Backoff, retry_after_s
from trainshed.routes import ROUTES
from trainshed.settings import client_from
from trainshed.version import VERSION

QUICK = Backoff(attempts=3, first_s=0.001, longest_s=0.01)
# Short of its own accord, but waits as long as a server asks for.
PATIENT = Backoff(attempts=3, first_s=0.001, longest_s=60)


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


def make_client(*answers, token="token-1", backoff=QUICK):
    script = Script(*answers)
    return script, Client("http://service/", token, backoff=backoff, transport=httpx.MockTransport(script))


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


@dataclass(frozen=True)
class Call:
    """A method of the client, and the request that the API expects of it.

    Attributes:
        make: Calls it, with a path to write to.
        request: Method and path.
        is_repeatable: A second one changes nothing.
    """

    make: Callable[[Client, Path], object]
    request: str
    body: Mapping[str, object] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = True


FILES = [{"name": "m.skops", "size": 3, "crc32c": "AAAAAA=="}]
CALLS = [
    Call(lambda client, _: client.init_session("s"), "POST /init-session", {"sessionId": "s"}),
    Call(lambda client, _: client.init_session("s", {}), "POST /init-session", {"sessionId": "s", "metadata": {}}),
    Call(lambda client, _: client.list_sessions(), "GET /list-sessions", query={"limit": "50"}),
    Call(
        lambda client, _: client.list_sessions(limit=7, page_token="p", search="b"),
        "GET /list-sessions",
        query={"limit": "7", "page_token": "p", "search": "b"},
    ),
    Call(lambda client, _: client.get_session("s"), "GET /session/s"),
    Call(lambda client, _: client.delete_session("s"), "POST /session/s/delete", is_repeatable=False),
    Call(lambda client, _: client.finalize_session("s"), "POST /finalize-session", {"sessionId": "s"}),
    Call(
        lambda client, _: client.create_upload("s", "f", 0),
        "POST /uploads",
        {"sessionId": "s", "fileName": "f", "size": 0},
    ),
    Call(
        lambda client, _: client.create_upload(
            "s", "f", 9, content_type="text/csv", sha256="ab", chunk_size=8, presign=0
        ),
        "POST /uploads",
        {
            "sessionId": "s",
            "fileName": "f",
            "size": 9,
            "contentType": "text/csv",
            "sha256": "ab",
            "chunkSize": 8,
            "presign": 0,
        },
    ),
    Call(
        lambda client, _: client.sign_chunks("u", {3: "c", 1: "a"}),
        "POST /uploads/u/chunks",
        {"chunks": [{"index": 3, "crc32c": "c"}, {"index": 1, "crc32c": "a"}]},
    ),
    Call(lambda client, _: client.get_upload("u"), "GET /uploads/u"),
    Call(lambda client, _: client.assemble_upload("u"), "POST /uploads/u/assemble"),
    Call(lambda client, _: client.abort_upload("u"), "POST /uploads/u/abort"),
    Call(lambda client, _: client.train("s", "y"), "POST /train/s", {"target": "y"}, is_repeatable=False),
    Call(
        lambda client, _: client.train(
            "s",
            "y",
            task="time_series",
            models=("a", "b"),
            test_fraction=0.25,
            seed=0,
            time_column="t",
            horizon=2,
            window=5,
        ),
        "POST /train/s",
        {
            "target": "y",
            "task": "time_series",
            "models": ["a", "b"],
            "testFraction": 0.25,
            "seed": 0,
            "timeColumn": "t",
            "horizon": 2,
            "window": 5,
        },
        is_repeatable=False,
    ),
    Call(lambda client, _: client.get_training("s"), "GET /train/s"),
    Call(lambda client, _: client.cancel_training("s"), "POST /train/s/cancel"),
    Call(lambda client, _: client.save_models("s"), "POST /save-model/s"),
    Call(lambda client, _: client.list_models("s"), "GET /list-models-database/s"),
    Call(lambda client, _: client.sign_files("s", "r", FILES), "POST /publish/s", {"runId": "r", "files": FILES}),
    Call(lambda client, _: client.plot_variables("s"), "GET /plot-variables/s"),
    Call(
        lambda client, _: client.plot_variables("s", points=9, columns=["a,b", 'q"', "c"]),
        "GET /plot-variables/s",
        query={"points": "9", "columns": '"a,b","q""",c'},
    ),
    Call(lambda client, _: client.visualizations("s"), "GET /visualizations/s"),
    Call(lambda client, _: client.scalers("s"), "GET /scalers/s"),
    Call(lambda client, _: client.evaluation_tables("s"), "GET /evaluation-tables/s"),
    Call(
        lambda client, to: client.draw_chart("s", "c", to),
        "GET /visualizations/s",
        query={"name": "c", "format": "png", "theme": "light"},
    ),
    Call(
        lambda client, _: client.evaluation_csv("s", "by_class"),
        "GET /evaluation-tables/s",
        query={"name": "by_class", "format": "csv"},
    ),
    Call(lambda client, to: client.download_model("s", to), "GET /download-model-h5/s"),
    Call(
        lambda client, to: client.download_model("s", to, path="r/m", framework="keras", model_format="h5"),
        "GET /download-model-h5/s",
        query={"type": "keras", "path": "r/m", "format": "h5"},
    ),
    Call(lambda client, to: client.download_archive("s", to), "GET /download-archive/s"),
]

# How long each request may take the service [s].
LONGEST_S = {
    f"{route.method} {route.path.format(session_id='s', upload_id='u')}": route.timeout_s for route in ROUTES.values()
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.request)
class TestCalls:
    @pytest.fixture
    def requests(self):
        """What the service was asked."""
        return []

    @pytest.fixture
    def client(self, requests):
        listed = {name: [] for name in ("chunks", "files", "visualizations", "scalers", "evaluation_tables")}

        def answer(request):
            if request.url.host == "bucket":
                return httpx.Response(200, content=b"x")
            requests.append(request)
            if failures:
                raise failures.pop()
            is_download = "/download-" in request.url.path
            return httpx.Response(302, headers={"Location": "http://bucket/x"}) if is_download else success(**listed)

        self.failures = failures = []
        with Client("http://service", "token-1", backoff=QUICK, transport=httpx.MockTransport(answer)) as client:
            yield client

    def test_it_sends_what_the_api_expects(self, client, requests, tmp_path, call):
        call.make(client, tmp_path / "x")
        (request,) = requests
        assert f"{request.method} {request.url.path.removeprefix('/api/training')}" == call.request
        assert dict(request.url.params) == call.query
        assert (json.loads(request.content) if request.content else None) == call.body
        assert request.headers["User-Agent"] == f"trainshed/{VERSION}"

    def test_it_waits_as_long_as_the_function_may_take(self, client, requests, tmp_path, call):
        call.make(client, tmp_path / "x")
        # Ten seconds for the way, and what the manifest says of the function.
        wait_s = LONGEST_S[call.request] + 10
        # A place in the pool is waited for without end: it is our own other calls that are in the way.
        timeout = {"connect": 10, "read": wait_s, "write": wait_s, "pool": None}
        assert [request.extensions["timeout"] for request in requests] == [timeout]

    def test_it_is_repeated_only_where_a_second_one_changes_nothing(self, client, requests, tmp_path, call):
        self.failures.append(httpx.ReadTimeout("late"))
        if call.is_repeatable:
            call.make(client, tmp_path / "x")
        else:
            with pytest.raises(UnreachableError):
                call.make(client, tmp_path / "x")
        assert len(requests) == 1 + call.is_repeatable


def test_every_route_is_called_by_some_method():
    assert {call.request for call in CALLS} == LONGEST_S.keys()


def test_a_closed_client_calls_nobody():
    _, client = make_client()
    client.close()
    chunk = {"index": 0, "size": 1, "url": "http://bucket/0", "method": "PUT", "headers": {}}
    for call in (lambda: client.get_session("s"), lambda: client.put_chunk(chunk, [b"x"])):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_a_chunk_is_sent_as_it_was_signed_and_without_the_access_token():
    script, client = make_client(httpx.Response(200))
    chunk = {"index": 0, "size": 2, "url": "http://bucket/0?s=1", "method": "PUT", "headers": {"x-goog-hash": "h"}}
    with client:
        client.put_chunk(chunk, [b"a", b"b"])
    (request,) = script.requests
    assert (request.method, str(request.url), request.read()) == ("PUT", "http://bucket/0?s=1", b"ab")
    assert (request.headers["x-goog-hash"], request.headers["Content-Length"]) == ("h", "2")
    assert "Authorization" not in request.headers
    assert "Transfer-Encoding" not in request.headers


class TestErrors:
    def refusal(self, answer):
        _, client = make_client(answer)
        with client, pytest.raises(ServiceError) as refusal:
            client.train("s", "y")
        return refusal.value

    def test_the_request_id_comes_from_the_header_where_the_document_has_none(self):
        document = {"code": "not_found", "detail": "No."}
        answer = httpx.Response(404, json=document, headers={"X-Request-Id": "r"})
        assert self.refusal(answer).request_id == "r"

    @pytest.mark.parametrize("document", [{"details": [1]}, {"details": None}, {"retryable": "no"}])
    def test_members_of_another_kind_are_left_out(self, document):
        error = self.refusal(httpx.Response(409, json={"code": "conflict", "detail": "No.", **document}))
        assert (error.code, error.details, error.retryable) == ("conflict", {}, False)

    @pytest.mark.parametrize("content", [b"[]", b'{"code": "x"}', b'"text"', b"\xff"], ids=repr)
    def test_a_document_that_is_none_of_ours_is_known_by_its_status(self, content):
        error = self.refusal(httpx.Response(418, content=content, headers={"Retry-After": "7"}))
        assert (error.code, error.retry_after_s) == ("http_418", 7)
        assert str(error) == "/api/training/train/s answered 418 I'm a teapot."

    def test_who_does_not_answer_is_named_with_the_reason(self):
        _, client = make_client(httpx.ReadTimeout(""))
        with client, pytest.raises(UnreachableError) as failure:
            client.train("s", "y")
        assert str(failure.value) == "http://service does not answer (ReadTimeout)."
        assert isinstance(failure.value.__cause__, httpx.ReadTimeout)


class TestRenewal:
    def test_a_token_that_is_refused_again_is_renewed_once_and_then_an_error(self):
        refusals = [problem(401, "unauthenticated") for _ in range(4)]
        script, client = make_client(*refusals, token=RenewableToken())
        with client, pytest.raises(ServiceError, match="unauthenticated"):
            client.get_session("s")
        assert [request.headers["Authorization"] for request in script.requests] == ["Bearer token-0", "Bearer token-1"]

    def test_it_takes_none_of_the_tries(self):
        failures = [httpx.Response(502, html="x") for _ in range(QUICK.attempts - 1)]
        _, client = make_client(problem(401, "unauthenticated"), *failures, success(id="s"), token=RenewableToken())
        with client:
            assert client.get_session("s")["id"] == "s"


class TestAssembling:
    def busy(self, **headers):
        return httpx.Response(202, json={"success": True, "data": {}}, headers=headers)

    def test_it_is_asked_for_again_when_the_service_says(self, monkeypatch):
        waits = []
        monkeypatch.setattr("trainshed.client.pause", lambda seconds, _: waits.append(seconds))
        later = [self.busy(**{"Retry-After": "7"}), self.busy(), self.busy(**{"Retry-After": "0"})]
        _, client = make_client(*later, success(state="assembled"))
        with client:
            assert client.assemble_upload("u")["state"] == "assembled"
        assert waits == [7, 1, 0.1]

    def test_waiting_for_it_ends(self, monkeypatch):
        monkeypatch.setattr("trainshed.client.pause", lambda *_: None)
        script, client = make_client(*[self.busy(**{"Retry-After": "600"}) for _ in range(9)])
        with client, pytest.raises(UnreachableError, match="Upload u is still being assembled"):
            client.assemble_upload("u")
        assert len(script.requests) == 4

    def test_who_stops_waits_no_longer(self):
        stop = threading.Event()
        stop.set()
        script, client = make_client(*[self.busy(**{"Retry-After": "30"}) for _ in range(9)])
        with client, pytest.raises(UnreachableError, match="still being assembled"):
            client.assemble_upload("u", stop=stop)
        assert len(script.requests) == 1


class TestRepeating:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_passing_failure_of_something_on_the_way_is_repeated_when_it_says(self, monkeypatch, status):
        waits = []
        monkeypatch.setattr("trainshed.client.pause", waits.append)
        page = httpx.Response(status, html="x", headers={"Retry-After": "7"})
        script, client = make_client(page, success(), backoff=PATIENT)
        with client:
            client.get_session("s")
        assert (len(script.requests), waits) == (2, [pytest.approx(7, abs=0.001)])

    def test_a_passing_failure_of_the_service_is_repeated_when_it_says_whatever_it_does(self, monkeypatch):
        waits = []
        monkeypatch.setattr("trainshed.client.pause", waits.append)
        busy = problem(503, "queue_unavailable", retryable=True, headers={"Retry-After": "7"})
        script, client = make_client(busy, success(), backoff=PATIENT)
        with client:
            client.train("s", "y")
        assert (len(script.requests), waits) == (2, [pytest.approx(7, abs=0.001)])

    @pytest.mark.parametrize("status", [400, 403, 404, 501])
    def test_a_final_refusal_of_something_on_the_way_is_not_repeated(self, status):
        script, client = make_client(httpx.Response(status, html="x"))
        with client, pytest.raises(ServiceError):
            client.get_session("s")
        assert len(script.requests) == 1

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

    def test_who_are_all_told_the_same_come_back_at_different_times(self):
        waits = [Backoff(first_s=1, longest_s=10).wait_s(1, 5.0) for _ in range(200)]
        assert 5 <= min(waits) < 5.5 < max(waits) <= 6

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

    def test_a_bucket_that_is_busy_is_asked_again_when_it_says(self, tmp_path, monkeypatch):
        waits = []
        monkeypatch.setattr("trainshed.client.pause", waits.append)
        busy = httpx.Response(503, headers={"Retry-After": "7"})
        _, client = make_client(self.moved(), busy, httpx.Response(200, content=self.CONTENT), backoff=PATIENT)
        with client:
            client.download_model("s", tmp_path / "model.h5", file=self.file())
        assert waits == [pytest.approx(7, abs=0.001)]

    def test_a_bucket_that_stays_busy_is_one_sentence_after_some_tries(self, tmp_path):
        script, client = make_client(self.moved(), *[httpx.Response(503) for _ in range(9)])
        with client, pytest.raises(UnreachableError, match=r"model\.h5 broke off \(the bucket answers 503\)"):
            client.download_model("s", tmp_path / "model.h5")
        assert len(script.requests) == 1 + QUICK.attempts

    @pytest.mark.parametrize("answer", [success(), httpx.Response(302)], ids=["a success", "a redirection"])
    def test_an_answer_without_a_place_to_download_from_is_an_error(self, tmp_path, answer):
        _, client = make_client(answer)
        with client, pytest.raises(UnreachableError, match="without a place to download from"):
            client.download_model("s", tmp_path / "model.h5")

    def test_a_folder_that_does_not_exist_is_one_sentence(self, tmp_path):
        _, client = make_client(self.moved(), httpx.Response(200, content=self.CONTENT))
        with client, pytest.raises(DownloadError, match="No such file"):
            client.download_model("s", tmp_path / "nowhere" / "model.h5")

    def test_a_file_that_is_being_made_is_waited_for(self, tmp_path, monkeypatch):
        waits = []
        monkeypatch.setattr("trainshed.client.pause", waits.append)
        making = httpx.Response(202, json={"success": True, "data": {}}, headers={"Retry-After": "7"})
        script, client = make_client(
            making, httpx.Response(202), self.moved(), httpx.Response(200, content=self.CONTENT)
        )
        with client:
            client.download_archive("s", tmp_path / "s.zip")
        assert (tmp_path / "s.zip").read_bytes() == self.CONTENT
        assert script.requests[0].url.path == "/api/training/download-archive/s"
        assert waits == [7.0, 1.0]

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
