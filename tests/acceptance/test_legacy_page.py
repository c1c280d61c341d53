"""The commands of docs/legacy.md run as they stand, in order, in one shell."""

import os
import re
import subprocess
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs/legacy.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_every_command_of_the_legacy_page_works(service_url, alice, tmp_path):
    script = "\n".join(["set -eu -o pipefail", 'curl() { command curl --fail "$@"; }', *BLOCKS])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"TRAINSHED_URL": service_url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
    assert list(tmp_path.iterdir()) == []
