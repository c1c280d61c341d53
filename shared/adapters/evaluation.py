"""How good a model is: metrics, and the charts and tables that show it. Plain numbers out (docs/results.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import DataSetError

if TYPE_CHECKING:
    import numpy as np

CHART_POINTS = 1000
RESIDUAL_BINS = 30
ROC_POINTS = 200
SHOWN_FEATURES = 20
# More classes than this fill a picture with cells that nobody can read.
MOST_CONFUSED = 30
OTHERS = "(others)"


def demand_finite(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse a model whose predictions are no numbers.

    Raises:
        DataSetError: A metric is not finite.
    """
    if not all(math.isfinite(value) for values in metrics.values() for value in values.values()):
        raise DataSetError("The model found no finite solution for these numbers.")


def regression_metrics(actual: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return rmse, mae and r2 of arrays of one shape."""
    import numpy as np

    errors = predicted - actual
    spread = float(np.sum((actual - actual.mean()) ** 2))
    squared = float(np.sum(errors**2))
    return {
        "rmse": math.sqrt(squared / actual.size),
        "mae": float(np.mean(np.abs(errors))),
        # A constant target has no spread to explain: 1 where it is met exactly, else 0, as scikit-learn has it.
        "r2": 1 - squared / spread if spread else float(squared == 0),
    }


def classification_metrics(codes: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return accuracy, balanced_accuracy, f1_macro, log_loss and, where both sides are there, roc_auc.

    Args:
        codes: The actual classes by number, shape (rows,).
        probabilities: Shape (rows, classes). roc_auc of two classes is that of the second one; of more classes, the
            mean of each against the rest.
    """
    import numpy as np
    from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score, roc_auc_score

    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    present = np.unique(codes)
    metrics = {
        "accuracy": float(accuracy_score(codes, predicted)),
        "balanced_accuracy": float(recall_score(codes, predicted, labels=present, average="macro", zero_division=0)),
        "f1_macro": float(f1_score(codes, predicted, average="macro", zero_division=0)),
        "log_loss": float(log_loss(codes, probabilities, labels=classes)),
    }
    if len(classes) == 2 and len(present) == 2:
        metrics["roc_auc"] = float(roc_auc_score(codes, probabilities[:, 1]))
    elif len(present) == len(classes):
        metrics["roc_auc"] = float(roc_auc_score(codes, probabilities, multi_class="ovr", labels=classes))
    return metrics


def regression_charts(model: str, target: str, actual: np.ndarray, predicted: np.ndarray) -> tuple[dict[str, Any], ...]:
    """Show predictions against actual values, and how the residuals are spread."""
    import numpy as np

    shown = np.linspace(0, len(actual) - 1, min(len(actual), CHART_POINTS)).round().astype(int)
    counts, edges = np.histogram(predicted - actual, bins=RESIDUAL_BINS)
    return (
        {
            "name": f"{model}.predicted_vs_actual",
            "model": model,
            "kind": "scatter",
            "title": f"{target}: predicted against actual, held-out rows",
            "x": {"field": "actual", "title": f"actual {target}"},
            "y": {"field": "predicted", "title": f"predicted {target}"},
            "n_rows": len(actual),
            "data": {"actual": actual[shown].tolist(), "predicted": predicted[shown].tolist()},
        },
        {
            "name": f"{model}.residuals",
            "model": model,
            "kind": "histogram",
            "title": f"{target}: residuals (predicted - actual), held-out rows",
            "x": {"field": "from", "to": "to", "title": f"residual of {target}"},
            "y": {"field": "count", "title": "rows"},
            "n_rows": len(actual),
            "data": {"from": edges[:-1].tolist(), "to": edges[1:].tolist(), "count": counts.tolist()},
        },
    )


def importance_chart(model: str, target: str, names: Sequence[str], importances: Sequence[float]) -> dict[str, Any]:
    """Show the inputs that weigh most in a model, the heaviest first."""
    ranked = sorted(zip(importances, names, strict=True), key=lambda pair: -pair[0])[:SHOWN_FEATURES]
    return {
        "name": f"{model}.importances",
        "model": model,
        "kind": "bar",
        "title": f"{target}: what weighs most in the model",
        "x": {"field": "input", "title": "input", "type": "text"},
        "y": {"field": "importance", "title": "importance, all together 1"},
        "data": {"input": [name for _, name in ranked], "importance": [float(weight) for weight, _ in ranked]},
    }


def classification_charts(
    model: str, target: str, classes: Sequence[str], codes: np.ndarray, probabilities: np.ndarray
) -> tuple[dict[str, Any], ...]:
    """Show which classes are taken for which, and for two classes what each threshold would give (ROC)."""
    confusion = _confusion_chart(model, target, classes, codes, probabilities.argmax(axis=1))
    if len(classes) > 2 or len(set(codes.tolist())) < 2:
        return (confusion,)
    return (confusion, _roc_chart(model, target, classes[1], codes, probabilities[:, 1]))


def _confusion_chart(
    model: str, target: str, classes: Sequence[str], codes: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    import numpy as np

    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (codes, predicted), 1)
    order = in_order(classes)
    if len(classes) > MOST_CONFUSED:
        frequent = set(np.argsort(-counts.sum(axis=1), kind="stable")[: MOST_CONFUSED - 1].tolist())
        order = [code for code in order if code in frequent]
    rest = [code for code in range(len(classes)) if code not in set(order)]
    groups = [[code] for code in order] + ([rest] if rest else [])
    labels = [_label(classes[code]) for code in order] + ([OTHERS] if rest else [])
    data: dict[str, list[Any]] = {"actual": [], "predicted": [], "rows": []}
    for actual_label, actual_group in zip(labels, groups, strict=True):
        for label, group in zip(labels, groups, strict=True):
            data["actual"].append(actual_label)
            data["predicted"].append(label)
            data["rows"].append(int(counts[np.ix_(actual_group, group)].sum()))
    return {
        "name": f"{model}.confusion",
        "model": model,
        "kind": "confusion",
        "title": f"{target}: predicted against actual classes, held-out rows",
        "x": {"field": "predicted", "title": f"predicted {target}", "type": "text"},
        "y": {"field": "actual", "title": f"actual {target}", "type": "text"},
        "color": {"field": "rows", "title": "rows"},
        "n_rows": len(codes),
        "data": data,
    }


def _roc_chart(model: str, target: str, positive: str, codes: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    import numpy as np
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(codes, scores)
    shown = np.unique(np.linspace(0, len(false_rate) - 1, ROC_POINTS).round().astype(int))
    x, y = false_rate[shown].tolist(), true_rate[shown].tolist()
    return {
        "name": f"{model}.roc",
        "model": model,
        "kind": "line",
        "title": f"{target}: finding {positive!r} at every threshold, held-out rows",
        "x": {"field": "false_rate", "title": "false alarms, part of the other rows"},
        "y": {"field": "true_rate", "title": f"found, part of the rows of {positive!r}"},
        "series": {"field": "of"},
        "data": {"false_rate": [*x, 0, 1], "true_rate": [*y, 0, 1], "of": ["model"] * len(x) + ["chance"] * 2},
    }


def class_table(
    model: str, target: str, classes: Sequence[str], codes: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    """Return how well each class is found: precision, recall, F1 and held-out rows; null where nothing is to divide."""
    import numpy as np
    from sklearn.metrics import precision_recall_fscore_support

    found = precision_recall_fscore_support(
        codes, probabilities.argmax(axis=1), labels=np.arange(len(classes)), zero_division=np.nan
    )
    names = ("precision", "recall", "f1", "rows")
    rows = []
    for code in in_order(classes):
        values = [float(measure[code]) for measure in found]
        numbers = dict(zip(names, (None if math.isnan(value) else value for value in values), strict=True))
        rows.append({"class": classes[code], **numbers, "rows": int(found[3][code])})
    return {
        "name": f"{model}.classes",
        "title": f"{target}: the classes on held-out rows, {model}",
        "columns": [
            {"name": "class", "type": "text"},
            {"name": "precision", "type": "number"},
            {"name": "recall", "type": "number"},
            {"name": "f1", "type": "number"},
            {"name": "rows", "type": "integer"},
        ],
        "rows": rows,
    }


def in_order(classes: Sequence[str]) -> list[int]:
    """Return the numbers of classes as a reader expects them: by value where all are numbers, else by text."""
    try:
        return sorted(range(len(classes)), key=lambda code: float(classes[code]))
    except ValueError:
        return sorted(range(len(classes)), key=lambda code: classes[code])


def _label(name: str) -> str:
    return name or "(empty)"


def forecast_charts(
    model: str,
    target: str,
    time: Mapping[str, Any],
    lines: Mapping[str, Sequence[tuple[Any, float | None]]],
    errors_by_step: Mapping[str, Sequence[float]],
) -> tuple[dict[str, Any], ...]:
    """Show forecasts beside what came, and how the error grows with the distance.

    Args:
        time: Title and type of the times.
        lines: Points (time, value) by name; a value may be missing.
        errors_by_step: RMSE of each step of the horizon, by what forecasts: the model and the baselines.
    """
    return (
        {
            "name": f"{model}.forecast",
            "model": model,
            "kind": "line",
            "title": f"{target}: forecast and actual, held-out rows",
            "x": {"field": "time", **time},
            "y": {"field": "value", "title": target},
            "series": {"field": "of", "title": "forecast"},
            "data": {
                "time": [at for line in lines.values() for at, _ in line],
                "value": [value for line in lines.values() for _, value in line],
                "of": [name for name, line in lines.items() for _ in line],
            },
        },
        {
            "name": f"{model}.error_by_step",
            "model": model,
            "kind": "line",
            "title": f"{target}: error by how far ahead, held-out rows",
            "x": {"field": "step", "title": "rows ahead"},
            "y": {"field": "rmse", "title": f"RMSE of {target}"},
            "series": {"field": "of", "title": "forecast"},
            "data": {
                "step": [step for errors in errors_by_step.values() for step in range(1, len(errors) + 1)],
                "rmse": [float(error) for errors in errors_by_step.values() for error in errors],
                "of": [name for name, errors in errors_by_step.items() for _ in errors],
            },
        },
    )


def history_chart(
    model: str, target: str, unit: str, loss_title: str, points: Sequence[tuple[int, float | None, float | None]]
) -> dict[str, Any]:
    """Show the loss while training in long form, one series per part.

    Args:
        points: (step, loss on the training part, loss on the validation part), None where it is not measured.
    """
    parts = [
        (part, [(point[0], point[at]) for point in points if point[at] is not None])
        for at, part in ((1, "train"), (2, "validation"))
    ]
    return {
        "name": f"{model}.history",
        "model": model,
        "kind": "line",
        "title": f"{target}: loss while training",
        "x": {"field": unit, "title": unit},
        "y": {"field": "loss", "title": loss_title},
        "series": {"field": "part"},
        "data": {
            unit: [step for _, values in parts for step, _ in values],
            "loss": [float(loss) for _, values in parts for _, loss in values if loss is not None],
            "part": [part for part, values in parts for _ in values],
        },
    }
