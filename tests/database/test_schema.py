"""What the catalog must say of every table and function, whoever added it."""

import pytest


@pytest.fixture
def rows(local_stack):
    return local_stack.rows


def names(found: list[dict]) -> list[str]:
    return [row["name"] for row in found]


def test_every_table_has_row_level_security(rows):
    assert not names(
        rows(
            "select relname as name from pg_class"
            " where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relrowsecurity"
        )
    )


def test_nothing_in_public_goes_around_row_level_security(rows):
    """A view runs as its owner unless told otherwise; so does a materialized one, always."""
    assert not names(
        rows(
            "select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')"
            " and not coalesce('security_invoker=true' = any(reloptions), false)"
        )
    )


def test_every_policy_lets_signed_in_users_read_and_asks_for_them_once_per_statement(rows):
    policies = rows("select tablename || '.' || policyname as name, * from pg_policies where schemaname = 'public'")

    assert policies
    for policy in policies:
        assert (policy["cmd"], policy["roles"]) == ("SELECT", ["authenticated"]), policy["name"]
        # In a subquery the planner calls auth.uid() once, not for every row.
        assert "SELECT auth.uid()" in policy["qual"], policy["name"]


def test_a_table_may_be_read_by_users_and_the_service_and_written_by_nobody(rows):
    grants = rows(
        "select table_name as name, grantee, privilege_type from information_schema.role_table_grants"
        " where table_schema = 'public' and grantee in ('anon', 'authenticated', 'service_role', 'PUBLIC')"
    )

    assert {(grant["grantee"], grant["privilege_type"]) for grant in grants} == {
        ("authenticated", "SELECT"),
        ("service_role", "SELECT"),
    }


def test_no_column_is_granted_on_its_own(rows):
    assert not rows(
        "select attrelid::regclass::text || '.' || attname as name from pg_attribute"
        " where attacl is not null and attrelid::regclass::text !~ '^pg_'"
    )


def test_every_foreign_key_has_an_index_that_begins_with_it(rows):
    missing = rows(
        """
        select c.conrelid::regclass || ': ' || c.conname as name
        from pg_constraint as c
        where c.contype = 'f' and c.connamespace = 'public'::regnamespace and not exists (
          select from pg_index as i
          where i.indrelid = c.conrelid and i.indpred is null
            and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] operator(pg_catalog.@>) c.conkey
        )
        """
    )

    assert not names(missing)


def test_every_table_has_a_primary_key(rows):
    assert not names(
        rows(
            "select relname as name from pg_class as t where relnamespace = 'public'::regnamespace and relkind = 'r'"
            " and not exists (select from pg_constraint as c where c.conrelid = t.oid and c.contype = 'p')"
        )
    )


def test_every_function_has_a_fixed_search_path(rows):
    """Otherwise a caller's path decides what the names in it mean."""
    assert not names(
        rows(
            "select p.oid::regprocedure::text as name from pg_proc as p"
            " where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace)"
            """ and not coalesce('search_path=""' = any(p.proconfig), false)"""
        )
    )


def test_every_public_function_carries_its_version_in_its_name(rows):
    assert not names(
        rows(
            "select proname as name from pg_proc"
            " where pronamespace = 'public'::regnamespace and proname !~ '^[a-z_]+_v[0-9]+$'"
        )
    )


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_no_user_may_call_any_function(rows, role):
    assert not names(
        rows(
            "select p.oid::regprocedure::text as name from pg_proc as p"
            " where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace)"
            " and has_function_privilege(%s, p.oid, 'execute')",
            role,
        )
    )


def test_the_service_may_call_every_public_function_and_no_private_one(rows):
    callable_by_service = rows(
        "select p.pronamespace::regnamespace::text as schema, bool_and(has_function_privilege('service_role', p.oid,"
        " 'execute')) as every, bool_or(has_function_privilege('service_role', p.oid, 'execute')) as some"
        " from pg_proc as p where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace) group by 1"
    )

    assert {row["schema"]: (row["every"], row["some"]) for row in callable_by_service} == {
        "public": (True, True),
        "private": (False, False),
    }


def test_the_private_schema_is_closed(rows):
    assert rows(
        "select array_agg(r) as open_to from unnest(array['anon', 'authenticated', 'service_role']) as r"
        " where has_schema_privilege(r, 'private', 'usage')"
    ) == [{"open_to": None}]


def test_nobody_may_create_anything_in_public(rows):
    assert rows(
        "select array_agg(r) as open_to from unnest('{anon,authenticated,service_role,authenticator}'::text[]) as r"
        " where has_schema_privilege(r, 'public', 'create')"
    ) == [{"open_to": None}]
