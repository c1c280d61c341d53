"""What a job has in memory, as a manifest has it: plain JSON values, numbers of scalers, versions of libraries."""

import math
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from importlib import metadata
from typing import Any

from trainshed.errors import PublishError

# Distributions whose versions decide whether a file can be opened elsewhere.
_LIBRARIES = ("keras", "lightgbm", "numpy", "onnx", "pandas", "scikit-learn", "skops", "tensorflow", "torch", "xgboost")
_MODULES = {"scikit-learn": "sklearn"}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the machine-learning libraries that this process has imported."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        if _MODULES.get(name, name) in sys.modules:
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
    return found


def scaler_numbers(fitted: Any) -> dict[str, Any]:
    """Describe a fitted scaler of scikit-learn by its documented attributes.

    Raises:
        PublishError: It is of another class, or not fitted.
    """
    kind = type(fitted).__name__
    try:
        match kind:
            case "StandardScaler":
                scaling = _shift_and_scale("mean", fitted.mean_, fitted.scale_, fitted.with_mean, fitted.with_std)
                return {"type": "standard", **scaling}
            case "RobustScaler":
                switches = fitted.with_centering, fitted.with_scaling
                return {"type": "robust", **_shift_and_scale("center", fitted.center_, fitted.scale_, *switches)}
            case "MinMaxScaler":
                low, high = fitted.feature_range
                formula = "x * scale + min"
                return {
                    "type": "minmax",
                    "params": {"scale": fitted.scale_, "min": fitted.min_},
                    "formula": f"clip({formula}, {low}, {high})" if fitted.clip else formula,
                    "inverse": "(x - min) / scale",
                }
            case "MaxAbsScaler":
                return {
                    "type": "maxabs",
                    "params": {"scale": fitted.scale_},
                    "formula": "clip(x / scale, -1, 1)" if getattr(fitted, "clip", False) else "x / scale",
                    "inverse": "x * scale",
                }
    except AttributeError as error:
        raise PublishError(f"The {kind} is not fitted.") from error
    raise PublishError(f"A {kind} has no formula that is known; give type, params, formula and inverse.")


def _shift_and_scale(shift: str, shifts: Any, scales: Any, is_shifted: bool, is_scaled: bool) -> dict[str, Any]:
    """Describe `(x - shift) / scale`; what is switched off is not applied, though its numbers may have been learned."""
    params = ({shift: shifts} if is_shifted else {}) | ({"scale": scales} if is_scaled else {})
    match is_shifted, is_scaled:
        case True, True:
            formulas = f"(x - {shift}) / scale", f"x * scale + {shift}"
        case True, False:
            formulas = f"x - {shift}", f"x + {shift}"
        case False, True:
            formulas = "x / scale", "x * scale"
        case _:
            formulas = "x", "x"
    return {"params": params, "formula": formulas[0], "inverse": formulas[1]}


def type_of(values: Sequence[Any]) -> str:
    """Return the type of a table's column."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "integer"
    return "number" if kinds and kinds <= {int, float} else "text"


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers and arrays of numpy become Python's, NaN becomes null, dates ISO texts."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    # Arrays, Series and numpy's numbers.
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, date):
        # pandas writes a missing date as NaT, which is a date that equals nothing.
        return value.isoformat() if value == value else None  # noqa: PLR0124 - only NaT differs from itself
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
