"""The process that converts: however it ends, there is a verdict, and this process lives on."""

import pytest

from shared.adapters import keras_sandbox
from shared.adapters.keras_sandbox import run


@pytest.fixture
def program(monkeypatch):
    def write(body):
        monkeypatch.setattr(keras_sandbox, "_PROGRAM", f"import os, sys, time\nfolder = sys.argv[2]\n{body}\n")

    return write


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("time.sleep(600)", "refused", "too_expensive"),
        ("os.kill(os.getpid(), 24)", "refused", "too_expensive"),
        ("os.abort()", "refused", "crashed"),
        ("os.kill(os.getpid(), 9)", "refused", "crashed"),
        ("sys.exit(3)", "failed", None),
        ("pass", "failed", None),
        ("open(folder + '/verdict.json', 'w').write('[' * 100000)", "failed", None),
        ("open(folder + '/verdict.json', 'w').write('{\"status\": \"owned\"}')", "failed", None),
        ("os.symlink('/etc/passwd', folder + '/verdict.json')", "failed", None),
    ],
)
def test_a_process_that_ends_badly_gives_a_verdict(program, tmp_path, body, status, code):
    program(body)
    verdict = run(tmp_path, timeout_s=5)
    assert verdict.status == status
    assert (verdict.finding or {}).get("code") == code


def test_nothing_of_the_environment_reaches_it(program, tmp_path, monkeypatch):
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "secret")
    program("open(folder + '/seen', 'w').write(repr(dict(os.environ)))")
    run(tmp_path, timeout_s=30)
    assert "secret" not in (tmp_path / "seen").read_text()


def test_what_it_started_ends_with_it(program, tmp_path):
    program("import subprocess\nsubprocess.Popen(['/bin/sh', '-c', f'sleep 4; touch {folder}/late'])")
    run(tmp_path, timeout_s=30)
    program("time.sleep(5)")
    run(tmp_path, timeout_s=30)
    assert not (tmp_path / "late").exists()
