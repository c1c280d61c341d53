"""The repository as a home for others: what it says of itself holds."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_checks_before_a_commit_have_the_versions_of_continuous_integration():
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([\d.]+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    found = {hook["repo"].rpartition("/")[2]: hook["rev"].removeprefix("v") for hook in hooks if "rev" in hook}

    assert found == {"ruff-pre-commit": pinned["ruff"], "sqlfluff": pinned["sqlfluff"]}


@pytest.mark.parametrize("name", ["CONTRIBUTING", "SECURITY", "docs/architecture", "docs/operations", "docs/keys"])
def test_links_of_a_page_lead_somewhere(name):
    page = ROOT / f"{name}.md"
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=lambda path: path.name)
def test_templates_of_issues_can_be_read(path):
    assert yaml.safe_load(path.read_text())


def test_every_link_stays_within_the_repository():
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    links = [ROOT / line.partition("\t")[2] for line in listed.stdout.splitlines() if line.startswith("120000")]
    assert links
    for link in links:
        assert not link.readlink().is_absolute(), link
        assert link.resolve().is_relative_to(ROOT), link
