"""What the functions write down: a line per request and change of state, found by the answer's id, and no secret."""

import json
import re
import uuid

import pytest

from tests.functional.conftest import done, refused

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
# A JSON web token, a signature in an address, a project's secret key.
SECRETS = re.compile(r"eyJ[\w-]{10,}\.|X-Goog-Signature|sb_secret_|BEGIN [A-Z ]*PRIVATE KEY")


@pytest.fixture
def lines(capsys):
    """Return what was written since the last time, line by line."""

    def read():
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return read


def test_the_id_of_an_answer_finds_its_lines(alice, lines):
    answer = alice.post("/init-session", {"sessionId": "weather"})

    found = [line for line in lines() if line["request_id"] == answer.headers["X-Request-Id"]]
    assert [line["message"] for line in found] == ["init_session", "request.done"]
    assert found[-1]["session"] == "weather"


def test_a_line_says_whose_request_it_was_and_what_came_of_it(alice, lines):
    upload = alice.create(5)
    lines()
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "Function-Execution-Id": "e7k2"}
    answer = alice.get(f"/uploads/{upload['uploadId']}", headers=headers)

    (line,) = lines()
    assert answer.headers["X-Request-Id"] == TRACE
    assert line["severity"] == "INFO"
    assert line["logging.googleapis.com/trace"].endswith(f"/traces/{TRACE}")
    assert line["logging.googleapis.com/spanId"] == SPAN
    assert (line["execution_id"], line["function"], line["status"]) == ("e7k2", "get_upload", 200)
    assert line["upload"] == upload["uploadId"]
    assert line["user_id"] == alice.caller.user_id
    assert line["bytes_sent"] == len(answer.data)
    assert line["duration_ms"] > 0


def test_googles_own_trace_header_is_read_too(alice, lines):
    alice.get("/list-sessions", headers={"X-Cloud-Trace-Context": f"{TRACE}/255;o=1"})

    (line,) = lines()
    assert line["logging.googleapis.com/trace"].endswith(f"/traces/{TRACE}")
    assert line["logging.googleapis.com/spanId"] == f"{255:016x}"


def test_every_change_of_state_has_a_line(alice, lines):
    upload = alice.uploaded(b"a,b\n1,2\n")
    done(alice.post(f"/uploads/{upload['uploadId']}/assemble"))
    done(alice.post("/finalize-session", {"sessionId": "weather"}))
    done(alice.post("/session/weather/delete"))

    changes = [line for line in lines() if line["message"] != "request.done"]
    names = [line["message"] for line in changes]
    for name in (
        "init_session",
        "create_upload",
        "claim_assembly",
        "record_assembly",
        "finalize_session",
        "begin_delete_session",
        "finish_delete_session",
    ):
        assert name in names, names
    recorded = next(line for line in changes if line["message"] == "record_assembly")
    assert (recorded["upload"], recorded["state"]) == (upload["uploadId"], "assembled")


def test_an_error_of_ours_is_one_that_error_reporting_collects(alice, lines, monkeypatch):
    monkeypatch.setattr("shared.adapters.supabase.SupabaseDatabase.select", lambda *_a, **_k: 1 / 0)
    problem = alice.get("/session/weather")
    refused(problem, 500, "internal_error")

    line = lines()[-1]
    assert line["severity"] == "ERROR"
    assert line["@type"].endswith("ReportedErrorEvent")
    assert "ZeroDivisionError" in line["stack_trace"]
    assert line["context"]["httpRequest"] == {
        "method": "GET",
        "url": "/session/weather",
        "responseStatusCode": 500,
    }
    assert "ZeroDivisionError" not in problem.text


def test_a_whole_run_writes_no_secret(local_stack, alice, bob, capsys):
    upload = alice.uploaded(b"a,b\n1,2\n")
    identifier = upload["uploadId"]
    done(alice.post(f"/uploads/{identifier}/chunks", {"chunks": [{"index": 0}]}))
    alice.get(f"/uploads/{identifier}?token={alice.caller.token}")
    done(alice.post(f"/uploads/{identifier}/assemble"))
    bob.get(f"/uploads/{identifier}")
    alice.api.get("/list-sessions", token=f"{alice.caller.token}x")
    alice.api.get("/list-sessions", headers={"apikey": local_stack.env["SUPABASE_SERVICE_KEY"]})
    alice.post("/init-session", {"sessionId": uuid.uuid4().hex, "apikey": "x"})
    alice.get("/download-model-h5/weather?type=keras")

    written = capsys.readouterr()
    assert written.out.count("request.done") >= 10
    assert not SECRETS.search(written.out + written.err)
    assert local_stack.env["SUPABASE_SERVICE_KEY"] not in written.out
