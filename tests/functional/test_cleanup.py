"""Cleanup on the real stack. Ages are beyond a year, so that nobody's uploads but these tests' own are swept."""

import uuid
from typing import Any

import pytest

from shared.records.callers import Caller, CallerKind
from shared.records.objects import chunk_name, steps_prefix
from tests.functional.conftest import Api, Client, done, refused

TABLE = b"a,b\n1,2\n3,4\n"
YEAR_H = 8760


@pytest.fixture
def scheduler(local_stack) -> Caller:
    return Caller(CallerKind.SCHEDULER, "scheduler", local_stack.scheduler_token())


@pytest.fixture
def clean(api: Api, scheduler: Caller) -> Any:
    """Run the cleanup until it has nothing more to do; return the answers' sums."""

    def run(**body: Any) -> dict[str, int]:
        total = {"cleaned": 0, "objects_deleted": 0, "bytes_freed": 0}
        while True:
            data = done(api.post("/cleanup", scheduler, json={"maxAgeHours": YEAR_H} | body))
            assert set(data) == {*total, "has_more", "dry_run"}
            total = {name: count + data[name] for name, count in total.items()}
            if not data["has_more"] or data["dry_run"]:
                return total

    return run


def make_old(stack: Any, upload_id: str, days: int = 400) -> None:
    stack.rows(
        "update public.uploads set updated_at = now() - make_interval(days => %s),"
        " lease_expires_at = lease_expires_at - make_interval(days => %s) where id = %s",
        days,
        days,
        upload_id,
    )


def state_of(client: Client, upload: dict[str, Any]) -> str:
    return done(client.get(f"/uploads/{upload['uploadId']}"))["state"]


def test_an_abandoned_upload_expires_with_its_chunks_and_frees_its_quota(alice, clean, local_stack, buckets, people):
    upload = alice.uploaded(TABLE)
    make_old(local_stack, upload["uploadId"])

    total = clean()

    assert total["cleaned"] >= 1
    assert total["objects_deleted"] >= 1
    assert total["bytes_freed"] >= len(TABLE)
    assert state_of(alice, upload) == "expired"
    assert buckets.temporary(upload["uploadId"]) == []
    assert people.usage(alice.caller) == (0, 0)


def test_a_dry_run_counts_the_same_and_changes_nothing(alice, clean, local_stack, buckets, people):
    upload = alice.uploaded(TABLE)
    make_old(local_stack, upload["uploadId"])
    before, objects = people.snapshot(), buckets.temporary(upload["uploadId"])

    dry = clean(dryRun=True)

    assert (people.snapshot(), buckets.temporary(upload["uploadId"])) == (before, objects)
    assert dry["cleaned"] >= 1
    assert clean() == dry
    assert state_of(alice, upload) == "expired"


def test_an_upload_that_is_being_assembled_is_never_touched(alice, clean, local_stack, buckets):
    upload = alice.uploaded(TABLE)
    local_stack.rows(
        "select public.claim_assembly_v1(%s, %s, %s, %s)",
        alice.caller.user_id,
        upload["uploadId"],
        str(uuid.uuid4()),
        2 * YEAR_H * 3600,
    )
    make_old(local_stack, upload["uploadId"])

    clean()

    assert state_of(alice, upload) == "assembling"
    assert len(buckets.temporary(upload["uploadId"])) == 1


def test_an_upload_whose_assembly_died_is_swept_once_it_is_old(alice, clean, local_stack, buckets):
    upload = alice.uploaded(TABLE)
    local_stack.rows(
        "select public.claim_assembly_v1(%s, %s, %s, 60)", alice.caller.user_id, upload["uploadId"], str(uuid.uuid4())
    )
    make_old(local_stack, upload["uploadId"])

    clean()

    assert state_of(alice, upload) == "expired"
    assert buckets.temporary(upload["uploadId"]) == []


def test_a_younger_upload_stays(alice, clean, local_stack, buckets):
    upload = alice.uploaded(TABLE)
    make_old(local_stack, upload["uploadId"], days=364)

    clean()

    assert state_of(alice, upload) == "open"
    assert len(buckets.temporary(upload["uploadId"])) == 1


def test_what_a_killed_assembly_left_behind_goes_and_the_data_set_stays(alice, clean, local_stack, buckets):
    upload = alice.assembled(TABLE)
    local_stack.rows("update public.uploads set swept_at = null where id = %s", upload["uploadId"])
    buckets.uploads.write(chunk_name(upload["uploadId"], 0), b"late", "text/plain")
    buckets.uploads.write(steps_prefix(upload["uploadId"]) + "0-00000", b"late", "text/plain")
    make_old(local_stack, upload["uploadId"])

    clean()

    assert buckets.temporary(upload["uploadId"]) == []
    assert buckets.data_sets(alice.init()["uuid"]) == {"hours.csv": TABLE}
    assert state_of(alice, upload) == "assembled"


def test_running_it_again_finds_nothing_more(alice, clean, local_stack, people):
    alice.create(7, fileName="kept.bin")
    upload = alice.uploaded(TABLE)
    make_old(local_stack, upload["uploadId"])
    clean()

    assert clean()["cleaned"] == 0
    assert people.usage(alice.caller) == (1, 7)


def test_a_deletion_that_was_interrupted_is_finished(alice, clean, local_stack, buckets, people):
    session = alice.init()
    alice.assembled(TABLE)
    local_stack.rows("select public.begin_delete_session_v1(%s, 'weather')", alice.caller.user_id)
    local_stack.rows(
        "update public.sessions set deleting_at = now() - interval '2 hours' where id = %s", session["uuid"]
    )

    clean(dryRun=True)
    assert buckets.data_sets(session["uuid"]) == {"hours.csv": TABLE}
    clean()

    assert buckets.data_sets(session["uuid"]) == {}
    assert not local_stack.rows("select from public.sessions where id = %s", session["uuid"])
    assert people.usage(alice.caller)[1] == 0
    assert alice.init()["uuid"] != session["uuid"]


@pytest.mark.parametrize("body", [None, {}, {"dryRun": None, "maxAgeHours": None}])
def test_without_a_body_it_looks_at_uploads_of_a_day(api, scheduler, alice, body):
    upload = alice.uploaded(TABLE)

    answer = api.post("/cleanup", scheduler, **({} if body is None else {"json": body | {"dryRun": True}}))

    assert done(answer)["dry_run"] is (body is not None)
    assert state_of(alice, upload) == "open"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"maxAgeHours": -1}, "maxAgeHours"),
        ({"maxAgeHours": 8761}, "maxAgeHours"),
        ({"maxAgeHours": "24"}, "maxAgeHours"),
        ({"maxAgeHours": 1.5}, "maxAgeHours"),
        ({"maxAgeHours": True}, "maxAgeHours"),
        ({"dryRun": "false"}, "dryRun"),
        ({"dryRun": 0}, "dryRun"),
        ({"max_age": 1}, "max_age"),
    ],
)
def test_a_body_that_is_not_allowed_sweeps_nothing(api, scheduler, alice, local_stack, buckets, people, body, field):
    upload = alice.uploaded(TABLE)
    make_old(local_stack, upload["uploadId"])
    before = people.snapshot()

    assert refused(api.post("/cleanup", scheduler, json=body), 422, "invalid_field") == {"field": field}

    assert people.snapshot() == before
    assert len(buckets.temporary(upload["uploadId"])) == 1


def test_only_the_scheduler_may_call_it(api, alice, local_stack, people):
    upload = alice.uploaded(TABLE)
    make_old(local_stack, upload["uploadId"])
    before = people.snapshot()

    refused(api.post("/cleanup"), 401, "unauthenticated")
    refused(api.post("/cleanup", alice.caller), 401, "unauthenticated")
    refused(api.post("/cleanup", headers={"apikey": local_stack.supabase.service_key}), 401, "unauthenticated")
    refused(api.post("/cleanup", token=local_stack.tasks_token()), 403, "forbidden")

    assert people.snapshot() == before
