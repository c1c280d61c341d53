"""An archive of many megabytes is built in few: what is in it is never held, and neither is the zip."""

import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
# Prints how much a process grows that builds an archive of a model of so many MiB, and how many bytes it had.
BUILDER = """
import contextlib, hashlib, json, sys
from shared.archives import ArchiveBuilder
from shared.errors import ObjectNotFoundError

n_mib = int(sys.argv[1])
piece = bytes(range(256)) * 4096
digest = hashlib.sha256()
for _ in range(n_mib):
    digest.update(piece)
member = {"name": "model.skops", "object": "m", "generation": 1, "bytes": n_mib << 20, "sha256": digest.hexdigest()}
plan = {"form": 1, "members": [member]}

class Store:
    n_bytes = 0
    def read(self, name, generation=None):
        if name.endswith(".json"):
            yield json.dumps(plan).encode()
            return
        for _ in range(n_mib):
            yield piece
    def stat(self, name):
        if name.endswith(".zip"):
            raise ObjectNotFoundError
    @contextlib.contextmanager
    def writing(self, name, content_type):
        yield self
    def write(self, content):
        self.n_bytes += len(content)
        return len(content)

def peak():
    with open("/proc/self/status") as status:
        return int(status.read().partition("VmHWM:")[2].split()[0]) * 1024

store, before = Store(), peak()
assert ArchiveBuilder(store).build("archives/s/key.json")
print(peak() - before, store.n_bytes)
"""


def test_memory_does_not_grow_with_the_archive():
    done = subprocess.run(
        [sys.executable, "-c", BUILDER, "200"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, size = map(int, done.stdout.split())
    assert size > 200 * MIB
    assert grown < 16 * MIB
