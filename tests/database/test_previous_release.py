"""The schema takes the code of the previous release, so that migrations and functions can be rolled out in turn.

There is no way to run code of a release from before the first one. What is held to instead: every SQL function that a
migration ever made for the service to call is still there, takes what it took, and may still be called.
"""

import re

import pytest

from dev.database import MIGRATIONS, migrate

VERSIONED = re.compile(r"create (?:or replace )?function public\.(\w+_v\d+)\s*\(", re.IGNORECASE)
DROPPED = re.compile(r"drop function (?:if exists )?public\.(\w+_v\d+)", re.IGNORECASE)


def callable_functions(connection) -> dict[str, tuple[int, int]]:
    """Return for each function that the service may call how many arguments it takes, and how many it may be left."""
    rows = connection.execute(
        """
        select p.proname, max(p.pronargs), max(p.pronargs - p.pronargdefaults) from pg_proc as p
        where p.pronamespace = 'public'::regnamespace and has_function_privilege('service_role', p.oid, 'execute')
        group by p.proname
        """
    )
    return {name: (most, least) for name, most, least in rows if re.search(r"_v\d+$", name)}


def made_by(path) -> set[str]:
    return set(VERSIONED.findall(path.read_text()))


def test_every_function_that_a_migration_made_can_still_be_called(empty_database):
    migrate(empty_database, MIGRATIONS)

    made = {name for path in MIGRATIONS.glob("*.sql") for name in made_by(path)}
    assert made
    assert made - callable_functions(empty_database).keys() == set()


def test_a_call_of_any_earlier_state_of_the_schema_still_fits(empty_database, tmp_path):
    """What was callable after each migration takes the same arguments at the end."""
    earlier: dict[str, tuple[int, int]] = {}
    for path in sorted(MIGRATIONS.glob("*.sql")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        migrate(empty_database, tmp_path)
        now = callable_functions(empty_database)
        for name, (most, least) in earlier.items():
            # Further arguments have defaults, so a call with the earlier ones still fits.
            assert now[name][0] >= most, f"{path.name} takes arguments from {name}"
            assert now[name][1] <= least, f"{path.name} demands more arguments of {name}"
        earlier = now


def what_is_answered(connection) -> dict[str, str]:
    """Return the type of every column that code may read, and of what every function answers that it may call."""
    rows = connection.execute(
        """
        select table_name || '.' || column_name, data_type from information_schema.columns
        where table_schema = 'public'
        union all select p.proname || '()', pg_get_function_result(p.oid) from pg_proc as p
        where p.pronamespace = 'public'::regnamespace and has_function_privilege('service_role', p.oid, 'execute')
        """
    )
    return dict(rows.fetchall())


def test_what_code_of_any_earlier_state_reads_is_there_with_the_type_it_had(empty_database, tmp_path):
    earlier: dict[str, str] = {}
    for path in sorted(MIGRATIONS.glob("*.sql")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        migrate(empty_database, tmp_path)
        now = what_is_answered(empty_database)
        assert earlier.items() <= now.items(), (path.name, sorted(earlier.items() - now.items()))
        earlier = now


@pytest.mark.parametrize("path", sorted(MIGRATIONS.glob("*.sql")), ids=lambda path: path.stem)
def test_no_migration_takes_away_what_code_may_call_or_read(path):
    """A function gets its next version beside it; a table or a column goes one release after its last reader."""
    text = path.read_text()
    made_again = made_by(path)

    assert set(DROPPED.findall(text)) <= made_again
    assert not re.search(r"\bdrop (?:table|column|type)\b|\brename (?:to|column)\b", text, re.IGNORECASE)
