"""The rules of results, on fakes."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from shared import results
from shared.adapters.vega_charts import VegaCharts
from shared.errors import ChartInvalidError, DataSetError, InvalidFieldError, SessionNotFoundError
from shared.records.results import ResultItem, ResultKind
from shared.records.uploads import DataFile
from shared.results import ChartService, Drawing, ResultFile, ResultService, VariableService
from tests.factories import BOB, a_caller
from tests.fakes.sessions import InMemorySessions
from tests.fakes.uploads import InMemoryUploads
from tests.training_factories import TrainingBench, a_table


class NamingReader:
    """A `TableReader` that says what it was asked for."""

    def describe(self, file: DataFile, points: int, chosen: Collection[str] | None = None) -> Mapping[str, Any]:
        return {"name": file.file_name, "points": points} | ({} if chosen is None else {"chosen": sorted(chosen)})


def variables(bench: TrainingBench, points: str | None = None, *, user=None, name: str = "weather", columns=None):
    service = VariableService(InMemorySessions(bench.database), InMemoryUploads(bench.database), NamingReader())
    return service.describe(a_caller(user) if user else a_caller(), name, points, columns)


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


def test_columns_are_chosen_as_a_line_of_csv():
    bench = TrainingBench()
    bench.a_session(a_table())
    (described,) = variables(bench, columns='a,"b, [c]",ü')
    assert described["chosen"] == ["a", "b, [c]", "ü"]


@pytest.mark.parametrize("columns", ["", ",", "a,,b", 'a,"b', 'a\nb,"'])
def test_columns_that_are_none_are_refused(columns):
    bench = TrainingBench()
    bench.a_session(a_table())
    with pytest.raises(InvalidFieldError) as refused:
        variables(bench, columns=columns)
    assert refused.value.details["field"] == "columns"


def draw(bench: TrainingBench, monkeypatch: pytest.MonkeyPatch, **wishes: str) -> ResultFile:
    """Draw the one chart of a session, which the bench's trainer did not fill."""
    content = {"name": "m.\r\n/fit", "kind": "scatter", "x": {"field": "a"}, "y": {"field": "a"}, "data": {"a": [1]}}
    item = ResultItem("1", "2", content)
    monkeypatch.setattr(ResultService, "items", lambda *_: [item])
    service = ChartService(ResultService(bench.runs), InMemorySessions(bench.database), VegaCharts())
    drawn = service.draw(
        a_caller(), "weather", Drawing(**{"form": "svg", "name": content["name"]} | wishes), pytest.fail
    )
    assert isinstance(drawn, ResultFile)
    return drawn


def test_the_name_of_a_drawing_is_safe_in_a_header(monkeypatch):
    assert draw(TrainingBench(), monkeypatch).name == "m.-fit.svg"


def test_a_tag_changes_with_everything_that_changes_the_drawing(monkeypatch):
    bench = TrainingBench()
    wishes = [{}, {"form": "png"}, {"form": "png", "scale": "1"}, {"theme": "dark"}, {"width": "300"}]
    tags = {draw(bench, monkeypatch, **wish).tag for wish in wishes}
    assert len(tags) == len(wishes)
    assert draw(bench, monkeypatch).tag == draw(bench, monkeypatch).tag


def test_a_drawing_that_is_too_large_to_send_is_refused(monkeypatch):
    monkeypatch.setattr(results, "LARGEST_FILE_BYTES", 100)
    with pytest.raises(ChartInvalidError, match="too large"):
        draw(TrainingBench(), monkeypatch).make()
