"""What every `SessionRepository` does, in memory and on Supabase."""

from datetime import UTC, datetime

import pytest

from shared.errors import (
    SessionBusyError,
    SessionNotFoundError,
    UploadNotFoundError,
    UploadsUnfinishedError,
)
from shared.records.callers import Caller
from shared.records.sessions import PageKey, SessionStatus
from shared.records.uploads import AssembledObject, Upload
from tests.contract.conftest import Backend
from tests.factories import a_new_upload, a_uuid


def opened(backend: Backend, caller: Caller, name: str = "hours.bin", **fields) -> Upload:
    upload, _ = backend.uploads.create(caller.user_id, a_new_upload(file_name=name, **fields))
    return upload


def assembled(backend: Backend, caller: Caller, name: str = "hours.csv", n_rows: int | None = 3, **fields) -> Upload:
    """Take an upload all the way."""
    upload, token = opened(backend, caller, name, **fields), a_uuid()
    backend.uploads.claim(caller.user_id, upload.id, token, 60)
    result = AssembledObject(f"datasets/{upload.id}/{name}", 7, 10, "AAAAAA==", "ab" * 32, n_rows)
    return backend.uploads.record(caller.user_id, upload.id, token, result)


class TestInit:
    def test_a_new_session_has_a_uuid_and_its_metadata(self, backend):
        alice = backend.user()
        metadata = {"source": "größe 😀", "numbers": [1, -2.5, None, True], "deep": {"a": {}}}

        session = backend.sessions.init(alice.user_id, "weather", metadata)

        assert (session.session_id, session.owner, session.status) == ("weather", alice.user_id, "initialized")
        assert (session.metadata, session.n_dat) == (metadata, None)
        assert session.created_at == session.updated_at
        assert session.created_at.tzinfo is not None
        assert len(session.id) == 36

    def test_repeating_it_returns_the_first_one_unchanged(self, backend):
        alice = backend.user()
        first = backend.sessions.init(alice.user_id, "weather", {"a": 1})

        assert backend.sessions.init(alice.user_id, "weather", {"a": 2}) == first

    def test_names_belong_to_their_owner(self, backend):
        alice, bob = backend.user(), backend.user()

        sessions = [backend.sessions.init(caller.user_id, "weather", {}) for caller in (alice, bob)]

        assert sessions[0].id != sessions[1].id

    @pytest.mark.parametrize("name", ["a", "A.b_c~d:e@f-1", "a" * 128, "..a"])
    def test_every_allowed_name_is_found_again(self, backend, name):
        alice = backend.user()

        session = backend.sessions.init(alice.user_id, name, {})

        assert backend.sessions.get(alice, name) == session

    def test_names_differ_by_case(self, backend):
        alice = backend.user()

        assert backend.sessions.init(alice.user_id, "a", {}).id != backend.sessions.init(alice.user_id, "A", {}).id


class TestGet:
    def test_an_unknown_name_is_not_found(self, backend):
        with pytest.raises(SessionNotFoundError):
            backend.sessions.get(backend.user(), "weather")

    def test_somebody_elses_session_is_not_found(self, backend):
        backend.sessions.init(backend.user().user_id, "weather", {})

        with pytest.raises(SessionNotFoundError):
            backend.sessions.get(backend.user(), "weather")


class TestPage:
    def test_sessions_come_newest_first(self, backend):
        alice = backend.user()
        made = [backend.sessions.init(alice.user_id, name, {}) for name in "abc"]

        assert backend.sessions.page(alice, limit=10) == made[::-1]

    def test_a_page_ends_at_its_limit_and_the_next_begins_after_its_last(self, backend):
        alice = backend.user()
        made = [backend.sessions.init(alice.user_id, name, {}) for name in "abcde"]

        first = backend.sessions.page(alice, limit=2)
        second = backend.sessions.page(alice, limit=2, after=PageKey(first[-1].created_at, first[-1].id))
        third = backend.sessions.page(alice, limit=2, after=PageKey(second[-1].created_at, second[-1].id))

        assert [*first, *second, *third] == made[::-1]

    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ("", ["e", "d", "c", "boiler-2", "boiler-1"]),
            ("BOILER", ["boiler-2", "boiler-1"]),
            ("r-1", ["boiler-1"]),
            ("100% of", ["c"]),
            ("%", ["c"]),
            ("0_0", []),
            ("a*b", ["d"]),
            ("*", ["d"]),
            ('"x", (y) \\ {z}', ["d"]),
            ("größe 😀", ["e"]),
            ("r.1", []),
            ("title", []),
        ],
    )
    def test_a_search_finds_what_ids_and_titles_have_in_them_as_it_stands(self, backend, search, found):
        alice, bob = backend.user(), backend.user()
        titles = {"boiler-1": {}, "boiler-2": {"title": None}, "c": {"title": "100% of all"}}
        titles |= {"d": {"title": 'a*b "x", (y) \\ {z}'}, "e": {"title": "größe 😀", "note": "boiler"}}
        for name, metadata in titles.items():
            backend.sessions.init(alice.user_id, name, metadata)
        backend.sessions.init(bob.user_id, "boiler-3", {})

        assert [session.session_id for session in backend.sessions.page(alice, limit=10, search=search)] == found

    def test_pages_of_a_search_go_on_behind_each_other(self, backend):
        alice = backend.user()
        for name in ("a1", "b1", "a2", "b2", "a3"):
            backend.sessions.init(alice.user_id, name, {})

        first = backend.sessions.page(alice, limit=2, search="a")
        second = backend.sessions.page(alice, limit=2, after=PageKey(first[-1].created_at, first[-1].id), search="a")

        assert [session.session_id for session in [*first, *second]] == ["a3", "a2", "a1"]

    @pytest.mark.parametrize(("year", "n_found"), [(1, 0), (9999, 2)])
    def test_a_page_may_follow_any_moment(self, backend, year, n_found):
        alice = backend.user()
        for name in "ab":
            backend.sessions.init(alice.user_id, name, {})

        after = PageKey(datetime(year, 6, 1, tzinfo=UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff")

        assert len(backend.sessions.page(alice, limit=10, after=after)) == n_found

    def test_nobody_sees_somebody_elses(self, backend):
        alice, bob = backend.user(), backend.user()
        backend.sessions.init(alice.user_id, "weather", {})

        assert backend.sessions.page(bob, limit=10) == []
        assert backend.sessions.page(bob, limit=10, user_id=alice.user_id) == []

    def test_a_service_sees_everybodys_and_may_ask_for_one_users(self, backend):
        alice, bob = backend.user(), backend.user()
        of_alice = backend.sessions.init(alice.user_id, "a", {})
        of_bob = backend.sessions.init(bob.user_id, "b", {})

        everybodys = backend.sessions.page(backend.service(), limit=2)

        assert everybodys == [of_bob, of_alice]
        assert backend.sessions.page(backend.service(), limit=2, user_id=alice.user_id) == [of_alice]

    def test_a_session_that_is_being_deleted_is_not_listed_for_anybody(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})
        backend.sessions.begin_delete(alice.user_id, "weather")

        assert backend.sessions.page(alice, limit=10) == []
        assert backend.sessions.page(backend.service(), limit=10, user_id=alice.user_id) == []


class TestFinalize:
    def test_the_rows_of_assembled_uploads_are_summed_up(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})
        assembled(backend, alice, "a.csv", 3)
        assembled(backend, alice, "b.csv", 5)
        assembled(backend, alice, "notes.bin", None)

        session = backend.sessions.finalize(alice.user_id, "weather")

        assert (session.status, session.n_dat) == (SessionStatus.FINALIZED, 8)
        assert backend.sessions.get(alice, "weather") == session

    def test_a_session_without_uploads_has_no_rows(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})

        assert backend.sessions.finalize(alice.user_id, "weather").n_dat == 0

    def test_repeating_it_changes_nothing(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})
        first = backend.sessions.finalize(alice.user_id, "weather")

        assert backend.sessions.finalize(alice.user_id, "weather") == first

    def test_unfinished_uploads_are_named_oldest_first_and_the_session_stays_open(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})
        is_open = opened(backend, alice, "open.bin")
        claimed, token = opened(backend, alice, "claimed.bin"), a_uuid()
        backend.uploads.claim(alice.user_id, claimed.id, token, 60)
        failed, other = opened(backend, alice, "failed.csv"), a_uuid()
        backend.uploads.claim(alice.user_id, failed.id, other, 60)
        backend.uploads.fail(alice.user_id, failed.id, other, {"code": "data_set_invalid"})
        assembled(backend, alice)

        with pytest.raises(UploadsUnfinishedError) as caught:
            backend.sessions.finalize(alice.user_id, "weather")

        assert caught.value.details["uploads"] == [
            {"uploadId": is_open.id, "fileName": "open.bin", "state": "open"},
            {"uploadId": claimed.id, "fileName": "claimed.bin", "state": "assembling"},
            {"uploadId": failed.id, "fileName": "failed.csv", "state": "failed"},
        ]
        assert backend.sessions.get(alice, "weather").status is SessionStatus.UPLOADING

    def test_a_failed_upload_is_settled_by_another_of_its_name_or_by_giving_it_up(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})
        for name in ("replaced.csv", "given-up.csv"):
            upload, token = opened(backend, alice, name), a_uuid()
            backend.uploads.claim(alice.user_id, upload.id, token, 60)
            backend.uploads.fail(alice.user_id, upload.id, token, {"code": "data_set_invalid"})
        assembled(backend, alice, "replaced.csv", 4)
        backend.uploads.abort(alice.user_id, upload.id)

        assert backend.sessions.finalize(alice.user_id, "weather").n_dat == 4

    def test_an_unknown_session_or_somebody_elses_is_not_found(self, backend):
        alice, bob = backend.user(), backend.user()
        backend.sessions.init(alice.user_id, "weather", {})

        for owner, name in ((bob.user_id, "weather"), (alice.user_id, "other")):
            with pytest.raises(SessionNotFoundError):
                backend.sessions.finalize(owner, name)


class TestDelete:
    def test_a_session_that_is_being_deleted_is_hidden_with_its_uploads(self, backend):
        alice = backend.user()
        session = backend.sessions.init(alice.user_id, "weather", {})
        uploads = [opened(backend, alice, "open.bin"), assembled(backend, alice)]

        session_uuid, upload_ids = backend.sessions.begin_delete(alice.user_id, "weather")

        assert session_uuid == session.id
        assert upload_ids == [upload.id for upload in uploads]
        with pytest.raises(SessionNotFoundError):
            backend.uploads.of_session(alice, "weather")
        with pytest.raises(SessionNotFoundError):
            backend.sessions.get(alice, "weather")
        with pytest.raises(SessionNotFoundError):
            backend.sessions.finalize(alice.user_id, "weather")
        with pytest.raises(SessionNotFoundError):
            opened(backend, alice, "new.bin")
        for upload_id in upload_ids:
            with pytest.raises(UploadNotFoundError):
                backend.uploads.get(alice, upload_id)

    def test_its_name_is_busy_until_it_is_gone(self, backend):
        alice = backend.user()
        old = backend.sessions.init(alice.user_id, "weather", {})
        backend.sessions.begin_delete(alice.user_id, "weather")

        with pytest.raises(SessionBusyError) as caught:
            backend.sessions.init(alice.user_id, "weather", {})
        assert caught.value.retry_after_s
        backend.sessions.finish_delete(alice.user_id, old.id)

        assert backend.sessions.init(alice.user_id, "weather", {}).id != old.id

    def test_it_may_be_begun_again(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})
        opened(backend, alice)

        first = backend.sessions.begin_delete(alice.user_id, "weather")

        assert backend.sessions.begin_delete(alice.user_id, "weather") == first

    def test_finishing_it_counts_the_rows_and_frees_the_bytes(self, backend):
        alice = backend.user()
        session = backend.sessions.init(alice.user_id, "weather", {})
        opened(backend, alice, "open.bin")
        assembled(backend, alice)
        assert backend.usage(alice) == (2, 20)
        backend.sessions.begin_delete(alice.user_id, "weather")

        counts = backend.sessions.finish_delete(alice.user_id, session.id)

        others = ("training_results", "models", "scalers", "visualizations", "evaluation_tables")
        assert counts == {"sessions": 1, "uploads": 2, **dict.fromkeys(others, 0)}
        # A file that was assembled was processed; one that was not was not.
        assert backend.usage(alice) == (1, 0)

    def test_finishing_it_twice_or_before_it_was_begun_is_not_found(self, backend):
        alice, bob = backend.user(), backend.user()
        session = backend.sessions.init(alice.user_id, "weather", {})
        with pytest.raises(SessionNotFoundError):
            backend.sessions.finish_delete(alice.user_id, session.id)
        backend.sessions.begin_delete(alice.user_id, "weather")
        with pytest.raises(SessionNotFoundError):
            backend.sessions.finish_delete(bob.user_id, session.id)
        backend.sessions.finish_delete(alice.user_id, session.id)

        with pytest.raises(SessionNotFoundError):
            backend.sessions.finish_delete(alice.user_id, session.id)
        with pytest.raises(SessionNotFoundError):
            backend.sessions.begin_delete(alice.user_id, "weather")

    def test_a_session_whose_upload_is_being_assembled_is_busy(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})
        first, upload = opened(backend, alice, "first.bin"), opened(backend, alice)
        backend.uploads.claim(alice.user_id, upload.id, a_uuid(), 60)

        with pytest.raises(SessionBusyError):
            backend.sessions.begin_delete(alice.user_id, "weather")

        assert backend.uploads.get(alice, first.id).state == "open"
        assert backend.usage(alice) == (2, 20)

    def test_a_lease_that_ran_out_does_not_keep_a_session(self, backend):
        alice = backend.user()
        backend.sessions.init(alice.user_id, "weather", {})
        backend.uploads.claim(alice.user_id, opened(backend, alice).id, a_uuid(), 0)

        backend.sessions.begin_delete(alice.user_id, "weather")

        assert backend.usage(alice) == (0, 0)

    def test_somebody_elses_session_is_not_found(self, backend):
        alice, bob = backend.user(), backend.user()
        backend.sessions.init(alice.user_id, "weather", {})

        with pytest.raises(SessionNotFoundError):
            backend.sessions.begin_delete(bob.user_id, "weather")


class TestUnfinishedDeletions:
    def test_a_deletion_that_was_begun_long_ago_is_listed_until_it_is_finished(self, backend):
        alice = backend.user()
        session = backend.sessions.init(alice.user_id, "weather", {})
        backend.sessions.begin_delete(alice.user_id, "weather")
        assert (alice.user_id, "weather") not in backend.sessions.unfinished_deletions(max_age_hours=24, limit=1000)
        backend.make_deletion_older(session.id, hours=1.1)

        listed = backend.sessions.unfinished_deletions(max_age_hours=24, limit=1000)
        backend.sessions.finish_delete(alice.user_id, session.id)

        assert (alice.user_id, "weather") in listed
        assert (alice.user_id, "weather") not in backend.sessions.unfinished_deletions(max_age_hours=24, limit=1000)

    def test_the_oldest_come_first_and_no_more_than_asked_for(self, backend):
        alice = backend.user()
        for name, years in (("newer", 10), ("older", 20)):
            session = backend.sessions.init(alice.user_id, name, {})
            backend.sessions.begin_delete(alice.user_id, name)
            backend.make_deletion_older(session.id, days=365 * years)

        assert backend.sessions.unfinished_deletions(max_age_hours=24, limit=1) == [(alice.user_id, "older")]
