"""What callers send about training."""

from typing import Annotated, NotRequired, TypedDict

from shared.api.types import Keywords, Uuid
from shared.records.training import TRAINABLE_MODELS, LearningTask, models_of_task
from shared.training_requests import (
    DEFAULT_SEED,
    DEFAULT_TEST_FRACTION,
    LARGEST_SEED,
    LONGEST_HORIZON,
    LONGEST_WINDOW,
    TEST_FRACTIONS,
)

_TASKS = [task.value for task in LearningTask if models_of_task(task)]
_Column = Annotated[str, Keywords(minLength=1, maxLength=1000, examples=["y"])]


class Train(TypedDict):
    """Body of POST /train/{session_id}.

    Attributes:
        target: Column to predict.
        task: What is learned; without it the target decides.
        models: Some of those of the task; all without it.
        testFraction: Part of the rows that is held out for evaluation.
        seed: Decides the split and every random choice: the same seed gives the same metrics.
        timeColumn: Of a time series: orders the rows.
        horizon: Of a time series: how many next values are forecast.
        window: Of a time series: rows of history that a forecast sees.
    """

    target: _Column
    task: NotRequired[Annotated[str, Keywords(enum=_TASKS)] | None]
    models: NotRequired[
        Annotated[
            list[Annotated[str, Keywords(enum=list(TRAINABLE_MODELS))]],
            Keywords(minItems=1, uniqueItems=True, examples=[["linear_regression"]]),
        ]
        | None
    ]
    testFraction: NotRequired[
        Annotated[float, Keywords(minimum=TEST_FRACTIONS[0], maximum=TEST_FRACTIONS[1], default=DEFAULT_TEST_FRACTION)]
        | None
    ]
    seed: NotRequired[Annotated[int, Keywords(minimum=0, maximum=LARGEST_SEED, default=DEFAULT_SEED)] | None]
    timeColumn: NotRequired[_Column | None]
    horizon: NotRequired[Annotated[int, Keywords(minimum=1, maximum=LONGEST_HORIZON)] | None]
    window: NotRequired[Annotated[int, Keywords(minimum=1, maximum=LONGEST_WINDOW)] | None]


class RunTraining(TypedDict):
    """Body of POST /run-training.

    Attributes:
        modelId: Of the model that is to be trained.
    """

    modelId: Uuid
