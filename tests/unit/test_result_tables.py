"""Tables of results: what is valid, and how they are written as CSV."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.result_tables import ResultTableError, check_table, table_csv

COLUMNS = [
    {"name": "model", "type": "text"},
    {"name": "value", "type": "number", "unit": "kW"},
    {"name": "n", "type": "integer"},
    {"name": "ok", "type": "boolean"},
]


def a_table(*rows, columns=COLUMNS) -> dict:
    return {"name": "evaluation", "columns": columns, "rows": list(rows)}


def test_a_table_is_written_as_rfc_4180_says():
    table = a_table({"model": 'a "b", c\nd', "value": -1.5, "n": 3, "ok": True}, {"model": "ü"})
    assert table_csv(table) == 'model,value,n,ok\r\n"a ""b"", c\nd",-1.5,3,true\r\nü,,,\r\n'.encode()


@pytest.mark.parametrize("begins", "=+-@\t\r\n")
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe_and_a_number_does_not(begins):
    table = a_table({"model": f"{begins}cmd()", "value": -2.0}, columns=COLUMNS[:2])
    rows = list(csv.reader(io.StringIO(table_csv(table).decode(), newline="")))
    assert rows[1] == [f"'{begins}cmd()", "-2.0"]


def test_the_name_of_a_column_is_a_text_too():
    table = a_table(columns=[{"name": "=1+1", "type": "text"}])
    assert table_csv(table) == b"'=1+1\r\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_texts_come_back_whatever_they_hold(texts):
    content = table_csv(a_table(*({"model": text, "n": 1} for text in texts)))
    _, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert [row[0].removeprefix("'") for row in rows] == [text.removeprefix("'") for text in texts]


def test_numbers_come_back_exactly():
    table = a_table({"value": 0.1 + 0.2, "n": 2**60}, columns=COLUMNS[1:3])
    _, row = csv.reader(io.StringIO(table_csv(table).decode()))
    assert (float(row[0]), int(row[1])) == (0.1 + 0.2, 2**60)


@pytest.mark.parametrize(
    "table",
    [
        None,
        {},
        {"name": "t"},
        a_table(columns=[]),
        a_table(columns=[{"name": "a"}]),
        a_table(columns=[{"name": 5, "type": "text"}]),
        a_table(columns=[COLUMNS[0], COLUMNS[0]]),
        a_table(columns=[COLUMNS[0] | {"unit": 5}]),
        a_table("row"),
        a_table({"other": 1}),
        a_table({"value": "1"}),
        a_table({"value": True}),
        a_table({"n": 1.5}),
        a_table({"ok": 1}),
        a_table({"model": 1}),
        a_table() | {"rows": {}},
    ],
)
def test_what_is_no_table_is_refused(table):
    with pytest.raises(ResultTableError):
        check_table(table)
