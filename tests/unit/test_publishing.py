"""The rules of publishing, on fakes."""

import json

import pytest

from shared.errors import InvalidFieldError, RunPublishedError, SessionNotFoundError, TooLargeError
from shared.publication import LARGEST_FILE_BYTES, LARGEST_MANIFEST_BYTES, MOST_FILES, run_prefix
from shared.publishing import MOST_FILES_PER_CALL, PublishingService
from tests.factories import BOB, a_caller, a_uuid
from tests.fakes.objects import crc32c_of
from tests.training_factories import TrainingBench, a_model_file_content, a_table, another_trainers_manifest

RUN = "6f0c8a52-57a4-4c1c-9a4f-3f6d1f0d2b11"
CONTENT = a_model_file_content("skops")


class Bench:
    """A session, and a job that publishes into it."""

    def __init__(self) -> None:
        self.training = TrainingBench()
        self.uuid = self.training.a_session(a_table())
        self.store = self.training.artifacts
        self.signer = self.training.signer
        self.service = PublishingService(self.training.runs, self.store, self.signer)

    def sign(self, *files, run=RUN, caller=None, session="weather"):
        return self.service.sign(caller or a_caller(), session, run, list(files)).files

    def put(self, state, content=CONTENT):
        request = state.request
        return self.signer.send(request.method, request.url, request.headers, content)[0]


@pytest.fixture
def bench():
    return Bench()


def a_file(name="forest/model.skops", content=CONTENT, **fields):
    return {"name": name, "size": len(content), "crc32c": crc32c_of(content)} | fields


def test_a_file_is_written_once_below_its_run(bench):
    (state,) = bench.sign(a_file())
    assert state.object_name == f"{run_prefix(bench.uuid, RUN)}forest/model.skops"
    assert state.stored is None
    assert bench.put(state) == 200
    assert bench.put(state) == 412
    assert bench.store.content(state.object_name) == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"x"], ids=["less", "more", "other"])
def test_other_bytes_than_announced_are_refused_by_the_bucket(bench, content):
    (state,) = bench.sign(a_file())
    assert bench.put(state, content) == 400
    assert bench.store.names() == []


def test_what_is_stored_is_told_instead_of_signed(bench):
    first, _ = bench.sign(a_file(), a_file("forest/model.pkl"))
    bench.put(first)
    again, other = bench.sign(a_file(), a_file("forest/model.pkl"))
    assert (again.request, again.stored.size_bytes, again.stored.crc32c) == (None, len(CONTENT), crc32c_of(CONTENT))
    assert other.stored is None


def test_two_runs_do_not_meet(bench):
    one, other = a_uuid(), a_uuid()
    assert bench.put(bench.sign(a_file(), run=one)[0]) == 200
    assert bench.put(bench.sign(a_file(), run=other)[0]) == 200
    assert len(bench.store.names()) == 2


def test_with_its_manifest_a_run_is_closed_and_still_tells_what_it_has(bench):
    manifest = b"{}"
    for state, content in zip(
        bench.sign(a_file(), a_file("manifest.json", manifest)), (CONTENT, manifest), strict=True
    ):
        assert bench.put(state, content) == 200
    with pytest.raises(RunPublishedError) as refusal:
        bench.sign(a_file(), a_file("late.skops"))
    assert refusal.value.details == {"run_id": RUN, "file": "late.skops"}
    assert all(state.stored for state in bench.sign(a_file(), a_file("manifest.json", manifest)))


def test_nothing_is_added_to_a_run_of_the_reference_trainer(bench):
    run = bench.training.start()
    with pytest.raises(RunPublishedError):
        bench.sign(a_file(), run=run.id)


def test_what_was_published_through_signed_requests_is_taken_in(bench):
    document = another_trainers_manifest(bench.uuid, RUN)
    (state,) = bench.sign(a_file("gradient_boosting/model.skops"))
    bench.put(state)
    content = json.dumps(document).encode()
    bench.put(bench.sign(a_file("manifest.json", content))[0], content)
    saved = bench.training.models().save(a_caller(), "weather").models
    assert [entry.model.name for entry in saved] == ["gradient_boosting"]


@pytest.mark.parametrize("session", ["weather", "nothing", "../weather"])
def test_somebody_elses_session_is_as_one_that_does_not_exist(bench, session):
    with pytest.raises(SessionNotFoundError):
        bench.sign(a_file(), caller=a_caller(BOB), session=session)


@pytest.mark.parametrize(
    "name",
    [
        "../other/model.skops",
        "forest/../model.skops",
        "/model.skops",
        "forest//model.skops",
        "forest/.skops",
        "a/b/c/d/model.skops",
        "model.exe",
        "model",
        "manifest.json.skops/x",
        "other.json",
        "forest/manifest.json",
        "modèle.skops",
        "a\nb.skops",
        f"{'x' * 129}.skops",
        "",
        7,
    ],
)
def test_a_name_that_leads_elsewhere_or_is_of_no_known_format_is_refused(bench, name):
    with pytest.raises(InvalidFieldError, match=r"files\.name"):
        bench.sign(a_file(name))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("files.size", {"size": 0}),
        ("files.size", {"size": LARGEST_FILE_BYTES + 1}),
        ("files.size", {"name": "manifest.json", "size": LARGEST_MANIFEST_BYTES + 1}),
        ("files.size", {"size": True}),
        ("files.crc32c", {"crc32c": "AAAA"}),
        ("files.crc32c", {"crc32c": "!!!!!!=="}),
        ("files.crc32c", {"crc32c": None}),
        ("files", {"sha256": "0"}),
    ],
)
def test_sizes_and_checksums_are_looked_at_before_anything_is_signed(bench, field, change):
    with pytest.raises(InvalidFieldError) as refusal:
        bench.sign(a_file(**change))
    assert refusal.value.details["field"] == field


@pytest.mark.parametrize("run", ["", "1", RUN.upper(), None, f"{RUN}/x", [RUN]])
def test_a_run_is_named_by_a_uuid(bench, run):
    with pytest.raises(InvalidFieldError, match="runId"):
        bench.sign(a_file(), run=run)


@pytest.mark.parametrize("files", [[], "x", [1], [a_file(), a_file()], [a_file()] * (MOST_FILES_PER_CALL + 1)])
def test_files_are_a_list_of_different_ones(bench, files):
    with pytest.raises(InvalidFieldError, match="files"):
        bench.service.sign(a_caller(), "weather", RUN, files)


def test_a_run_has_bounds(bench):
    large = [a_file(f"m{number}/model.h5", size=LARGEST_FILE_BYTES) for number in range(5)]
    with pytest.raises(TooLargeError) as refusal:
        bench.sign(*large)
    assert refusal.value.details == {"limit": 20 << 30}
    for number in range(MOST_FILES):
        bench.store.write(f"{run_prefix(bench.uuid, RUN)}m{number}.h5", b"x", "application/x-hdf5")
    with pytest.raises(TooLargeError) as refusal:
        bench.sign(a_file())
    assert refusal.value.details == {"limit": MOST_FILES}
