"""No query reads a large table from end to end: the plans of everything the repositories send, taken from Postgres.

Postgres itself writes down the plan of every statement that PostgREST sends, of every policy that goes into it, and of
every statement within a SQL function (auto_explain), with 100,000 sessions in the database.
"""

import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_training import SupabaseTraining
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.errors import DatabaseUnavailableError
from shared.records.callers import Caller
from shared.records.results import ResultKind
from shared.records.sessions import PageKey
from shared.records.training import Run
from shared.records.uploads import AssembledObject, NewUpload
from tests.local_stack import LocalStack, People
from tests.scale.many_rows import many_rows
from tests.training_factories import a_request

LARGE = {
    "sessions",
    "uploads",
    "training_results",
    "models",
    "scalers",
    "training_visualizations",
    "evaluation_tables",
}
LEASE_S = 60
_OURS = re.compile(rf"\b({'|'.join(LARGE)})\b")
_EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
}


class Plans:
    """Runs calls against the filled database and returns the plans that Postgres made for them."""

    def __init__(self, stack: LocalStack, one: Caller) -> None:
        self.stack = stack
        self.one = one
        self.sessions = SupabaseSessions(stack.database)
        self.uploads = SupabaseUploads(stack.database)
        self.training = SupabaseTraining(stack.database)
        self._log = stack.home.logs / "postgres.log"

    def of(self, call: Callable[[], Any]) -> tuple[Any, str]:
        """Return what the call returned, and the plans of all its statements."""
        start = self._log.stat().st_size
        result = call()
        with self._log.open("rb") as log:
            log.seek(start)
            entries = re.split(r"^(?=\d{4}-)", log.read().decode(), flags=re.MULTILINE)
        # PostgREST also reads the catalog, when it connects anew; that is nobody's request.
        return result, "".join(entry for entry in entries if "plan:" in entry and _OURS.search(entry))

    def seen(self, call: Callable[[], Any]) -> Any:
        """Run a call whose every plan must use indexes, and return its result."""
        result, plans = self.of(call)
        assert plans, "nothing was explained: this proves nothing"
        assert read_whole(plans) == [], plans
        return result

    def an_upload(self, session_id: str, **fields: Any) -> str:
        new = {
            "session_id": session_id,
            "file_name": f"{uuid.uuid4()}.csv",
            "content_type": "text/csv",
            "size_bytes": 100,
            "reserved_bytes": 100,
            "chunk_size_bytes": 1 << 23,
            "total_chunks": 1,
            "sha256": uuid.uuid4().hex * 2,
        }
        upload, _ = self.seen(lambda: self.uploads.create(self.one.user_id, NewUpload(**new | fields)))
        return upload.id

    def a_session(self) -> str:
        name = f"s-{uuid.uuid4()}"
        self.seen(lambda: self.sessions.init(self.one.user_id, name, {}))
        return name

    def assembled(self, session_id: str) -> str:
        """Create an upload and record it as assembled."""
        upload_id, token = self.an_upload(session_id), str(uuid.uuid4())
        owner = self.one.user_id
        self.seen(lambda: self.uploads.claim(owner, upload_id, token, LEASE_S))
        assembled = AssembledObject("datasets/x", 1, 100, "AAAAAA==", sha256=None, n_rows=5)
        self.seen(lambda: self.uploads.record(owner, upload_id, token, assembled))
        return upload_id

    def a_run(self) -> Run:
        session_id = self.a_session()
        self.assembled(session_id)
        self.seen(lambda: self.sessions.finalize(self.one.user_id, session_id))
        run, _ = self.seen(
            lambda: self.training.start(self.one.user_id, session_id, a_request(models=("random_forest",)))
        )
        return run


def read_whole(plans: str) -> list[str]:
    """Return the large tables that were read from end to end."""
    return [table for table in re.findall(r"Seq Scan on (?:public\.)?(\w+)", plans) if table in LARGE]


def restart_pool(stack: LocalStack) -> None:
    """Let PostgREST connect anew, and wait until it has."""
    stack.rows("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'authenticator'")
    n_answers, deadline = 0, time.monotonic() + 30
    # Each of its connections may be one that was ended.
    while n_answers < 10:
        assert time.monotonic() < deadline
        with suppress(DatabaseUnavailableError):
            stack.database.select(stack.service(), "subscription_plans", "id")
            n_answers += 1


@pytest.fixture(scope="module")
def one(local_stack: LocalStack) -> Iterator[Caller]:
    """A user with a thousand sessions among a hundred thousand."""
    with People(local_stack) as people:
        one = people.add(processing_limit=10_000)
        with many_rows(local_stack, one.user_id):
            yield one


@pytest.fixture(scope="module", params=["force_custom_plan", "force_generic_plan"])
def plans(request: pytest.FixtureRequest, local_stack: LocalStack, one: Caller) -> Iterator[Plans]:
    """Both kinds of plan: with the values known, and the one that Postgres keeps once a statement came often."""
    settings = _EXPLAIN | {"plan_cache_mode": request.param}
    try:
        for name, value in settings.items():
            local_stack.rows(f"alter role authenticator set {name} = '{value}'")
        restart_pool(local_stack)
        yield Plans(local_stack, one)
    finally:
        for name in settings:
            local_stack.rows(f"alter role authenticator reset {name}")
        restart_pool(local_stack)


def test_the_database_is_as_large_as_this_claims(plans):
    counts = plans.stack.rows(
        "select (select count(*) from public.sessions) as sessions, (select count(*) from public.uploads) as uploads,"
        " (select count(*) from public.sessions where user_id = %s) as own",
        plans.one.user_id,
    )[0]
    assert counts["sessions"] >= 100_000
    assert counts["uploads"] >= 200_000
    assert counts["own"] >= 1000


def test_a_query_without_an_index_is_noticed(plans):
    _, seen = plans.of(
        lambda: plans.stack.database.select(plans.stack.service(), "sessions", "id", n_dat="eq.12345", limit="1")
    )
    assert read_whole(seen) == ["sessions"]


def test_pages_of_sessions_are_read_in_the_order_of_an_index(plans):
    page = None
    for _ in range(3):
        after = PageKey(page[-1].created_at, page[-1].id) if page else None
        page, seen = plans.of(lambda after=after: plans.sessions.page(plans.one, limit=51, after=after))
        assert len(page) == 51
        assert read_whole(seen) == []
        # A thousand rows would be sorted in no time, a million would not.
        assert "Sort" not in seen, seen


def test_a_search_reads_the_sessions_of_its_owner_by_index(plans):
    found, seen = plans.of(lambda: plans.sessions.page(plans.one, limit=51, search="MANY-99"))

    assert {session.session_id for session in found} >= {"many-99", "many-990"}
    assert read_whole(seen) == []
    assert re.search(r"Index Cond: .*user_id", seen), seen


def test_a_service_reads_everybodys_sessions_in_the_order_of_an_index(plans):
    service = plans.stack.service()
    page, seen = plans.of(lambda: plans.sessions.page(service, limit=51))
    assert len(page) == 51
    assert read_whole(seen) == []
    assert "Sort" not in seen, seen

    after = PageKey(page[-1].created_at, page[-1].id)
    assert len(plans.seen(lambda: plans.sessions.page(service, limit=51, after=after))) == 51
    assert len(plans.seen(lambda: plans.sessions.page(service, limit=51, user_id=plans.one.user_id))) == 51


def test_one_session_and_its_uploads_are_read_by_index(plans):
    session = plans.seen(lambda: plans.sessions.get(plans.one, "many-500"))
    found, uploads = plans.seen(lambda: plans.uploads.of_session(plans.one, "many-500"))

    assert (found, len(uploads)) == (session, 2)
    assert plans.seen(lambda: plans.uploads.get(plans.one, uploads[0].id)).session_id == session.session_id


def test_results_are_read_by_index(plans):
    rows = plans.stack.rows(
        "select s.session_id from public.training_results as r join public.sessions as s on s.id = r.session_uuid"
        " where r.user_id = %s limit 1",
        plans.one.user_id,
    )
    session_id = rows[0]["session_id"]
    _, runs = plans.seen(lambda: plans.training.of_session(plans.one, session_id))
    newest = plans.seen(lambda: plans.training.newest(plans.one, session_id))

    assert [len(run.models) for run in runs] == [2]
    assert newest.id == runs[0].id
    for kind in ResultKind:
        assert len(plans.seen(lambda kind=kind: plans.training.results(plans.one, session_id, kind))) == 2


def test_every_write_of_uploads_finds_its_rows_by_index(plans):
    owner, session_id = plans.one.user_id, plans.a_session()
    assembled = plans.assembled(session_id)
    record = plans.uploads.get(plans.one, assembled)
    assert plans.seen(lambda: plans.uploads.find_assembled(owner, record.sha256, 100)).id == assembled
    upload_id, token = plans.an_upload(session_id), str(uuid.uuid4())
    plans.seen(lambda: plans.uploads.extend(owner, upload_id))
    plans.seen(lambda: plans.uploads.claim(owner, upload_id, token, LEASE_S))
    plans.seen(lambda: plans.uploads.release(owner, upload_id, token))
    plans.seen(lambda: plans.uploads.claim(owner, upload_id, token, LEASE_S))
    plans.seen(lambda: plans.uploads.fail(owner, upload_id, token, {"code": "data_set_invalid"}))
    plans.seen(lambda: plans.uploads.abort(owner, upload_id))
    plans.seen(lambda: plans.uploads.finish_sweep(upload_id))


def test_a_cleanup_finds_what_is_due_by_index(plans):
    upload_id = plans.an_upload(plans.a_session())
    plans.stack.rows("update public.uploads set updated_at = now() - interval '25 hours' where id = %s", upload_id)

    for dry_run in (True, False):
        due = plans.seen(
            lambda dry_run=dry_run: plans.uploads.begin_sweep(max_age_hours=24, limit=200, dry_run=dry_run)
        )
        assert upload_id in {upload.id for upload in due}
    plans.seen(lambda: plans.uploads.finish_sweep(upload_id))
    plans.seen(lambda: plans.sessions.unfinished_deletions(max_age_hours=24, limit=200))


def test_a_deletion_finds_every_row_of_its_session_by_index(plans):
    owner, run = plans.one.user_id, plans.a_run()
    session_uuid, _ = plans.seen(lambda: plans.sessions.begin_delete(owner, run.session_id))
    # Also those that references lead to.
    counts = plans.seen(lambda: plans.sessions.finish_delete(owner, session_uuid))
    assert (counts["sessions"], counts["uploads"], counts["models"]) == (1, 1, 1)


def test_every_write_of_training_finds_its_rows_by_index(plans):
    training, run, token = plans.training, plans.a_run(), str(uuid.uuid4())
    model = run.models[0].id
    plans.seen(lambda: training.claim(model, token, LEASE_S))
    plans.seen(lambda: training.report(model, token, LEASE_S, 0.5, curve={}, remaining_s=None))
    plans.seen(lambda: training.release(model, token))
    plans.seen(lambda: training.claim(model, token, LEASE_S))
    published = {"class": "a.B", "framework": "sklearn", "status": "completed", "files": [], "metrics": {}}
    plans.seen(lambda: training.publish(model, token, published))
    reference = {"object": "results/x/manifest.json", "generation": 1, "bytes": 1, "sha256": "0" * 64}
    document = {"status": "completed", "scalers": [{"name": "one"}], "charts": [], "tables": []}
    plans.seen(lambda: training.complete(run.id, reference, document))
    plans.seen(lambda: training.mark(run.id, {model: None}))

    failing = plans.a_run()
    plans.seen(lambda: training.claim(failing.models[0].id, token, LEASE_S))
    plans.seen(lambda: training.fail(failing.models[0].id, token, "no luck"))
