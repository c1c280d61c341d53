"""The repository as a home for others: what it says of itself holds."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from container.app import HEAVY_GROUPS, load_manifest

ROOT = Path(__file__).resolve().parents[2]
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]


def packages_of(group: str) -> set[str]:
    """Return the names that a group of pyproject.toml asks for, also through others."""
    found: set[str] = set()
    for item in GROUPS[group]:
        if isinstance(item, dict):
            found |= packages_of(item["include-group"])
        else:
            found.add(re.split(r"[\[=<>~!; ]", item, maxsplit=1)[0].lower().replace("_", "-"))
    return found


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements/*.txt")), ids=lambda path: path.stem)
def test_compiled_requirements_have_what_their_group_asks_for_and_nothing_it_no_longer_does(path):
    text = path.read_text()
    asked_for = rf"^([a-z0-9.-]+)==(?:(?!^\S).)*\(pyproject\.toml:{path.stem}\)"
    direct = re.findall(asked_for, text, re.MULTILINE | re.DOTALL)

    assert set(direct) == packages_of(path.stem)


@pytest.mark.parametrize("function", sorted(load_manifest()))
def test_the_image_that_serves_a_function_has_its_packages(function):
    group = load_manifest()[function]["requirements"]
    image = "container-training" if group in HEAVY_GROUPS else "container"

    assert packages_of(group) <= packages_of(image)


def test_checks_before_a_commit_are_some_of_those_of_continuous_integration():
    """By the same programs, so in the same versions."""
    made = (ROOT / "Makefile").read_text()
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    assert hooks
    for hook in hooks:
        # What pre-commit hands over by name is checked even where the project leaves it out, without this.
        assert f"\t{hook['entry'].removesuffix(' --force-exclude')}" in made, hook["id"]


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
