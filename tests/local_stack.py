"""The running local stack as tests see it: its settings, its database, and people who use it for one test."""

import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg.rows import dict_row

from dev.home import Home, read_env
from dev.keys import SCHEDULER_EMAIL, TASKS_EMAIL, Keys, User
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.supabase import SupabaseDatabase
from shared.records.callers import Caller, CallerKind
from shared.records.objects import chunks_prefix, data_sets_prefix, steps_prefix
from shared.settings import SupabaseSettings, supabase_settings

HOW_TO_START = (
    "This test needs the local stack: run `make test`, or `make start` and then, in another shell, "
    "`set -a; . .trainshed/env; set +a` before pytest (or name that file in TRAINSHED_ENV)."
)


@dataclass(frozen=True)
class LocalStack:
    """A running stack.

    Attributes:
        env: What its env file tells people and tests.
        home: Where it keeps its keys.
    """

    env: dict[str, str]
    home: Home

    @cached_property
    def functions_env(self) -> dict[str, str]:
        """What its functions are configured with."""
        return read_env(self.home.functions_env_file)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.home)

    @property
    def issuer(self) -> str:
        return self.env["SUPABASE_URL"] + "/auth/v1"

    @property
    def supabase(self) -> SupabaseSettings:
        return supabase_settings(self.env)

    @cached_property
    def database(self) -> SupabaseDatabase:
        """The functions' way to the database; one for all tests, because it keeps connections open."""
        return SupabaseDatabase(self.supabase)

    def connect(self, **options: Any) -> psycopg.Connection:
        """Open a connection as the superuser; every statement is a transaction unless told otherwise."""
        return psycopg.connect(self.env["DATABASE_URL"], **{"autocommit": True, "row_factory": dict_row} | options)

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Run one statement as the superuser and return its rows, if it has any."""
        cursor = self._connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    @cached_property
    def _connection(self) -> psycopg.Connection:
        return self.connect()

    def close(self) -> None:
        """Close what was opened along the way."""
        self._connection.close()
        self.database._http.close()

    def service(self) -> Caller:
        return Caller(CallerKind.SERVICE, user_id="", token="")

    def scheduler_token(self) -> str:
        return self.keys.oidc_token(SCHEDULER_EMAIL)

    def tasks_token(self) -> str:
        return self.keys.oidc_token(TASKS_EMAIL)


def running_stack() -> LocalStack:
    """Return the stack that TRAINSHED_ENV names, or the one whose settings are in the environment."""
    file = os.environ.get("TRAINSHED_ENV")
    env = read_env(Path(file)) if file and Path(file).exists() else dict(os.environ)
    if not {"TRAINSHED_URL", "SUPABASE_URL", "DATABASE_URL", "SIGNER_KEY_FILE"} <= set(env):
        pytest.fail(HOW_TO_START, pytrace=False)
    # keys/signer.json lies in the stack's home.
    stack = LocalStack(env, Home(Path(env["SIGNER_KEY_FILE"]).parent.parent))
    try:
        stack.rows("select 1")
    except psycopg.OperationalError:
        pytest.fail(f"The local stack of these settings does not run (any more). {HOW_TO_START}", pytrace=False)
    return stack


class People:
    """Makes users with subscriptions of their own, and removes them with everything they left."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._ids: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ids:
            self._delete_objects()
            with self._stack.connect(autocommit=False) as connection:
                connection.execute("delete from public.sessions where user_id = any(%s)", (self._ids,))
                connection.execute("delete from auth.users where id = any(%s)", (self._ids,))
                plans = [f"test-{user_id}" for user_id in self._ids]
                connection.execute("delete from public.subscription_plans where id = any(%s)", (plans,))

    def add(self, *, is_subscribed: bool = True, status: str = "active", **plan: Any) -> Caller:
        """Add a user.

        Args:
            is_subscribed: Has a plan.
            status: active or canceled.
            plan: processing_limit, bytes_stored_limit, bytes_per_upload_limit, period_start, period_end.
        """
        user_id = str(uuid.uuid4())
        self._ids.append(user_id)
        email = f"{user_id}@test.example"
        self._stack.rows(
            "insert into auth.users (id, aud, role, email) values (%s, 'authenticated', 'authenticated', %s)",
            user_id,
            email,
        )
        caller = Caller(
            CallerKind.USER, user_id, self._stack.keys.user_token(User("x", user_id, email, ""), self._stack.issuer)
        )
        if is_subscribed:
            self.subscribe(caller, status=status, **plan)
        return caller

    def subscribe(self, caller: Caller, *, status: str = "active", **plan: Any) -> None:
        """Give a user a plan of her own, or change it."""
        now = datetime.now(UTC)
        limits = {"processing_limit": 1000, "bytes_stored_limit": 1 << 50, "bytes_per_upload_limit": 1 << 50}
        period = {"period_start": now - timedelta(days=10), "period_end": now + timedelta(days=20)}
        values = {**limits, **period, **plan, "id": f"test-{caller.user_id}", "user": caller.user_id, "status": status}
        with self._stack.connect() as connection:
            connection.execute(
                "insert into public.subscription_plans values (%(id)s, 'Test', %(processing_limit)s,"
                " %(bytes_stored_limit)s, %(bytes_per_upload_limit)s)"
                " on conflict (id) do update set processing_limit = excluded.processing_limit,"
                " bytes_stored_limit = excluded.bytes_stored_limit,"
                " bytes_per_upload_limit = excluded.bytes_per_upload_limit",
                values,
            )
            connection.execute(
                "select public.set_subscription_v1(%(user)s, %(id)s, %(status)s, %(period_start)s, %(period_end)s)",
                values,
            )

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """Return every row of these users, to compare with another time."""
        tables = ("sessions", "uploads", "usage_counters", "user_subscriptions")
        return {
            table: self._stack.rows(f"select * from public.{table} where user_id = any(%s) order by 1, 2", self._ids)
            for table in tables
        }

    def usage(self, caller: Caller) -> tuple[int, int]:
        """Return processing units and bytes that a user uses."""
        rows = self._stack.rows(
            "select processing_used, bytes_stored from public.usage_counters where user_id = %s", caller.user_id
        )
        return (rows[0]["processing_used"], rows[0]["bytes_stored"]) if rows else (0, 0)

    def _delete_objects(self) -> None:
        sessions = self._stack.rows("select id from public.sessions where user_id = any(%s)", self._ids)
        uploads = self._stack.rows("select id from public.uploads where user_id = any(%s)", self._ids)
        prefixes = [data_sets_prefix(row["id"]) for row in sessions]
        prefixes += [prefix(row["id"]) for row in uploads for prefix in (chunks_prefix, steps_prefix)]
        if prefixes and os.environ.get("STORAGE_EMULATOR_HOST"):
            store = GcsObjectStore(self._stack.env["UPLOADS_BUCKET"])
            for prefix in prefixes:
                store.delete(store.list(prefix))
