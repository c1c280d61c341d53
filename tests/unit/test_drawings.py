"""The rules of charts, on fakes."""

import pytest

from shared import results
from shared.adapters.vega_charts import VegaCharts
from shared.drawings import ChartService, Drawing
from shared.errors import ChartInvalidError
from shared.records.results import ResultItem
from shared.results import ResultFile, ResultService
from tests.factories import a_caller
from tests.fakes.sessions import InMemorySessions
from tests.training_factories import TrainingBench


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
