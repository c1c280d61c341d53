"""The rules of results, on fakes."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from shared.errors import DataSetError, InvalidFieldError, SessionNotFoundError
from shared.records import DataFile, ResultKind
from shared.results import ResultService, VariableService
from tests.factories import BOB, a_caller
from tests.fakes.sessions import InMemorySessions
from tests.fakes.uploads import InMemoryUploads
from tests.training_factories import TrainingBench, a_table


class NamingReader:
    """A `TableReader` that says what it was asked for."""

    def describe(self, file: DataFile, points: int) -> Mapping[str, Any]:
        return {"name": file.file_name, "points": points}


def variables(bench: TrainingBench, points: str | None = None, *, user: str | None = None, name: str = "weather"):
    service = VariableService(InMemorySessions(bench.database), InMemoryUploads(bench.database), NamingReader())
    return service.describe(a_caller(user) if user else a_caller(), name, points)


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
        with pytest.raises(SessionNotFoundError):
            variables(bench, user=BOB, name=name)


def test_every_table_of_a_session_is_described_and_nothing_else():
    bench = TrainingBench()
    session = bench.a_session(a_table(), a_table())
    bench.add_upload(session, b"\x00", file_name="noise.bin", n_rows=None)
    assert variables(bench) == [{"name": "table0.csv", "points": 500}, {"name": "table1.csv", "points": 500}]
    assert variables(bench, "10")[0]["points"] == 10


def test_a_session_without_files_has_no_variables():
    bench = TrainingBench()
    bench.a_session()
    assert variables(bench) == []


@pytest.mark.parametrize("points", ["", "0", "9", "5001", "-1", "1e3", "ten", "9" * 40])
def test_a_number_of_points_that_is_not_allowed_is_named(points):
    bench = TrainingBench()
    bench.a_session(a_table())
    with pytest.raises(InvalidFieldError) as refused:
        variables(bench, points)
    assert refused.value.details["field"] == "points"
