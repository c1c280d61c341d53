"""Learning curves: few points, the same shape."""

import json
import math

from shared.learning_curves import MOST_POINTS, LearningCurve, thin
from shared.records.training import CurvePoint


def points(n: int, *, spike: int = -1) -> list[CurvePoint]:
    return [CurvePoint("epoch", step, n, 9.0 if step == spike else 1 / step, 2 / step) for step in range(1, n + 1)]


def a_curve(n: int, **fields: int) -> dict:
    curve = LearningCurve()
    for point in points(n, **fields):
        curve.add(point)
    return curve.document()


def test_a_curve_without_points_says_nothing():
    assert LearningCurve().document() == {}


def test_a_short_curve_is_kept_whole():
    assert a_curve(MOST_POINTS)["step"] == list(range(1, MOST_POINTS + 1))


def test_a_long_curve_keeps_its_ends_and_its_order_in_a_bounded_number_of_points():
    for n in (MOST_POINTS + 1, 2 * MOST_POINTS + 1, 5000):
        curve = a_curve(n)
        assert len(curve["step"]) == len(curve["train"]) == len(curve["validation"]) <= MOST_POINTS
        assert (curve["step"][0], curve["step"][-1]) == (1, n)
        assert curve["step"] == sorted(set(curve["step"]))


def test_thinning_keeps_a_single_peak():
    curve = [CurvePoint("epoch", step, 3000, None, 9.0 if step == 1234 else 1 / step) for step in range(1, 3001)]
    assert 1234 in [point.step for point in thin(curve, 50)]
    without_validation = [CurvePoint("tree", point.step, 3000, point.validation) for point in curve]
    assert 1234 in [point.step for point in thin(without_validation, 50)]


def test_a_loss_that_is_no_number_is_left_out_and_the_curve_stays_json():
    curve = LearningCurve()
    for step, loss in enumerate((1.0, math.nan, math.inf, None), start=1):
        curve.add(CurvePoint("epoch", step, 4, loss))
    assert curve.document()["train"] == [1.0, None, None, None]
    json.dumps(curve.document(), allow_nan=False)
