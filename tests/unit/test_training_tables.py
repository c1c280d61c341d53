"""Tables as training reads them: what columns hold, and the rows."""

import numpy as np
import pandas as pd
import pytest

from shared.adapters import table_chunks, training_tables
from shared.adapters.training_tables import read_rows, survey_tables
from shared.errors import DataSetError
from shared.records.training import LearningTask
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import a_data_file, a_request


def a_store(*contents: bytes) -> tuple[InMemoryObjectStore, list]:
    store = InMemoryObjectStore()
    files = []
    for index, content in enumerate(contents):
        stored = store.write(f"datasets/{index}.csv", content, "text/csv")
        n_rows = max(0, len(content.splitlines()) - 1)
        fields = {"file_name": f"{index}.csv", "object_name": stored.name, "generation": stored.generation}
        files.append(a_data_file(content, n_rows, **fields))
    return store, files


def survey(store, files, **fields):
    return survey_tables(store, files, a_request(**fields), lambda _: None)


def rows(store, survey) -> pd.DataFrame:
    frames = [frame for _, frame in read_rows(store, survey, list(survey.columns), lambda _: None)]
    return pd.concat(frames, ignore_index=True)


def test_files_are_read_one_below_the_other_and_only_their_common_columns():
    store, files = a_store(b"a,b,c,y\n1,2,x,3\n4,5,x,6\n", b"y,a,d,c\n9,7,8,z\n")
    found = survey(store, files)
    assert found.columns == {"y": "number", "a": "number", "c": "text"}
    assert found.categories == {"c": ("x", "z")}
    assert found.ignored == {"b": "not in every file", "d": "not in every file"}
    assert rows(store, found).astype({"c": str}).to_dict("list") == {
        "y": [3, 6, 9],
        "a": [1, 4, 7],
        "c": ["x", "x", "z"],
    }


def test_a_file_without_the_target_is_left_out_and_named():
    store, files = a_store(b"a,y\n1,2\n", b"a,b\n1,2\n", b"a,y\n")
    found = survey(store, files)
    assert (found.n_rows, list(found.columns)) == (1, ["y", "a"])
    assert found.ignored == {"file 1.csv": "no column 'y'"}
    with pytest.raises(DataSetError, match="No table has a column 'nope'"):
        survey(store, files, target="nope")


def test_infinite_numbers_are_missing_and_missing_texts_are_empty():
    store, files = a_store(b"a,c,y\n1,x,2\ninf,,-inf\n")
    frame = rows(store, survey(store, files))
    np.testing.assert_equal(frame[["a", "y"]].to_dict("list"), {"a": [1, np.nan], "y": [2, np.nan]})
    assert frame["c"].tolist() == ["x", ""]


def test_dates_truth_values_and_texts_are_told_apart():
    store, files = a_store(
        b"when,day,ok,odd,y\n"
        b"2024-01-31T05:00:00+02:00,2024-02-29,True,2024-01-01,1\n"
        b",2024-03-01,,soon,2\n2024-02-01 00:30,2024-03-02,False,,3\n"
    )
    found = survey(store, files)
    assert found.columns == {"y": "number", "when": "date", "day": "date", "ok": "text", "odd": "text"}
    frame = rows(store, found)
    assert frame["when"].iloc[0] == pd.Timestamp("2024-01-31T03:00:00Z")
    assert frame["when"].isna().tolist() == [False, True, False]
    assert frame["ok"].tolist() == ["True", "", "False"]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (["1"] * 25 + ["x"], "numbers in some rows, texts in others: row 26 holds 'x'"),
        (["1"] * 25 + ["2024-01-01"], "numbers in some rows, texts in others: row 26 holds '2024-01-01'"),
        ([f"name{row}" for row in range(60)], "more than 50 different texts"),
        ([""] * 26, "no values"),
    ],
)
def test_a_column_that_teaches_nothing_is_ignored_with_the_reason(column, reason, monkeypatch):
    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 5)
    store, files = a_store(b"a,b,y\n" + b"".join(b"1,%s,3\n" % value.encode() for value in column))
    found = survey(store, files)
    assert list(found.columns) == ["y", "a"]
    assert found.ignored == {"b": reason}


def test_a_target_that_turns_out_to_be_text_later_is_named_with_its_row(monkeypatch):
    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 10)
    store, files = a_store(b"a,y\n" + b"1,3\n" * 25 + b"1,warm\n")
    with pytest.raises(DataSetError, match="row 26 holds 'warm'"):
        survey(store, files)


def test_an_index_without_a_name_is_no_column():
    store, files = a_store(b"a,y\nfirst,1,2\nfirst,3,4\n")
    assert rows(store, survey(store, files)).to_dict("list") == {"y": [2, 4], "a": [1, 3]}


def test_true_and_false_are_no_numbers_to_predict():
    store, files = a_store(b"a,flag\n1,True\n1,False\n")
    with pytest.raises(DataSetError, match="not numeric"):
        survey(store, files, target="flag")


def test_classes_are_texts_and_whole_numbers_have_no_decimal_point():
    store, files = a_store(b"a,y\n1,1\n1,2\n1,\n1,2\n", b"a,y\n1,2.0\n1,3.5\n")
    found = survey(store, files, task=LearningTask.CLASSIFICATION)
    assert found.class_counts == {"1": 1, "2": 3, "3.5": 1}
    target = rows(store, found)["y"]
    assert target.astype(object).where(target.notna(), None).tolist() == ["1", "2", None, "2", "2", "3.5"]


def test_too_many_classes_are_refused_as_soon_as_they_are_seen():
    store, files = a_store(b"a,y\n" + b"".join(b"1,%d\n" % row for row in range(101)))
    with pytest.raises(DataSetError, match=r"more than 100 classes.*Numbers are for regression"):
        survey(store, files, task=LearningTask.CLASSIFICATION)


@pytest.mark.parametrize("values", [[b"soon", b"later"], [b"1", b"soon"], [b"", b""]])
def test_a_time_column_that_orders_nothing_is_refused(values):
    store, files = a_store(b"t,y\n" + b"".join(b"%s,3\n" % value for value in values))
    with pytest.raises(DataSetError, match="'t' does not order the rows"):
        survey(store, files, task=LearningTask.TIME_SERIES, time_column="t")


def test_reading_reports_progress_over_all_files(monkeypatch):
    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 10)
    store, files = a_store(b"a,y\n" + b"1,3\n" * 20, b"a,y\n" + b"1,3\n" * 20)
    surveyed: list[float] = []
    read: list[float] = []
    found = survey_tables(store, files, a_request(), surveyed.append)
    firsts = [first for first, _ in read_rows(store, found, ["a"], read.append)]
    assert surveyed == read == [0.25, 0.5, 0.75, 1]
    assert firsts == [0, 10, 20, 30]


def test_how_many_rows_fit_into_memory_counts_the_columns_that_texts_and_dates_become(monkeypatch):
    monkeypatch.setattr(training_tables, "MOST_CELLS", 90)
    store, files = a_store(b"a,c,d,y\n" + b"1,x,2024-01-01,3\n1,z,2024-01-02,3\n" * 10)
    found = survey(store, files)
    assert (found.width, found.sample_fraction) == (1 + 1 + 2 + 5, 90 / (20 * 9))


@pytest.mark.parametrize("content", [b"a,y\n1,2\n1,2,3,4\n", b"\x1f\x8b no gzip", b""])
def test_a_file_that_is_no_table_is_a_fault_of_the_data(content):
    store, files = a_store(content)
    with pytest.raises(DataSetError):
        survey(store, files)


def test_a_file_that_is_gone_is_a_fault_of_the_data():
    store, files = a_store(b"a,y\n1,2\n")
    store.delete(store.list(""))
    with pytest.raises(DataSetError, match=r"0\.csv"):
        survey(store, files)
