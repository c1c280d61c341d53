import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
N_MUTATIONS = 4_000


def test_changed_pickles_are_described_or_refused_and_do_nothing():
    """The long run is the same command with 100,000; limits of time and memory are in it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.mutations", str(N_MUTATIONS), "20261123"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sum(report["outcomes"].values()) == N_MUTATIONS
    assert (report["audit_events"], report["modules_imported"]) == ({}, [])
    # Enough of both kinds, or the mutations would test nothing.
    assert report["outcomes"]["described"] > N_MUTATIONS / 20
    assert len(report["outcomes"]) > 8
