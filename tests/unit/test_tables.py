import gzip
import io
from contextlib import suppress

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.csv_rows import CsvRowCounter
from shared.errors import DataSetError
from shared.tables import TableFormat, describe_columns, detect_format, is_table, plain_pieces, read_ahead, read_head

TEXT = 'größe;note\n1,5;"a;b"\n2,5;"c\nd"\n'


def detected(content: bytes, name: str = "hours.csv") -> TableFormat:
    return detect_format(name, "application/octet-stream", content)


def counted(content: bytes, table_format: TableFormat, size: int = 5) -> int:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return CsvRowCounter().count(plain_pieces(pieces, table_format), table_format.delimiter)


@pytest.mark.parametrize(
    ("file_name", "content_type", "expected"),
    [
        ("hours.csv", "application/octet-stream", True),
        ("HOURS.CSV", "application/octet-stream", True),
        ("hours.tsv", "application/octet-stream", True),
        ("hours", "text/csv", True),
        ("hours.dat", "text/tab-separated-values", True),
        ("hours.csv.gz", "application/gzip", True),
        ("hours.bin", "application/octet-stream", False),
        ("csv", "application/octet-stream", False),
        ("hours.gz", "application/gzip", False),
    ],
)
def test_the_name_decides_what_is_a_table_and_the_media_type_where_it_does_not(file_name, content_type, expected):
    assert is_table(file_name, content_type) is expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_however_a_table_is_written_its_rows_are_those_of_pandas(encoding, compression):
    content = TEXT.encode(encoding)
    content = gzip.compress(content) if compression else content

    table_format = detected(content)

    assert table_format == TableFormat(";", encoding, compression)
    expected = len(pd.read_csv(io.BytesIO(content), sep=";", encoding=encoding, compression=compression))
    assert counted(content, table_format) == expected == 2


def test_big_endian_utf_16_is_read_by_its_mark():
    content = b"\xfe\xff" + TEXT.encode("utf-16-be")

    assert counted(content, detected(content)) == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_divides_the_rows_evenly(delimiter):
    rows = [["day", "text, with; some|marks", "n"], ["1", "x,y", "2"], ["2", "x;y|z", "3"]]
    content = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows).encode()

    assert detected(content).delimiter == delimiter


def test_decimal_commas_do_not_hide_the_semicolons():
    assert detected(b"a;b\n1,5;2,5\n3,5;4,5\n").delimiter == ";"


def test_one_column_is_read_with_commas():
    assert detected(b"a\n1\n2\n").delimiter == ","


def test_a_name_that_says_tabs_is_believed():
    assert detected(b"a,b\n1,2\n", "hours.tsv").delimiter == "\t"


def test_a_character_cut_at_the_end_of_the_head_is_still_utf_8():
    assert detected("a,b\n1,é".encode()[:-1]).encoding == "utf-8"


@given(content=st.binary(max_size=200), name=st.sampled_from(["a.csv", "a.tsv", "a.csv.gz"]))
def test_detecting_takes_any_bytes(content, name):
    with suppress(DataSetError):
        assert detect_format(name, "", content).delimiter in ",;\t|"


def test_several_compressed_members_are_one_table():
    content = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n")

    assert counted(content, detected(content)) == 2


@pytest.mark.parametrize("damage", [lambda content: content[:-12], lambda content: content[:20] + b"x" + content[21:]])
def test_damaged_compression_is_refused(damage):
    content = damage(gzip.compress(b"a,b\n" + b"1,2\n" * 1000))

    with pytest.raises(DataSetError, match="gzip"):
        counted(content, detected(content))


def test_a_file_that_only_claims_to_be_compressed_is_refused():
    with pytest.raises(DataSetError, match="gzip"):
        detected(b"\x1f\x8b is not gzip at all")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"PK\x03\x04rest", b"%PDF-1.7\n", gzip.compress(b"PAR1")])
def test_a_file_of_another_kind_is_refused_by_its_first_bytes(content):
    with pytest.raises(DataSetError, match="not text"):
        detected(content)


def test_text_that_only_claims_to_be_utf_16_is_refused():
    with pytest.raises(DataSetError, match="UTF-16"):
        counted(b"\xff\xfea\x00\x00\xd8b\x00", TableFormat(encoding="utf-16"))


def test_a_small_file_that_unpacks_to_much_is_counted_with_bounded_memory():
    content = gzip.compress(b"a,b\n" + b"1,2\n" * 5_000_000)

    largest = max(len(piece) for piece in plain_pieces([content], detected(content)))

    assert len(content) < 100_000
    assert largest <= 1 << 20


def test_the_head_leaves_out_a_row_that_may_be_cut():
    content = b"a,b\n1,2\n3,4"

    assert read_head(content, TableFormat(), is_whole=False) == (["a", "b"], [["1", "2"]])
    assert read_head(content, TableFormat(), is_whole=True) == (["a", "b"], [["1", "2"], ["3", "4"]])


def test_a_head_with_nul_characters_is_refused():
    with pytest.raises(DataSetError, match="NUL"):
        read_head(b"\x89PNG\r\n\x1a\n\x00\x00", TableFormat(encoding="latin-1"), is_whole=True)


def test_columns_get_the_narrowest_type_that_fits_all_their_values():
    header = ["i", "n", "b", "d", "t", "e", "u"]
    rows = [
        ["1", "1.5", "true", "2024-01-31", "x", "", "1_000"],
        ["-2", "2e3", "False", "2024-01-31T10:00:00Z", "1", "NA", "2"],
        ["", "nan", "", "", "", "", ""],
    ]

    types = [column.type for column in describe_columns(header, rows)]

    assert types == ["integer", "number", "boolean", "date", "text", "empty", "text"]


def test_a_row_that_is_too_wide_is_named():
    with pytest.raises(DataSetError, match="Row 2 has 3 columns; the header has 2") as caught:
        describe_columns(["a", "b"], [["1", "2"], ["1", "2", "3"]])
    assert caught.value.details == {"row": 2}


class TestReadAhead:
    def test_the_pieces_come_in_their_order(self):
        pieces = [bytes([number]) for number in range(100)]

        assert list(read_ahead(iter(pieces))) == pieces
        assert list(read_ahead([])) == []

    def test_no_more_than_the_allowed_number_is_fetched_ahead(self):
        fetched = []

        def source():
            for number in range(100):
                fetched.append(number)
                yield b"x"

        pieces = read_ahead(source(), most=3)
        next(pieces)
        pieces.close()

        assert len(fetched) <= 4

    def test_an_error_of_the_source_comes_after_the_pieces_before_it(self):
        def source():
            yield b"1"
            yield b"2"
            raise ConnectionError("gone")

        pieces = read_ahead(source())

        assert [next(pieces), next(pieces)] == [b"1", b"2"]
        with pytest.raises(ConnectionError, match="gone"):
            next(pieces)
