"""Migrations are applied in order, each once, whole or not at all."""

import uuid
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from dev.database import MIGRATIONS, migrate
from dev.faults import StackError
from tests.door.stack import running_stack


@pytest.fixture
def database():
    """A connection to an empty database that is there for one test."""
    url = running_stack().settings["DATABASE_URL"]
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        with psycopg.connect(urlunsplit(urlsplit(url)._replace(path=f"/{name}")), autocommit=True) as connection:
            connection.execute("create schema supabase_migrations")
            connection.execute(
                "create table supabase_migrations.schema_migrations"
                " (version text primary key, statements text[], name text)"
            )
            yield connection
        superuser.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name.removeprefix('_')}.sql").write_text(text)


def recorded(database):
    rows = database.execute("select version, name from supabase_migrations.schema_migrations order by version")
    return rows.fetchall()


def test_each_is_applied_once_in_the_order_of_its_version(database, tmp_path):
    write(
        tmp_path, _20260102000000_second="insert into one values (2)", _20260101000000_first="create table one (n int)"
    )

    first = migrate(database, tmp_path)
    write(tmp_path, _20260103000000_third="insert into one values (3)")
    second, third = migrate(database, tmp_path), migrate(database, tmp_path)

    assert first == ["20260101000000_first.sql", "20260102000000_second.sql"]
    assert (second, third) == (["20260103000000_third.sql"], [])
    assert database.execute("select array_agg(n order by n) from one").fetchone() == ([2, 3],)
    assert recorded(database)[0] == ("20260101000000", "first")


def test_one_that_fails_is_named_and_leaves_nothing(database, tmp_path):
    write(
        tmp_path, _20260101000000_good="create table good ()", _20260102000000_bad="create table bad (); select 1 / 0"
    )

    with pytest.raises(StackError, match=r"20260102000000_bad\.sql failed: division by zero"):
        migrate(database, tmp_path)

    assert recorded(database) == [("20260101000000", "good")]
    assert database.execute("select to_regclass('bad')").fetchone() == (None,)
    write(tmp_path, _20260102000000_bad="create table bad ()")
    assert migrate(database, tmp_path) == ["20260102000000_bad.sql"]


@pytest.mark.parametrize("name", ["first", "2026_first", "20260101000000-first", "20260101000000_First"])
def test_a_misnamed_file_is_refused_before_any_is_applied(database, tmp_path, name):
    write(tmp_path, _20250101000000_good="create table good ()", **{f"_{name}": "select 1"})

    with pytest.raises(StackError, match="is not named YYYYMMDDHHMMSS_what_it_does"):
        migrate(database, tmp_path)

    assert recorded(database) == []


def test_the_running_stack_has_all_migrations_of_the_repository():
    with psycopg.connect(running_stack().settings["DATABASE_URL"]) as connection:
        versions = [f"{version}_{name}.sql" for version, name in recorded(connection)]

    assert versions == sorted(file.name for file in MIGRATIONS.glob("*.sql"))
