"""Tables with pandas: what is said about columns."""

import json

import numpy as np
import pytest

from shared.adapters import pandas_tables
from shared.adapters.pandas_tables import PandasTableReader
from shared.errors import DataSetError
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import a_data_file


def a_store(*contents: bytes) -> tuple[InMemoryObjectStore, list]:
    store = InMemoryObjectStore()
    files = []
    for index, content in enumerate(contents):
        stored = store.write(f"datasets/{index}.csv", content, "text/csv")
        n_rows = max(0, len(content.splitlines()) - 1)
        fields = {"file_name": f"{index}.csv", "object_name": stored.name, "generation": stored.generation}
        files.append(a_data_file(content, n_rows, **fields))
    return store, files


def describe(content: bytes, points: int = 100) -> dict:
    store, (file,) = a_store(content)
    described = PandasTableReader(store).describe(file, points)
    json.dumps(described, allow_nan=False)
    return described


def column(described: dict, name: str) -> dict:
    return next(column for column in described["columns"] if column["name"] == name)


@pytest.mark.parametrize("content", [b"a,y\n1,2\n1,2,3,4\n", b"\x1f\x8b no gzip", b""])
def test_a_file_that_is_no_table_is_a_fault_of_the_data(content):
    store, files = a_store(content)
    with pytest.raises(DataSetError):
        PandasTableReader(store).describe(files[0], 10)


def test_a_file_that_is_gone_is_a_fault_of_the_data():
    store, files = a_store(b"a,y\n1,2\n")
    store.delete(store.list(""))
    with pytest.raises(DataSetError, match=r"0\.csv"):
        PandasTableReader(store).describe(files[0], 10)


def test_a_numeric_column_is_described_by_its_statistics():
    described = describe(b"a\n1\n2\n3\n4\n\n")
    a = column(described, "a")
    assert (a["type"], a["count"], a["missing"], a["unique"]) == ("integer", 4, 0, 4)
    assert (a["mean"], a["min"], a["q25"], a["median"], a["q75"], a["max"]) == (2.5, 1, 1.75, 2.5, 3.25, 4)
    assert a["std"] == pytest.approx(1.2909944)
    assert a["series"] == {"x": [0, 1, 2, 3], "y": [1, 2, 3, 4]}
    assert described["is_sampled"] is False


def test_missing_and_infinite_values_are_no_points():
    a = column(describe(b"a,b\n1,1\n,1\ninf,1\n4,1\n"), "a")
    assert (a["type"], a["count"], a["missing"], a["max"]) == ("number", 3, 1, 4)
    assert a["series"] == {"x": [0, 3], "y": [1, 4]}


def test_a_text_column_is_described_by_its_commonest_values():
    described = describe(b"name,flag\nx,True\ny,False\nx,True\n,True\n")
    name, flag = column(described, "name"), column(described, "flag")
    assert (name["type"], name["count"], name["missing"], name["unique"]) == ("text", 3, 1, 2)
    assert name["commonest"] == [{"value": "x", "count": 2}, {"value": "y", "count": 1}]
    assert (flag["type"], flag["unique"]) == ("boolean", 2)
    assert "series" not in name


def test_a_table_of_only_a_header_has_columns_without_values():
    a = column(describe(b"a,b\n"), "a")
    assert (a["count"], a["unique"]) == (0, 0)


def test_an_empty_column_has_no_statistics():
    a = column(describe(b"a,b\n,1\n,2\n"), "a")
    assert (a["count"], a["mean"], a["median"]) == (0, None, None)
    assert a["series"] == {"x": [], "y": []}


def test_a_long_series_is_thinned_to_the_points_asked_for_and_keeps_its_peak():
    values = [0] * 10_000
    values[7_777] = 99
    a = column(describe(b"a\n" + b"".join(b"%d\n" % value for value in values), points=50), "a")
    assert len(a["series"]["x"]) <= 50
    assert a["series"]["x"] == sorted(a["series"]["x"])
    assert (7_777, 99) in zip(a["series"]["x"], a["series"]["y"], strict=True)


def test_a_wide_table_is_described_by_shorter_series_of_its_first_columns(monkeypatch):
    monkeypatch.setattr(pandas_tables, "MOST_COLUMNS", 4)
    monkeypatch.setattr(pandas_tables, "MOST_POINTS", 60)
    described = describe(b"a,b,c,d,e\n" + b"".join(b"%d,1,2,3,4\n" % row for row in range(500)))
    assert described["n_columns"] == 5
    assert [column["name"] for column in described["columns"]] == ["a", "b", "c", "d"]
    assert {len(column["series"]["x"]) for column in described["columns"]} <= set(range(8, 16))


def test_a_table_beyond_the_limit_is_described_by_pieces_of_all_its_parts(monkeypatch):
    monkeypatch.setattr(pandas_tables, "MOST_BYTES", 16 * 512)
    n_rows = 20_000
    described = describe(b"a,b\n" + b"".join(b"%d,7\n" % row for row in range(n_rows)))
    a = column(described, "a")
    assert described["is_sampled"] is True
    assert described["n_rows"] == n_rows
    assert 500 < described["n_rows_read"] < 2_000
    assert (a["min"], a["max"]) == (0, n_rows - 1)
    assert a["mean"] == pytest.approx(n_rows / 2, rel=0.1)
    # Where a sampled row stands is estimated from where it was found.
    assert np.abs(np.array(a["series"]["x"]) - np.array(a["series"]["y"])).max() < 0.1 * n_rows
    assert set(column(described, "b")["series"]["y"]) == {7}


def test_a_histogram_counts_every_value_once():
    a = column(describe(b"a\n" + b"".join(b"%f\n" % (row % 50 / 4) for row in range(2000)) + b'inf\n""\n'), "a")
    histogram = a["histogram"]
    assert sum(histogram["count"]) == 2000
    assert len(histogram["count"]) == 30
    assert (histogram["from"][0], histogram["to"][-1]) == (0, 12.25)
    assert histogram["from"][1:] == histogram["to"][:-1]


@pytest.mark.parametrize(("n_numbers", "each"), [(6, 1), (50, 2), (91, 4)])
def test_bins_of_whole_numbers_hold_equally_many_of_them(n_numbers, each):
    a = column(describe(b"a\n" + b"".join(b"%d\n" % (row % n_numbers - 3) for row in range(20 * n_numbers))), "a")
    histogram = a["histogram"]
    assert histogram["from"] == [low - 0.5 for low in range(-3, n_numbers - 3, each)]
    assert {high - low for low, high in zip(histogram["from"], histogram["to"], strict=True)} == {each}
    assert sum(histogram["count"]) == 20 * n_numbers
    assert set(histogram["count"][:-1]) == {20 * each}


def test_a_histogram_of_one_whole_number_is_one_bar_around_it():
    histogram = column(describe(b"a\n5\n5\n5\n5\n"), "a")["histogram"]
    assert histogram == {"from": [4.5], "to": [5.5], "count": [4]}


@pytest.mark.parametrize(
    "values",
    [
        b"5\n5\n",
        b"1e308\n-1e308\n",
        b"1e-320\n2e-320\n",
        b"1.0\n1.0000000000000002\n",
        b"7\n",
        b"9e15\n-9e15\n",
        b"0\n2e15\n",
    ],
)
def test_a_histogram_of_odd_numbers_is_whole_or_empty(values):
    histogram = column(describe(b"a\n" + values), "a")["histogram"]
    assert sum(histogram["count"]) in {0, len(values.splitlines())}


def test_a_thinned_series_keeps_the_lowest_and_the_highest_of_all():
    generator = np.random.default_rng(3)
    for _ in range(20):
        values = generator.normal(size=5_000)
        content = b"a\n" + "\n".join(map(str, values)).encode() + b"\n"
        ys = column(describe(content, points=12), "a")["series"]["y"]
        assert len(ys) <= 12
        assert (min(ys), max(ys)) == (values.min(), values.max())


def test_only_chosen_columns_are_described():
    store, (file,) = a_store(b"a,b,c\n1,2,3\n")
    described = PandasTableReader(store).describe(file, 10, {"a", "c", "nothing"})
    assert [entry["name"] for entry in described["columns"]] == ["a", "c"]
    assert described["n_columns"] == 3
