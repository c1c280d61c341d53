"""What must be installed to open a model's files, told before they are downloaded.

Most reloads that fail do so because versions differ. What a file was written with is known (a model's `environment`, or
what its pickle says), and which differences hurt is known too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.records.training import TrainedModel

_PICKLED = ("pkl", "skops")
_KERAS_FORMATS = ("keras", "h5")
_RELEASE = re.compile(r"(\d+)\.(\d+)")
# A name of PyPI, and a version of PEP 440 if there is one: nothing else gets into a file that is handed to pip.
_REQUIREMENT = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?)((?:==|>=)[0-9][A-Za-z0-9.+!_-]{0,60}|)")


@dataclass(frozen=True)
class Need:
    """One package that opening needs.

    Attributes:
        package: Its name on PyPI.
        specifier: Which versions, in the form of PEP 440; empty for any.
        reason: One sentence.
        formats: Of the files that need it.
    """

    package: str
    specifier: str
    reason: str
    formats: tuple[str, ...]


def needs_of(model: TrainedModel) -> tuple[Need, ...]:
    """Return what opening a model's files takes, as far as its record shows; by package."""
    formats = {file.format for file in model.files}
    written_with = {str(name): str(version) for name, version in _mapping(model, "environment").items()}
    needs = [*_scikit_learn(formats, written_with), *_keras(formats, written_with), *_onnx(formats)]
    known = {need.package for need in needs}
    needs += [need for need in _said_by_pickle(model, formats) if need.package not in known]
    return tuple(sorted(needs, key=lambda need: need.package))


def requirements_of(model: TrainedModel) -> tuple[str, ...]:
    """Return the lines of a requirements.txt that repeats what a model was written with; empty if it is not known."""
    pinned = [f"{name}=={version}" for name, version in _mapping(model, "environment").items() if name != "python"]
    return tuple(sorted(filter(_REQUIREMENT.fullmatch, pinned))) or tuple(sorted(_lines(model)))


def _scikit_learn(formats: set[str], written_with: Mapping[str, str]) -> Iterable[Need]:
    used = tuple(form for form in _PICKLED if form in formats)
    release = _release(written_with.get("scikit-learn"))
    if used and release:
        yield Need(
            "scikit-learn",
            f"=={release[0]}.{release[1]}.*",
            # https://scikit-learn.org/stable/model_persistence.html
            "scikit-learn promises no loading across its versions; trees of another one do not load at all.",
            used,
        )
    numpy = _release(written_with.get("numpy"))
    if used and numpy:
        needs_two = numpy[0] >= 2
        yield Need(
            "numpy",
            ">=2" if needs_two else "",
            # https://github.com/numpy/numpy/issues/27084
            "Written with numpy 2, whose module numpy._core numpy 1 does not have."
            if needs_two
            else "Arrays are stored as numpy's.",
            used,
        )
    skops = _release(written_with.get("skops"))
    if "skops" in formats and skops:
        yield Need("skops", f">={skops[0]}.{skops[1]}", "Older versions may not know the file's schema.", ("skops",))


def _keras(formats: set[str], written_with: Mapping[str, str]) -> Iterable[Need]:
    used = tuple(form for form in _KERAS_FORMATS if form in formats)
    release = _release(written_with.get("keras"))
    if used and release:
        yield Need(
            "keras",
            f">={release[0]}.{release[1]},<{release[0] + 1}" if release[0] >= 3 else "<3",
            # https://github.com/tensorflow/tensorflow/issues/66381
            "Keras 2 does not read what Keras 3 wrote, and an older Keras 3 may lack a layer's arguments."
            if release[0] >= 3
            else "Written with Keras 2, which Keras 3 reads only in part.",
            used,
        )
    elif used:
        yield Need("keras", ">=3", "Keras 2 does not read what Keras 3 wrote.", used)


def _onnx(formats: set[str]) -> Iterable[Need]:
    if "onnx" in formats:
        yield Need("onnxruntime", "", "Any runtime of ONNX will do, in any language.", ("onnx",))


def _said_by_pickle(model: TrainedModel, formats: set[str]) -> Iterable[Need]:
    if "pkl" not in formats:
        return
    for match in map(_REQUIREMENT.fullmatch, _lines(model)):
        if match:
            yield Need(match[1], match[2], "The pickle itself names it.", ("pkl",))


def _lines(model: TrainedModel) -> tuple[str, ...]:
    lines = model.published.get("requirements")
    texts = map(str, lines if isinstance(lines, list) else ())
    return tuple(line for line in texts if _REQUIREMENT.fullmatch(line))


def _mapping(model: TrainedModel, name: str) -> Mapping[str, object]:
    value = model.published.get(name)
    return value if isinstance(value, Mapping) else {}


def _release(version: str | None) -> tuple[int, int] | None:
    match = _RELEASE.match(version or "")
    return (int(match[1]), int(match[2])) if match else None
