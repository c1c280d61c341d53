"""What is in a session's archive, on fakes; that its programs work: tests/functional/test_archives.py."""

import hashlib
import io
import zipfile
from typing import Any

import pytest

from shared.archives import ArchiveBuilder, ArchiveService
from shared.publication import run_prefix
from shared.records.objects import archives_prefix, pictures_prefix
from tests.factories import ALICE, a_caller, a_uuid
from tests.legacy_factories import a_png
from tests.training_factories import TrainingBench, a_table, another_trainers_manifest

A_PNG = a_png(3, 2)


class ArchiveBench(TrainingBench):
    """A session with one published run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.session_uuid = self.a_session(a_table())
        self.run_id = a_uuid()
        self.prefix = run_prefix(self.session_uuid, self.run_id)

    def a_picture(self, object_name: str, **fields: Any) -> dict[str, Any]:
        """Write a picture and return its chart, as it is recorded."""
        stored = self.artifacts.write(object_name, A_PNG, "image/png")
        facts = {"generation": stored.generation, "bytes": len(A_PNG), "sha256": hashlib.sha256(A_PNG).hexdigest()}
        return {"name": "m.photo", "kind": "picture", "object": object_name, **facts, **fields}

    def archived(self, *charts: dict[str, Any]) -> dict[str, bytes]:
        """Record a run with these charts as they are; return what the archive holds."""
        document = another_trainers_manifest(self.session_uuid, self.run_id, models=[], charts=list(charts), request={})
        self.runs.record(ALICE, self.session_uuid, {"object": "m"}, document)
        service = ArchiveService(self.runs, self.artifacts, self.signer, None, ArchiveBuilder(self.artifacts))
        assert service.download(a_caller(), "weather", 0.0) is not None
        (name,) = [name for name in self.artifacts.names() if name.startswith(archives_prefix(self.session_uuid))][1:]
        with zipfile.ZipFile(io.BytesIO(self.artifacts.content(name))) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def pictures(members: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in members.items() if name.endswith(".png")}


def test_stored_pictures_of_published_and_of_old_results_are_in_it():
    bench = ArchiveBench()
    published = bench.a_picture(f"{bench.prefix}pictures/p.png")
    old = bench.a_picture(f"{pictures_prefix(bench.session_uuid)}{a_uuid()}.png", origin="legacy")
    members = bench.archived(published, old)
    folder = f"charts/{bench.run_id[:8]}"
    assert pictures(members) == {f"{folder}/m.photo.png": A_PNG, f"{folder}/m.photo-2.png": A_PNG}
    assert hashlib.sha256(A_PNG).hexdigest() in members["SHA256SUMS"].decode()


@pytest.mark.parametrize(
    "forged",
    [
        {"object": f"pictures/{a_uuid()}/p.png", "origin": "legacy"},
        {"object": f"results/{a_uuid()}/{a_uuid()}/p.png"},
        {"object": None, "origin": "legacy"},
        {"generation": None},
        {"sha256": None},
    ],
)
def test_a_picture_that_is_not_the_sessions_own_or_was_never_read_is_left_out(forged):
    bench = ArchiveBench()
    chart = bench.a_picture(forged.get("object") or f"{bench.prefix}p.png") | forged
    members = bench.archived(chart)
    assert pictures(members) == {}
    assert f"charts/{bench.run_id[:8]}/m.photo.json" in members
