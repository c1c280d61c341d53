"""Learning curves while a model is trained: few enough points to store every second, and still of the same shape."""

import math
from collections.abc import Sequence
from typing import Any

from shared.records.training import CurvePoint

# As wide as a chart on a page; 200 points are about 6 KB of JSON.
MOST_POINTS = 200


class LearningCurve:
    """Collects the points of one curve."""

    def __init__(self) -> None:
        self._points: list[CurvePoint] = []

    def add(self, point: CurvePoint) -> None:
        """Add the next point."""
        self._points.append(point)
        if len(self._points) > 2 * MOST_POINTS:
            self._points = thin(self._points, MOST_POINTS)

    def document(self) -> dict[str, Any]:
        """Return {unit, n_steps, step, train, validation}, the last three equally long; {} before the first point.

        A loss that is not measured, or not finite, is None.
        """
        if not self._points:
            return {}
        points = thin(self._points, MOST_POINTS)
        return {
            "unit": points[-1].unit,
            "n_steps": points[-1].n_steps,
            "step": [point.step for point in points],
            "train": [_finite(point.train) for point in points],
            "validation": [_finite(point.validation) for point in points],
        }


def thin(points: Sequence[CurvePoint], most: int) -> list[CurvePoint]:
    """Return at most `most` (4 or more) points: the ends, and the lowest and highest of equal stretches between."""
    if len(points) <= most:
        return list(points)
    first, *inner, last = points
    n_stretches = (most - 2) // 2
    kept = [first]
    for index in range(n_stretches):
        stretch = inner[index * len(inner) // n_stretches : (index + 1) * len(inner) // n_stretches]
        ends = {min(stretch, key=_height).step, max(stretch, key=_height).step}
        kept += [point for point in stretch if point.step in ends]
    return [*kept, last]


def _height(point: CurvePoint) -> float:
    loss = point.train if point.validation is None else point.validation
    return math.inf if loss is None or math.isnan(loss) else loss


def _finite(loss: float | None) -> float | None:
    return None if loss is None or not math.isfinite(loss) else loss
