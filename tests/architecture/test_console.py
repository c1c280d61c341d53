"""The console tells people in words what the service has by name."""

import json

from dev.home import REPOSITORY
from shared.records.training import TRAINABLE_MODELS, LearningTask, models_of_task

OFFERS = REPOSITORY / "console/src/training/offers.json"


def test_the_console_offers_the_tasks_and_models_that_can_be_trained():
    offers = json.loads(OFFERS.read_text())
    offered = {task: tuple(offer["models"]) for task, offer in offers["tasks"].items()}

    assert offered == {task.value: models_of_task(task) for task in LearningTask if models_of_task(task)}
    assert set(offers["models"]) == set(TRAINABLE_MODELS)
