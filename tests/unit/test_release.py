"""`make release`, in a scratch repository."""

import re
import subprocess

import pytest

from dev import release
from dev.faults import StackError

DAY = "2026-11-26"
CHANGELOG = "# Changelog\n\n## Unreleased\n\n### Added\n\n- Something.\n\n## 0.1.0 - 2026-01-01\n\n- The first.\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, value in {"NAME": "a", "EMAIL": "a@example.com"}.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    monkeypatch.setattr(release, "write_bundles", lambda folder: [folder / "one.zip"])
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0.1.0"\n')
    (tmp_path / "cli/trainshed").mkdir(parents=True)
    (tmp_path / "cli/trainshed/version.py").write_text('"""Of the client."""\n\nVERSION = "0.1.0"\n')
    release.git(tmp_path, "add", ".")
    release.git(tmp_path, "commit", "--quiet", "--message", "Begin")
    release.git(tmp_path, "tag", "v0.1.0")
    return tmp_path


def test_a_release_is_dated_committed_and_tagged(tree):
    lines = release.release(tree, "0.2.0", DAY, dry_run=False)

    assert lines[-1] == "now: git push origin HEAD v0.2.0"
    assert release.git(tree, "tag").split() == ["v0.1.0", "v0.2.0"]
    assert release.git(tree, "status", "--porcelain") == ""
    assert 'version = "0.2.0"' in (tree / "pyproject.toml").read_text()
    assert 'VERSION = "0.2.0"' in (tree / "cli/trainshed/version.py").read_text()
    headings = re.findall("^## (.*)$", (tree / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings == ["Unreleased", f"0.2.0 - {DAY}", "0.1.0 - 2026-01-01"]


def test_a_dry_run_changes_nothing(tree):
    lines = release.release(tree, "0.2.0", DAY, dry_run=True)

    assert all(line.startswith("would do: ") for line in lines)
    assert release.git(tree, "status", "--porcelain") == ""
    assert release.git(tree, "tag") == "v0.1.0"
    assert (tree / "CHANGELOG.md").read_text() == CHANGELOG


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3-rc1", "01.2.3", "0.1.0", "0.0.9"])
def test_a_version_that_is_none_or_not_above_the_last_is_refused(tree, version):
    with pytest.raises(StackError):
        release.release(tree, version, DAY, dry_run=False)


def test_what_is_not_committed_is_not_released(tree):
    (tree / "pyproject.toml").write_text("changed")

    with pytest.raises(StackError, match="not committed"):
        release.release(tree, "0.2.0", DAY, dry_run=False)


def test_a_release_without_changes_is_refused():
    with pytest.raises(StackError, match="nothing under"):
        release.dated("# Changelog\n\n## Unreleased\n\n## 0.1.0 - 2026-01-01\n\n- The first.\n", "0.2.0", DAY)
