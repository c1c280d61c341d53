import re
from contextlib import suppress

import psycopg
import pytest

from dev.database import MIGRATIONS, migrate
from dev.faults import StackError

FILES = sorted(MIGRATIONS.glob("*"))


def tables(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute("select tablename from pg_tables where schemaname = 'public'")
    return {name for (name,) in rows}


def schema(connection: psycopg.Connection) -> list[tuple[str, ...]]:
    """Return every column, index, policy and function as the catalog has it."""
    return connection.execute(
        """
        select table_name, column_name, data_type, column_default from information_schema.columns
        where table_schema = 'public'
        union all select tablename, indexname, indexdef, null from pg_indexes where schemaname = 'public'
        union all select tablename, policyname, qual, cmd from pg_policies where schemaname = 'public'
        union all select p.oid::regprocedure::text, p.proacl::text, p.prosrc, null from pg_proc as p
        where p.pronamespace in (select oid from pg_namespace where nspname in ('public', 'private'))
        union all select c.relname, c.relacl::text, c.relrowsecurity::text, null from pg_class as c
        where c.relnamespace = 'public'::regnamespace
        order by 1, 2, 3
        """
    ).fetchall()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_migration_is_named_as_the_supabase_cli_names_it(file):
    assert re.fullmatch(r"20\d{12}_[a-z0-9_]+\.sql", file.name)


def test_no_two_migrations_have_the_same_version():
    versions = [file.name[:14] for file in FILES]

    assert len(set(versions)) == len(versions)


def test_all_migrations_apply_to_an_empty_database_in_order(empty_database):
    assert tables(empty_database) == set()

    assert migrate(empty_database, MIGRATIONS) == [file.name for file in FILES]

    assert {"sessions", "uploads", "training_results", "models", "usage_counters"} <= tables(empty_database)


def test_applying_them_again_does_nothing(empty_database):
    migrate(empty_database, MIGRATIONS)

    assert migrate(empty_database, MIGRATIONS) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_migration_that_is_applied_by_hand_a_second_time_damages_nothing(empty_database, file):
    """One that creates something is refused whole; one that only replaces functions may be repeated."""
    for one in FILES[: FILES.index(file) + 1]:
        empty_database.execute(one.read_bytes())
    before = schema(empty_database)

    with suppress(psycopg.Error), empty_database.transaction():
        empty_database.execute(file.read_bytes())
    assert schema(empty_database) == before


def test_a_migration_that_fails_leaves_nothing_of_itself_and_stops_those_after_it(empty_database, tmp_path):
    (tmp_path / "20260101000000_good.sql").write_text("create table public.good (id int);")
    (tmp_path / "20260102000000_bad.sql").write_text("create table public.half (id int); select nonsense;")
    (tmp_path / "20260103000000_later.sql").write_text("create table public.later (id int);")

    with pytest.raises(StackError, match=r"20260102000000_bad\.sql"):
        migrate(empty_database, tmp_path)

    assert tables(empty_database) == {"good"}


def test_the_migrations_need_no_superuser(empty_database):
    [(is_superuser,)] = empty_database.execute("select usesuper from pg_user where usename = current_user")
    assert not is_superuser

    migrate(empty_database, MIGRATIONS)
