"""The rules of trained models, on fakes."""

import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import (
    InvalidFieldError,
    ManifestInvalidError,
    ModelNotFoundError,
    ModelUnavailableError,
    SessionNotFoundError,
)
from shared.models import Choice, list_models, total_bytes
from shared.publication import LARGEST_MANIFEST_BYTES, run_prefix
from shared.records.results import ResultKind
from shared.records.sessions import SessionStatus
from shared.records.training import ModelStatus, Run, TrainedModel
from tests.factories import BOB, a_caller, a_uuid
from tests.hostile_hdf5 import HOSTILE, external
from tests.legacy_factories import a_png
from tests.training_factories import (
    H5_MAGIC,
    TrainingBench,
    a_keras_archive,
    a_model_file_content,
    a_table,
    an_hdf5_file,
    another_trainers_manifest,
    publish_manifest,
)

A_PNG = a_png(3, 2)


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


def download(bench: TrainingBench, **choice) -> str:
    return bench.models().download(a_caller(), "weather", Choice(**choice)).url


def models_of(bench: TrainingBench) -> list[TrainedModel]:
    return [entry.model for entry in bench.models().of_session(a_caller(), "weather")]


def save(bench: TrainingBench) -> list[TrainedModel]:
    return [entry.model for entry in bench.models().save(a_caller(), "weather").models]


def test_a_session_without_a_run_has_no_models():
    bench = TrainingBench()
    bench.a_session(a_table())
    assert models_of(bench) == []
    assert save(bench) == []


def test_published_models_are_ready_only_after_their_files_were_read():
    bench = a_trained_bench()
    assert {model.status for model in models_of(bench)} == {ModelStatus.PENDING}
    saved = save(bench)
    assert [model.name for model in saved] == ["dense_network", "linear_regression", "random_forest"]
    assert {model.status for model in saved} == {ModelStatus.READY}
    assert total_bytes(saved) == sum(
        stored.size_bytes for stored in bench.artifacts.list("") if not stored.name.endswith("manifest.json")
    )


def test_saving_twice_returns_the_same_models():
    bench = a_trained_bench()
    first = save(bench)
    assert save(bench) == first


def test_saving_while_a_run_is_in_progress_saves_nothing_of_it():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.start()
    bench.runner().run(bench.queue.tasks[0].model_id)
    assert save(bench) == []


@pytest.mark.parametrize("content", [None, H5_MAGIC + b"CONTENT", b""])
def test_a_model_whose_file_is_gone_or_replaced_is_refused_with_the_reason_and_the_others_are_saved(content):
    """A replaced object has another generation, and the one that was published is gone."""
    bench = a_trained_bench()
    name = replace_object(bench, "model.h5", content)
    run = bench.intake().save_run(bench.run())
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
            bench.models().download(a_caller(BOB), name, Choice())


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
    save(bench)
    url = download(bench, **wanted)
    assert name in url
    assert bench.signer.send("GET", url, {})[0] == 200


def test_a_path_names_one_model_of_one_run():
    bench = a_trained_bench()
    bench.train(seed=7)
    saved = save(bench)
    assert len({model.path for model in saved}) == 6
    for model in saved:
        assert f"/{model.run_id}/{model.name}/" in download(bench, path=model.path)


def test_without_a_path_the_newest_run_is_downloaded():
    bench = a_trained_bench()
    newest = bench.train(seed=7)
    save(bench)
    assert f"/{newest.id}/" in download(bench)


def test_an_unknown_path_or_type_without_models_is_not_found():
    bench = a_trained_bench(models=["random_forest"])
    save(bench)
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
    save(bench)
    with pytest.raises(ModelUnavailableError) as refused:
        download(bench, framework="keras", form="skops")
    assert refused.value.details["available"] == ["keras", "h5"]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"framework": "torch"}, "type"),
        ({"form": "exe"}, "format"),
        ({"alias": "newest"}, "alias"),
        ({"version": "0"}, "version"),
        ({"version": "-1"}, "version"),
        ({"version": "1.0"}, "version"),
        ({"version": "latest"}, "version"),
    ],
)
def test_a_choice_that_cannot_be_is_named(wanted, field):
    bench = a_trained_bench()
    with pytest.raises(InvalidFieldError) as refused:
        download(bench, **wanted)
    assert refused.value.details["field"] == field


def test_the_manifest_of_another_trainer_is_taken_in_once():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run_id = a_uuid()
    publish_manifest(bench.artifacts, another_trainers_manifest(session, run_id))
    (model,) = save(bench)
    assert (model.name, model.class_name, model.status) == (
        "gradient_boosting",
        "lightgbm.LGBMRegressor",
        ModelStatus.READY,
    )
    assert model.path == f"{run_id}/gradient_boosting"
    assert bench.status_of(session) is SessionStatus.TRAINED
    assert save(bench) == [model]
    assert "model.skops" in download(bench, framework="sklearn")


def test_what_took_the_name_of_a_published_file_since_is_not_handed_out():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run_id = a_uuid()
    publish_manifest(bench.artifacts, another_trainers_manifest(session, run_id))
    name = f"{run_prefix(session, run_id)}gradient_boosting/model.skops"
    published = bench.artifacts.stat(name)
    (model,) = save(bench)

    bench.artifacts.delete([published])
    bench.artifacts.write(name, b"something else", "application/zip")

    assert model.files[0].generation == published.generation
    assert bench.signer.send("GET", download(bench, framework="sklearn"), {}) == (404, b"")


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
    (model,) = save(bench)
    assert model.files[0].loads_code


def a_keras_manifest(bench: TrainingBench, session: str, form: str, content: bytes, **fields: Any) -> dict:
    """Write a Keras file and return a manifest with a model of it, and with another model that is in order."""
    run_id = a_uuid()
    document = another_trainers_manifest(session, run_id)
    stored = bench.artifacts.write(f"{run_prefix(session, run_id)}n.{form}", content, "application/zip")
    file = document["models"][0]["files"][0] | {
        "format": form,
        "object": stored.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    network = document["models"][0] | {"name": "network", "framework": "keras", "files": [file]} | fields
    return document | {"models": [network, *document["models"]]}


def h5_with_layer(**layer: object) -> bytes:
    config = json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}})
    return an_hdf5_file(lambda file: file.attrs.update({"model_config": config}))


VOCABULARY = {"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}
PROGRAM = {"class_name": "TFSMLayer", "config": {"filepath": "model"}}
LISTED = "config.layers[0].config.vocabulary"
HARMFUL = {
    "keras vocabulary": (
        "keras",
        a_keras_archive(VOCABULARY),
        "config.layers[0].config.vocabulary",
        "outside_reference",
    ),
    "keras program": ("keras", a_keras_archive(PROGRAM), "config.layers[0]", "saved_model"),
    "keras member": ("keras", a_keras_archive(**{"../escape": "x"}), "$", "members"),
    "keras no weights": ("keras", a_keras_archive(**{"model.weights.h5": "x"}), "model.weights.h5:/", "not_hdf5"),
    "h5 vocabulary": ("h5", h5_with_layer(**VOCABULARY), LISTED, "outside_reference"),
    "h5 program": ("h5", h5_with_layer(**PROGRAM), "config.layers[0]", "saved_model"),
    "h5 no document": (
        "h5",
        an_hdf5_file(lambda file: file.attrs.update({"model_config": "nothing"})),
        "model_config",
        "not_json",
    ),
    **{
        f"keras {build.__name__}": (
            "keras",
            a_keras_archive(**{"model.weights.h5": an_hdf5_file(build)}),
            f"model.weights.h5:{where}",
            code,
        )
        for build, code, where in HOSTILE
    },
    **{f"h5 {build.__name__}": ("h5", an_hdf5_file(build), where, code) for build, code, where in HOSTILE},
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_published_keras_file_that_does_harm_is_refused_with_what_and_where_and_the_rest_is_taken_in(name):
    form, content, where, code = HARMFUL[name]
    bench = TrainingBench()
    session = bench.a_session(a_table())
    publish_manifest(bench.artifacts, a_keras_manifest(bench, session, form, content, findings=[{"code": "own"}]))
    save(bench)
    network, other = (next(one for one in models_of(bench) if one.name == n) for n in ("network", "gradient_boosting"))
    assert (network.status, network.version, other.status) == (ModelStatus.REFUSED, None, ModelStatus.READY)
    assert network.status_detail.endswith(f"({code})")
    own, finding = network.published["findings"]
    assert own == {"code": "own"}
    assert finding["code"] == code
    # Of two names of one thing either may be met first.
    assert finding["where"] == f"n.{form}: {where}" or code == "link"
    assert finding["where"].removeprefix(f"n.{form}: ") in network.status_detail
    with pytest.raises(ModelUnavailableError):
        download(bench, name="network", form=form)


def test_a_harmful_file_stays_refused_where_its_recording_was_killed_before_the_verdict(monkeypatch):
    bench = TrainingBench()
    session = bench.a_session(a_table())
    publish_manifest(bench.artifacts, a_keras_manifest(bench, session, "h5", an_hdf5_file(external)))
    with monkeypatch.context() as patched:
        patched.setattr(bench.runs, "mark", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(bench)
    assert {model.status for model in models_of(bench)} == {ModelStatus.PENDING}
    save(bench)
    (network,) = [model for model in models_of(bench) if model.name == "network"]
    assert network.status is ModelStatus.REFUSED
    assert "external_dataset" in network.status_detail


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("keras", a_keras_archive({"class_name": "Lambda", "config": {}})),
        ("h5", h5_with_layer(class_name="Lambda", config={})),
    ],
)
def test_a_published_network_with_code_in_it_is_flagged(form, content):
    bench = TrainingBench()
    session = bench.a_session(a_table())
    publish_manifest(bench.artifacts, a_keras_manifest(bench, session, form, content))
    save(bench)
    (network,) = [model for model in models_of(bench) if model.name == "network"]
    assert network.status is ModelStatus.READY
    assert network.files[0].loads_code
    assert [finding["code"] for finding in network.published["findings"]] == ["lambda"]


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
        altered(FILE + "generation", 2**63),
        altered("models.0.detail", "\ud800"),
        altered("models.0.params", {"\udfff": 1}),
        altered("models.0.metrics", {"test": {"rmse": math.inf}}),
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
        save(bench)
    assert refused.value.details["manifest"] == name
    assert models_of(bench) == []
    assert bench.status_of(session) is SessionStatus.FINALIZED


def test_a_manifest_with_a_key_twice_is_refused_and_the_key_named():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    text = json.dumps(another_trainers_manifest(session, a_uuid()))
    content = text.replace('"sha256":', '"sha256": "0", "sha256":', 1).encode()
    bench.artifacts.write(f"{run_prefix(session, a_uuid())}manifest.json", content, "application/json")
    with pytest.raises(ManifestInvalidError, match="has 'sha256' twice"):
        save(bench)
    assert models_of(bench) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is not JSON: .* \(char 0\)"),
        (b'{"schema_version": 1,', r"is not JSON: .* line 1 column 22"),
        (b'{"a": "\xff"}', r"is not JSON: .* in position 7"),
        (b'{"schema_version": NaN}', "has NaN, which JSON has not"),
        (b'{"schema_version": -Infinity}', "has -Infinity, which JSON has not"),
        (b'{"schema_version": 1e999}', "has a number beyond 1.8e308"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "object"),
        (b"null", "object"),
    ],
)
def test_a_manifest_that_is_no_document_is_refused_with_its_place(content, reason):
    bench = TrainingBench()
    session = bench.a_session(a_table())
    bench.artifacts.write(f"{run_prefix(session, a_uuid())}manifest.json", content, "application/json")
    with pytest.raises(ManifestInvalidError, match=reason):
        save(bench)


def test_a_file_of_another_session_or_another_run_is_refused_though_it_is_there():
    bench = TrainingBench()
    session, other = bench.a_session(a_table()), bench.a_session(a_table(), session_id="other")
    document = another_trainers_manifest(session, a_uuid())
    file = document["models"][0]["files"][0]
    for prefix in (run_prefix(other, a_uuid()), run_prefix(session, a_uuid())):
        own = json.loads(json.dumps(document))
        stored = bench.artifacts.write(f"{prefix}model.skops", a_model_file_content("skops"), "application/zip")
        own["run_id"] = a_uuid()
        own["models"][0]["files"][0] = file | {"object": stored.name}
        publish_manifest(bench.artifacts, own)
        with pytest.raises(ManifestInvalidError, match="does not lie below") as refused:
            save(bench)
        assert refused.value.details["object"] == stored.name
        assert models_of(bench) == []
        bench.artifacts.delete([bench.artifacts.stat(f"{run_prefix(session, own['run_id'])}manifest.json")])


def test_a_manifest_may_have_16_mib():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    run_id = a_uuid()
    document = another_trainers_manifest(session, run_id, note="")
    room = LARGEST_MANIFEST_BYTES - len(json.dumps(document))
    publish_manifest(bench.artifacts, document | {"note": "x" * (room + 1)})
    with pytest.raises(ManifestInvalidError, match="may have 16 MiB"):
        save(bench)
    replace_object(bench, "manifest.json", json.dumps(document | {"note": "x" * room}).encode())
    assert [model.name for model in save(bench)] == ["gradient_boosting"]


def a_picture(bench: TrainingBench, document: dict[str, Any], content: bytes = A_PNG, **fields: Any) -> dict[str, Any]:
    """Write a picture of a run and return the chart that names it."""
    prefix = run_prefix(document["session_uuid"], document["run_id"])
    stored = bench.artifacts.write(f"{prefix}pictures/p.png", content, "image/png")
    chart = {"name": "m.p", "kind": "picture", "object": stored.name, "media_type": "image/png"}
    return chart | {"width": 3, "height": 2} | fields


def test_a_published_picture_is_recorded_as_it_was_read():
    bench = TrainingBench()
    document = another_trainers_manifest(bench.a_session(a_table()), a_uuid())
    document["charts"] = [a_picture(bench, document, width=77, generation=5)]
    publish_manifest(bench.artifacts, document)
    save(bench)
    (item,) = bench.runs.results(a_caller(), "weather", ResultKind.VISUALIZATIONS)
    stored = bench.artifacts.stat(item.content["object"])
    assert {key: item.content[key] for key in ("generation", "bytes", "sha256", "width", "height")} == {
        "generation": stored.generation,
        "bytes": len(A_PNG),
        "sha256": hashlib.sha256(A_PNG).hexdigest(),
        "width": 3,
        "height": 2,
    }


@pytest.mark.parametrize(
    ("change", "content", "reason"),
    [
        ({"object": "pictures/of/somebody.png"}, A_PNG, "does not lie below"),
        ({"object": None}, A_PNG, "object of a picture must be"),
        ({"bytes": 5}, A_PNG, "bytes instead of 5"),
        ({"sha256": "0" * 64}, A_PNG, "another sha256"),
        ({}, A_PNG[:-1], "is no PNG picture"),
        ({}, None, "is missing"),
    ],
)
def test_a_picture_that_is_missing_altered_or_foreign_is_refused_naming_the_object(change, content, reason):
    bench = TrainingBench()
    session = bench.a_session(a_table())
    bench.artifacts.write("pictures/of/somebody.png", A_PNG, "image/png")
    document = another_trainers_manifest(session, a_uuid())
    chart = a_picture(bench, document, content or A_PNG) | change
    document["charts"] = [chart]
    publish_manifest(bench.artifacts, document)
    if content is None:
        replace_object(bench, "/pictures/p.png", None)
    with pytest.raises(ManifestInvalidError, match=reason) as refused:
        save(bench)
    assert refused.value.details.get("object") == chart["object"]
    assert refused.value.details["manifest"].endswith("/manifest.json")
    assert models_of(bench) == []


def test_a_bad_manifest_does_not_keep_the_others_from_being_taken_in():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    # Before and behind it in the bucket's order.
    runs = [f"{digit}0000000-0000-4000-8000-000000000000" for digit in "357"]
    bad = f"{run_prefix(session, runs[1])}manifest.json"
    bench.artifacts.write(bad, b"{", "application/json")
    bench.artifacts.write(f"{run_prefix(session, 'f' * 36)}manifest.json", b"[", "application/json")
    for run_id in (runs[0], runs[2]):
        publish_manifest(bench.artifacts, another_trainers_manifest(session, run_id))
    for _ in range(2):
        with pytest.raises(ManifestInvalidError) as refused:
            save(bench)
        assert refused.value.details["manifest"] == bad
        assert {model.run_id: model.status for model in models_of(bench)} == {
            runs[0]: ModelStatus.READY,
            runs[2]: ModelStatus.READY,
        }


def test_two_models_of_one_name_are_refused():
    bench = TrainingBench()
    session = bench.a_session(a_table())
    document = another_trainers_manifest(session, a_uuid())
    document["models"] *= 2
    publish_manifest(bench.artifacts, document)
    with pytest.raises(ManifestInvalidError, match="different names"):
        save(bench)


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
        save(bench)


def test_a_bad_manifest_does_not_keep_the_service_s_own_models_from_being_saved():
    bench = a_trained_bench()
    session = bench.run().session_uuid
    bench.artifacts.write(f"{run_prefix(session, a_uuid())}manifest.json", b"{", "application/json")
    with pytest.raises(ManifestInvalidError):
        save(bench)
    assert {model.status for model in models_of(bench)} == {ModelStatus.READY}


def test_a_model_gets_its_version_when_it_is_ready_and_not_before():
    bench = a_trained_bench(models=["linear_regression"])
    assert [model.version for model in models_of(bench)] == [None]
    assert [model.version for model in save(bench)] == [1]


def publish_version(bench: TrainingBench, session: str, content: bytes, rmse: float, **fields) -> str:
    """Publish one more run with one model of the same name; return the run's id."""
    run_id = a_uuid()
    document = another_trainers_manifest(session, run_id, request={"task": "regression", "target": "y"}, **fields)
    model = document["models"][0]
    model["files"][0] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    model["metrics"] = {"test": {"rmse": rmse}}
    publish_manifest(bench.artifacts, document, content=content)
    return run_id


def a_bench_with_three_versions() -> tuple[TrainingBench, list[str]]:
    bench = TrainingBench()
    session = bench.a_session(a_table())
    runs = []
    for number, rmse in enumerate((3.0, 1.0, 2.0)):
        runs.append(publish_version(bench, session, a_model_file_content("skops") + b"%d" % number, rmse))
        save(bench)
    return bench, runs


def test_versions_count_up_and_equal_content_keeps_its_version():
    bench, runs = a_bench_with_three_versions()
    assert {model.run_id: model.version for model in models_of(bench)} == dict(zip(runs, (1, 2, 3), strict=True))
    again = publish_version(bench, bench.run().session_uuid, a_model_file_content("skops") + b"1", 1.0)
    save(bench)
    assert {model.run_id: model.version for model in models_of(bench)}[again] == 2


def test_latest_is_the_newest_version_and_best_the_lowest_error_on_held_out_rows():
    bench, runs = a_bench_with_three_versions()
    aliases = {entry.model.run_id: entry.aliases for entry in bench.models().of_session(a_caller(), "weather")}
    assert aliases == {runs[0]: (), runs[1]: ("best",), runs[2]: ("latest",)}
    assert f"/{runs[1]}/" in download(bench, alias="best", framework="sklearn")
    assert f"/{runs[2]}/" in download(bench, alias="latest", framework="sklearn")
    assert f"/{runs[0]}/" in download(bench, name="gradient_boosting", version="1")


def test_a_model_that_is_not_ready_has_no_alias():
    bench = a_trained_bench()
    assert all(entry.aliases == () for entry in bench.models().of_session(a_caller(), "weather"))


def a_listed_run(*models: tuple[str, dict], target: Any = "y", run_id: str = "r") -> Run:
    """Return a completed run with ready models of these names and test metrics."""
    bench = a_trained_bench(models=["linear_regression"])
    save(bench)
    run = bench.run()
    made = tuple(
        replace(run.models[0], id=f"{run_id}/{name}", name=name, metrics={"test": metrics}) for name, metrics in models
    )
    return replace(run, id=run_id, request={"task": "t", "target": target}, models=made)


@pytest.mark.parametrize(
    ("metrics", "best"),
    [
        (({"rmse": 2.0}, {"rmse": 1.0}), "b"),
        (({"accuracy": 0.9}, {"accuracy": 0.8}), "a"),
        (({"f1_macro": 0.5, "accuracy": 0.9}, {"f1_macro": 0.6, "accuracy": 0.8}), "b"),
        (({"rmse": 1.0}, {"rmse": 1.0}), "a"),
        (({}, {"rmse": 1.0}), "b"),
        (({"rmse": "low"}, {"rmse": 7}), "b"),
        (({"rmse": 10**400}, {"rmse": 7}), "b"),
    ],
)
def test_the_best_model_is_that_with_the_best_main_metric(metrics, best):
    entries = list_models([a_listed_run(("a", metrics[0]), ("b", metrics[1]))])
    assert [entry.model.name for entry in entries if "best" in entry.aliases] == [best]


def test_targets_may_be_anything_that_json_has():
    entries = list_models(
        [
            a_listed_run(("a", {"rmse": 5.0}), target=["x", "y"], run_id="1"),
            a_listed_run(("a", {"rmse": 1.0}), target=["x", "y"], run_id="2"),
            a_listed_run(("a", {"rmse": 9.0}), target={"x": 1}, run_id="3"),
        ]
    )
    assert [entry.run.id for entry in entries if "best" in entry.aliases] == ["2", "3"]


def test_each_target_has_its_own_best_and_a_model_without_metrics_is_none():
    entries = list_models(
        [
            a_listed_run(("a", {"rmse": 5.0}), target="x", run_id="1"),
            a_listed_run(("a", {"rmse": 1.0}), target="y", run_id="2"),
            a_listed_run(("a", {}), target="z", run_id="3"),
        ]
    )
    assert [entry.run.id for entry in entries if "best" in entry.aliases] == ["1", "2"]


def test_a_refused_model_says_why_when_it_is_downloaded():
    bench = a_trained_bench(models=["linear_regression"])
    name = replace_object(bench, "model.pkl", None)
    save(bench)
    with pytest.raises(ModelUnavailableError, match="is missing") as refused:
        download(bench, name="linear_regression")
    assert refused.value.details["reason"] == f"{name} is missing"
    assert refused.value.details["status"] == "refused"


def test_an_unknown_version_name_or_id_is_not_found():
    bench = a_trained_bench()
    save(bench)
    for choice in ({"version": "9"}, {"name": "x"}, {"id": a_uuid()}, {"name": "random_forest", "framework": "keras"}):
        with pytest.raises(ModelNotFoundError):
            download(bench, **choice)
