"""HDF5 of strangers is read by a process apart: it answers the same, and however it ends, this process lives on."""

import gc
import io
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import pytest

from shared.adapters import hdf5_sandbox, hdf5_template
from shared.adapters.hdf5_sandbox import Hdf5Sandbox
from shared.adapters.hdf5_template import Hdf5Template
from shared.adapters.keras_h5 import H5pyConverter
from shared.errors import InternalError, StorageUnavailableError
from tests.fakes.hdf5 import Hdf5InProcess
from tests.hostile_hdf5 import HOSTILE, external, plain
from tests.training_factories import a_keras_archive, an_hdf5_file


@pytest.fixture
def sandbox():
    return Hdf5Sandbox(Hdf5Template())


def contents(sandbox, content, before=b"", after=b""):
    return sandbox.contents(io.BytesIO(before + content + after), len(before), len(content))


def with_a_configuration(file):
    plain(file)
    file.attrs["model_config"] = '{"class_name": "S\u00e9quential"}'


@pytest.mark.parametrize("build", [plain, with_a_configuration, *(build for build, _, _ in HOSTILE)])
def test_the_process_finds_what_this_one_would(sandbox, build):
    content = an_hdf5_file(build)
    assert contents(sandbox, content) == Hdf5InProcess().contents(io.BytesIO(content), 0, len(content))


def test_a_file_within_another_is_read_and_nothing_before_or_after_it(sandbox):
    content = an_hdf5_file(external)
    found = contents(sandbox, content, before=b"x" * 777, after=an_hdf5_file())
    assert found.finding.code == "external_dataset"
    assert contents(sandbox, an_hdf5_file(), before=content, after=content).finding is None


def test_the_process_writes_the_h5_that_this_one_would(sandbox):
    layer = {"class_name": "Dense", "config": {"name": "dense", "use_bias": False}}

    def weights(file):
        plain(file)
        file["layers/dense/vars"].attrs["name"] = "dense"

    archive = a_keras_archive(layer, **{"model.weights.h5": an_hdf5_file(weights)})
    written = sandbox.to_h5(archive)
    assert written.startswith(b"\x89HDF")
    assert written == H5pyConverter().to_h5(archive)
    assert sandbox.to_h5(b"PK") is None


def test_damaged_files_end_in_an_answer(sandbox):
    whole = an_hdf5_file(with_a_configuration)
    chance = random.Random(7)
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 4, 16])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        found = contents(sandbox, bytes(damaged))
        assert found.finding is None or found.finding.is_refused
    assert contents(sandbox, whole).config is not None


def test_of_a_large_file_little_is_read(sandbox, tmp_path):
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((64 << 20,))
    with h5py.File(tmp_path / "large.h5", "w") as file:
        for at in range(16):
            h5py.h5d.create(file.id, f"{at}".encode(), h5py.h5t.STD_U8LE, space, settings)

    class Counted(io.FileIO):
        n_bytes = 0

        def read(self, size=-1):
            self.n_bytes += size
            return super().read(size)

    with Counted(tmp_path / "large.h5") as file:
        size = file.seek(0, os.SEEK_END)
        assert sandbox.contents(file, 0, size).finding is None
        assert size >= 1 << 30
        assert file.n_bytes <= 48 << 20


def test_what_describes_a_file_may_not_be_spread_over_everything(sandbox, monkeypatch):
    monkeypatch.setattr(hdf5_sandbox, "MAX_BLOCKS", 1)
    content = an_hdf5_file(lambda file: [file.create_dataset(f"{at}", data=[at] * (1 << 18)) for at in range(4)])
    assert contents(sandbox, content).finding.code == "too_expensive"


def test_a_bucket_that_does_not_answer_is_no_fault_of_the_file(sandbox):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise StorageUnavailableError

    with pytest.raises(StorageUnavailableError):
        sandbox.contents(Broken(), 0, 1000)
    assert contents(sandbox, an_hdf5_file()).finding is None


@pytest.fixture
def opened(monkeypatch):
    """Opens a sandbox whose processes do something else with a file."""

    def open_with(body, before="", **settings):
        lines = [
            "import _thread, json, os, signal, socket, sys, time",
            "sys.path[:] = sys.argv[1].split(os.pathsep)",
            "from shared.adapters import hdf5_process",
            "from shared.adapters.hdf5_process import ANSWER, ASK, FRAME, _write",
            before,
            "def work(task, n_bytes):",
            textwrap.indent(body, "    "),
            "hdf5_process.fork_for_each(work)",
        ]
        monkeypatch.setattr(hdf5_template, "_PROGRAM", "\n".join(lines))
        return Hdf5Sandbox(Hdf5Template(), **settings)

    return open_with


def answering(text):
    return f"answer = {text}\n_write(FRAME.pack(ANSWER, 0, len(answer)))\n_write(answer)"


def telling(text):
    return answering(f"json.dumps({{'finding': None, 'config': json.dumps({text})}}).encode()")


def told(sandbox):
    return json.loads(contents(sandbox, an_hdf5_file()).config)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (f"os.kill(os.getpid(), {signal.SIGSEGV:d})", "crashed"),
        ("os.abort()", "crashed"),
        (f"_write(FRAME.pack(ASK, 0, 9)); os.kill(os.getpid(), {signal.SIGKILL:d})", "crashed"),
        (f"os.kill(os.getpid(), {signal.SIGXCPU:d})", "too_expensive"),
        ("_write(FRAME.pack(ASK, 0, 1 << 40))", "crashed"),
        ("_write(FRAME.pack(ASK, 1 << 40, 9))", "crashed"),
        ("_write(FRAME.pack(ANSWER, 0, 1 << 40))", "crashed"),
        ("_write(b'?' * 99)", "crashed"),
        (answering("b'nothing'"), "crashed"),
        (answering("b'[' * 100000"), "crashed"),
        (answering('b\'{"finding": 5, "config": null}\''), "crashed"),
    ],
)
def test_a_process_that_a_file_ends_or_takes_over_makes_the_file_refused(opened, body, code):
    sandbox = opened(body)
    finding = contents(sandbox, an_hdf5_file()).finding
    assert (finding.code, finding.is_refused) == (code, True)
    assert sandbox.to_h5(a_keras_archive()) is None


HANGING = [
    "time.sleep(600)",
    "_write(FRAME.pack(ASK, 0, 1 << 20))\ntime.sleep(600)",
    answering('b\'{"finding": null, "config": null}\'') + "\ntime.sleep(600)",
]


@pytest.mark.parametrize("body", HANGING)
def test_a_process_that_gives_no_sign_is_ended(opened, body, tmp_path):
    sandbox = opened(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{body}", silence_s=0.5)
    # On a busy machine it may be ended before it could say who it is.
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        # More than a pipe holds, which is not taken.
        assert contents(sandbox, bytes(1 << 20)).finding.code == "too_expensive"
    assert ends(int((tmp_path / "pid").read_text()))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid):
    deadline = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def test_an_h5_that_is_much_larger_than_its_archive_is_none(opened):
    assert opened(answering("b'\\x89HDF\\r\\n\\x1a\\n' + bytes(1 << 20)")).to_h5(b"x" * 4) is not None
    assert opened(answering("b'\\x89HDF\\r\\n\\x1a\\n' + bytes((1 << 20) + 1)")).to_h5(b"x" * 4) is None


@pytest.mark.parametrize(
    ("body", "before"),
    [("sys.exit(3)", ""), ("pass", ""), ("import nothing_of_this_name", ""), ("pass", "import nothing_of_this_name")],
)
def test_a_defect_of_ours_is_no_fault_of_the_file(opened, body, before):
    sandbox = opened(body, before)
    for _ in range(2):
        with pytest.raises(InternalError):
            contents(sandbox, an_hdf5_file())


def test_nothing_of_the_environment_reaches_the_process(opened, monkeypatch):
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "secret")
    assert "secret" not in told(opened(telling("repr(dict(os.environ))")))


def test_each_file_has_a_process_of_its_own_that_knows_nothing_of_the_file_before(opened):
    sandbox = opened(telling("[os.getpid(), os.getppid(), seen]") + "\nseen.append(1)", before="seen = []")
    (first, first_parent, _), (second, second_parent, seen) = told(sandbox), told(sandbox)
    assert first != second
    assert first_parent == second_parent
    assert seen == []


def test_the_process_has_nothing_open_but_the_pipe_for_its_file(opened):
    links = "{fd: os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) != listed}"
    listed = "listed = os.open('/proc/self/fd', os.O_RDONLY); os.close(listed)\n"
    found = told(opened(f"{listed}{telling(links)}"))
    assert found.keys() == {"0", "1", "2"}
    assert found["0"] == found["1"]
    assert found["0"].startswith("socket:")
    assert found["2"] == "/dev/null"


def test_where_the_process_before_is_gone_another_one_is_started(sandbox):
    assert contents(sandbox, an_hdf5_file()).finding is None
    template = sandbox._template._process
    template.kill()
    os.waitid(os.P_PID, template.pid, os.WEXITED | os.WNOWAIT)
    assert contents(sandbox, an_hdf5_file()).finding is None


def test_nothing_is_left_where_nobody_has_a_sandbox_any_more():
    sandbox = Hdf5Sandbox(Hdf5Template())
    pid = sandbox._template._process.pid
    assert is_running(pid)
    del sandbox
    gc.collect()
    assert not is_running(pid)


def test_what_is_forked_ends_with_the_process_that_asked():
    program = (
        "from shared.adapters.hdf5_template import Hdf5Template\n"
        "template = Hdf5Template()\n"
        "print(template._process.pid, flush=True)\n"
        "input()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        pid = int(asking.stdout.readline())
        assert is_running(pid)
        asking.kill()
    assert ends(pid)


ACTS = {
    "opening a file": "open('/etc/passwd')",
    "opening its environment's file": "os.open('/proc/self/environ', os.O_RDONLY)",
    "a connection": "socket.socket()",
    "a process": "os.fork()",
    "another program": "os.execv('/bin/true', ['true'])",
    "a signal": "os.kill(os.getppid(), 0)",
    "a group of its own": "os.setpgid(0, 0)",
    "a thread": "_thread.start_new_thread(print, ())",
    "a look at a folder": "os.listdir('/')",
}


def test_a_sealed_process_can_do_nothing_but_calculate_and_answer(opened):
    lines = [
        "from shared.adapters.seccomp import seal",
        "seal()",
        "done = []",
        *(
            f"try:\n    {act}\n    done.append({name!r})\nexcept (OSError, RuntimeError):\n    pass"
            for name, act in ACTS.items()
        ),
        telling("[sum(range(10 ** 6)), done]"),
    ]
    assert told(opened("\n".join(lines))) == [499999500000, []]


READING = "hdf5_process.read_file(task, n_bytes)"


def test_a_file_that_takes_more_memory_than_there_is_is_refused(opened):
    sandbox = opened(READING, "hdf5_process.inspect_weights = lambda *_: bytes(400 << 20)")
    assert contents(sandbox, an_hdf5_file()).finding.code == "too_large"


def test_a_file_that_takes_more_time_than_there_is_is_refused(opened):
    spinning = "def spin(*_):\n    while True: pass\nhdf5_process.MAX_CPU_S = 1\nhdf5_process.inspect_weights = spin"
    assert contents(opened(READING, spinning), an_hdf5_file()).finding.code == "too_expensive"


def test_the_process_is_sealed_before_it_sees_the_file(opened):
    # What it does with the file is what fails where it is not sealed.
    looking = (
        "def contents_of(file, n_bytes):\n"
        "    try:\n"
        "        open('/etc/passwd')\n"
        "    except OSError as error:\n"
        "        return hdf5_process.Hdf5Contents(None, str(error.errno))\n"
        "    return hdf5_process.Hdf5Contents(None, 'opened')\n"
        "hdf5_process.contents_of = contents_of\n"
    )
    assert told(opened(READING, looking)) == 1
