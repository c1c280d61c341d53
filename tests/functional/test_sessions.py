import uuid
from typing import Any

import pytest

from shared.publication import results_prefix
from shared.records.objects import models_prefix
from tests.functional.conftest import done, refused

TABLE = b"a,b\n1,2\n3,4\n"


class TestInitSession:
    def test_a_session_is_answered_with_the_old_fields(self, alice):
        data = done(alice.post("/init-session", {"sessionId": "weather", "metadata": {"größe": [1, None]}}))

        assert set(data) == {"session_id", "uuid", "status", "created_at", "metadata"}
        assert (data["session_id"], data["status"]) == ("weather", "initialized")
        assert data["metadata"] == {"größe": [1, None]}
        assert uuid.UUID(data["uuid"])

    def test_repeating_it_returns_the_same_session(self, alice):
        first = done(alice.post("/init-session", {"sessionId": "weather", "metadata": {"a": 1}}))

        assert done(alice.post("/init-session", {"sessionId": "weather", "metadata": {"a": 2}})) == first

    def test_it_is_answered_below_the_base_path_as_well(self, alice):
        first = done(alice.post("/init-session", {"sessionId": "weather"}))

        assert done(alice.post("/api/training/init-session", {"sessionId": "weather"})) == first

    def test_while_a_session_is_being_deleted_its_name_is_busy(self, alice, local_stack):
        alice.init()
        local_stack.rows("update public.sessions set deleting_at = now() where user_id = %s", alice.caller.user_id)

        answer = alice.post("/init-session", {"sessionId": "weather"})

        refused(answer, 409, "session_busy")
        assert answer.json["retryable"] is True
        assert answer.headers["Retry-After"] == "5"


class TestListSessions:
    def test_sessions_come_newest_first_with_the_old_fields(self, alice):
        for name in ("a", "b"):
            alice.init(name)

        data = done(alice.get("/list-sessions"))

        assert set(data) == {"sessions", "count", "next_page_token"}
        assert [session["session_id"] for session in data["sessions"]] == ["b", "a"]
        assert set(data["sessions"][0]) == {"id", "session_id", "status", "created_at", "n_dat", "metadata"}
        assert (data["count"], data["next_page_token"]) == (2, "")

    @pytest.mark.parametrize("limit", [1, 2, 3, 4])
    def test_the_tokens_lead_through_all_pages(self, alice, limit):
        for name in "abcde":
            alice.init(name)

        seen, token = [], ""
        while True:
            data = done(alice.get("/list-sessions", query_string={"limit": limit, "page_token": token}))
            seen += [session["session_id"] for session in data["sessions"]]
            token = data["next_page_token"]
            if not token:
                break

        assert seen == list("edcba")

    def test_a_limit_of_a_million_is_taken_as_the_largest_page(self, alice, local_stack):
        local_stack.rows(
            "insert into public.sessions (user_id, session_id) select %s, 's' || n from generate_series(1, 201) as n",
            alice.caller.user_id,
        )

        data = done(alice.get("/list-sessions?limit=1000000"))

        assert data["count"] == 200
        assert data["next_page_token"]

    def test_a_user_who_has_none_sees_none(self, alice, bob):
        alice.init()

        assert done(bob.get("/list-sessions")) == {"sessions": [], "count": 0, "next_page_token": ""}

    def test_a_user_may_name_herself_and_nobody_else(self, alice, bob):
        alice.init()

        assert done(alice.get(f"/list-sessions?user_id={alice.caller.user_id}"))["count"] == 1
        details = refused(bob.get(f"/list-sessions?user_id={alice.caller.user_id}"), 422, "invalid_field")
        assert details == {"field": "user_id"}

    def test_the_products_backend_may_ask_for_any_user(self, alice, bob, api, local_stack):
        alice.init("of-alice")
        bob.init("of-bob")
        headers = {"apikey": local_stack.supabase.service_key}

        ours = done(api.get(f"/list-sessions?user_id={alice.caller.user_id}", headers=headers))
        everybodys = done(api.get("/list-sessions?limit=2", headers=headers))

        assert [session["session_id"] for session in ours["sessions"]] == ["of-alice"]
        assert {session["session_id"] for session in everybodys["sessions"]} == {"of-alice", "of-bob"}

    def test_a_search_finds_ids_and_titles_and_nobody_elses(self, alice, bob):
        alice.init("boiler-1")
        done(alice.post("/init-session", {"sessionId": "b2", "metadata": {"title": "The Boiler"}}))
        alice.init("other")
        bob.init("boiler-3")

        found = done(alice.get("/list-sessions?search=BOILER&limit=1"))
        rest = done(alice.get(f"/list-sessions?search=BOILER&page_token={found['next_page_token']}"))

        assert [session["session_id"] for session in [*found["sessions"], *rest["sessions"]]] == ["b2", "boiler-1"]
        assert rest["next_page_token"] == ""

    @pytest.mark.parametrize("search", ["x" * 201, "a%00b"])
    def test_a_search_that_nothing_can_have_in_it_is_refused(self, alice, search):
        assert refused(alice.get(f"/list-sessions?search={search}"), 422, "invalid_field") == {"field": "search"}

    def test_the_products_backend_searches_one_users_sessions(self, alice, api, local_stack):
        alice.init("boiler-1")
        headers = {"apikey": local_stack.supabase.service_key}

        found = done(api.get(f"/list-sessions?search=boil&user_id={alice.caller.user_id}", headers=headers))
        details = refused(api.get("/list-sessions?search=boil", headers=headers), 422, "invalid_field")

        assert found["count"] == 1
        assert details == {"field": "user_id"}

    def test_an_empty_page_token_begins_at_the_beginning(self, alice):
        alice.init()

        assert done(alice.get("/list-sessions?page_token="))["count"] == 1


class TestGetSession:
    def test_a_session_shows_its_files_and_its_uploads(self, alice):
        made = alice.assembled(TABLE, fileName="größe.csv", contentType="text/csv")
        is_open = alice.create(5, fileName="open.bin")

        data = done(alice.get("/session/weather"))

        assert data["status"] == "uploading"
        assert {"id", "created_at", "updated_at", "n_dat", "metadata"} <= set(data)
        [file] = data["files"]
        assert (file["name"], file["size"], file["n_rows"], file["sha256"]) == ("größe.csv", 12, 2, made["sha256"])
        assert file["modified"]
        assert data["total_files"] == 1
        assert [(one["uploadId"], one["state"]) for one in data["uploads"]] == [
            (made["uploadId"], "assembled"),
            (is_open["uploadId"], "open"),
        ]

    def test_a_failed_upload_says_why(self, alice):
        upload = alice.uploaded(b"a,b\n1,2,3\n4,5,6,7\n")
        alice.post(f"/uploads/{upload['uploadId']}/assemble")

        [shown] = done(alice.get("/session/weather"))["uploads"]

        assert shown["state"] == "failed"
        assert shown["failure"]["code"] == "data_set_invalid"

    def test_a_session_without_uploads_has_no_files(self, alice):
        alice.init()

        data = done(alice.get("/session/weather"))

        assert (data["files"], data["uploads"], data["total_files"]) == ([], [], 0)

    @pytest.mark.parametrize("name", ["A.b_c~d:e@f-1", "a" * 128])
    def test_every_allowed_name_has_an_address(self, alice, name):
        alice.init(name)

        assert done(alice.get(f"/session/{name}"))["session_id"] == name


def fill_results(stack: Any, session: dict[str, Any], owner: str) -> None:
    """Give a session what training leaves in the database."""
    session_uuid = session["uuid"]
    [run] = stack.rows(
        "insert into public.training_results (session_uuid, user_id) values (%s, %s) returning id", session_uuid, owner
    )
    stack.rows(
        "insert into public.models (run_id, session_uuid, user_id, name, path, framework)"
        " values (%s, %s, %s, 'm', 'p', 'keras')",
        run["id"],
        session_uuid,
        owner,
    )
    for table, n_rows in (("scalers", 2), ("training_visualizations", 3), ("evaluation_tables", 1)):
        for position in range(n_rows):
            stack.rows(
                f"insert into public.{table} (run_id, session_uuid, user_id, position, content)"
                " values (%s, %s, %s, %s, '{}')",
                run["id"],
                session_uuid,
                owner,
                position,
            )


class TestDeleteSession:
    def test_rows_of_every_table_and_every_object_go(self, alice, buckets, local_stack, people):
        made = alice.assembled(TABLE)
        alice.uploaded(b"01234", fileName="open.bin")
        session = alice.init()
        fill_results(local_stack, session, alice.caller.user_id)
        for name in (f"{results_prefix(session['uuid'])}run/manifest.json", f"{models_prefix(session['uuid'])}m.h5"):
            buckets.artifacts.write(name, b"x", "application/octet-stream")

        data = done(alice.post("/session/weather/delete"))

        assert data == {
            "session_id": "weather",
            "status": "deleted",
            "files_deleted": 1 + 1 + 2,
            "deleted_from_database": {
                "sessions": 1,
                "uploads": 2,
                "training_results": 1,
                "models": 1,
                "scalers": 2,
                "visualizations": 3,
                "evaluation_tables": 1,
            },
        }
        assert buckets.data_sets(session["uuid"]) == {}
        assert buckets.temporary(made["uploadId"]) == []
        assert buckets.artifacts.list(results_prefix(session["uuid"])) == []
        assert buckets.artifacts.list(models_prefix(session["uuid"])) == []
        for table in ("uploads", "training_results", "models", "scalers", "training_visualizations"):
            assert not local_stack.rows(f"select from public.{table} where user_id = %s", alice.caller.user_id)
        assert people.usage(alice.caller) == (1, 0)

    def test_a_second_delete_is_not_found(self, alice):
        alice.init()
        done(alice.post("/session/weather/delete"))

        refused(alice.post("/session/weather/delete"), 404, "session_not_found")
        refused(alice.get("/session/weather"), 404, "session_not_found")

    def test_the_other_address_does_the_same(self, alice, api):
        alice.init()

        assert done(api.request("DELETE", "/session/weather", caller=alice.caller))["status"] == "deleted"
        refused(api.request("DELETE", "/session/weather", caller=alice.caller), 404, "session_not_found")

    def test_the_name_is_free_again(self, alice):
        old = alice.init()
        alice.post("/session/weather/delete")

        assert alice.init()["uuid"] != old["uuid"]

    def test_another_session_and_its_objects_stay(self, alice, buckets):
        alice.assembled(TABLE, session_id="weather")
        alice.assembled(TABLE, session_id="other")

        done(alice.post("/session/weather/delete"))

        assert buckets.data_sets(alice.init("other")["uuid"]) == {"hours.csv": TABLE}

    def test_a_session_is_busy_while_an_upload_of_it_is_assembled(self, alice, people, local_stack):
        upload = alice.uploaded(TABLE)
        local_stack.rows(
            "select public.claim_assembly_v1(%s, %s, %s, 60)",
            alice.caller.user_id,
            upload["uploadId"],
            str(uuid.uuid4()),
        )
        before = people.snapshot()

        answer = alice.post("/session/weather/delete")

        refused(answer, 409, "session_busy")
        assert answer.headers["Retry-After"] == "5"
        assert people.snapshot() == before
        assert done(alice.get("/session/weather"))["uploads"][0]["state"] == "assembling"
