"""Who may do what with each table, asked through PostgREST as clients ask it."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from shared.records.callers import Caller
from tests.local_stack import LocalStack, People

READ_OWN = {"owner": "own", "other": "none", "anonymous": "refused", "service": "all"}
READ_ALL = {"owner": "all", "other": "all", "anonymous": "refused", "service": "all"}
WRITE_NEVER = dict.fromkeys(("owner", "other", "anonymous", "service"), "refused")
WRITES = dict.fromkeys(("insert", "update", "delete"), WRITE_NEVER)

# Every table of the schema must stand here. own: her rows and nobody else's; all: everybody's rows.
EXPECTED = {
    "sessions": {"select": READ_OWN, **WRITES},
    "uploads": {"select": READ_OWN, **WRITES},
    "subscription_plans": {"select": READ_ALL, **WRITES},
    "user_subscriptions": {"select": READ_OWN, **WRITES},
    "usage_counters": {"select": READ_OWN, **WRITES},
    "training_results": {"select": READ_OWN, **WRITES},
    "models": {"select": READ_OWN, **WRITES},
    "scalers": {"select": READ_OWN, **WRITES},
    "training_visualizations": {"select": READ_OWN, **WRITES},
    "evaluation_tables": {"select": READ_OWN, **WRITES},
}
CASES = [
    (table, verb, who, outcome)
    for table, verbs in EXPECTED.items()
    for verb, callers in verbs.items()
    for who, outcome in callers.items()
]


@dataclass
class Scene:
    """Alice and Bob, each with a row in every table."""

    stack: LocalStack
    alice: Caller
    bob: Caller
    http: httpx.Client

    def request(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask PostgREST; `owner` is Alice, `other` is Bob."""
        settings = self.stack.supabase
        headers = {
            "owner": {"apikey": settings.publishable_key, "Authorization": f"Bearer {self.alice.token}"},
            "other": {"apikey": settings.publishable_key, "Authorization": f"Bearer {self.bob.token}"},
            "anonymous": {"apikey": settings.publishable_key},
            "service": {"apikey": settings.service_key},
        }[who]
        return self.http.request(method, f"{settings.url}/rest/v1/{path}", headers=headers, **options)

    def rows(self, table: str, caller: Caller) -> list[dict[str, Any]]:
        """Return a user's rows as they are in the database."""
        if table == "subscription_plans":
            return self.stack.rows("select * from public.subscription_plans where id = %s", f"test-{caller.user_id}")
        query = sql.SQL("select * from public.{} where user_id = %s").format(sql.Identifier(table))
        return self.stack.rows(query, caller.user_id)  # type: ignore[arg-type]  # psycopg wants literal SQL; this is made of table names


@pytest.fixture(scope="module")
def scene(local_stack: LocalStack):
    with People(local_stack) as people, httpx.Client(trust_env=False) as http:
        scene = Scene(local_stack, people.add(), people.add(), http)
        for caller in (scene.alice, scene.bob):
            fill_every_table(local_stack, caller)
        yield scene


def fill_every_table(stack: LocalStack, caller: Caller) -> None:
    def insert(table: str, **fields: Any) -> str:
        row = {"user_id": caller.user_id} | fields
        names, values = list(row), [Jsonb(value) if isinstance(value, dict) else value for value in row.values()]
        query = sql.SQL("insert into public.{} ({}) values ({}) returning *").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        )
        return str(stack.rows(query, *values)[0].get("id", ""))  # type: ignore[arg-type]  # psycopg wants literal SQL; this is made of table names

    session = insert("sessions", session_id="weather")
    insert(
        "uploads", session_uuid=session, file_name="a.csv", content_type="text/csv", size_bytes=1, reserved_bytes=1,
        chunk_size_bytes=1, total_chunks=1, expires_at="2090-01-01",
    )  # fmt: skip
    insert("usage_counters", period_start="2026-01-01")
    run = insert("training_results", session_uuid=session)
    insert("models", run_id=run, session_uuid=session, name="m", path="p", framework="keras")
    for table in ("scalers", "training_visualizations", "evaluation_tables"):
        insert(table, run_id=run, session_uuid=session, position=0, content={})


def test_every_table_has_its_expectations(local_stack):
    tables = local_stack.rows("select tablename from pg_tables where schemaname = 'public'")

    assert {row["tablename"] for row in tables} == set(EXPECTED)


def test_every_table_has_rows_to_ask_for(scene):
    for table in EXPECTED:
        assert scene.rows(table, scene.alice), table
        assert scene.rows(table, scene.bob), table


@pytest.mark.parametrize(("table", "verb", "who", "outcome"), CASES, ids=str)
def test_a_table_answers(scene, table, verb, who, outcome):
    before = scene.rows(table, scene.alice)
    key = "user_id" if "user_id" in before[0] else "id"
    of_alice = {key: f"eq.{before[0][key]}"}
    match verb:
        case "select":
            answer = scene.request(who, "GET", table)
        case "insert":
            # As a client would send it; a default or a duplicate is looked at after the right to insert.
            answer = scene.request(who, "POST", table, json={key: str(before[0][key])})
        case "update":
            answer = scene.request(who, "PATCH", table, params=of_alice, json={key: str(before[0][key])})
        case "delete":
            answer = scene.request(who, "DELETE", table, params=of_alice)

    if outcome == "refused":
        assert answer.status_code == (401 if who == "anonymous" else 403), answer.text
        assert answer.json()["code"] == "42501"
    else:
        assert answer.status_code == 200, answer.text
        seen = {row[key] for row in answer.json()}
        alices, bobs = str(before[0][key]), str(scene.rows(table, scene.bob)[0][key])
        match outcome:
            case "own":
                assert seen == {alices}
            case "none":
                assert seen == {bobs}
            case "all":
                assert {alices, bobs} <= seen
    assert scene.rows(table, scene.alice) == before


@pytest.mark.parametrize("who", ["owner", "other", "anonymous"])
def test_no_function_may_be_called_by(scene, who):
    functions = scene.stack.rows(
        "select proname, coalesce(proargnames, '{}') as arguments from pg_proc"
        " where pronamespace = 'public'::regnamespace"
    )

    assert functions
    for function in functions:
        arguments = dict.fromkeys(function["arguments"])
        answer = scene.request(who, "POST", f"rpc/{function['proname']}", json=arguments)
        assert answer.status_code == (401 if who == "anonymous" else 403), function["proname"]
        assert answer.json()["code"] == "42501", function["proname"]


@pytest.mark.parametrize("schema", ["private", "auth", "supabase_migrations", "pg_catalog"])
@pytest.mark.parametrize("who", ["owner", "service"])
def test_no_other_schema_is_exposed(scene, who, schema):
    settings = scene.stack.supabase
    token = {"Authorization": f"Bearer {scene.alice.token}"} if who == "owner" else {}
    key = settings.publishable_key if who == "owner" else settings.service_key
    headers = {"apikey": key, "Accept-Profile": schema, **token}

    answer = scene.http.get(f"{settings.url}/rest/v1/users", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST106")


@pytest.mark.parametrize("parent", ["sessions", "training_results", "models"])
def test_embedding_shows_nothing_more(scene, parent):
    child = {"sessions": "uploads", "training_results": "models", "models": "sessions"}[parent]

    answer = scene.request("other", "GET", parent, params={"select": f"user_id,{child}(user_id)"})

    assert answer.status_code == 200
    assert scene.alice.user_id not in answer.text
    assert scene.bob.user_id in answer.text


def test_a_session_that_is_being_deleted_is_hidden_from_its_owner(scene):
    scene.stack.rows(
        "insert into public.sessions (user_id, session_id, deleting_at) values (%s, 'going', now())",
        scene.alice.user_id,
    )

    sessions = scene.request("owner", "GET", "sessions").json()

    assert [session["session_id"] for session in sessions] == ["weather"]


def test_a_made_up_role_in_a_token_is_refused(scene):
    """Only a role that the gateway's own role may become is one, and only the identity service signs."""
    settings = scene.stack.supabase
    for role in ("postgres", "supabase_admin", "nobody"):
        token = scene.stack.keys.role_token(role)
        headers = {"apikey": settings.publishable_key, "Authorization": f"Bearer {token}"}
        answer = scene.http.get(f"{settings.url}/rest/v1/sessions", headers=headers)
        assert answer.is_client_error, role
