import io
import json
from types import SimpleNamespace
from typing import Any

import flask
import pytest

from shared import errors
from shared.api.requests.deletion import Cleanup
from shared.api.requests.sessions import InitSession, ListSessions
from shared.errors import InvalidFieldError, ProcessingLimitError, ServiceError, UnauthenticatedError
from shared.web import endpoint as edge
from shared.web.endpoint import Call, Reply, endpoint
from tests.factories import a_caller

ORIGIN = "https://console.example"
MIB = 1 << 20


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Believe every caller, know one origin."""
    monkeypatch.setenv("ALLOWED_ORIGINS", f"{ORIGIN}, https://other.example")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    verifier = SimpleNamespace(authenticate=lambda _headers, _allowed: a_caller())
    monkeypatch.setattr(edge, "_authenticator", lambda: verifier)


def answer(view: Any, path: str, method: str = "GET", **request: Any) -> flask.Response:
    """Send one request to a view that stands in for the manifest's target of its name."""
    with flask.Flask("test").test_request_context(path, method=method, **request):
        return endpoint(view)(flask.request)


def get_session(call: Call) -> Reply:
    return Reply(200, {"name": call.path["session_id"]})


def init_session(call: Call) -> Reply:
    return Reply(200, call.body(InitSession))


def raising(error: BaseException) -> Any:
    def get_session(_call: Call) -> Reply:
        raise error

    return get_session


def posted(body: bytes | str, **headers: str) -> flask.Response:
    return answer(init_session, "/init-session", "POST", data=body, headers=headers)


class TestSuccess:
    def test_an_answer_wraps_its_data(self):
        reply = answer(get_session, "/session/weather")

        assert (reply.status_code, reply.json) == (200, {"success": True, "data": {"name": "weather"}})
        assert reply.content_type == "application/json"

    def test_an_answer_is_kept_by_nobody_and_taken_for_nothing_else(self):
        headers = answer(get_session, "/session/weather").headers

        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert len(headers["X-Request-Id"]) == 32

    def test_a_redirect_has_a_place_and_no_body(self):
        def get_session(_call: Call) -> Reply:
            return Reply.redirect("https://bucket.example/x")

        reply = answer(get_session, "/session/weather")

        assert (reply.status_code, reply.headers["Location"], reply.data) == (302, "https://bucket.example/x", b"")

    @pytest.mark.parametrize("path", ["/session/weather", "/api/training/session/weather"])
    def test_a_route_is_found_with_and_without_the_base_path(self, path):
        assert answer(get_session, path).status_code == 200

    def test_a_variable_is_decoded_once(self):
        assert answer(get_session, "/session/a%2540b").json["data"] == {"name": "a%40b"}


class TestRoute:
    @pytest.mark.parametrize(
        "path",
        ["/", "/session", "/session/", "/session/a/b", "/sessions/a", "/api/training", "/x/session/a", "//session/a"],
    )
    def test_another_path_is_not_found(self, path):
        reply = answer(get_session, path)

        assert (reply.status_code, reply.json["code"]) == (404, "not_found")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_another_method_is_refused_with_those_that_are_allowed(self, method):
        reply = answer(get_session, "/session/weather", method)

        assert (reply.status_code, reply.headers["Allow"]) == (405, "GET, OPTIONS")
        assert reply.json["details"] == {"allowed": ["GET"]}

    def test_a_function_with_two_routes_allows_the_method_of_each_path_only(self):
        def delete_session(call: Call) -> Reply:
            return Reply(200, dict(call.path))

        assert answer(delete_session, "/session/weather/delete", "POST").json["data"] == {"session_id": "weather"}
        assert answer(delete_session, "/session/weather", "DELETE").json["data"] == {"session_id": "weather"}
        assert answer(delete_session, "/session/weather", "POST").headers["Allow"] == "DELETE, OPTIONS"

    def test_a_head_request_is_answered_as_a_get(self):
        assert answer(get_session, "/session/weather", "HEAD").status_code == 200

    def test_the_route_is_looked_at_before_the_caller(self, monkeypatch):
        monkeypatch.setattr(edge, "_authenticator", lambda: pytest.fail("nobody needs to be known for a 404"))

        assert answer(get_session, "/unknown").status_code == 404


class TestBody:
    @pytest.mark.parametrize(
        "body", ["", "  \n", "{", "nonsense", "{'sessionId': 1}", '{"sessionId": NaN}', "\xff", "{}{}"]
    )
    def test_what_is_not_json_is_refused(self, body):
        reply = posted(body.encode("latin-1"))

        assert (reply.status_code, reply.json["code"]) == (400, "invalid_request")

    @pytest.mark.parametrize("body", ["[]", '"text"', "5", "null", "true", '[{"sessionId": "x"}]'])
    def test_json_that_is_no_object_is_refused(self, body):
        reply = posted(body)

        assert (reply.status_code, reply.json["code"]) == (400, "invalid_request")

    @pytest.mark.parametrize("opening", ["[", '{"x":'])
    def test_json_that_is_nested_without_end_is_refused(self, opening):
        assert posted('{"sessionId":' + opening * 100_000).status_code == 400

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "sessionId"),
            ({"sessionId": None}, "sessionId"),
            ({"sessionId": "x", "other": 1}, "other"),
            ({"sessionId": "x", "": 1}, ""),
            ({"sessionId": "x", "sessionid": "x"}, "sessionid"),
            ({"sessionId": "x", "grö\x00ße": 1}, "grö\x00ße"),
        ],
    )
    def test_a_field_that_is_missing_or_unknown_is_named(self, body, field):
        reply = posted(json.dumps(body))

        assert (reply.status_code, reply.json["code"]) == (422, "invalid_field")
        assert reply.json["details"]["field"] == field

    def test_a_field_with_half_a_character_is_refused_like_any_other(self):
        reply = posted('{"sessionId": "x", "\\ud800": 1}')

        assert (reply.status_code, reply.json["code"]) == (422, "invalid_field")

    def test_a_very_long_name_of_a_field_is_not_sent_back_whole(self):
        reply = posted(json.dumps({"sessionId": "x", "y" * 500_000: 1}))

        assert reply.status_code == 422
        assert len(reply.data) < 2000

    def test_null_stands_for_a_field_that_is_not_given(self):
        assert posted('{"sessionId": "x", "metadata": null}').json["data"] == {"sessionId": "x"}

    def test_the_media_type_of_json_is_not_insisted_on(self):
        assert posted('{"sessionId": "x"}', **{"Content-Type": "text/plain"}).status_code == 200

    def test_a_body_of_more_than_1_mib_is_too_large(self):
        body = '{"sessionId": "' + "x" * MIB + '"}'

        assert (posted(body).status_code, posted(body).json["code"]) == (413, "too_large")

    def test_a_long_body_without_its_length_is_too_large_as_well(self):
        body = io.BytesIO(b'{"sessionId": "' + b"x" * MIB + b'"}')
        reply = answer(
            init_session,
            "/init-session",
            "POST",
            input_stream=body,
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        )

        assert reply.status_code == 413

    def test_an_optional_body_may_be_missing_but_not_wrong(self):
        def assemble_upload(call: Call) -> Reply:
            return Reply(200, call.body(Cleanup))

        path = "/uploads/1/assemble"
        assert answer(assemble_upload, path, "POST").json["data"] == {}
        assert answer(assemble_upload, path, "POST", data="{}").json["data"] == {}
        assert answer(assemble_upload, path, "POST", data='{"dryRun": true}').json["data"] == {"dryRun": True}
        assert answer(assemble_upload, path, "POST", data="x").status_code == 400
        assert answer(assemble_upload, path, "POST", data='{"x": 1}').status_code == 422


class TestQuery:
    @pytest.mark.parametrize(
        ("query", "field"), [("other=1", "other"), ("limit=1&limit=2", "limit"), ("=1", ""), ("limit[]=1", "limit[]")]
    )
    def test_a_parameter_that_is_unknown_or_given_twice_is_named(self, query, field):
        def list_sessions(call: Call) -> Reply:
            return Reply(200, call.query(ListSessions))

        reply = answer(list_sessions, f"/list-sessions?{query}")

        assert (reply.status_code, reply.json["details"]) == (422, {"field": field})

    def test_known_parameters_are_read(self):
        def list_sessions(call: Call) -> Reply:
            return Reply(200, call.query(ListSessions))

        assert answer(list_sessions, "/list-sessions?limit=%35").json["data"] == {"limit": "5"}


class TestProblem:
    def test_an_error_is_told_as_problem_details_with_the_old_fields_beside(self):
        reply = answer(raising(InvalidFieldError("size", "must be a whole number")), "/session/weather")

        request_id = reply.headers["X-Request-Id"]
        assert reply.content_type == "application/problem+json"
        assert reply.json == {
            "type": "urn:trainshed:error:invalid_field",
            "title": "A field has a value that is not allowed.",
            "status": 422,
            "detail": "size: must be a whole number",
            "instance": "/session/weather",
            "code": "invalid_field",
            "retryable": False,
            "request_id": request_id,
            "details": {"field": "size"},
            "success": False,
            "error": "size: must be a whole number",
        }

    @pytest.mark.parametrize(
        "kind",
        [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)],
        ids=lambda kind: kind.__name__,
    )
    def test_every_error_has_the_status_line_of_its_kind(self, kind):
        arguments = {"InvalidFieldError": ("size", "is odd"), "MethodNotAllowedError": (["GET"],)}.get(
            kind.__name__, ()
        )

        reply = answer(raising(kind(*arguments)), "/session/weather")

        assert reply.status_code == reply.json["status"] == kind.status
        assert (reply.json["code"], reply.json["retryable"]) == (kind.code, kind.retryable)

    def test_a_time_to_wait_is_told_as_a_header(self):
        reply = answer(raising(ProcessingLimitError(retry_after_s=90)), "/session/weather")

        assert (reply.status_code, reply.headers["Retry-After"]) == (429, "90")

    def test_a_caller_who_is_not_believed_is_told_the_scheme(self):
        reply = answer(raising(UnauthenticatedError()), "/session/weather")

        assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")

    @pytest.mark.parametrize(
        "error", [ValueError("password=secret"), errors.InternalError("password=secret", sql="secret")]
    )
    def test_a_defect_tells_the_client_nothing_and_the_log_everything(self, error, capsys):
        reply = answer(raising(error), "/session/weather")

        assert (reply.status_code, reply.json["code"]) == (500, "internal_error")
        assert b"secret" not in reply.data
        entry = json.loads(capsys.readouterr().out)
        assert "password=secret" in entry["stack_trace"]
        assert (entry["severity"], entry["request_id"]) == ("ERROR", reply.json["request_id"])
        assert entry["@type"].endswith("ReportedErrorEvent")

    def test_a_body_that_cannot_be_read_is_the_clients_fault(self):
        def upload_chunk(call: Call) -> Reply:
            return Reply(200, {"files": len(call.request.files)})

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        too_large = answer(upload_chunk, "/upload-chunk", "POST", data=bytes(33 * MIB), headers=headers)

        assert (too_large.status_code, too_large.json["code"]) == (413, "too_large")


class TestCors:
    def test_a_page_of_a_known_origin_may_read_the_answer(self):
        headers = answer(get_session, "/session/weather", headers={"Origin": ORIGIN}).headers

        assert headers["Access-Control-Allow-Origin"] == ORIGIN
        exposed = {"Allow", "Content-Disposition", "ETag", "Location", "Retry-After", "X-Request-Id"}
        assert set(headers["Access-Control-Expose-Headers"].split(", ")) == exposed
        assert headers["Vary"] == "Origin"
        # What may be sent is the business of a preflight.
        assert not {"Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} & set(headers.keys())

    def test_a_page_of_a_known_origin_may_read_an_error_too(self):
        reply = answer(raising(UnauthenticatedError()), "/session/weather", headers={"Origin": ORIGIN})

        assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "*", f"{ORIGIN}.evil.example", ORIGIN.upper()])
    def test_a_page_of_another_origin_may_not(self, origin):
        for method in ("GET", "OPTIONS"):
            headers = answer(get_session, "/session/weather", method, headers={"Origin": origin}).headers
            assert not [name for name, _ in headers if name.startswith("Access-Control")]
            assert headers["Vary"] == "Origin"

    def test_a_preflight_is_answered_without_a_token(self, monkeypatch):
        monkeypatch.setattr(edge, "_authenticator", lambda: pytest.fail("a preflight carries no token"))
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}

        reply = answer(init_session, "/init-session", "OPTIONS", headers=asked)

        assert (reply.status_code, reply.data) == (204, b"")
        assert reply.headers["Access-Control-Allow-Methods"] == "POST"
        # The last one is of supabase-js.
        sent = {"authorization", "content-type", "apikey", "traceparent", "x-client-info"}
        assert {name.strip().lower() for name in reply.headers["Access-Control-Allow-Headers"].split(",")} == sent
        # An hour without asking again.
        assert reply.headers["Access-Control-Max-Age"] == "3600"


class TestLog:
    def test_a_request_is_one_line_of_json(self, capsys):
        reply = answer(get_session, "/session/weather", headers={"Authorization": "Bearer secret-token"})

        [line] = capsys.readouterr().out.splitlines()
        entry = json.loads(line)
        assert entry["request_id"] == reply.headers["X-Request-Id"]
        assert (entry["function"], entry["status"], entry["severity"]) == ("get_session", 200, "INFO")
        assert "secret-token" not in line

    def test_text_of_a_client_cannot_add_lines(self, capsys):
        posted(json.dumps({"sessionId": "x", 'a"\n{"severity": "ERROR"}\u2028': 1}))

        assert len(capsys.readouterr().out.strip().split("\n")) == 1

    @pytest.mark.parametrize(
        ("headers", "request_id"),
        [
            ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, "a" * 32),
            ({"X-Cloud-Trace-Context": f"{'c' * 32}/123;o=1"}, "c" * 32),
        ],
    )
    def test_the_platforms_trace_is_the_requests_id(self, headers, request_id):
        assert answer(get_session, "/session/weather", headers=headers).headers["X-Request-Id"] == request_id

    @pytest.mark.parametrize(
        "headers",
        [
            {"traceparent": "00-x-y-01"},
            {"traceparent": f"00-{'A' * 32}-{'b' * 16}-01"},
            {"X-Cloud-Trace-Context": "<script>"},
            {"X-Cloud-Trace-Context": "a" * 65},
            {"X-Cloud-Trace-Context": ""},
        ],
    )
    def test_an_id_that_is_not_the_platforms_is_replaced(self, headers):
        request_id = answer(get_session, "/session/weather", headers=headers).headers["X-Request-Id"]

        assert len(request_id) == 32
        assert request_id not in str(headers)
