"""Fills the database with the rows of many users, and takes them out again."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.local_stack import LocalStack

N_USERS = 99
N_SESSIONS = 100_000
SESSIONS_OF_ONE = 1000

# Every row's user has an e-mail address at this domain; by it the rows are found again.
_DOMAIN = "@many-rows.example"
_TABLES = (
    "scalers",
    "training_visualizations",
    "evaluation_tables",
    "models",
    "training_results",
    "uploads",
    "sessions",
    "usage_counters",
)
_FILL = """
  insert into auth.users (id, aud, role, email)
  select gen_random_uuid(), 'authenticated', 'authenticated', n || %(domain)s from generate_series(1, %(users)s) as n;

  create temporary table many_users on commit drop as
  select row_number() over (order by id) - 1 as number, id from auth.users where email like '%%' || %(domain)s;

  -- The first thousand are one user's; the others have as many.
  insert into public.sessions (user_id, session_id, status, created_at, metadata)
  select
    coalesce(case when n <= %(of_one)s then %(one)s::uuid end, u.id), 'many-' || n, 'finalized',
    now() - n * interval '1 minute', jsonb_build_object('title', 'Session ' || n)
  from generate_series(1, %(sessions)s) as n join many_users as u on u.number = n %% %(users)s;

  create temporary table many_sessions on commit drop as
  select row_number() over (order by id) as number, id, user_id, created_at from public.sessions
  where session_id like 'many-%%';

  insert into public.uploads (
    session_uuid, user_id, file_name, content_type, size_bytes, reserved_bytes, chunk_size_bytes, total_chunks, state,
    sha256, object_name, generation, crc32c, n_rows, expires_at, swept_at, created_at, updated_at
  )
  select s.id, s.user_id, n || '.csv', 'text/csv', 100, 100, 8388608, 1, 'assembled',
    encode(sha256((s.id::text || n)::bytea), 'hex'), 'datasets/' || s.id, 1, 'AAAAAA==', 5, s.created_at, s.created_at,
    s.created_at, s.created_at
  from many_sessions as s, generate_series(1, 2) as n;

  insert into public.training_results (session_uuid, user_id, status, manifest, finished_at)
  select id, user_id, 'completed', '{}', now() from many_sessions where number <= 20000;

  create temporary table many_runs on commit drop as
  select id, session_uuid, user_id from public.training_results
  where session_uuid in (select id from many_sessions);

  insert into public.models (run_id, session_uuid, user_id, name, path, framework)
  select id, session_uuid, user_id, 'model-' || n, id || '/model-' || n, 'sklearn'
  from many_runs, generate_series(1, 2) as n;

  insert into public.scalers (run_id, session_uuid, user_id, position, content)
  select id, session_uuid, user_id, n, '{}' from many_runs, generate_series(1, 2) as n;

  insert into public.training_visualizations (run_id, session_uuid, user_id, position, content)
  select id, session_uuid, user_id, n, '{}' from many_runs, generate_series(1, 2) as n;

  insert into public.evaluation_tables (run_id, session_uuid, user_id, position, content)
  select id, session_uuid, user_id, n, '{}' from many_runs, generate_series(1, 2) as n
"""


@contextmanager
def many_rows(stack: LocalStack, one: str) -> Iterator[None]:
    """Keep 100,000 sessions with 200,000 uploads and 20,000 runs in the database; a thousand of them are `one`'s."""
    values = {
        "users": N_USERS,
        "sessions": N_SESSIONS,
        "of_one": SESSIONS_OF_ONE,
        "one": one,
        "domain": _DOMAIN,
    }
    try:
        with stack.connect(
            autocommit=False, cursor_factory=psycopg.ClientCursor, row_factory=psycopg.rows.tuple_row
        ) as connection:
            # Nothing can be wrong with these rows; checking every reference takes longer than writing them.
            connection.execute("set session_replication_role = replica")
            connection.execute(_FILL, values)
        with stack.connect() as connection:
            connection.execute("vacuum analyze")
        yield
    finally:
        with stack.connect(autocommit=False) as connection:
            connection.execute("set session_replication_role = replica")
            users = "(select id from auth.users where email like %s union select %s::uuid)"
            for table in _TABLES:
                connection.execute(f"delete from public.{table} where user_id in {users}", ("%" + _DOMAIN, one))
            connection.execute("delete from auth.users where email like %s", ("%" + _DOMAIN,))
        with stack.connect() as connection:
            connection.execute("vacuum analyze")
