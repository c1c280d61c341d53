import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
N_MUTATIONS = 100_000


def test_changed_pickles_are_described_or_refused_and_do_nothing():
    """Limits of time for each case and of memory are in the program."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.mutations", str(N_MUTATIONS), "20261123"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sum(report["outcomes"].values()) == N_MUTATIONS
    assert (report["audit_events"], report["modules_imported"]) == ({}, [])
    # Enough of both kinds, or the mutations would test nothing.
    assert report["outcomes"]["described"] > N_MUTATIONS / 20
    assert len(report["outcomes"]) > 8
