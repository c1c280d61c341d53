"""The console tells people in words what the service has by name."""

import json

from dev.home import REPOSITORY
from shared.models import MAIN_METRICS
from shared.records.training import TRAINABLE_MODELS, LearningTask, models_of_task

METRICS = REPOSITORY / "console/src/metrics.json"
OFFERS = REPOSITORY / "console/src/training/offers.json"


def test_the_console_offers_the_tasks_and_models_that_can_be_trained():
    offers = json.loads(OFFERS.read_text())
    offered = {task: tuple(offer["models"]) for task, offer in offers["tasks"].items()}

    assert offered == {task.value: models_of_task(task) for task in LearningTask if models_of_task(task)}
    assert set(offers["models"]) == set(TRAINABLE_MODELS)


def test_the_console_marks_the_same_values_as_better_by_which_the_service_chooses_the_best_model():
    metrics = json.loads(METRICS.read_text())

    assert {metric["better"] for metric in metrics.values()} == {"less", "more"}
    assert {name: metrics[name]["better"] == "more" for name in MAIN_METRICS} == MAIN_METRICS
