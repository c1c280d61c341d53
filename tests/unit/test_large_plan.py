"""A file of 10 GiB needs no more memory than a small one, in any function."""

import json
import subprocess
import sys

from dev.home import REPOSITORY

MIB = 1 << 20


def test_ten_gib_are_planned_signed_listed_and_assembled_in_256_mib():
    command = [sys.executable, "-m", "tests.large_plan"]
    said = json.loads(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)

    assert (said["chunks"], said["size"], said["left"]) == (1024, 10 << 30, 1)
    assert list(said["peaks"]) == ["loaded", "create", "sign", "get", "assemble"]
    assert max(said["peaks"].values()) <= 256 * MIB
