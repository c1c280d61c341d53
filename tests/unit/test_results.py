"""The rules of results, on fakes."""

import math

import pytest

from shared.errors import DataSetError, SessionNotFoundError
from shared.records.results import ResultKind
from shared.results import ResultService
from tests.factories import BOB, a_caller
from tests.training_factories import TrainingBench, a_table


def test_before_the_first_run_every_list_is_empty():
    bench = TrainingBench()
    bench.a_session(a_table())
    for kind in ResultKind:
        assert ResultService(bench.runs).items(a_caller(), "weather", kind) == []


def test_the_lists_are_those_of_the_newest_completed_run():
    bench = TrainingBench()
    bench.a_session(a_table())
    bench.train()
    newest = bench.train(seed=7, models=["random_forest"])
    bench.trainer.faults["dense_network"] = DataSetError("No.")
    bench.train(seed=8, models=["dense_network"])
    service = ResultService(bench.runs)
    (scaler,) = service.items(a_caller(), "weather", ResultKind.SCALERS)
    (chart,) = service.items(a_caller(), "weather", ResultKind.VISUALIZATIONS)
    (table,) = service.items(a_caller(), "weather", ResultKind.EVALUATION_TABLES)
    assert {scaler.run_id, chart.run_id, table.run_id} == {newest.id}
    assert scaler.content["name"] == "random_forest.inputs"
    assert chart.content["kind"] == "histogram"
    assert all(math.isfinite(row["value"]) for row in table.content["rows"])


def test_a_session_of_another_user_is_not_found():
    bench = TrainingBench()
    bench.a_session(a_table())
    for name in ("weather", "other", ".."):
        with pytest.raises(SessionNotFoundError):
            ResultService(bench.runs).items(a_caller(BOB), name, ResultKind.SCALERS)
