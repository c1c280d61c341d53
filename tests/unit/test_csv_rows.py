import io
import warnings

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.adapters import csv_rows
from shared.adapters.csv_rows import CsvRowCounter
from shared.errors import DataSetError
from shared.tables import TableFormat, plain_pieces


def rows_of(content: bytes | str, delimiter: str = ",") -> int:
    plain = plain_pieces([content.encode() if isinstance(content, str) else content], TableFormat(encoding="utf-8-sig"))
    return CsvRowCounter().count(plain, delimiter)


def rows_of_pandas(content: bytes, delimiter: str = ",") -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns of mixed types and of index columns; it counts all the same
        return len(pd.read_csv(io.BytesIO(content), sep=delimiter, encoding="utf-8"))


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A rectangular or shortened table as some writer may have written it."""
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    n_columns = draw(st.integers(1, 4))
    characters = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from('",\n')
    cell = st.text(characters, max_size=6) | st.integers().map(str) | st.just("") | st.just("NA")

    def line(cells: list[str]) -> str:
        return ",".join(_quoted(draw, text) for text in cells)

    header = [f"column {index}" for index in range(n_columns)]
    lines = [line(header)]
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["full", "full", "full", "short", "blank", "spaces"]))
        if kind == "blank":
            lines.append("")
        elif kind == "spaces":
            lines.append("  ")
        else:
            width = n_columns if kind == "full" else draw(st.integers(1, n_columns))
            lines.append(line([draw(cell) for _ in range(width)]))
    for _ in range(draw(st.integers(0, 2))):
        lines.insert(0, "")
    end = draw(st.sampled_from(["", line_end]))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return (mark + line_end.join(lines) + end).encode()


def _quoted(draw: st.DrawFn, text: str) -> str:
    must = any(character in text for character in '",\n') or text != text.strip() or not text
    if must or draw(st.booleans()):
        return '"' + text.replace('"', '""') + '"'
    return text


@given(content=tables())
def test_rows_are_counted_as_pandas_counts_them(content):
    assert rows_of(content) == rows_of_pandas(content)


@given(content=tables(), size=st.integers(1, 7), at_once=st.integers(1, 7))
def test_where_the_pieces_end_makes_no_difference(content, size, at_once):
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "MEMORY_BYTES", at_once)
        counted = CsvRowCounter().count(pieces, ",")

    assert counted == CsvRowCounter().count([content], ",")


# Text that no writer makes, and pandas reads nevertheless. Lone carriage returns are left out: before a delimiter or a
# quote, pandas itself loses track of them.
ODD_TEXT = st.lists(
    st.sampled_from(["a", "1", ",", '"', "\n", "\r\n", " ", "\t", '""', "é", '"a\nb"', "\n\n", ',"q"', '5" ']),
    max_size=30,
).map("".join)


@settings(max_examples=1000, deadline=None)
@given(text=ODD_TEXT)
def test_odd_text_is_counted_or_refused_as_by_pandas(text):
    try:
        expected = rows_of_pandas(text.encode())
    except (pd.errors.ParserError, pd.errors.EmptyDataError):
        with pytest.raises(DataSetError):
            rows_of(text)
    else:
        assert rows_of(text) == expected


def outcome(content: bytes, at_once: int = csv_rows.MEMORY_BYTES) -> object:
    """What comes of counting so many bytes at once: the number, or what is said against the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "MEMORY_BYTES", at_once)
        try:
            return CsvRowCounter().count([content], ",")
        except DataSetError as error:
            return str(error), error.details


# Long enough to be taken 64 bytes at a time, with all that makes the automaton take over, also for a moment.
LONG_TEXT = st.lists(
    st.sampled_from(
        ["1,2,3\n"] * 6
        + ["1,2,3\r\n", '"x",2,"3"\n', '1,"a\n, ""b"" c",3\n', "\n", " \n", "1\r2\r"]
        + ['1"2,3\n', '5" \n', ',"",\n', "\r"]
        + ["1,2,3\n" * 20, "x" * 70 + "\n", '"' + "y\n" * 40 + '"\n', "1,2\n"]
        + ["1,2,3,4\n", "1,2", '"x"', '"', ","]
    ),
    min_size=10,
    max_size=60,
)
# How it may end: well, or with a quote that is never closed.
ENDS = st.sampled_from(["", "1,2", '1,"a\nb""c\nd', '"a\n""b' + "y\n" * 40, '1,""\n"z'])


@settings(max_examples=1000, deadline=None)
@given(texts=LONG_TEXT, end=ENDS, size=st.sampled_from([64, 65, 200]))
def test_64_bytes_at_once_come_to_the_same_as_one_after_the_other(texts, end, size):
    content = ("a,b,c\n1,2,3\n" + "".join(texts) + end).encode()

    one_by_one = outcome(content, at_once=50)

    assert outcome(content, at_once=size) == one_by_one
    assert outcome(content) == one_by_one


N_ROWS = 160_000


@pytest.mark.parametrize("width", [2, 5, 40])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_table_of_several_blocks_is_counted_as_pandas_counts_it(width, line_end):
    rows = [
        [f'"{row},\n{column}"' if column == row % width else str(row) for column in range(width)]
        for row in range(N_ROWS)
    ]
    content = line_end.join(",".join(cells) for cells in rows).encode()

    assert len(content) > csv_rows.MEMORY_BYTES
    assert rows_of(content) == rows_of_pandas(content) == N_ROWS - 1


@pytest.mark.parametrize("n_before", range(64))
def test_lines_after_an_odd_row_are_read_alike_wherever_it_lies(n_before):
    content = ("a,b,c\n1,2,3\n" + "x" * n_before + '5" ,2\r\n1,2,3\n\n \n\n"4",5,6\n' + "1,2,3\n" * 20).encode()

    assert rows_of(content) == rows_of_pandas(content) == 24


@pytest.mark.parametrize("at", [2, 10_000, 59_999])
def test_one_row_too_wide_is_found_in_a_long_table_even_if_another_is_too_narrow(at):
    lines = ["a,b,c"] + ["1,2,3"] * 60_000
    lines[at] = "1,2,3,4"
    lines[at + 1] = "1,2"

    with pytest.raises(DataSetError) as caught:
        rows_of("\n".join(lines))

    assert caught.value.details == {"line": at + 1, "columns": 4, "expected": 3}


@pytest.mark.parametrize(
    ("content", "n_rows"),
    [
        ("a,b\n", 0),
        ("a,b", 0),
        ("a,b\n1,2", 1),
        ("a,b\r\n1,2\r\n", 1),
        ("a,b\r1,2\r3,4\r", 2),
        ("\ufeffa,b\n1,2\n", 1),
        ("\n\n a,b\n\n1,2\n\n\n", 1),
        ('a,b\n"x\ny",2\n', 1),
        ('a,b\n"x ""y""\r\n",2\n3,4\n', 2),
        ("a\n\n \t\n1\n", 1),
        ("a,b\n1\n2,3\n", 2),
        ("a,b\n,\n", 1),
        ("a,b\nx,1,2\ny,3,4\n", 2),
        ("größe,資料\n1,2\n", 1),
        ('a,b\n""\n1,2\n', 2),
        ('a\n""\n1\n', 2),
        ('a\n1"2\n"3"4\n', 2),
    ],
)
def test_known_tables_have_the_rows_that_pandas_sees(content, n_rows):
    assert rows_of(content) == n_rows == rows_of_pandas(content.encode())


def test_tabs_separate_as_well_as_commas():
    assert rows_of("a\tb\n1,5\t2\n", "\t") == 1


@pytest.mark.parametrize("content", ["", "\n", "\n \n\t\n\r\n", "\ufeff"])
def test_an_empty_table_is_refused(content):
    with pytest.raises(DataSetError, match="empty"):
        rows_of(content)


def test_a_line_with_too_many_cells_is_refused_and_named():
    with pytest.raises(DataSetError) as caught:
        rows_of('a,b\n"1\n1",2\n3,4\n5,6,7\n8,9\n')

    assert caught.value.details == {"line": 5, "columns": 3, "expected": 2}


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\x00\x00", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"PK\x03\x04\x14\x00\xff"]
)
def test_a_file_of_another_kind_is_refused(content):
    with pytest.raises(DataSetError, match="not text"):
        rows_of(content)


@pytest.mark.parametrize("at", [200, 201, 263, 399])
def test_a_nul_character_is_found_and_its_line_named_wherever_it_lies(at):
    content = bytearray(b"a,b\n" * 100)
    content[at] = 0

    with pytest.raises(DataSetError, match="NUL") as caught:
        rows_of(bytes(content))
    assert caught.value.details == {"line": at // 4 + 1}


def test_nul_characters_in_the_header_are_refused():
    with pytest.raises(DataSetError, match="NUL"):
        rows_of(b"a\x00,b\n1,2\n")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('a,b\n1,"x\n2,3\n', 2),
        ('a,b\r\n"1\r\n2","x\r\n2,3', 3),
        ('a,b\n"', 2),
        ('a,b\n1,2\n3,"4', 3),
        ('"a,b\n1,2\n', 1),
        ('a,b\n1,"2""\n', 2),
    ],
)
def test_a_quote_that_is_never_closed_is_refused_as_pandas_refuses_it(content, line):
    with pytest.raises(DataSetError, match="never closed") as caught:
        rows_of(content)
    assert caught.value.details == {"line": line}
    with pytest.raises(pd.errors.ParserError):
        rows_of_pandas(content.encode())


def test_a_cell_without_end_is_refused_before_it_fills_the_memory():
    read = 0

    def endless():
        nonlocal read
        yield b'a,b\n1,"'
        while True:
            read += 1 << 16
            yield b"x\n" * (1 << 15)

    with pytest.raises(DataSetError, match="more than 16 MiB"):
        CsvRowCounter().count(endless(), ",")
    assert read < 20 << 20


def test_a_long_table_is_counted_with_bounded_memory():
    def pieces():
        yield b"a,b\n"
        for _ in range(1000):
            yield b"1,2\n" * 1000

    assert CsvRowCounter().count(pieces(), ",") == 1_000_000


def test_an_error_of_the_source_passes_unchanged():
    def pieces():
        yield b"a,b\n"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        CsvRowCounter().count(pieces(), ",")
