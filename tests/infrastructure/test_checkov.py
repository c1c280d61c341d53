"""Checkov finds nothing in infra/terraform but what is skipped there with a reason."""

import json
import re
import subprocess
from typing import Any

import pytest

from dev.home import REPOSITORY
from tests.infrastructure.terraform import TERRAFORM

CHECKOV = REPOSITORY / ".venv-infra/bin/checkov"
SOME_WORDS = 5


def results(folder) -> dict[str, Any]:
    assert CHECKOV.exists(), "Checkov is missing: `make check` installs it."
    options = ["--skip-download", "--framework", "terraform", "--compact", "--output", "json", "--directory", folder]
    done = subprocess.run([CHECKOV, *options], capture_output=True, text=True, check=False)
    return json.loads(done.stdout)["results"]


@pytest.mark.slow
def test_checkov_finds_nothing():
    found = results(TERRAFORM)

    assert [(one["check_id"], one["resource"]) for one in found["failed_checks"]] == []
    assert found["passed_checks"]


@pytest.mark.slow
def test_checkov_finds_a_public_bucket(tmp_path):
    (tmp_path / "bucket.tf").write_text(
        'resource "google_storage_bucket" "open" {\n  name = "open"\n  location = "EU"\n'
        '  public_access_prevention = "inherited"\n}\n'
    )

    assert "CKV_GCP_114" in {one["check_id"] for one in results(tmp_path)["failed_checks"]}


def test_every_skip_has_a_reason():
    skips = [line for file in TERRAFORM.glob("*.tf") for line in re.findall(r"#checkov:skip=(.*)", file.read_text())]
    assert skips
    for skip in skips:
        assert len(skip.partition(":")[2].split()) >= SOME_WORDS, skip
