"""The command as a process: in a terminal, in a pipe, and where somebody has closed what it reads and writes."""

import json
import os
import subprocess
import sys

import pytest
from argcomplete.shell_integration import shellcode

from tests.fakes.upload_service import FakeUploadService, running
from tests.terminal import Terminal
from tests.unit.test_cli_command import environment


@pytest.fixture
def service():
    with running(FakeUploadService()) as service:
        yield service


@pytest.fixture
def variables(service, tmp_path):
    return {**environment(service), "XDG_CONFIG_HOME": str(tmp_path / "config"), "TERM": "xterm"}


def command(*arguments):
    return [sys.executable, "-m", "trainshed", *map(str, arguments)]


def in_a_shell(variables, line, *arguments):
    """Run the command as the shell's "$@" in a line of shell."""
    return subprocess.run(
        ["bash", "-c", line, "bash", *command(*arguments)], env=variables, capture_output=True, text=True, check=False
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(2_500))
    return path


@pytest.mark.parametrize("columns", [40, 100])
def test_progress_is_on_the_terminal_and_the_answer_in_the_pipe(variables, file, tmp_path, columns):
    line = f'"$0" "$@" > {tmp_path}/answer'
    words = ["bash", "-c", line, *command("upload", file, "--session", "s1", "--json")]
    with Terminal(words, variables, columns=columns) as terminal:
        assert terminal.end() == 0
    assert "2.5/2.5 kB" in terminal.shown
    assert json.loads((tmp_path / "answer").read_text())["state"] == "assembled"


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["ctrl-c", "ctrl-d"])
@pytest.mark.parametrize(
    ("arguments", "question"), [(["login"], "E-mail: "), (["login", "--email", "a@example.com"], "Password: ")]
)
def test_who_does_not_answer_a_question_gets_no_traceback(variables, arguments, question, key):
    with Terminal(command(*arguments), variables) as terminal:
        terminal.wait_for(question)
        assert terminal.end(key) == (130 if key == "\x03" else 2)
    assert "Traceback" not in terminal.shown


class TestClosed:
    def test_a_full_disk_is_one_sentence(self, variables, file):
        for more in ([], ["--json"]):
            done = in_a_shell(variables, '"$@" > /dev/full', "upload", file, "--session", "s1", *more)
            assert done.returncode == 1
            assert "Cannot write the output: No space left on device." in done.stderr
            assert "Traceback" not in done.stderr

    def test_a_reader_of_words_that_goes_away_is_no_error_to_print(self, variables, file):
        line = '{ "$@"; echo "code $?" >&2; } | true'
        done = in_a_shell({**variables, "PYTHONUNBUFFERED": ""}, line, "upload", file, "--session", "s1")
        assert done.stderr == "code 141\n"

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
    def test_what_is_closed_is_not_missed(self, variables, file, closed):
        done = in_a_shell(variables, f'"$@" {closed}', "upload", file, "--session", "s1")
        assert (done.returncode, done.stderr) == (0, "")
        assert bool(done.stdout) != (">&-" in closed.replace("2>&-", ""))

    def test_nobody_is_asked_at_a_closed_input(self, variables):
        done = in_a_shell(variables, '"$@" <&-', "login")
        assert done.returncode == 2
        assert "There is no terminal to ask at" in done.stderr


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_name_is_written_in_any_encoding(variables, tmp_path, more):
    path = tmp_path / "\N{STEAM LOCOMOTIVE}.csv"
    path.write_text("x")
    done = in_a_shell({**variables, "PYTHONIOENCODING": "ascii"}, '"$@"', "upload", path, "--session", "s1", *more)
    assert (done.returncode, done.stderr) == (0, "")
    if more:
        assert json.loads(done.stdout)["fileName"] == path.name
    else:
        assert done.stdout.startswith(r"\U0001f682.csv is stored")


class TestCompletion:
    @pytest.fixture
    def shell(self, variables, tmp_path):
        """Variables of a shell that finds the command."""
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/trainshed").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trainshed "$@"\n')
        (tmp_path / "bin/trainshed").chmod(0o755)
        return {**variables, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHONPATH": "cli"}

    def test_bash_completes_what_somebody_types(self, shell):
        with Terminal(["bash", "--norc", "--noprofile", "-i"], {**shell, "PS1": "ready> "}) as terminal:
            terminal.wait_for("ready> ")
            terminal.type('eval "$(trainshed completion bash)"\n')
            terminal.wait_for("ready> ")
            terminal.type("trainshed dow\t")
            terminal.wait_for("nload ")
            terminal.type("s1 --ar\t")
            terminal.wait_for("chive ")
            terminal.type("\x15exit\n")
            terminal.end()

    @pytest.mark.parametrize(
        ("shell_name", "mark"),
        [
            ("bash", "complete -o"),
            ("zsh", "compdef _python_argcomplete trainshed"),
            ("fish", "complete --command trainshed"),
        ],
    )
    def test_each_shell_gets_code_that_is_its_own(self, variables, shell_name, mark):
        done = in_a_shell(variables, '"$@"', "completion", shell_name)
        assert mark in done.stdout
        assert done.stdout == f"{shellcode(['trainshed'], shell=shell_name)}\n"

    def test_zsh_is_answered_with_what_each_command_does(self, shell):
        """What the code for zsh does: it asks with these variables, and reads the answer from file 8."""
        line = "trainshed do"
        asks = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_SHELL": "zsh",
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "IFS": "\v",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        answer = '"$@" 8>&1 9>&2 1>/dev/null 2>&1'
        done = in_a_shell({**shell, **asks}, answer)
        assert sorted(done.stdout.split("\v")) == [
            "doctor:Check from here to the bucket what an upload needs, and say how to mend it.",
            "download:Download models of a session; size and checksum are compared.",
        ]
