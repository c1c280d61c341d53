"""The doctor names exactly the point at which storage misbehaves, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from dev.home import REPOSITORY, Home
from dev.keys import Keys
from operations import doctor
from operations.storage_checks import StorageChecks, Verdict
from shared.adapters.gcs import GcsObjectStore
from shared.settings import StorageSettings
from tests.doctor.bucket_server import ORIGIN, BucketServer

FAULTS = {
    "the uploads are forbidden": "bucket.uploads",
    "the artifacts are forbidden": "bucket.artifacts",
    "the clock is wrong": "clock",
    "our origin is refused": "cors.allowed-origin",
    "a header is not allowed": "cors.allowed-origin",
    "PUT is not allowed": "cors.allowed-origin",
    "every origin is let in": "cors.other-origin",
    "our origin is refused at the models": "cors.artifacts",
    "a header is hidden from scripts": "cors.exposed-headers",
    "uploads are deleted otherwise": "soft-delete.uploads",
    "artifacts are deleted otherwise": "soft-delete.artifacts",
    "uploads are versioned otherwise": "versioning.uploads",
    "artifacts are versioned otherwise": "versioning.artifacts",
    "no rule deletes chunks": "lifecycle.uploads",
    "old uploads are deleted": "lifecycle.uploads",
    "old artifacts are deleted": "lifecycle.artifacts",
    "objects of the uploads cannot be deleted by us": "iam.uploads",
    "objects of the artifacts cannot be deleted by us": "iam.artifacts",
    "good chunks are refused": "put",
    "long chunks are taken": "put.too-long",
    "short chunks are taken": "put.too-short",
    "chunks are overwritten": "put.twice",
    "a second write is a conflict": "put.twice",
    "signed headers may be left out": "put.header-missing",
    "signed headers may be altered": "put.header-altered",
    "addresses may be altered": "put.url-altered",
    "damaged chunks are taken": "put.checksum",
    "damaged chunks are refused too late": "put.checksum",
    "expired addresses are taken": "put.expired",
    "compose loses a byte": "compose",
    "compose takes any source": "compose.stale-source",
    "compose overwrites": "compose.existing-destination",
    "delete takes any generation": "delete.stale-generation",
    "nothing is ever deleted": "cleanup",
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("home"))
    home.prepare()
    return Keys(home)


@pytest.fixture
def bucket_server(keys, monkeypatch):
    servers = []

    def start(fault=""):
        server = BucketServer(keys.signer_public_key, fault)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def examine(keys):
    def points_of(server, *, origins=(ORIGIN,), signer_key_file=""):
        settings = StorageSettings(
            "the-uploads", "the-artifacts", server.url, signer_key_file or str(keys.signer_file), "", 3600
        )
        checks = StorageChecks(settings, origins, sleep=server.sleep)
        points = {point.name: point for point in [*checks.run(), checks.clean_up()]}
        checks._http.close()
        for store in (checks._store, checks._artifacts):
            store._client._http.close()
        return points

    return points_of


def failed(points):
    return [point.name for point in points.values() if point.verdict is Verdict.FAILED]


def test_storage_that_behaves_passes_every_point(bucket_server, examine):
    server = bucket_server()

    points = examine(server)

    assert {point.verdict for point in points.values()} == {Verdict.OK, Verdict.INFORMATION}
    assert set(FAULTS.values()) <= set(points)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_nothing_else_is(bucket_server, examine, fault):
    server = bucket_server(fault)

    points = examine(server)

    assert failed(points) == [FAULTS[fault]]
    assert points[FAULTS[fault]].fix
    # Whatever is wrong, it writes below one prefix, and deletes that.
    assert {name.split("/")[0] for name in server.written} <= {"doctor"}
    assert len({name.split("/")[1] for name in server.written}) <= 1
    assert not server.objects or fault == "nothing is ever deleted"


def test_the_fix_of_a_bucket_setting_is_a_command_that_names_the_bucket(bucket_server, examine):
    points = examine(bucket_server("uploads are deleted otherwise"))

    assert points["soft-delete.uploads"].fix == "gcloud storage buckets update gs://the-uploads --clear-soft-delete"


def test_the_fix_of_cors_holds_the_whole_rule(bucket_server, examine):
    points = examine(bucket_server("a header is not allowed"))

    rule = json.loads(points["cors.allowed-origin"].fix.split("'")[1])[0]
    assert rule["origin"] == [ORIGIN]
    assert "PUT" in rule["method"]
    assert "x-goog-hash" in rule["responseHeader"]
    assert "x-goog-hash" in points["cors.allowed-origin"].finding


def test_settings_that_may_not_be_read_are_not_called_right(bucket_server, examine):
    points = examine(bucket_server("settings are secret"))

    assert failed(points) == []
    assert {points[f"{name}.uploads"].verdict for name in ("soft-delete", "versioning", "lifecycle")} == {
        Verdict.UNKNOWN
    }


def test_rules_that_delete_old_versions_are_nobodys_business(bucket_server, examine):
    assert failed(examine(bucket_server("a rule deletes old versions only"))) == []


def test_whether_compose_compares_checksums_is_told_and_not_judged(bucket_server, examine):
    ignoring = examine(bucket_server())["compose.destination-crc32c"]
    comparing = examine(bucket_server("compose compares checksums"))["compose.destination-crc32c"]

    assert (ignoring.verdict, comparing.verdict) == (Verdict.INFORMATION, Verdict.INFORMATION)
    assert "ignored" in ignoring.finding
    assert "refused with 400" in comparing.finding


def test_no_allowed_origin_is_a_failure(bucket_server, examine):
    points = examine(bucket_server(), origins=())

    assert failed(points) == ["cors.allowed-origin", "cors.artifacts"]
    assert "ALLOWED_ORIGINS" in points["cors.allowed-origin"].fix


def test_a_key_that_cannot_sign_is_named_and_puts_are_not_checkable(bucket_server, examine, tmp_path):
    broken = tmp_path / "signer.json"
    broken.write_text("{}")

    points = examine(bucket_server(), signer_key_file=str(broken))

    assert failed(points) == ["signing"]
    assert points["put.twice"].verdict is Verdict.UNKNOWN


def test_the_local_stack_passes_what_it_can_show_and_says_what_it_cannot(local_stack):
    ended = run_doctor(local_stack.functions_env)

    document = json.loads(ended.stdout)
    verdicts = {point["name"]: point["verdict"] for point in document["points"]}
    unknown = {name for name, verdict in verdicts.items() if verdict == "not checkable"}
    assert ended.returncode == 0, ended.stdout
    assert document["ok"]
    assert unknown == {
        f"{setting}.{bucket}"
        for setting in ("soft-delete", "versioning", "lifecycle", "iam")
        for bucket in ("uploads", "artifacts")
    }
    assert [name for name, verdict in verdicts.items() if verdict == "information"] == ["compose.destination-crc32c"]


def test_missing_settings_are_all_named(tmp_path):
    ended = run_doctor({"TRAINSHED_HOME": str(tmp_path)})

    assert ended.returncode == 1
    (point,) = json.loads(ended.stdout)["points"]
    assert "UPLOADS_BUCKET" in point["finding"]
    assert "SIGNER_EMAIL" in point["finding"]


def test_the_running_stacks_settings_are_found_in_its_home(tmp_path):
    (tmp_path / "functions.env").write_text("UPLOADS_BUCKET='a bucket'\n")
    assert doctor.local_settings({"TRAINSHED_HOME": str(tmp_path)}) == {}

    (tmp_path / "env").write_text("")
    assert doctor.local_settings({"TRAINSHED_HOME": str(tmp_path)}) == {"UPLOADS_BUCKET": "a bucket"}
    assert doctor.local_settings({"TRAINSHED_HOME": str(tmp_path), "UPLOADS_BUCKET": "another"}) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_deletes_what_it_has_written(local_stack, number):
    store = GcsObjectStore(local_stack.env["UPLOADS_BUCKET"])
    before = {stored.name for stored in store.list("doctor/")}
    running = subprocess.Popen(
        [sys.executable, "-m", "operations.doctor"],
        cwd=REPOSITORY,
        env={**os.environ, **local_stack.functions_env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in running.stdout:
        # Something was written by then, and more is to come.
        if " put.twice " in line:
            running.send_signal(number)
            break
    rest, _ = running.communicate(timeout=60)

    assert running.returncode == doctor.INTERRUPTED
    assert "put.expired" not in rest
    assert " objects deleted" in rest
    assert {stored.name for stored in store.list("doctor/")} <= before


def run_doctor(settings):
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "NO_GCE_CHECK") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "operations.doctor", "--json"],
        cwd=REPOSITORY,
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
