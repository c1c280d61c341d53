"""What a user can do who talks to the database with Supabase's own client: read what is hers, and nothing else."""

import uuid
from contextlib import contextmanager

import httpx
import pytest
from postgrest.exceptions import APIError
from supabase import create_client
from supabase.lib.client_options import SyncClientOptions

from tests.acceptance.conftest import setting

TABLES = (
    "sessions",
    "uploads",
    "training_results",
    "models",
    "scalers",
    "training_visualizations",
    "evaluation_tables",
)
NOT_ALLOWED = "42501"


@contextmanager
def signed_in(user):
    # The client closes no connections of its own.
    with httpx.Client() as http:
        options = SyncClientOptions(httpx_client=http, auto_refresh_token=False)
        client = create_client(setting("SUPABASE_URL"), setting("SUPABASE_PUBLISHABLE_KEY"), options)
        client.auth.sign_in_with_password({"email": setting(f"{user}_EMAIL"), "password": setting(f"{user}_PASSWORD")})
        yield client


@pytest.fixture(scope="module")
def alices_client():
    with signed_in("ALICE") as client:
        yield client


@pytest.fixture(scope="module")
def bobs_client():
    with signed_in("BOB") as client:
        yield client


def test_supabase_s_client_reads_the_caller_s_own_rows_alone(alices_client, bobs_client, new_session):
    session = new_session("supabase-client")
    mine = alices_client.table("sessions").select("session_id,status").eq("session_id", session).execute()
    assert mine.data == [{"session_id": session, "status": "initialized"}]
    assert bobs_client.table("sessions").select("id").eq("session_id", session).execute().data == []


@pytest.mark.parametrize("table", TABLES)
def test_supabase_s_client_changes_no_row(alices_client, new_session, table):
    new_session("supabase-client")
    row = alices_client.table(table)
    for write in (
        lambda: row.insert({"id": str(uuid.uuid4())}),
        lambda: row.update({"id": str(uuid.uuid4())}).neq("id", str(uuid.uuid4())),
        lambda: row.delete().neq("id", str(uuid.uuid4())),
    ):
        with pytest.raises(APIError) as refused:
            write().execute()
        assert refused.value.code == NOT_ALLOWED


def test_supabase_s_client_calls_no_function_that_writes(alices_client):
    with pytest.raises(APIError) as refused:
        alices_client.rpc(
            "init_session_v1", {"p_owner": str(uuid.uuid4()), "p_session_id": "x", "p_metadata": {}}
        ).execute()
    assert refused.value.code == NOT_ALLOWED
