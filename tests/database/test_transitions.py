"""Which function may move an upload or a session from which state to which: all pairs."""

import uuid
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

LEASE = str(uuid.uuid4())
OWNER = str(uuid.uuid4())
STATES = ("open", "assembling", "assembled", "failed", "aborted", "expiring", "expired")

# function: its arguments after the owner and the upload.
CALLS = {
    "extend_upload_v1": (),
    "claim_assembly_v1": (str(uuid.uuid4()), 60),
    "release_assembly_v1": (LEASE,),
    "record_assembly_v1": (LEASE, "datasets/a", 1, 10, "AAAAAA==", None, None),
    "fail_assembly_v1": (LEASE, Jsonb({"code": "data_set_invalid"})),
    "abort_upload_v1": (),
}

# function: state before -> state after, or the error. States that are not named stay as they are, without an error.
EXPECTED = {
    "extend_upload_v1": {"open": "open"} | dict.fromkeys(STATES[1:], "wrong_state"),
    "claim_assembly_v1": {"open": "assembling"}
    | dict.fromkeys(("failed", "aborted", "expiring", "expired"), "wrong_state"),
    "release_assembly_v1": {"assembling": "open"},
    "record_assembly_v1": {"assembling": "assembled"}
    | dict.fromkeys(("open", "failed", "aborted", "expiring", "expired"), "lease_lost"),
    "fail_assembly_v1": {"assembling": "failed"}
    | dict.fromkeys(("open", "assembled", "failed", "aborted", "expiring", "expired"), "lease_lost"),
    "abort_upload_v1": {"open": "aborted", "failed": "aborted"}
    | dict.fromkeys(("assembling", "assembled", "expiring", "expired"), "wrong_state"),
}
# What is given back: units of processing and bytes.
FREED = {("fail_assembly_v1", "assembling"), ("abort_upload_v1", "open"), ("finish_sweep_v1", "expiring")}
USED = {"processing_used": 5, "bytes_stored": 100}


@pytest.fixture
def connection(local_stack):
    """Open a transaction as the service; nothing of it stays."""
    with local_stack.connect(autocommit=False) as connection:
        connection.execute("insert into auth.users (id) values (%s)", (OWNER,))
        connection.execute(
            "insert into public.usage_counters values (%s, '2026-01-01', %s, %s)", (OWNER, *USED.values())
        )
        connection.execute(
            "select public.set_subscription_v1(%s, 'free', 'active', '2026-01-01', '2090-01-01')", (OWNER,)
        )
        yield connection
        connection.rollback()


def insert_session(connection: psycopg.Connection, **fields: Any) -> str:
    row = {"status": "uploading"} | fields
    [session] = connection.execute(
        "insert into public.sessions (user_id, session_id, status) values (%s, 'weather', %s) returning id",
        (OWNER, row["status"]),
    )
    return session["id"]


def insert_upload(connection: psycopg.Connection, state: str, session_uuid: str | None = None) -> str:
    """Insert an upload in that state; one in assembly is held with LEASE for another minute."""
    lease = (LEASE, "now() + interval '1 minute'") if state == "assembling" else (None, "null")
    is_made = state == "assembled"
    [upload] = connection.execute(
        "insert into public.uploads (session_uuid, user_id, file_name, content_type, size_bytes, reserved_bytes,"
        " chunk_size_bytes, total_chunks, state, object_name, generation, expires_at, lease_token, lease_expires_at)"
        f" values (%s, %s, 'a.csv', 'text/csv', 10, 10, 10, 1, %s, %s, %s, '2090-01-01', %s, {lease[1]}) returning id",
        (
            session_uuid or insert_session(connection),
            OWNER,
            state,
            "datasets/a" if is_made else None,
            1 if is_made else None,
            lease[0],
        ),
    )
    return upload["id"]


def call(connection: psycopg.Connection, function: str, *arguments: Any) -> str | None:
    """Call a function as the service; return the code of its error, if it raises one of ours."""
    connection.execute("set local role service_role")
    try:
        with connection.transaction():
            places = ", ".join(["%s"] * len(arguments))
            connection.execute(f"select public.{function}({places})", arguments)
    except psycopg.Error as error:
        if not error.sqlstate.startswith("PT"):
            raise
        return error.diag.message_primary
    finally:
        connection.execute("reset role")
    return None


def state_of(connection: psycopg.Connection, upload_id: str) -> str:
    [upload] = connection.execute("select state from public.uploads where id = %s", (upload_id,))
    return upload["state"]


def usage(connection: psycopg.Connection) -> dict[str, int]:
    [row] = connection.execute(
        "select processing_used, bytes_stored from public.usage_counters where user_id = %s", (OWNER,)
    )
    return row


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("function", CALLS)
def test_a_function_moves_an_upload_as_written_here(connection, function, state):
    upload_id = insert_upload(connection, state)
    expected = EXPECTED[function].get(state, state)

    error = call(connection, function, OWNER, upload_id, *CALLS[function])

    assert error == (expected if expected not in STATES else None)
    assert state_of(connection, upload_id) == (expected if expected in STATES else state)
    is_freed = (function, state) in FREED
    assert usage(connection) == ({"processing_used": 5 - is_freed, "bytes_stored": 100 - 10 * is_freed})


@pytest.mark.parametrize("state", STATES)
def test_finishing_a_sweep_ends_what_expires_and_leaves_the_rest(connection, state):
    upload_id = insert_upload(connection, state)

    for _ in range(2):
        assert call(connection, "finish_sweep_v1", upload_id) is None

    assert state_of(connection, upload_id) == ("expired" if state == "expiring" else state)
    is_freed = state == "expiring"
    assert usage(connection) == ({"processing_used": 5 - is_freed, "bytes_stored": 100 - 10 * is_freed})


@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize("state", STATES)
def test_a_function_moves_nobody_elses_upload(connection, function, state):
    upload_id = insert_upload(connection, state)

    error = call(connection, function, str(uuid.uuid4()), upload_id, *CALLS[function])

    # Failing without the lease and releasing without it say nothing about whose upload it is.
    assert error == {"fail_assembly_v1": "lease_lost", "release_assembly_v1": None}.get(function, "upload_not_found")
    assert state_of(connection, upload_id) == state
    assert usage(connection) == USED


@pytest.mark.parametrize("function", ["release_assembly_v1", "record_assembly_v1", "fail_assembly_v1"])
def test_another_lease_moves_nothing(connection, function):
    upload_id = insert_upload(connection, "assembling")

    error = call(connection, function, OWNER, upload_id, str(uuid.uuid4()), *CALLS[function][1:])

    assert error == (None if function == "release_assembly_v1" else "lease_lost")
    assert state_of(connection, upload_id) == "assembling"


SESSION_STATES = ("initialized", "uploading", "finalized", "training", "trained", "failed")


@pytest.mark.parametrize("status", SESSION_STATES)
def test_a_session_is_finalized_once_and_never_thrown_back(connection, status):
    session_uuid = insert_session(connection, status=status)

    assert call(connection, "finalize_session_v1", OWNER, "weather") is None

    [session] = connection.execute("select status from public.sessions where id = %s", (session_uuid,))
    assert session["status"] == ("finalized" if status in {"initialized", "uploading"} else status)


@pytest.mark.parametrize("status", SESSION_STATES)
def test_a_session_takes_uploads_until_it_is_finalized(connection, status):
    insert_session(connection, status=status)

    error = call(connection, "create_upload_v1", OWNER, "weather", "b.csv", "text/csv", 10, 10, 10, 1, None, False)

    is_open = status in {"initialized", "uploading"}
    assert error == (None if is_open else "session_finalized")
    assert usage(connection)["bytes_stored"] == (110 if is_open else 100)


@pytest.mark.parametrize("status", SESSION_STATES)
@pytest.mark.parametrize("state", STATES)
def test_a_session_in_any_state_can_be_deleted_unless_something_is_being_assembled(connection, status, state):
    session_uuid = insert_session(connection, status=status)
    upload_id = insert_upload(connection, state, session_uuid)

    error = call(connection, "begin_delete_session_v1", OWNER, "weather")

    if state == "assembling":
        assert error == "session_busy"
        assert state_of(connection, upload_id) == "assembling"
        return
    assert error is None
    assert state_of(connection, upload_id) == ("aborted" if state in {"open", "expiring"} else state)
    assert call(connection, "finish_delete_session_v1", OWNER, session_uuid) is None
    assert not connection.execute("select from public.uploads where id = %s", (upload_id,)).fetchall()
    # A processed file stays counted, its bytes do not; what came to nothing had been freed before or is now.
    is_freed, is_stored = state in {"open", "expiring"}, state in {"open", "expiring", "assembled"}
    assert usage(connection) == {"processing_used": 5 - is_freed, "bytes_stored": 100 - 10 * is_stored}


@pytest.mark.parametrize("state", ["assembled"])
@pytest.mark.parametrize("column", ["object_name", "size_bytes"])
def test_the_table_itself_refuses_an_assembled_upload_without_its_object(connection, state, column):
    upload_id = insert_upload(connection, state)

    with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
        connection.execute(f"update public.uploads set {column} = null where id = %s", (upload_id,))


def test_the_table_itself_refuses_an_assembly_without_a_lease(connection):
    upload_id = insert_upload(connection, "assembling")

    with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
        connection.execute("update public.uploads set lease_token = null where id = %s", (upload_id,))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "done"),
        ("total_chunks", 1025),
        ("total_chunks", -1),
        ("size_bytes", -1),
        ("file_name", ""),
        ("sha256", "x"),
    ],
)
def test_the_table_itself_refuses_values_that_no_upload_has(connection, column, value):
    upload_id = insert_upload(connection, "open")

    with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
        connection.execute(f"update public.uploads set {column} = %s where id = %s", (value, upload_id))


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "a" * 129, "a\n"])
def test_the_table_itself_refuses_names_that_no_session_has(connection, name):
    with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
        connection.execute("insert into public.sessions (user_id, session_id) values (%s, %s)", (OWNER, name))


def test_a_user_with_sessions_cannot_be_deleted_and_leave_objects_behind(connection):
    insert_session(connection)

    with pytest.raises(psycopg.errors.ForeignKeyViolation), connection.transaction():
        connection.execute("delete from auth.users where id = %s", (OWNER,))


def test_usage_never_falls_below_zero(connection):
    upload_id = insert_upload(connection, "open")
    connection.execute(
        "update public.usage_counters set processing_used = 0, bytes_stored = 3 where user_id = %s", (OWNER,)
    )

    assert call(connection, "abort_upload_v1", OWNER, upload_id) is None
    assert usage(connection) == {"processing_used": 0, "bytes_stored": 0}
