"""Squawk finds nothing in the migrations but what is excused here, each with its reason."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dev.database import MIGRATIONS

SQUAWK = Path(sys.executable).parent / "squawk"

# Of every migration.
EXCUSED = {
    "prefer-bigint-over-int": "These columns count chunks, rows of a page, steps: our limits lie below 2^31.",
    "require-lock-timeout": "PostgREST's roles have one, and `supabase db push` is run by a person who sees it wait.",
    "require-statement-timeout": "As for locks.",
}
# Of migrations from before the first release: no table had a row that a lock could make wait.
FIRST_RELEASE = "20261127000000"
EXCUSED_BEFORE_THE_FIRST_RELEASE = {
    "adding-field-with-default",
    "adding-required-field",
    "ban-drop-column",
    "ban-drop-constraint",
    "ban-drop-not-null",
    "changing-column-type",
    "constraint-missing-not-valid",
    "disallowed-unique-constraint",
    "prefer-robust-stmts",
    "require-concurrent-index-creation",
}


def findings(path: Path) -> set[str]:
    """Return the rules that a migration breaks."""
    command = [SQUAWK, "--assume-in-transaction", "--reporter", "gcc", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return set(re.findall(r"(?:warning|error): ([a-z-]+)", re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)))


@pytest.mark.parametrize("path", sorted(MIGRATIONS.glob("*.sql")), ids=lambda path: path.stem)
def test_squawk_finds_nothing_that_is_not_excused(path):
    early = EXCUSED_BEFORE_THE_FIRST_RELEASE if path.name < FIRST_RELEASE else set()

    assert findings(path) <= EXCUSED.keys() | early


def test_squawk_finds_what_locks_a_table(tmp_path):
    path = tmp_path / "20270101000000_lock.sql"
    path.write_text("alter table public.sessions alter column n_dat type text;\n")

    assert "changing-column-type" in findings(path)
