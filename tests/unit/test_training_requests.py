"""What may be asked of training."""

import pytest

from shared.errors import DataSetError, InvalidFieldError
from shared.records.training import LearningTask, TrainingRequest, read_training_request
from shared.training_requests import TableHead, check_series_length, read_training_fields, settle_request


def a_head(header: str, *rows: str, n_rows: int | None = None) -> TableHead:
    return TableHead(
        header.split(","), [row.split(",") for row in rows], len(rows) if n_rows is None else n_rows, n_rows is None
    )


def a_series_request(**fields) -> TrainingRequest:
    defaults = {
        "target": "y",
        "models": (),
        "test_fraction": 0.2,
        "seed": 42,
        "task": LearningTask.TIME_SERIES,
    }
    return TrainingRequest(**defaults | fields)


def test_a_numeric_target_is_for_regression():
    request = settle_request(read_training_fields(target="y"), [a_head("a,y", *["1,2.5"] * 20)])
    assert request.task is LearningTask.REGRESSION
    assert request.models


@pytest.mark.parametrize("task", ["Regression", "", 5, ["regression"], "clustering"])
def test_a_task_that_does_not_exist_is_named(task):
    with pytest.raises(InvalidFieldError, match="task: must be one of regression"):
        read_training_fields(target="y", task=task)


@pytest.mark.parametrize("field", ["time_column", "horizon", "window"])
def test_what_belongs_to_time_is_refused_for_another_task(field):
    value = "t" if field == "time_column" else 5
    with pytest.raises(InvalidFieldError, match="belongs to the task time_series"):
        read_training_fields(target="y", task="regression", **{field: value})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"horizon": 0}, "horizon"),
        ({"horizon": 169}, "horizon"),
        ({"horizon": 1.5}, "horizon"),
        ({"horizon": True}, "horizon"),
        ({"horizon": "12"}, "horizon"),
        ({"window": 0}, "window"),
        ({"window": 1001}, "window"),
        ({"time_column": 5}, "timeColumn"),
        ({"time_column": ""}, "timeColumn"),
        ({"time_column": "y"}, "timeColumn"),
    ],
)
def test_a_bad_field_is_named(fields, field):
    with pytest.raises(InvalidFieldError) as refused:
        read_training_fields(target="y", **fields)
    assert refused.value.details["field"] == field


def test_only_a_series_says_something_about_time():
    assert "horizon" not in a_series_request(task=LearningTask.REGRESSION).document()
    assert a_series_request(horizon=3).document()["horizon"] == 3


@pytest.mark.parametrize("task", LearningTask)
def test_a_request_comes_back_from_its_document(task):
    request = a_series_request(task=task, time_column="t" if task is LearningTask.TIME_SERIES else None)
    assert read_training_request(request.document()) == request


def test_a_document_from_before_there_were_tasks_is_a_regression():
    old = {"target": "y", "models": ["random_forest"], "test_fraction": 0.2, "seed": 42}
    assert read_training_request(old).task is LearningTask.REGRESSION


def test_a_series_must_have_room_for_windows_and_a_horizon_to_be_measured_on():
    request = a_series_request(horizon=5, window=20, test_fraction=0.2)
    with pytest.raises(DataSetError, match="at least 43 rows; there are 42") as refused:
        check_series_length(request, 42)
    assert refused.value.details == {"rows": 42, "least": 43}
    check_series_length(request, 43)
