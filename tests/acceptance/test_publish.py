"""A team's own job publishes through `trainshed.publish`, against the real stack."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import setting
from tests.training_factories import a_model_file_content
from trainshed.errors import FileChangedError, PublishError, ServiceError
from trainshed.publication import run_prefix
from trainshed.publish import Publisher
from trainshed.run_files import LocalFile

REPOSITORY = Path(__file__).parents[2]


def write(folder, name, *, seed=0, size=0):
    """Write a file that begins as its format does."""
    path = folder / name
    content = a_model_file_content(path.suffix[1:])
    path.write_bytes(content + bytes([seed]) + (os.urandom(size) if size else b""))
    return path


def publish(client, session, path, run):
    with Publisher(client, session, run) as publisher:
        publisher.add_model("forest", path, metrics={"test": {"rmse": 1.5}})
    return publisher


def names_of(client, session):
    return [(model["name"], model["status"]) for model in client.list_models(session)["models"]]


def test_what_a_job_publishes_is_listed_and_downloaded_byte_by_byte(alice, new_session, tmp_path):
    session = new_session("publish")
    skops, keras = write(tmp_path, "forest.skops"), write(tmp_path, "net.keras")
    with Publisher(alice, session, about={"request": {"target": "power"}, "seed": 7}) as run:
        run.add_model("forest", skops, metrics={"test": {"rmse": 1.5}}, class_name="sklearn.ensemble.Forest")
        run.add_model("net", keras, metrics={"test": {"rmse": 1.2}}, features=["a", "b"])
        run.add_failed_model("boosting", "sklearn", "ran out of memory")
        run.add_scaler(
            "inputs", feature_names=["a"], type="custom", params={"k": 2.0}, formula="x * k", inverse="x / k"
        )
        run.add_table("costs", [{"model": "net", "seconds": 12.5}], units={"seconds": "s"})
        run.add_chart("net.fit", "scatter", {"a": [1.0, 2.0], "p": [1.1, 2.2]}, x="a", y="p", title="Fit")
    models = {model["name"]: model for model in alice.list_models(session)["models"]}
    assert {name: model["status"] for name, model in models.items()} == {
        "forest": "ready",
        "net": "ready",
        "boosting": "failed",
    }
    assert models["net"]["aliases"] == ["latest", "best"]
    assert models["net"]["features"] == ["a", "b"]
    (file,) = models["forest"]["formats"]
    downloaded = alice.download_model(session, tmp_path / "back.skops", path=models["forest"]["path"], file=file)
    assert downloaded.read_bytes() == skops.read_bytes()
    assert [scaler["formula"] for scaler in alice.scalers(session)] == ["x * k"]
    assert {table["name"] for table in alice.evaluation_tables(session)} == {"costs", "evaluation"}
    picture = alice.draw_chart(session, "net.fit", tmp_path / "fit.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_published_and_handed_out(alice, new_session, tmp_path):
    session = new_session("picture")
    picture = REPOSITORY / "docs/images/history-dark.png"
    with Publisher(alice, session) as run:
        run.add_picture("net.attention", picture)
    alice.draw_chart(session, "net.attention", tmp_path / "back.png")
    assert (tmp_path / "back.png").read_bytes() == picture.read_bytes()


def test_publishing_twice_under_one_name_changes_nothing(alice, new_session, tmp_path):
    session = new_session("twice")
    path = write(tmp_path, "forest.skops")
    first, second = (publish(alice, session, path, "nightly") for _ in range(2))
    assert first.run_id == second.run_id
    assert names_of(alice, session) == [("forest", "ready")]
    other = publish(alice, session, path, "next night")
    assert other.run_id != first.run_id
    assert names_of(alice, session) == [("forest", "ready")] * 2


def test_other_results_under_the_name_of_a_published_run_are_refused(alice, new_session, tmp_path):
    session = new_session("other")
    publish(alice, session, write(tmp_path, "forest.skops", seed=1), "nightly")
    before = alice.list_models(session)
    with pytest.raises(PublishError, match="published already, with other results"):
        publish(alice, session, write(tmp_path, "forest.skops", seed=2), "nightly")
    with (
        pytest.raises(PublishError, match="published already, with other results"),
        Publisher(alice, session, "nightly") as run,
    ):
        run.add_table("t", [{"a": 1}])
    assert alice.list_models(session) == before


def test_two_runs_at_once_are_both_published_and_one_run_twice_at_once_is_published_once(alice, new_session, tmp_path):
    session = new_session("at-once")
    paths = [write(tmp_path, f"forest-{number}.skops", seed=number, size=200_000) for number in range(2)]
    jobs = [(paths[0], "one"), (paths[0], "one"), (paths[1], "two")]
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda job: publish(alice, session, *job), jobs))
    assert len({run.run_id for run in runs}) == 2
    assert names_of(alice, session) == [("forest", "ready")] * 2


# Publishes six models; the process ends itself at one of its PUTs, as the machine would: without a word to anybody.
JOB = """
    import os, signal, sys
    from pathlib import Path
    from tests.acceptance.conftest import sign_in_as
    from trainshed import Client
    from trainshed.publish import Publisher

    url, session, folder, at, where = sys.argv[1:]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Dying(Client):
        n_puts = 0

        def put_chunk(self, chunk, content):
            self.n_puts += 1
            if self.n_puts != int(at):
                return super().put_chunk(chunk, content)
            if where == "before":
                die()
            super().put_chunk(chunk, self.first_piece(content) if where == "within" else content)
            die()

        def first_piece(self, content):
            yield next(iter(content))
            die()

    with Dying(url, sign_in_as("ALICE")) as client, Publisher(client, session, "nightly") as run:
        for number in range(6):
            run.add_model(f"forest-{number}", Path(folder) / f"forest-{number}.skops")
"""


def test_a_job_killed_wherever_it_was_publishes_nothing_and_goes_on_where_it_was_and_two_at_once_end_it(
    service_url, alice, new_session, tmp_path, artifacts
):
    session = new_session("killed")
    for number in range(6):
        write(tmp_path, f"forest-{number}.skops", seed=number, size=2_000_000)
    program = [sys.executable, "-c", textwrap.dedent(JOB), service_url, session, str(tmp_path)]
    prefix = run_prefix(alice.get_session(session)["id"], Publisher(alice, session, "nightly").run_id)
    before = {}
    # At which PUT of its own each of the jobs dies, and how many objects there are then.
    for at, where, n_objects in ((3, "within", 2), (2, "after", 4), (3, "before", 6), (1, "before", 6)):
        job = subprocess.run([*program, str(at), where], cwd=REPOSITORY, check=False)
        assert job.returncode == -signal.SIGKILL
        assert alice.save_models(session)["models_saved"] == 0
        objects = {one["name"]: one["generation"] for one in artifacts.list(prefix)}
        assert len(objects) == n_objects
        assert before.items() <= objects.items()
        assert f"{prefix}manifest.json" not in objects
        before = objects
    jobs = [subprocess.Popen([*program, "0", ""], cwd=REPOSITORY) for _ in range(2)]
    assert [job.wait() for job in jobs] == [0, 0]
    assert sorted(names_of(alice, session)) == [(f"forest-{number}", "ready") for number in range(6)]
    objects = {one["name"]: one["generation"] for one in artifacts.list(prefix)}
    assert len(objects) == 7
    assert before.items() <= objects.items()


def test_a_job_killed_between_its_manifest_and_the_end_is_published_by_whoever_asks_next(
    service_url, alice, new_session, tmp_path
):
    session = new_session("killed-late")
    for number in range(6):
        write(tmp_path, f"forest-{number}.skops", seed=number)
    program = [sys.executable, "-c", textwrap.dedent(JOB), service_url, session, str(tmp_path)]
    job = subprocess.run([*program, "7", "after"], cwd=REPOSITORY, check=False)
    assert job.returncode == -signal.SIGKILL
    assert names_of(alice, session) == []
    assert alice.save_models(session)["models_saved"] == 6
    assert subprocess.run([*program, "0", ""], cwd=REPOSITORY, check=False).returncode == 0
    assert sorted(names_of(alice, session)) == [(f"forest-{number}", "ready") for number in range(6)]


def fail_half_way(client, session, folder):
    with Publisher(client, session) as run:
        run.add_model("forest", [write(folder, "forest.skops")])
        run.add_model("net", folder / "net.exe")


def test_a_job_that_fails_publishes_nothing(alice, new_session, tmp_path):
    session = new_session("fails")
    with pytest.raises(PublishError, match="no known format"):
        fail_half_way(alice, session, tmp_path)
    assert alice.save_models(session)["models_saved"] == 0


def test_nobody_publishes_into_somebody_elses_session(alice, bob, new_session, tmp_path):
    session = new_session("foreign")
    with pytest.raises(ServiceError) as refusal:
        Publisher(bob, session)
    assert refusal.value.code == "session_not_found"
    own = bob.init_session(session)
    try:
        publish(bob, session, write(tmp_path, "forest.skops"), "nightly")
        assert names_of(alice, session) == []
        assert own["uuid"] != alice.get_session(session)["id"]
    finally:
        bob.delete_session(session)


@pytest.mark.parametrize("kind", ["another sha256", "an altered file", "a missing file", "a foreign file"])
def test_a_manifest_that_does_not_fit_is_refused_naming_the_object_and_nothing_is_recorded(
    alice, new_session, tmp_path, kind
):
    session = new_session("wrong")
    path = write(tmp_path, "forest.skops")
    publisher = Publisher(alice, session)
    publisher.add_model("forest", path)
    file = publisher._models["forest"]["files"][0]
    match kind:
        case "another sha256":
            file["sha256"] = hashlib.sha256(b"else").hexdigest()
        case "an altered file":
            file["bytes"] += 1
        case "a missing file":
            file["object"] = file["object"].replace("forest/", "gone/")
        case "a foreign file":
            file["object"] = f"results/{alice.init_session(session)['uuid']}/other/forest.skops"
    with pytest.raises(ServiceError) as refusal:
        publisher.finish()
    assert refusal.value.code == "manifest_invalid"
    assert file["object"] in refusal.value.detail
    assert names_of(alice, session) == []


@pytest.mark.parametrize("change", [lambda old: old[:-1] + b"!", lambda old: old[:-9], lambda old: old + b"!"])
def test_a_file_that_changes_on_its_way_leaves_nothing(alice, new_session, tmp_path, artifacts, change):
    session = new_session("changes")
    path = write(tmp_path, "forest.skops", size=100_000)
    seen = LocalFile.of(path)
    path.write_bytes(change(path.read_bytes()))
    publisher = Publisher(alice, session)
    with pytest.raises(FileChangedError, match=r"forest\.skops was changed while it was published"):
        publisher._destination.write("forest/x.skops", seen, "application/zip")
    assert artifacts.list(run_prefix(alice.get_session(session)["id"], publisher.run_id)) == []


def test_a_job_may_write_with_rights_of_its_own(alice, new_session, tmp_path, artifacts, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", setting("STORAGE_EMULATOR_HOST"))
    session = new_session("rights")
    path = write(tmp_path, "forest.skops", size=100_000)
    for _ in range(2):
        with Publisher(alice, session, "nightly", bucket=setting("ARTIFACTS_BUCKET")) as run:
            run.add_model("forest", path)
    assert names_of(alice, session) == [("forest", "ready")]
    with (
        pytest.raises(PublishError, match="published already"),
        Publisher(alice, session, "nightly", bucket=setting("ARTIFACTS_BUCKET")) as run,
    ):
        run.add_table("t", [{"a": 1}])


class Artifacts:
    """Looks into the bucket past the service."""

    def __init__(self, http, bucket):
        self._http = http
        self._bucket = bucket

    def list(self, prefix):
        answer = self._http.get(f"/storage/v1/b/{self._bucket}/o", params={"prefix": prefix})
        return answer.raise_for_status().json().get("items", [])


@pytest.fixture
def artifacts():
    with httpx.Client(base_url=setting("STORAGE_INTERNAL_URL"), trust_env=False) as http:
        yield Artifacts(http, setting("ARTIFACTS_BUCKET"))
