"""A call that outlives its lease: at each single step of it, somebody else ends or takes over the upload; it goes on.

In memory, because there it happens exactly where it should; test_race.py lets it happen anywhere, for real.
"""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from shared.errors import ServiceError
from shared.records.uploads import Upload
from tests.factories import ALICE, CHUNK_BYTES, Bench, some_bytes
from tests.fakes.uploads import InMemoryUploads

THREE_CHUNKS = b"a,b\n1,2\n3,4\n"
FORTY_CHUNKS = some_bytes(40 * CHUNK_BYTES)
BROKEN = b'a,b\n1,"2'


class Intruder:
    """Does something before the n-th call to what it wraps."""

    def __init__(self, at: int, act: Callable[[], Any]) -> None:
        self._at, self._act = at, act
        self._n_calls = 0
        self._lock = threading.Lock()
        self.happened = False

    def wrap(self, port: Any) -> Any:
        return _Wrapped(self, port)

    def before_call(self) -> None:
        with self._lock:
            self._n_calls += 1
            if self._n_calls == self._at:
                self.happened = True
                self._act()


class _Wrapped:
    def __init__(self, intruder: Intruder, port: Any) -> None:
        self._intruder, self._port = intruder, port

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._intruder.before_call()
            return method(*args, **kwargs)

        return call


@dataclass
class Scene:
    bench: Bench
    upload: Upload

    def let_lease_run_out(self) -> None:
        for row in self.bench.database.uploads.values():
            if row.lease_expires_at:
                row.lease_expires_at = self.bench.database.now - timedelta(seconds=1)

    def assemble(self) -> None:
        self.bench.upload_service().assemble(ALICE, self.upload.id)

    def abort(self) -> None:
        self.bench.upload_service().abort(ALICE, self.upload.id)

    def sweep(self) -> None:
        self.bench.upload_service().sweep(max_age_hours=0)

    def delete(self) -> None:
        self.bench.deletion_service().delete(ALICE, self.upload.session_id)


def three_chunks(bench: Bench) -> Upload:
    return bench.open_upload(THREE_CHUNKS, fileName="hours.csv")


def forty_chunks(bench: Bench) -> Upload:
    return bench.open_upload(FORTY_CHUNKS)


def no_chunk(bench: Bench) -> Upload:
    return bench.open_upload(b"")


def a_broken_table(bench: Bench) -> Upload:
    return bench.open_upload(BROKEN, fileName="hours.csv")


def another_file_than_declared(bench: Bench) -> Upload:
    return bench.open_upload(THREE_CHUNKS, sha256=hashlib.sha256(b"another").hexdigest())


def an_equal_file(bench: Bench) -> Upload:
    # Opened before the equal file was there; from then on it needs no chunk.
    sha256 = hashlib.sha256(THREE_CHUNKS).hexdigest()
    upload = bench.open_upload(THREE_CHUNKS, missing=[0, 1, 2], fileName="hours.bin", sha256=sha256)
    equal = bench.open_upload(THREE_CHUNKS, fileName="equal.bin", sha256=sha256, sessionId="climate")
    bench.upload_service().assemble(ALICE, equal.id)
    return upload


def every_step(prepare: Callable[[Bench], Upload], end: str) -> Iterator[tuple[Scene, Any]]:
    """Yield what is left after an assembly into which somebody came, for each of its steps."""
    for at in itertools.count(1):
        bench = Bench()
        scene = Scene(bench, prepare(bench))

        def intrude(scene: Scene = scene) -> None:
            scene.let_lease_run_out()
            try:
                getattr(scene, end)()
            except ServiceError:
                # The upload has ended already.
                return

        intruder = Intruder(at, intrude)
        uploads, store = intruder.wrap(InMemoryUploads(bench.database)), intruder.wrap(bench.store)
        outcome: Any = None
        try:
            outcome = bench.upload_service(uploads=uploads, store=store).assemble(ALICE, scene.upload.id)
        except ServiceError as error:
            outcome = error
        if not intruder.happened:
            assert at > 5, "too few steps to prove anything"
            return
        yield scene, outcome


@pytest.mark.parametrize("end", ["assemble", "abort", "sweep", "delete"])
@pytest.mark.parametrize(
    "prepare", [three_chunks, forty_chunks, no_chunk, a_broken_table, another_file_than_declared, an_equal_file]
)
def test_nothing_is_left_or_lost_wherever_somebody_came_between(prepare, end):
    for step, (scene, outcome) in enumerate(every_step(prepare, end), 1):
        bench = scene.bench
        scene.let_lease_run_out()
        scene.sweep()
        rows = [row for row in bench.database.uploads.values() if row.record.state == "assembled"]
        assert bench.store.names() == sorted(row.record.object_name for row in rows), f"step {step}: {outcome!r}"
        for row in rows:
            assert bench.store.stat(row.record.object_name).generation == row.record.generation
        usage = bench.database.usage[ALICE]
        deleted = end == "delete" and scene.upload.id not in bench.database.uploads
        kept_units = deleted and getattr(outcome, "state", None) == "assembled"
        n_bytes = sum(row.record.size_bytes for row in rows)
        assert usage.bytes_stored == n_bytes, f"step {step}: {outcome!r}"
        assert usage.processing_used in {len(rows), len(rows) + kept_units}, f"step {step}: {outcome!r}"
