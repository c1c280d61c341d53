"""What the way to the database makes of answers that no repository's suite can bring about."""

import time

import pytest

from dev.keys import _key_id
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.errors import DatabaseUnavailableError, InternalError, UnauthenticatedError
from shared.records.callers import Caller, CallerKind
from tests.factories import ALICE
from tests.local_stack import LocalStack
from tests.tokens import Mint, user_claims


@pytest.fixture
def mint(local_stack: LocalStack) -> Mint:
    key = local_stack.keys._supabase
    return Mint(key, _key_id(key))


def caller(token: str) -> Caller:
    return Caller(CallerKind.USER, ALICE, token)


def test_a_database_that_does_not_answer_is_unavailable(local_stack):
    elsewhere = SupabaseDatabase(local_stack.supabase._replace(url="http://127.0.0.1:9"))

    for call in (
        lambda: elsewhere.call("init_session_v1", owner=ALICE, session_id="a", metadata={}),
        lambda: elsewhere.select(caller("x"), "sessions", "id"),
    ):
        with pytest.raises(DatabaseUnavailableError):
            call()
    elsewhere._http.close()


def test_a_token_that_expired_on_the_way_is_the_callers_to_renew(local_stack, mint):
    """The function believed it a moment ago; the database is the second to look."""
    expired = mint.sign(user_claims(ALICE, local_stack.issuer, exp=int(time.time()) - 3600))

    with pytest.raises(UnauthenticatedError):
        SupabaseSessions(local_stack.database).page(caller(expired), limit=1)


def test_a_token_of_a_stranger_is_refused_by_the_database_too(local_stack, mint):
    forged = Mint(key_id=mint.key_id).sign(user_claims(ALICE, local_stack.issuer))

    with pytest.raises(UnauthenticatedError):
        SupabaseSessions(local_stack.database).page(caller(forged), limit=1)


def test_a_function_that_is_not_there_is_a_defect_of_ours(local_stack):
    with pytest.raises(InternalError):
        local_stack.database.call("no_such_function_v1", owner=ALICE)


def test_a_value_that_the_database_refuses_is_a_defect_of_ours(local_stack, people):
    owner = people.add().user_id

    with pytest.raises(InternalError):
        local_stack.database.call("init_session_v1", owner=owner, session_id="not allowed", metadata={})


def test_reading_as_a_user_never_shows_what_a_filter_forgets(local_stack, people):
    alice, bob = people.add(), people.add()
    for one in (alice, bob):
        SupabaseSessions(local_stack.database).init(one.user_id, "weather", {})

    rows = local_stack.database.select(alice, "sessions", "user_id")

    assert {row["user_id"] for row in rows} == {alice.user_id}
