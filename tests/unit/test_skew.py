"""What opening a model takes, told from its record."""

from datetime import UTC, datetime

import pytest

from shared.records.training import ModelFile, ModelStatus, TrainedModel
from shared.skew import needs_of, requirements_of

ENVIRONMENT = {
    "python": "3.11.7",
    "scikit-learn": "1.9.1",
    "numpy": "2.4.6",
    "skops": "0.16.0",
    "keras": "3.15.1",
}


def a_model(*formats: str, **published) -> TrainedModel:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    files = tuple(ModelFile(form, f"m.{form}", 1, 1, "0" * 64, "application/zip", form == "pkl") for form in formats)
    return TrainedModel(
        id="m",
        run_id="r",
        session_uuid="s",
        name="m",
        path="r/m",
        class_name=None,
        framework="sklearn",
        status=ModelStatus.READY,
        status_detail=None,
        progress=1,
        attempts=1,
        files=files,
        metrics={},
        created_at=now,
        updated_at=now,
        published=published,
    )


def needed(*formats: str, **published) -> dict[str, str]:
    return {need.package: need.specifier for need in needs_of(a_model(*formats, **published))}


@pytest.mark.parametrize(
    ("formats", "packages"),
    [
        (("pkl",), {"scikit-learn": "==1.9.*", "numpy": ">=2"}),
        (("skops",), {"scikit-learn": "==1.9.*", "numpy": ">=2", "skops": ">=0.16"}),
        (("keras", "h5"), {"keras": ">=3.15,<4"}),
        (("onnx",), {"onnxruntime": ""}),
        ((), {}),
    ],
)
def test_needs_follow_from_the_formats_and_the_versions_they_were_written_with(formats, packages):
    assert needed(*formats, environment=ENVIRONMENT) == packages


def test_arrays_of_numpy_1_open_in_any_numpy():
    assert needed("pkl", environment={"numpy": "1.26.4"}) == {"numpy": ""}


def test_a_file_of_keras_2_needs_keras_2():
    assert needed("h5", environment={"keras": "2.15.0"}) == {"keras": "<3"}


def test_each_need_names_the_formats_and_the_reason():
    needs = needs_of(a_model("pkl", "skops", "onnx", environment=ENVIRONMENT))
    assert {need.package: need.formats for need in needs} == {
        "numpy": ("pkl", "skops"),
        "onnxruntime": ("onnx",),
        "scikit-learn": ("pkl", "skops"),
        "skops": ("skops",),
    }
    assert all(need.reason.endswith(".") for need in needs)


def test_what_a_pickle_itself_names_is_needed_where_nothing_better_is_known():
    lines = ["numpy>=2", "scikit-learn==1.7.2", "joblib"]
    assert needed("pkl", requirements=lines) == {"numpy": ">=2", "scikit-learn": "==1.7.2", "joblib": ""}
    assert requirements_of(a_model("pkl", requirements=lines)) == ("joblib", "numpy>=2", "scikit-learn==1.7.2")


def test_requirements_repeat_the_environment_without_python():
    lines = requirements_of(a_model("skops", environment=ENVIRONMENT))
    assert lines == ("keras==3.15.1", "numpy==2.4.6", "scikit-learn==1.9.1", "skops==0.16.0")


@pytest.mark.parametrize("environment", [None, [], "1.9", {"numpy": None}, {"numpy": "new"}, {"scikit-learn": {}}])
def test_an_environment_that_another_trainer_wrote_oddly_asks_for_nothing(environment):
    assert needed("pkl", "skops", environment=environment) == {}


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("numpy", "2\n--index-url=http://x"),
        ("numpy", " @ http://x/y.whl"),
        ("numpy", "2; x"),
        ("numpy", ""),
        ("-r x", "1"),
        ("a b", "1"),
        ("../x", "1"),
    ],
)
def test_what_is_no_name_or_no_version_gets_into_no_requirements(package, version):
    assert requirements_of(a_model("skops", environment={package: version, "skops": "0.16.0"})) == ("skops==0.16.0",)
    lines = [f"{package}=={version}", "joblib"]
    assert requirements_of(a_model("pkl", requirements=lines)) == ("joblib",)
    assert needed("pkl", requirements=lines) == {"joblib": ""}


def test_nothing_known_is_no_requirement():
    assert requirements_of(a_model("pkl")) == ()
