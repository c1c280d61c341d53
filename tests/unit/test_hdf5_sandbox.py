"""HDF5 of strangers is read by a process apart: it answers the same, and however it ends, this process lives on."""

import io
import json
import os
import random
import signal

import h5py
import pytest

from shared.adapters import hdf5_sandbox
from shared.adapters.hdf5_sandbox import Hdf5Sandbox
from shared.adapters.keras_h5 import H5pyConverter
from shared.errors import InternalError, StorageUnavailableError
from tests.fakes.hdf5 import Hdf5InProcess
from tests.hostile_hdf5 import HOSTILE, external, plain
from tests.training_factories import a_keras_archive, an_hdf5_file


def contents(content, sandbox=None, before=b"", after=b""):
    return (sandbox or Hdf5Sandbox()).contents(io.BytesIO(before + content + after), len(before), len(content))


def with_a_configuration(file):
    plain(file)
    file.attrs["model_config"] = '{"class_name": "S\u00e9quential"}'


@pytest.mark.parametrize("build", [plain, with_a_configuration, *(build for build, _, _ in HOSTILE)])
def test_the_process_finds_what_this_one_would(build):
    content = an_hdf5_file(build)
    assert contents(content) == Hdf5InProcess().contents(io.BytesIO(content), 0, len(content))


def test_a_file_within_another_is_read_and_nothing_before_or_after_it():
    content = an_hdf5_file(external)
    assert contents(content, before=b"x" * 777, after=an_hdf5_file()).finding.code == "external_dataset"
    assert contents(an_hdf5_file(), before=content, after=content).finding is None


def test_the_process_writes_the_h5_that_this_one_would():
    layer = {"class_name": "Dense", "config": {"name": "dense", "use_bias": False}}

    def weights(file):
        plain(file)
        file["layers/dense/vars"].attrs["name"] = "dense"

    archive = a_keras_archive(layer, **{"model.weights.h5": an_hdf5_file(weights)})
    written = Hdf5Sandbox().to_h5(archive)
    assert written.startswith(b"\x89HDF")
    assert written == H5pyConverter().to_h5(archive)
    assert Hdf5Sandbox().to_h5(b"PK") is None


def test_damaged_files_end_in_an_answer():
    whole = an_hdf5_file(with_a_configuration)
    chance = random.Random(7)
    for _ in range(30):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 4, 16])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        found = contents(bytes(damaged))
        assert found.finding is None or found.finding.is_refused


def test_of_a_large_file_little_is_read(tmp_path):
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
        assert Hdf5Sandbox().contents(file, 0, size).finding is None
        assert size >= 1 << 30
        assert file.n_bytes <= 48 << 20


def test_what_describes_a_file_may_not_be_spread_over_everything(monkeypatch):
    monkeypatch.setattr(hdf5_sandbox, "MAX_BLOCKS", 1)
    content = an_hdf5_file(lambda file: [file.create_dataset(f"{at}", data=[at] * (1 << 18)) for at in range(4)])
    assert contents(content).finding.code == "too_expensive"


def test_a_bucket_that_does_not_answer_is_no_fault_of_the_file():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise StorageUnavailableError

    with pytest.raises(StorageUnavailableError):
        Hdf5Sandbox().contents(Broken(), 0, 1000)


@pytest.fixture
def program(monkeypatch):
    def write(body):
        frame = "from shared.adapters.hdf5_process import FRAME, ANSWER, ASK, _write"
        path = "sys.path[:] = sys.argv[1].split(os.pathsep)"
        monkeypatch.setattr(hdf5_sandbox, "_PROGRAM", f"import json, os, sys, time\n{path}\n{frame}\n{body}\n")

    return write


def answering(text):
    return f"answer = {text}\n_write(FRAME.pack(ANSWER, 0, len(answer)))\n_write(answer)"


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
def test_a_process_that_a_file_ends_or_takes_over_makes_the_file_refused(program, body, code):
    program(body)
    finding = contents(an_hdf5_file()).finding
    assert (finding.code, finding.is_refused) == (code, True)
    assert Hdf5Sandbox().to_h5(a_keras_archive()) is None


@pytest.mark.parametrize("body", ["time.sleep(600)", "_write(FRAME.pack(ASK, 0, 1 << 20))\ntime.sleep(600)"])
def test_a_process_that_gives_no_sign_is_ended(program, body):
    program(body)
    # More than a pipe holds, which is not taken.
    assert contents(bytes(1 << 20), Hdf5Sandbox(silence_s=0.2)).finding.code == "too_expensive"


def test_an_h5_that_is_much_larger_than_its_archive_is_none(program):
    program(answering("b'\\x89HDF\\r\\n\\x1a\\n' + bytes(1 << 20)"))
    assert Hdf5Sandbox().to_h5(b"x" * 4) is not None
    program(answering("b'\\x89HDF\\r\\n\\x1a\\n' + bytes((1 << 20) + 1)"))
    assert Hdf5Sandbox().to_h5(b"x" * 4) is None


@pytest.mark.parametrize("body", ["sys.exit(3)", "pass", "import nothing_of_this_name"])
def test_a_defect_of_ours_is_no_fault_of_the_file(program, body):
    program(body)
    with pytest.raises(InternalError):
        contents(an_hdf5_file())


def test_nothing_of_the_environment_reaches_the_process(program, monkeypatch):
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "secret")
    program(answering("json.dumps({'finding': None, 'config': repr(dict(os.environ))}).encode()"))
    assert "secret" not in contents(an_hdf5_file()).config


ACTS = {
    "opening a file": "open('/etc/passwd')",
    "opening its environment's file": "os.open('/proc/self/environ', os.O_RDONLY)",
    "a connection": "socket.socket()",
    "a process": "os.fork()",
    "another program": "os.execv('/bin/true', ['true'])",
    "a signal": "os.kill(os.getppid(), 0)",
    "a thread": "_thread.start_new_thread(print, ())",
    "a look at a folder": "os.listdir('/')",
}


def test_a_sealed_process_can_do_nothing_but_calculate_and_answer(program):
    lines = [
        "import _thread, socket",
        "from shared.adapters.seccomp import seal",
        "seal()",
        "done = []",
        *(
            f"try:\n    {act}\n    done.append({name!r})\nexcept (OSError, RuntimeError):\n    pass"
            for name, act in ACTS.items()
        ),
        answering("json.dumps({'finding': None, 'config': json.dumps([sum(range(10 ** 6)), done])}).encode()"),
    ]
    program("\n".join(lines))
    assert json.loads(contents(an_hdf5_file()).config) == [499999500000, []]


def test_a_file_that_takes_more_memory_than_there_is_is_refused(program):
    program(
        "from shared.adapters import hdf5_process\n"
        "hdf5_process.inspect_weights = lambda *_: bytes(400 << 20)\n"
        "hdf5_process.main(sys.argv[2], int(sys.argv[3]))"
    )
    assert contents(an_hdf5_file()).finding.code == "too_large"


def test_the_process_is_sealed_before_it_sees_the_file(program):
    # What it does with the file is what fails where it is not sealed.
    program(
        "from shared.adapters import hdf5_process\n"
        "def contents_of(file, n_bytes):\n"
        "    try:\n"
        "        open('/etc/passwd')\n"
        "    except OSError as error:\n"
        "        return hdf5_process.Hdf5Contents(None, str(error.errno))\n"
        "    return hdf5_process.Hdf5Contents(None, 'opened')\n"
        "hdf5_process.contents_of = contents_of\n"
        "hdf5_process.main(sys.argv[2], int(sys.argv[3]))"
    )
    assert contents(an_hdf5_file()).config == "1"
