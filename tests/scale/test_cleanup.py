"""A tenth of what benchmarks/cleanup.py does: a thousand abandoned uploads with ten thousand chunks."""

import json
from collections import Counter
from contextlib import suppress

import httpx
import pytest

from shared.adapters.csv_rows import CsvRowCounter
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.records.objects import chunk_name
from shared.sweeping import SWEPT_PER_RUN
from tests.factories import a_uuid
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.signer import InMemorySigner
from tests.interruption import Interruption, Killed
from tests.scale.stale_uploads import OwnUploads, make_stale
from tests.upload_rules import UploadRules

N_UPLOADS = 1000
N_CHUNKS = 10


@pytest.fixture
def owner(local_stack, people):
    owner = people.add()
    yield owner
    # Here and not by `people`, which asks the emulator about each upload.
    local_stack.rows("delete from public.sessions where user_id = %s", owner.user_id)


def service(stack, owner, store, interruption=None):
    uploads = OwnUploads(SupabaseUploads(stack.database), owner)
    if interruption:
        uploads, store = interruption.wrap(uploads), interruption.wrap(store)
    return UploadRules(
        uploads, SupabaseSessions(stack.database), store, InMemorySigner(InMemoryObjectStore()), CsvRowCounter()
    )


def states(stack, owner):
    rows = stack.rows(
        "select state, swept_at is not null as swept from public.uploads where user_id = %s", owner.user_id
    )
    return Counter((row["state"], row["swept"]) for row in rows)


def test_a_dry_run_over_many_changes_nothing(local_stack, people, owner):
    store = InMemoryObjectStore()
    make_stale(local_stack, owner, store, n_uploads=N_UPLOADS, n_chunks=N_CHUNKS)

    sweep = service(local_stack, owner, store).sweep(dry_run=True)

    assert (sweep.n_uploads, sweep.n_objects, sweep.has_more) == (SWEPT_PER_RUN, SWEPT_PER_RUN * N_CHUNKS, True)
    assert states(local_stack, owner) == {("open", False): N_UPLOADS}
    assert len(store.list("")) == N_UPLOADS * N_CHUNKS
    assert people.usage(owner) == (N_UPLOADS, N_UPLOADS * N_CHUNKS * 10)


def test_many_are_swept_in_bounded_runs_of_which_some_are_killed(local_stack, people, owner):
    store = InMemoryObjectStore()
    ids = make_stale(local_stack, owner, store, n_uploads=N_UPLOADS, n_chunks=N_CHUNKS)
    # One that is being assembled right now, and one whose client is alive, among the oldest.
    live, talking = ids[0], ids[1]
    local_stack.rows(
        "update public.uploads set state = 'assembling', lease_token = %s, lease_expires_at = now() + interval '60 s'"
        " where id = %s",
        a_uuid(),
        live,
    )
    local_stack.rows("update public.uploads set updated_at = now() where id = %s", talking)
    told = Counter()
    n_runs, n_killed, has_more = 0, 0, True
    while has_more:
        n_runs += 1
        before = len(store.list(""))
        # Every other run is killed, sooner or later, before or after the call's effect.
        killed_at = Interruption(40 * n_runs, is_after_effect=n_runs % 4 == 1) if n_runs % 2 else None
        with suppress(Killed):
            sweeping = service(local_stack, owner, store, killed_at)
            has_more = sweeping.sweep(on_swept=lambda swept: told.update([swept.upload.id])).has_more
        assert before - len(store.list("")) <= SWEPT_PER_RUN * N_CHUNKS
        assert n_runs < 20
        n_killed += bool(killed_at and killed_at.happened)

    assert n_killed >= 2
    # The last run was not full; a killed one before it may have left some that were already begun.
    assert not service(local_stack, owner, store).sweep().has_more
    assert states(local_stack, owner) == {
        ("expired", True): N_UPLOADS - 2,
        ("assembling", False): 1,
        ("open", False): 1,
    }
    assert {stored.name for stored in store.list("")} == {
        chunk_name(upload_id, index) for upload_id in (live, talking) for index in range(N_CHUNKS)
    }
    assert people.usage(owner) == (2, 2 * N_CHUNKS * 10)
    assert set(told) == {*ids} - {live, talking}


def test_the_function_sweeps_a_real_bucket_and_logs_each_upload(local_stack, people):
    n_uploads, n_chunks = SWEPT_PER_RUN + 5, 2
    owner, names = people.add(), InMemoryObjectStore()
    ids = make_stale(local_stack, owner, names, n_uploads=n_uploads, n_chunks=n_chunks)
    bucket = GcsObjectStore(local_stack.env["UPLOADS_BUCKET"])
    # Objects in some; an upload may have been abandoned before its first chunk.
    for upload_id in ids[:3]:
        for index in range(n_chunks):
            bucket.write(chunk_name(upload_id, index), b"0123456789", "text/csv")
    logged_before = len(audit_lines(local_stack, set(ids)))

    answers = [cleaned(local_stack, dryRun=True), cleaned(local_stack), cleaned(local_stack)]

    assert [answer["dry_run"] for answer in answers] == [True, False, False]
    assert answers[1]["has_more"]
    assert answers[0]["objects_deleted"] == answers[1]["objects_deleted"] == 3 * n_chunks
    assert logged_before == 0
    lines = audit_lines(local_stack, set(ids))
    assert {line["upload_id"] for line in lines} == set(ids)
    assert len(lines) == n_uploads
    assert {(line["state"], line["session"]) for line in lines} == {("expiring", "stale")}
    assert sum(line["objects"] for line in lines) == 3 * n_chunks
    assert sum(line["bytes"] for line in lines) == 3 * n_chunks * 10
    assert states(local_stack, owner) == {("expired", True): n_uploads}
    assert people.usage(owner) == (0, 0)
    local_stack.rows("delete from public.sessions where user_id = %s", owner.user_id)


def cleaned(stack, **fields):
    answer = httpx.post(
        stack.env["TRAINSHED_URL"] + "/api/training/cleanup",
        json=fields,
        headers={"Authorization": f"Bearer {stack.scheduler_token()}"},
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def audit_lines(stack, ids):
    lines = (stack.home.logs / "api.log").read_text(errors="replace").splitlines()
    entries = [json.loads(line) for line in lines if '"uploads.sweep.done"' in line]
    return [entry for entry in entries if entry["upload_id"] in ids]
