"""The rules of variables, on fakes."""

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from shared.errors import InvalidFieldError, SessionNotFoundError
from shared.records.uploads import DataFile
from shared.variables import VariableService
from tests.factories import BOB, a_caller
from tests.fakes.uploads import InMemoryUploads
from tests.training_factories import TrainingBench, a_table


class NamingReader:
    """A `TableReader` that says what it was asked for."""

    def describe(self, file: DataFile, points: int, chosen: Collection[str] | None = None) -> Mapping[str, Any]:
        return {"name": file.file_name, "points": points} | ({} if chosen is None else {"chosen": sorted(chosen)})


def variables(bench: TrainingBench, points: str | None = None, *, user=None, name: str = "weather", columns=None):
    service = VariableService(InMemoryUploads(bench.database), NamingReader())
    return service.describe(a_caller(user) if user else a_caller(), name, points, columns)


def test_a_session_of_another_user_is_not_found():
    bench = TrainingBench()
    bench.a_session(a_table())
    for name in ("weather", "other", ".."):
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
