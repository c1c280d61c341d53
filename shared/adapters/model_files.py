"""Writes pipelines of scikit-learn into files: .skops, .onnx where it can be had, and an opaque .pkl."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.publication import FORMATS
from shared.records.training import WrittenFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

# ONNX calculates with 32 bits: a number beside a tree's threshold may fall on its other side.
ONNX_TOLERANCE = 1e-3
ONNX_CHECKED_ROWS = 1_000
# 20 s of conversion, and 30 MB of file, on one core.
MOST_ONNX_NODES = 1_000_000


@dataclass(frozen=True)
class PipelineFiles:
    """What was written of a pipeline, and what is told of it.

    Attributes:
        signature: `onnx`: the file's own inputs and outputs, where there is one.
        tolerances: Of formats that calculate otherwise than scikit-learn.
    """

    files: tuple[WrittenFile, ...]
    findings: tuple[Mapping[str, Any], ...]
    signature: Mapping[str, Any]
    tolerances: Mapping[str, float]
    packages: tuple[str, ...]


class _OnnxUnavailableError(Exception):
    """There is no .onnx of this pipeline; the text says why."""


def write_pipeline(
    pipeline: Pipeline, folder: Path, sample: pd.DataFrame | np.ndarray, *, is_class: bool
) -> PipelineFiles:
    """Write a fitted pipeline as .skops, .onnx and .pkl.

    Args:
        sample: Rows as the pipeline takes them, on which the .onnx must predict the same.
    """
    import skops.io

    skops_path, pickle_path = folder / "model.skops", folder / "model.pkl"
    # A third of the size for a second of work.
    skops.io.dump(pipeline, skops_path, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    with pickle_path.open("wb") as file:
        pickle.dump(pipeline, file, protocol=5)
    untrusted = skops.io.get_untrusted_types(file=skops_path)
    findings: list[Mapping[str, Any]] = []
    if untrusted:
        findings.append(
            {
                "level": "info",
                "code": "SKOPS_TYPES",
                "where": "model.skops",
                "detail": "skops asks to confirm these types when it loads the file",
                "types": untrusted,
            }
        )
    forms = ["skops", "onnx", "pkl"]
    signature: dict[str, Any] = {}
    try:
        signature["onnx"] = _write_onnx(pipeline, folder / "model.onnx", sample, is_class=is_class)
    except _OnnxUnavailableError as error:
        forms.remove("onnx")
        findings.append({"level": "info", "code": "ONNX_UNAVAILABLE", "where": "model.onnx", "detail": str(error)})
    files = tuple(
        WrittenFile(form, folder / f"model.{form}", FORMATS[form].media_type, FORMATS[form].loads_code)
        for form in forms
    )
    has_onnx = "onnx" in signature
    return PipelineFiles(
        files,
        tuple(findings),
        signature,
        {"onnx": ONNX_TOLERANCE} if has_onnx else {},
        ("skl2onnx", "onnxruntime") if has_onnx else (),
    )


def _write_onnx(pipeline: Pipeline, path: Path, sample: pd.DataFrame | np.ndarray, *, is_class: bool) -> dict[str, Any]:
    """Write the .onnx and return its inputs and outputs, if it predicts as the pipeline does."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    n_nodes = _count_nodes(pipeline["model"])
    if n_nodes > MOST_ONNX_NODES:
        raise _OnnxUnavailableError(f"the trees have {n_nodes} nodes; at most {MOST_ONNX_NODES} are converted")
    groups = _groups(sample)
    types = {"numbers": FloatTensorType, "texts": StringTensorType}
    try:
        model = convert_sklearn(
            pipeline,
            initial_types=[(name, types[name]([None, columns.shape[1]])) for name, columns in groups.items()],
            options={id(pipeline): {"zipmap": False}} if is_class else None,
            **_conversions(),
        )
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        # skl2onnx's own errors are RuntimeErrors; what it does not foresee surfaces as the others.
        raise _OnnxUnavailableError(f"skl2onnx cannot convert it: {str(error).splitlines()[0][:300]}") from error
    content = model.SerializeToString()
    _check_onnx(content, pipeline, sample, groups, is_class=is_class)
    path.write_bytes(content)
    return {
        "inputs": [
            {
                "name": name,
                "dtype": "float32" if name == "numbers" else "text",
                "shape": [None, columns.shape[1]],
                "features": [str(column) for column in getattr(columns, "columns", range(columns.shape[1]))],
            }
            for name, columns in groups.items()
        ],
        "outputs": [output.name for output in model.graph.output],
    }


def _groups(sample: pd.DataFrame | np.ndarray) -> dict[str, Any]:
    """Return the columns by input of the ONNX model: numbers, and texts where there are some."""
    import numpy as np

    if isinstance(sample, np.ndarray):
        return {"numbers": sample}
    is_text = np.array([kind != "float64" for kind in sample.dtypes], dtype=bool)
    groups = {"numbers": sample.loc[:, ~is_text], "texts": sample.loc[:, is_text]}
    return {name: columns for name, columns in groups.items() if columns.shape[1]}


def _check_onnx(
    content: bytes, pipeline: Pipeline, sample: pd.DataFrame | np.ndarray, groups: Mapping[str, Any], *, is_class: bool
) -> None:
    import numpy as np
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    feeds = {
        name: np.asarray(columns[:ONNX_CHECKED_ROWS], dtype="float32" if name == "numbers" else object)
        for name, columns in groups.items()
    }
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        found = session.run(None, feeds)[1 if is_class else 0]
    except (runtime.Fail, runtime.InvalidGraph, runtime.NotImplemented, runtime.RuntimeException) as error:
        # They have nothing in common but Exception.
        raise _OnnxUnavailableError(f"onnxruntime cannot run it: {str(error)[:300]}") from error
    rows = sample[:ONNX_CHECKED_ROWS]
    expected = pipeline.predict_proba(rows) if is_class else pipeline.predict(rows)
    # Probabilities are of the order of 1; other predictions are measured by how far they spread.
    spread = 1.0 if is_class else max(float(np.std(expected)), float(np.abs(expected).mean()) * ONNX_TOLERANCE, 1e-12)
    difference = float(np.max(np.abs(np.asarray(found, "float64").reshape(expected.shape) - expected)))
    if not difference <= ONNX_TOLERANCE * spread:
        raise _OnnxUnavailableError(
            f"in 32 bits it predicts otherwise: by up to {difference:.3g} on {len(expected)} held-out rows"
        )


def _count_nodes(model: Any) -> int:
    trees = getattr(model, "estimators_", [])
    return sum(tree.tree_.node_count for tree in trees if hasattr(tree, "tree_"))


def _conversions() -> dict[str, Any]:
    """Return converters of our own around those of skl2onnx, whose attributes of trees ONNX refuses.

    skl2onnx 1.20 gives truth values where ONNX 1.20 and later want whole numbers.
    """
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_converter, get_shape_calculator
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    boosting = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    names = {kind: sklearn_operator_name_map[kind] for kind in boosting}

    def converter(name: str) -> Any:
        known = get_converter(name)

        def convert(scope: Any, operator: Any, container: Any) -> None:
            known(scope, operator, _WholeNumbers(container))

        return convert

    return {
        "custom_conversion_functions": {kind: converter(name) for kind, name in names.items()},
        "custom_shape_calculators": {kind: get_shape_calculator(name) for kind, name in names.items()},
    }


class _WholeNumbers:
    """A container of skl2onnx in which truth values become whole numbers."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *names: Any, **attributes: Any) -> None:
        """Add a node, its lists of truth values as lists of 0 and 1."""
        for name, values in attributes.items():
            if isinstance(values, list) and any(isinstance(value, bool) for value in values):
                attributes[name] = [int(value) for value in values]
        self._container.add_node(*names, **attributes)
