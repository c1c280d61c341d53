"""Bad input, on every route of sessions and uploads: the documented error, and nothing has changed."""

import base64
import json
import uuid
from typing import Any

import pytest

from dev.keys import SCHEDULER_EMAIL, _key_id
from shared.records.callers import Caller, CallerKind
from shared.web.manifest import functions
from tests.functional.conftest import Client, done, refused
from tests.tokens import Mint, bad_tokens, user_claims

TEXT = {
    "not a text": 5,
    "a list": ["x"],
    "an object": {},
    "true": True,
    "empty": "",
    "too long": "a" * 1000,
    "with a control character": "a\x07b",
    "with NUL": "a\x00b",
    "with a line end": "a\nb",
    "half a character": "a\ud800",
    "a path up": "../x",
    "an absolute path": "/etc/passwd",
    "a Windows path": "C:\\x",
    "dots": "..",
}
NUMBER = {
    "a text": "5",
    "a fraction": 1.5,
    "true": True,
    "negative": -1,
    "a list": [5],
    "far too large": 10**30,
    "beyond JSON": float("1e400"),
}
SESSION_ID = TEXT | {"with a space": "a b", "with a slash": "a/b", "not ASCII": "größe"}

# Bodies that succeed, and what may be wrong with each of their fields.
BODIES: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "POST /init-session": (
        {"sessionId": "new"},
        {
            "sessionId": SESSION_ID,
            "metadata": {
                "a list": [],
                "a text": "x",
                "a number": 5,
                "too long": {"a": "x" * 20_000},
                "with NUL": {"a": "\x00"},
                "half a character": {"a": "\ud800"},
                "infinite": {"a": float("1e400")},
            },
        },
    ),
    "POST /uploads": (
        {"sessionId": "weather", "fileName": "new.csv", "size": 5},
        {
            "sessionId": SESSION_ID,
            "fileName": TEXT | {"a drive": "C:x", "only spaces": "  ", "a backslash": "a\\b"},
            "size": NUMBER | {"more than 5 TiB": (5 << 40) + 1},
            "chunkSize": NUMBER,
            "contentType": TEXT | {"no media type": "csv", "two lines": "text/csv\r\nX-A: b"},
            "sha256": {"short": "ab", "no hexadecimal": "xy" * 32, "a number": 5, "a list": ["ab" * 32]},
        },
    ),
    "POST /uploads/{open}/chunks": (
        {"chunks": [{"index": 0}]},
        {
            "chunks": {
                "an object": {},
                "a text": "0",
                "empty": [],
                "too many": [{"index": index} for index in range(129)],
                "no objects": [0],
                "without index": [{}],
                "a negative index": [{"index": -1}],
                "an index beyond": [{"index": 1}],
                "an index far beyond": [{"index": 10**30}],
                "an index of text": [{"index": "0"}],
                "twice": [{"index": 0}, {"index": 0}],
                "an unknown member": [{"index": 0, "url": "x"}],
                "a short checksum": [{"index": 0, "crc32c": "AAAA"}],
                "a checksum with a line end": [{"index": 0, "crc32c": "AAAAAA==\r\n"}],
                "a checksum of another type": [{"index": 0, "crc32c": 5}],
            }
        },
    ),
    "POST /finalize-session": ({"sessionId": "weather"}, {"sessionId": SESSION_ID}),
    "POST /upload-chunk": (
        {"sessionId": "weather", "fileName": "legacy.csv", "chunkIndex": 0, "totalChunks": 2},
        {"sessionId": SESSION_ID, "fileName": TEXT, "chunkIndex": NUMBER, "totalChunks": NUMBER},
    ),
    "POST /uploads/{open}/assemble": ({}, {}),
    "POST /uploads/{open}/abort": ({}, {}),
    "POST /cleanup": ({"dryRun": True}, {"maxAgeHours": NUMBER, "dryRun": {"a text": "true", "one": 1}}),
}
WITH_BODY = [route for route, (body, _) in BODIES.items() if body]
NEEDING_BODY = [route for route in WITH_BODY if route != "POST /cleanup"]
ALL_ROUTES = [
    f"{route.method} {route.pattern}"
    for function in functions().values()
    if function.source in {"deletion", "sessions", "uploads"}
    for route in function.routes
]


@pytest.fixture
def scheduler(local_stack) -> Caller:
    return Caller(CallerKind.SCHEDULER, "scheduler", local_stack.scheduler_token())


class Desk:
    """Alice with an open upload that is complete; sends requests by route and sees whether anything changed."""

    def __init__(self, alice: Client, scheduler: Caller, people: Any) -> None:
        self.alice = alice
        self._scheduler = scheduler
        self._people = people
        self.upload = alice.uploaded(b"a,b\n1,2\n")

    def send(self, route: str, *, caller: Caller | None = None, **options: Any) -> Any:
        method, path = route.split(" ")
        address = path.replace("{open}", self.upload["uploadId"]).replace("{upload_id}", self.upload["uploadId"])
        right = self._scheduler if path == "/cleanup" else self.alice.caller
        if "token" in options or options.pop("is_anonymous", False):
            return self.alice.api.request(method, address.replace("{session_id}", "weather"), **options)
        return self.alice.api.request(
            method, address.replace("{session_id}", "weather"), caller=caller or right, **options
        )

    def snapshot(self) -> Any:
        return self._people.snapshot()


@pytest.fixture
def desk(alice, scheduler, people) -> Desk:
    return Desk(alice, scheduler, people)


class TestBodies:
    @pytest.mark.parametrize("route", WITH_BODY)
    def test_a_right_body_is_taken(self, desk, route):
        if route == "POST /finalize-session":
            done(desk.send("POST /uploads/{open}/assemble"))

        assert desk.send(route, json=BODIES[route][0]).status_code in {200, 201}

    @pytest.mark.parametrize("route", NEEDING_BODY)
    def test_a_body_that_is_missing_is_asked_for(self, desk, route):
        before = desk.snapshot()

        for body in (b"", b"  \r\n\t"):
            refused(desk.send(route, data=body, content_type="application/json"), 400, "invalid_request")
        assert desk.snapshot() == before

    @pytest.mark.parametrize("route", BODIES)
    @pytest.mark.parametrize(
        "body", [b"{", b"nonsense", b"{'a': 1}", b"\xff\xfe", b'{"a": NaN}', b'{"a":' + b"[" * 9999]
    )
    def test_a_body_that_is_not_json_is_refused(self, desk, route, body):
        before = desk.snapshot()

        refused(desk.send(route, data=body, content_type="application/json"), 400, "invalid_request")
        assert desk.snapshot() == before

    @pytest.mark.parametrize("route", BODIES)
    @pytest.mark.parametrize("body", [[], [{}], "text", 5, True, None])
    def test_a_body_that_is_no_object_is_refused(self, desk, route, body):
        before = desk.snapshot()

        refused(desk.send(route, data=json.dumps(body), content_type="application/json"), 400, "invalid_request")
        assert desk.snapshot() == before

    @pytest.mark.parametrize("route", [route for route in BODIES if route != "POST /upload-chunk"])
    def test_an_unknown_field_is_named(self, desk, route):
        """Old clients may send what they like to upload-chunk."""
        before = desk.snapshot()

        for field in ("unknown", "session_id", "__proto__", "größe"):
            answer = desk.send(route, json=BODIES[route][0] | {field: "x"})
            assert refused(answer, 422, "invalid_field") == {"field": field}
        assert desk.snapshot() == before

    @pytest.mark.parametrize("route", NEEDING_BODY)
    def test_a_field_that_is_missing_is_named(self, desk, route):
        before = desk.snapshot()

        for field in BODIES[route][0]:
            for body in ({**BODIES[route][0], field: None}, {k: v for k, v in BODIES[route][0].items() if k != field}):
                assert refused(desk.send(route, json=body), 422, "invalid_field") == {"field": field}
        assert desk.snapshot() == before

    @pytest.mark.parametrize(
        ("route", "field"), [(route, field) for route, (_, fields) in BODIES.items() for field in fields]
    )
    def test_a_field_with_a_wrong_value_is_named(self, desk, route, field):
        body, fields = BODIES[route]
        before = desk.snapshot()

        for fault, value in fields[field].items():
            content = json.dumps(body | {field: value}).replace("Infinity", "1e400")
            answer = desk.send(route, data=content, content_type="application/json")
            assert answer.status_code == 422, (fault, answer.text)
            assert refused(answer, 422, "invalid_field")["field"].partition(".")[0] == field, fault
        assert desk.snapshot() == before

    @pytest.mark.parametrize("route", BODIES)
    def test_a_body_of_more_than_a_mebibyte_is_too_large(self, desk, route):
        before = desk.snapshot()
        content = json.dumps({"a": "x" * (1 << 20)})

        refused(desk.send(route, data=content, content_type="application/json"), 413, "too_large")
        assert desk.snapshot() == before


class TestQueries:
    @pytest.mark.parametrize("limit", ["0", "-1", "", "ten", "1.5", "1e3", "0x10", " 5", "9" * 19, "%00"])
    def test_a_page_size_that_is_none_is_refused(self, alice, limit):
        assert refused(alice.get(f"/list-sessions?limit={limit}"), 422, "invalid_field") == {"field": "limit"}

    @pytest.mark.parametrize("limit", ["200", "201", "1000000", "9" * 18])
    def test_a_page_size_beyond_the_largest_is_taken_as_the_largest(self, alice, limit):
        assert done(alice.get(f"/list-sessions?limit={limit}"))["sessions"] == []

    @pytest.mark.parametrize(
        "token",
        [
            "x",
            "....",
            "%00",
            "%ff",
            "A" * 4000,
            base64.urlsafe_b64encode(b'["2026-01-01T00:00:00+00:00", "x"]').decode(),
            base64.urlsafe_b64encode(b'["2026-01-01T00:00:00+00:00", 5]').decode(),
            base64.urlsafe_b64encode(b'["\',or=(x)", "0b2ff2c6-6b4c-4a0e-9d0d-abcdef012345"]').decode(),
            base64.urlsafe_b64encode(b"[" * 3000).decode(),
        ],
    )
    def test_a_malformed_page_token_is_refused(self, alice, token):
        refused(alice.get(f"/list-sessions?page_token={token}"), 400, "invalid_page_token")

    @pytest.mark.parametrize(
        "moment", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00", "2026-01-01T00:00:00+23:59"]
    )
    def test_a_forged_page_token_shows_nothing_more(self, alice, bob, moment):
        bob.init()
        token = base64.urlsafe_b64encode(json.dumps([moment, str(uuid.uuid4())]).encode()).decode()

        assert done(alice.get("/list-sessions", query_string={"page_token": token}))["sessions"] == []

    def test_a_page_token_of_somebody_else_shows_nothing_of_hers(self, alice, bob):
        for name in "abc":
            alice.init(name)
        token = done(alice.get("/list-sessions?limit=1"))["next_page_token"]

        assert done(bob.get("/list-sessions", query_string={"page_token": token}))["sessions"] == []

    @pytest.mark.parametrize("query", ["unknown=1", "limit=1&limit=2", "userId=x", "LIMIT=1"])
    def test_a_parameter_that_is_unknown_or_given_twice_is_named(self, alice, query):
        details = refused(alice.get(f"/list-sessions?{query}"), 422, "invalid_field")

        assert details == {"field": query.partition("=")[0]}

    @pytest.mark.parametrize("user_id", ["", "x", "eq.1", "%00", "0b2ff2c66b4c4a0e9d0dabcdef012345"])
    def test_a_user_id_that_is_none_is_refused(self, api, local_stack, user_id):
        headers = {"apikey": local_stack.supabase.service_key}

        refused(api.get(f"/list-sessions?user_id={user_id}", headers=headers), 422, "invalid_field")

    def test_get_session_takes_no_parameters(self, alice):
        alice.init()

        assert refused(alice.get("/session/weather?full=1"), 422, "invalid_field") == {"field": "full"}


def without_particulars(answer: Any) -> dict[str, Any]:
    """Return an error without what names this one request."""
    return {name: value for name, value in answer.json.items() if name not in {"instance", "request_id"}}


class TestSomebodyElses:
    @pytest.mark.parametrize(
        "route", ["GET /session/{id}", "POST /session/{id}/delete", "DELETE /session/{id}", "POST /finalize-session"]
    )
    def test_a_session_of_somebody_else_is_answered_as_one_that_does_not_exist(self, desk, bob, people, route):
        done(desk.alice.post("/uploads/" + desk.upload["uploadId"] + "/assemble"))
        before = people.snapshot()
        method, path = route.split(" ")

        def ask(name: str) -> Any:
            options = {"json": {"sessionId": name}} if path == "/finalize-session" else {}
            return bob.api.request(method, path.replace("{id}", name), caller=bob.caller, **options)

        hers, nobodys = ask("weather"), ask("unknown")

        refused(hers, 404, "session_not_found")
        assert without_particulars(hers) == without_particulars(nobodys)
        assert people.snapshot() == before

    @pytest.mark.parametrize("form", ["json", "legacy"])
    def test_nobody_uploads_into_a_session_of_somebody_else(self, desk, bob, people, form):
        before = people.snapshot()

        def ask(name: str) -> Any:
            if form == "json":
                return bob.post("/uploads", {"sessionId": name, "fileName": "a.csv", "size": 1})
            metadata = {"sessionId": name, "fileName": "a.csv", "chunkIndex": 0, "totalChunks": 1}
            return bob.post("/upload-chunk", metadata)

        hers, nobodys = ask("weather"), ask("unknown")

        refused(hers, 404, "session_not_found")
        assert without_particulars(hers) == without_particulars(nobodys)
        assert people.snapshot() == before

    @pytest.mark.parametrize(
        "route",
        [
            "GET /uploads/{id}",
            "POST /uploads/{id}/chunks",
            "POST /uploads/{id}/assemble",
            "POST /uploads/{id}/abort",
            "DELETE /uploads/{id}",
        ],
    )
    def test_an_upload_of_somebody_else_is_answered_as_one_that_does_not_exist(self, desk, bob, people, route):
        before = people.snapshot()
        method, path = route.split(" ")

        def ask(upload_id: str) -> Any:
            options = {"json": {"chunks": [{"index": 0}]}} if path.endswith("/chunks") else {}
            return bob.api.request(method, path.replace("{id}", upload_id), caller=bob.caller, **options)

        hers = ask(desk.upload["uploadId"])

        refused(hers, 404, "upload_not_found")
        for unknown in (str(uuid.uuid4()), "no-uuid", "..", "%2e%2e", "a" * 3000, "%00", "%ff", "'%20or%201=1"):
            assert without_particulars(ask(unknown)) == without_particulars(hers), unknown
        assert people.snapshot() == before

    @pytest.mark.parametrize("name", ["..", "a%20b", "%2e%2e%2f", "%00", "%ff", "a" * 3000, "größe", "eq.1", "*"])
    def test_a_name_that_no_session_can_have_is_the_name_of_none(self, alice, api, name):
        for method, path in (("GET", f"/session/{name}"), ("POST", f"/session/{name}/delete")):
            answer = api.request(method, path, caller=alice.caller)
            assert answer.status_code == 404, answer.text
            assert answer.json["code"] in {"session_not_found", "not_found"}


class TestTokens:
    @pytest.mark.parametrize("route", ALL_ROUTES)
    def test_without_a_token_nobody_gets_in(self, desk, route):
        before = desk.snapshot()

        answer = desk.send(route, is_anonymous=True)

        refused(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert desk.snapshot() == before

    @pytest.mark.parametrize("route", ALL_ROUTES)
    def test_with_a_bad_token_nobody_gets_in(self, desk, local_stack, route):
        keys = local_stack.keys
        if route == "POST /cleanup":
            claims = decoded(keys.oidc_token(SCHEDULER_EMAIL))
            mint = Mint(keys._google, _key_id(keys._google))
        else:
            claims = user_claims(desk.alice.caller.user_id, local_stack.issuer)
            mint = Mint(keys._supabase, _key_id(keys._supabase))
        before = desk.snapshot()
        # The mint's own token is believed: what is refused is refused for its fault alone.
        harmless = ("POST /cleanup", {"json": {"dryRun": True}}) if "email" in claims else ("GET /list-sessions", {})
        assert desk.send(harmless[0], token=mint.sign(claims), **harmless[1]).status_code == 200

        for fault, token in bad_tokens(mint, claims).items():
            answer = desk.send(route, token=token)
            assert answer.status_code == 401, (fault, answer.text)
            refused(answer, 401, "unauthenticated")
        assert desk.snapshot() == before

    @pytest.mark.parametrize("route", [route for route in ALL_ROUTES if route != "POST /cleanup"])
    def test_a_machines_token_opens_no_route_of_users(self, desk, local_stack, route):
        before = desk.snapshot()

        for token in (
            local_stack.scheduler_token(),
            local_stack.tasks_token(),
            local_stack.keys.role_token("service_role"),
            local_stack.keys.role_token("anon"),
            local_stack.supabase.service_key,
            local_stack.supabase.publishable_key,
        ):
            refused(desk.send(route, token=token), 401, "unauthenticated")
        assert desk.snapshot() == before

    @pytest.mark.parametrize("route", [route for route in ALL_ROUTES if route != "GET /list-sessions"])
    def test_the_service_key_opens_only_the_list_of_sessions(self, desk, local_stack, route):
        headers = {"apikey": local_stack.supabase.service_key}

        refused(desk.send(route, is_anonymous=True, headers=headers), 401, "unauthenticated")


def decoded(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


class TestMethods:
    @pytest.mark.parametrize("route", ALL_ROUTES)
    def test_another_method_is_refused_with_those_that_the_path_takes(self, desk, route):
        path = route.split(" ")[1]
        function = next(f for f in functions().values() for r in f.routes if f"{r.method} {r.pattern}" == route)
        allowed = [r.method for r in function.routes if r.pattern == path]
        before = desk.snapshot()

        for method in {"PUT", "PATCH"} - set(allowed):
            answer = desk.send(f"{method} {path}")
            refused(answer, 405, "method_not_allowed")
            assert set(answer.headers["Allow"].split(", ")) >= {"OPTIONS"}
        assert desk.snapshot() == before

    @pytest.mark.parametrize("path", ["/list-sessions", "/session/weather", "/uploads/{open}"])
    def test_a_head_request_is_a_get_without_its_body(self, desk, path):
        full, head = desk.send(f"GET {path}"), desk.send(f"HEAD {path}")

        assert (head.status_code, head.data) == (200, b"")
        assert head.content_type == full.content_type

    @pytest.mark.parametrize("route", ALL_ROUTES)
    def test_a_page_of_the_console_may_ask_and_no_other(self, desk, local_stack, route):
        method, path = route.split(" ")
        known = local_stack.functions_env["ALLOWED_ORIGINS"].split(",")[0]

        def preflight(origin: str) -> Any:
            headers = {"Origin": origin, "Access-Control-Request-Method": method}
            return desk.send(f"OPTIONS {path}", is_anonymous=True, headers=headers)

        ours, theirs = preflight(known), preflight("https://evil.example")

        assert ours.status_code == 204
        assert ours.headers["Access-Control-Allow-Origin"] == known
        assert method in ours.headers["Access-Control-Allow-Methods"].split(", ")
        assert "authorization" in ours.headers["Access-Control-Allow-Headers"].lower()
        assert "Access-Control-Allow-Origin" not in theirs.headers

    def test_an_error_may_be_read_by_a_page_of_the_console(self, desk, local_stack):
        known = local_stack.functions_env["ALLOWED_ORIGINS"].split(",")[0]

        answer = desk.send("GET /list-sessions", is_anonymous=True, headers={"Origin": known})

        assert answer.headers["Access-Control-Allow-Origin"] == known
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


def test_every_route_of_sessions_and_uploads_with_a_body_is_in_the_matrix():
    reading = {route for route in ALL_ROUTES if route.startswith("POST")} - {"POST /session/{session_id}/delete"}

    assert {route.replace("{upload_id}", "{open}") for route in reading} == set(BODIES)
