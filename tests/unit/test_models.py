"""The rules of trained models, on fakes."""

import hashlib
import json

import pytest

from shared.errors import (
    InvalidFieldError,
    ManifestInvalidError,
    ModelNotFoundError,
    ModelUnavailableError,
    SessionNotFoundError,
)
from shared.models import total_bytes
from shared.records import ModelStatus, SessionStatus, run_prefix
from tests.factories import BOB, a_caller, a_uuid
from tests.training_factories import (
    H5_MAGIC,
    TrainingBench,
    a_model_file_content,
    a_table,
    another_trainers_manifest,
    publish_manifest,
)


def a_trained_bench(**fields) -> TrainingBench:
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.train(**fields)
    return bench


def replace_object(bench: TrainingBench, suffix: str, content: bytes | None) -> str:
    """Put other bytes in the place of an object, or nothing; return its name."""
    (stored,) = [stored for stored in bench.artifacts.list("") if stored.name.endswith(suffix)]
    bench.artifacts.delete([stored])
    if content is not None:
        bench.artifacts.write(stored.name, content, "application/octet-stream")
    return stored.name


def download(bench: TrainingBench, *, path=None, framework=None, form=None, user=None) -> str:
    caller = a_caller(user) if user else a_caller()
    return bench.models().download(caller, "weather", path=path, framework=framework, form=form).url


def test_a_session_without_a_run_has_no_models():
    bench = TrainingBench()
    bench.a_session(a_table())
    assert bench.models().of_session(a_caller(), "weather") == []
    assert bench.models().save(a_caller(), "weather") == []


def test_published_models_are_ready_only_after_their_files_were_read():
    bench = a_trained_bench()
    assert {model.status for model in bench.models().of_session(a_caller(), "weather")} == {ModelStatus.PENDING}
    saved = bench.models().save(a_caller(), "weather")
    assert [model.name for model in saved] == ["dense_network", "linear_regression", "random_forest"]
    assert {model.status for model in saved} == {ModelStatus.READY}
    assert total_bytes(saved) == sum(
        stored.size_bytes for stored in bench.artifacts.list("") if not stored.name.endswith("manifest.json")
    )


def test_saving_twice_returns_the_same_models():
    bench = a_trained_bench()
    first = bench.models().save(a_caller(), "weather")
    assert bench.models().save(a_caller(), "weather") == first


def test_saving_while_a_run_is_in_progress_saves_nothing_of_it():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.start()
    bench.runner().run(bench.queue.tasks[0].model_id)
    assert bench.models().save(a_caller(), "weather") == []


@pytest.mark.parametrize("content", [None, H5_MAGIC + b"CONTENT", b""])
def test_a_model_whose_file_is_gone_or_replaced_is_refused_with_the_reason_and_the_others_are_saved(content):
    """A replaced object has another generation, and the one that was published is gone."""
    bench = a_trained_bench()
    name = replace_object(bench, "model.h5", content)
    run = bench.models().save_run(bench.run())
    (refused,) = [model for model in run.models if model.status is ModelStatus.REFUSED]
    assert refused.status_detail == f"{name} is missing"
    assert sum(model.status is ModelStatus.READY for model in run.models) == 2
    with pytest.raises(ModelUnavailableError):
        download(bench, path=refused.path)


def test_a_session_of_another_user_is_not_found():
    bench = a_trained_bench()
    for name in ("weather", "other", ".."):
        with pytest.raises(SessionNotFoundError):
            bench.models().of_session(a_caller(BOB), name)
        with pytest.raises(SessionNotFoundError):
            bench.models().save(a_caller(BOB), name)
        with pytest.raises(SessionNotFoundError):
            bench.models().download(a_caller(BOB), name, path=None, framework=None, form=None)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({}, "dense_network/attempt-1/model.h5"),
        ({"framework": "keras"}, "dense_network/attempt-1/model.h5"),
        ({"framework": "keras", "form": "keras"}, "dense_network/attempt-1/model.keras"),
        ({"framework": "sklearn"}, "linear_regression/attempt-1/model.skops"),
        ({"form": "pkl"}, "linear_regression/attempt-1/model.pkl"),
    ],
)
def test_a_download_is_chosen_by_type_and_format(wanted, name):
    bench = a_trained_bench()
    bench.models().save(a_caller(), "weather")
    url = download(bench, **wanted)
    assert name in url
    assert bench.signer.send("GET", url, {})[0] == 200


def test_a_path_names_one_model_of_one_run():
    bench = a_trained_bench()
    bench.train(seed=7)
    saved = bench.models().save(a_caller(), "weather")
    assert len({model.path for model in saved}) == 6
    for model in saved:
        assert f"/{model.run_id}/{model.name}/" in download(bench, path=model.path)


def test_without_a_path_the_newest_run_is_downloaded():
    bench = a_trained_bench()
    newest = bench.train(seed=7)
    bench.models().save(a_caller(), "weather")
    assert f"/{newest.id}/" in download(bench)


def test_an_unknown_path_or_type_without_models_is_not_found():
    bench = a_trained_bench(models=["random_forest"])
    bench.models().save(a_caller(), "weather")
    for wanted in ({"path": "../secret"}, {"path": "random_forest"}, {"framework": "keras"}):
        with pytest.raises(ModelNotFoundError):
            download(bench, **wanted)


def test_a_model_that_is_not_saved_is_unavailable():
    bench = a_trained_bench()
    with pytest.raises(ModelUnavailableError) as refused:
        download(bench)
    assert refused.value.details["available"] == []
    assert refused.value.details["status"] == "pending"


def test_a_format_that_a_model_does_not_have_is_unavailable_and_the_others_are_named():
    bench = a_trained_bench()
    bench.models().save(a_caller(), "weather")
    with pytest.raises(ModelUnavailableError) as refused:
        download(bench, framework="keras", form="skops")
    assert refused.value.details["available"] == ["keras", "h5"]


@pytest.mark.parametrize(("wanted", "field"), [({"framework": "torch"}, "type"), ({"form": "onnx"}, "format")])
def test_an_unknown_type_or_format_is_named(wanted, field):
    bench = a_trained_bench()
    with pytest.raises(InvalidFieldError) as refused:
        download(bench, **wanted)
    assert refused.value.details["field"] == field


def test_the_manifest_of_another_trainer_is_taken_in_once():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run_id = a_uuid()
    publish_manifest(bench.artifacts, another_trainers_manifest(session, run_id))
    (model,) = bench.models().save(a_caller(), "weather")
    assert (model.name, model.class_name, model.status) == (
        "gradient_boosting",
        "lightgbm.LGBMRegressor",
        ModelStatus.READY,
    )
    assert model.path == f"{run_id}/gradient_boosting"
    assert bench.status_of(session) is SessionStatus.TRAINED
    assert bench.models().save(a_caller(), "weather") == [model]
    assert "model.skops" in download(bench, framework="sklearn")


def test_a_pickle_of_another_trainer_is_flagged_whatever_its_manifest_says():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run_id = a_uuid()
    document = another_trainers_manifest(session, run_id)
    content = a_model_file_content("pkl")
    (file,) = document["models"][0]["files"]
    stored = bench.artifacts.write(f"{run_prefix(session, run_id)}m.pkl", content, "application/octet-stream")
    file |= {
        "format": "pkl",
        "object": stored.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "loads_code": False,
    }
    publish_manifest(bench.artifacts, document)
    (model,) = bench.models().save(a_caller(), "weather")
    assert model.files[0].loads_code


def altered(path: str, value: object):
    """Return a change of one member of a manifest; the path is `member.0.member`."""

    def change(document: dict) -> dict:
        *parents, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
        at = document
        for step in parents:
            at = at[step]
        at[last] = value
        return document

    return change


FILE = "models.0.files.0."


@pytest.mark.parametrize(
    "change",
    [
        altered("schema_version", 2),
        altered("run_id", "x"),
        altered("session_uuid", "x"),
        altered("status", "running"),
        altered("status", ["completed"]),
        altered("scalers", None),
        altered("charts", ["<script>"]),
        altered("tables", {}),
        altered("models", [1]),
        altered("request", []),
        altered("models.0.name", "../m"),
        altered("models.0.name", None),
        altered("models.0.name", "a\x00b"),
        altered("models.0.detail", "a\x00b"),
        altered("models.0.framework", "torch"),
        altered("models.0.framework", ["sklearn"]),
        altered("models.0.status", "ready"),
        altered("models.0.class", 5),
        altered("models.0.metrics", []),
        altered("models.0.files", []),
        altered("models.0.files", {}),
        altered(FILE + "format", "onnx"),
        altered(FILE + "format", "keras"),
        altered(FILE + "format", None),
        altered(FILE + "object", None),
        altered(FILE + "object", "results/of/somebody/else"),
        altered(FILE + "bytes", -1),
        altered(FILE + "bytes", True),
        altered(FILE + "bytes", 5),
        altered(FILE + "sha256", "0" * 64),
        altered(FILE + "sha256", None),
        altered(FILE + "media_type", "text/html; charset=utf-8"),
        altered(FILE + "generation", "1"),
        altered(FILE + "generation", 999_999),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_and_nothing_of_it_recorded(change):
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run_id = a_uuid()
    document = another_trainers_manifest(session, run_id)
    publish = json.loads(json.dumps(document))
    publish_manifest(bench.artifacts, publish)
    name = replace_object(bench, "manifest.json", json.dumps(change(document)).encode())
    with pytest.raises(ManifestInvalidError) as refused:
        bench.models().save(a_caller(), "weather")
    assert refused.value.details["manifest"] == name
    assert bench.models().of_session(a_caller(), "weather") == []
    assert bench.status_of(session) is SessionStatus.FINALIZED


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"schema_version": NaN}', b"[" * 100_000])
def test_a_manifest_that_is_no_document_is_refused(content):
    bench = TrainingBench()
    session = bench.a_session(a_table())
    bench.artifacts.write(f"{run_prefix(session, a_uuid())}manifest.json", content, "application/json")
    with pytest.raises(ManifestInvalidError):
        bench.models().save(a_caller(), "weather")


def test_two_models_of_one_name_are_refused():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    document = another_trainers_manifest(session, a_uuid())
    document["models"] *= 2
    publish_manifest(bench.artifacts, document)
    with pytest.raises(ManifestInvalidError, match="different names"):
        bench.models().save(a_caller(), "weather")


def test_a_file_that_is_not_of_its_format_is_refused():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    content = a_model_file_content("pkl")
    document = another_trainers_manifest(session, a_uuid())
    document["models"][0]["files"][0] |= {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    publish_manifest(bench.artifacts, document, content=content)
    with pytest.raises(ManifestInvalidError, match="no skops file"):
        bench.models().save(a_caller(), "weather")


def test_a_bad_manifest_does_not_keep_the_service_s_own_models_from_being_saved():
    bench = a_trained_bench()
    session = bench.run().session_uuid
    bench.artifacts.write(f"{run_prefix(session, a_uuid())}manifest.json", b"{", "application/json")
    with pytest.raises(ManifestInvalidError):
        bench.models().save(a_caller(), "weather")
    assert {model.status for model in bench.models().of_session(a_caller(), "weather")} == {ModelStatus.READY}
