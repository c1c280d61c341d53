import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    InvalidFieldError,
    InvalidPageTokenError,
    SessionNotFoundError,
)
from shared.records.callers import CallerKind
from tests.factories import ALICE, BOB, Bench, a_caller, a_uuid
from tests.fakes.sessions import InMemorySessions


@pytest.fixture
def bench() -> Bench:
    return Bench()


def token_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class TestInit:
    def test_a_session_begins_initialized_without_rows(self, bench):
        session = bench.session_service().init(ALICE, "weather", {"source": "nyc"})

        assert (session.session_id, session.status, session.n_dat) == ("weather", "initialized", None)
        assert session.metadata == {"source": "nyc"}

    def test_repeating_it_gives_the_same_session_with_the_first_metadata(self, bench):
        first = bench.session_service().init(ALICE, "weather", {"source": "nyc"})

        assert bench.session_service().init(ALICE, "weather", {"source": "other"}) == first

    def test_two_users_may_use_the_same_name(self, bench):
        alices = bench.session_service().init(ALICE, "weather", None)
        bobs = bench.session_service().init(BOB, "weather", None)

        assert alices.id != bobs.id

    @pytest.mark.parametrize("name", [None, 5, "", "../x", "/etc/passwd", "a" * 129, "a\x00", ["weather"]])
    def test_a_name_that_is_not_allowed_is_refused(self, bench, name):
        with pytest.raises(InvalidFieldError, match=r"^sessionId"):
            bench.session_service().init(ALICE, name, None)
        assert bench.database.sessions == {}

    @pytest.mark.parametrize(
        "metadata",
        [
            [],
            "text",
            5,
            True,
            {"text": "x" * 16_384},
            {"text": "NUL \0"},
            {"NUL \0": 1},
            {"text": "half a pair \ud800"},
            {"\udc00": 1},
            {"number": float("inf")},
            {"numbers": [1, {"deep": float("nan")}]},
        ],
    )
    def test_metadata_that_the_database_cannot_keep_are_refused(self, bench, metadata):
        with pytest.raises(InvalidFieldError, match=r"^metadata"):
            bench.session_service().init(ALICE, "weather", metadata)
        assert bench.database.sessions == {}

    @pytest.mark.parametrize(("n_levels", "is_taken"), [(64, True), (65, False), (5000, False)])
    def test_metadata_may_have_64_levels(self, bench, n_levels, is_taken):
        metadata: dict[str, object] = {}
        for _ in range(n_levels - 1):
            metadata = {"x": metadata}

        if is_taken:
            assert bench.session_service().init(ALICE, "weather", metadata).metadata == metadata
        else:
            with pytest.raises(InvalidFieldError, match="64 levels"):
                bench.session_service().init(ALICE, "weather", metadata)

    @pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "😀", "größe", "\\\\u0000"])
    def test_text_that_only_looks_dangerous_is_kept(self, bench, text):
        assert bench.session_service().init(ALICE, "weather", {"text": text}).metadata == {"text": text}


class TestGet:
    def test_a_session_comes_with_its_uploads_oldest_first(self, bench):
        for name in ("hours.csv", "open.bin"):
            bench.open_upload(b"0123456789", fileName=name)

        session, uploads = bench.session_service().get(a_caller(), "weather")

        assert session.status == "uploading"
        assert [upload.file_name for upload in uploads] == ["hours.csv", "open.bin"]

    @pytest.mark.parametrize("name", ["unknown", "..", "a b", "", "a" * 500])
    def test_a_name_of_no_session_is_not_found(self, bench, name):
        with pytest.raises(SessionNotFoundError):
            bench.session_service().get(a_caller(), name)

    def test_a_session_of_somebody_else_is_none(self, bench):
        bench.open_session()

        with pytest.raises(SessionNotFoundError):
            bench.session_service().get(a_caller(BOB), "weather")


class TestPage:
    def page(self, bench, caller=None, *, limit=50, page_token="", user_id=None):
        return bench.session_service().page(caller or a_caller(), limit=limit, page_token=page_token, user_id=user_id)

    @given(n_sessions=st.integers(0, 12), limit=st.integers(1, 13))
    def test_following_the_tokens_shows_every_session_once_newest_first(self, n_sessions, limit):
        bench = Bench()
        created = [bench.open_session(f"session-{number}") for number in range(n_sessions)]
        bench.open_session(owner=BOB)

        seen, token = [], ""
        while True:
            page = self.page(bench, limit=limit, page_token=token)
            assert len(page.sessions) <= limit
            seen += page.sessions
            token = page.next_page_token
            if not token:
                break

        assert seen == created[::-1]

    def test_sessions_of_the_same_instant_are_all_shown(self, bench):
        for number in range(5):
            bench.open_session(f"session-{number}")
        now = bench.database.now
        for row in bench.database.sessions.values():
            object.__setattr__(row.record, "created_at", now)

        first = self.page(bench, limit=2)
        second = self.page(bench, limit=2, page_token=first.next_page_token)
        third = self.page(bench, limit=2, page_token=second.next_page_token)

        names = {session.session_id for page in (first, second, third) for session in page.sessions}
        assert names == {f"session-{number}" for number in range(5)}
        assert third.next_page_token == ""

    def test_sessions_made_meanwhile_do_not_shift_the_pages(self, bench):
        for number in range(4):
            bench.open_session(f"session-{number}")
        first = self.page(bench, limit=2)
        bench.open_session("newer")

        second = self.page(bench, limit=2, page_token=first.next_page_token)

        assert [session.session_id for session in second.sessions] == ["session-1", "session-0"]

    @pytest.mark.parametrize("limit", [0, -1, -(10**18)])
    def test_a_limit_below_one_is_refused(self, bench, limit):
        with pytest.raises(InvalidFieldError, match=r"^limit"):
            self.page(bench, limit=limit)

    def test_a_limit_of_a_million_gives_the_largest_page(self, bench):
        for number in range(201):
            bench.open_session(f"session-{number}")

        page = self.page(bench, limit=1_000_000)

        assert len(page.sessions) == 200
        assert page.next_page_token

    @pytest.mark.parametrize(
        "token",
        [
            "x",
            "%",
            "é",
            "AAAA",
            " ",
            "a" * 5000,
            token_of([]),
            token_of({}),
            token_of(5),
            token_of("text"),
            token_of(None),
            token_of(["2026-01-01T00:00:00+00:00"]),
            token_of(["2026-01-01T00:00:00+00:00", 5]),
            token_of(["2026-01-01T00:00:00+00:00", None]),
            token_of(["2026-01-01T00:00:00+00:00", "no-uuid"]),
            token_of(["2026-01-01T00:00:00+00:00", "0b2ff2c6-6b4c-4a0e-9d0d-abcdef012345", 1]),
            token_of(["2026-01-01T00:00:00", "0b2ff2c6-6b4c-4a0e-9d0d-abcdef012345"]),
            token_of(["yesterday", "0b2ff2c6-6b4c-4a0e-9d0d-abcdef012345"]),
            token_of([0, "0b2ff2c6-6b4c-4a0e-9d0d-abcdef012345"]),
            token_of({"2026-01-01T00:00:00+00:00": 1, "0b2ff2c6-6b4c-4a0e-9d0d-abcdef012345": 2})[:-3],
            token_of(['2026-01-01T00:00:00+00:00",or=(x)', "0b2ff2c6-6b4c-4a0e-9d0d-abcdef012345"]),
            base64.urlsafe_b64encode(b"[" * 100_000).decode(),
            base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        ],
    )
    def test_a_token_that_this_service_has_not_made_is_refused(self, bench, token):
        with pytest.raises(InvalidPageTokenError):
            self.page(bench, page_token=token)

    @given(
        token=st.text(min_size=1, max_size=60)
        | st.binary(min_size=1).map(lambda b: base64.urlsafe_b64encode(b).decode())
    )
    def test_any_text_is_a_token_or_refused_as_none(self, token):
        with suppress(InvalidPageTokenError):
            self.page(Bench(), page_token=token)

    @pytest.mark.parametrize(
        "moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00+23:59:59.999999"]
    )
    def test_a_forged_moment_is_refused_or_safe_for_the_database(self, bench, moment):
        """Postgres takes no time zone beyond 15:59 h."""
        kept = []

        class Spy(InMemorySessions):
            def page(self, *_args, after, **_options):
                kept.append(after.created_at)
                return []

        token = token_of([moment, a_uuid()])
        with suppress(InvalidPageTokenError):
            bench.session_service(sessions=Spy(bench.database)).page(
                a_caller(), limit=1, page_token=token, user_id=None
            )
        assert all(abs(at.utcoffset()) < timedelta(hours=15) for at in kept)

    def test_a_token_holds_the_moment_to_the_microsecond(self, bench):
        bench.database.now = datetime(2026, 1, 10, 0, 0, 0, 123456, tzinfo=UTC)
        for number in range(3):
            bench.open_session(f"session-{number}")

        second = self.page(bench, limit=1, page_token=self.page(bench, limit=1).next_page_token)

        assert [session.session_id for session in second.sessions] == ["session-1"]

    def test_a_service_sees_everybody_or_one_user(self, bench):
        bench.open_session(owner=ALICE)
        bench.open_session(owner=BOB)
        service = a_caller(kind=CallerKind.SERVICE)

        assert {session.owner for session in self.page(bench, service).sessions} == {ALICE, BOB}
        assert {session.owner for session in self.page(bench, service, user_id=BOB).sessions} == {BOB}

    def test_a_user_may_name_only_himself(self, bench):
        bench.open_session()

        assert len(self.page(bench, user_id=ALICE).sessions) == 1
        with pytest.raises(InvalidFieldError, match=r"^user_id"):
            self.page(bench, user_id=BOB)

    @pytest.mark.parametrize("user_id", ["", "x", "eq.1", "0" * 36])
    def test_a_user_id_that_is_none_is_refused(self, bench, user_id):
        with pytest.raises(InvalidFieldError, match=r"^user_id"):
            self.page(bench, a_caller(kind=CallerKind.SERVICE), user_id=user_id)
