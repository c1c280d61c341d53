import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidFieldError
from shared.fields import (
    is_uuid,
    read_boolean,
    read_boolean_text,
    read_content_type,
    read_file_name,
    read_integer,
    read_list,
    read_number_text,
    read_session_id,
    read_sha256,
    read_text,
)
from shared.records.objects import data_set_name

NO_TEXT = [None, 5, 1.5, True, [], {}, ["a"]]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
READERS = [
    read_session_id,
    read_file_name,
    read_content_type,
    read_sha256,
    lambda value: read_text(value, "field", longest=10),
    lambda value: read_integer(value, "field", least=0, most=10),
    lambda value: read_boolean(value, "field"),
    lambda value: read_list(value, "field", longest=3),
]


@pytest.mark.parametrize("reader", READERS)
@given(value=JSON_VALUES)
def test_any_json_value_is_taken_or_refused_with_the_name_of_its_field(reader, value):
    refused = None
    try:
        reader(value)
    except InvalidFieldError as error:
        refused = error
    assert refused is None or refused.details["field"] in refused.message


@pytest.mark.parametrize("name", ["a", "a" * 128, "Weather-2013_v1.2~x:y@z", "...a", "-", "0"])
def test_a_session_id_of_allowed_characters_is_taken_as_it_is(name):
    assert read_session_id(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *NO_TEXT,
        "",
        "a" * 129,
        ".",
        "..",
        "...",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:\\x",
        "a b",
        "a\n",
        "a\x00",
        "é",
        "a%2Fb",
        "a?b",
        "a#b",
        "\ud800",
    ],
)
def test_a_session_id_that_is_none_is_refused(name):
    with pytest.raises(InvalidFieldError, match=r"^sessionId: "):
        read_session_id(name)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "hours of 2013.csv",
        "Größe 'x' \"y\".csv",
        "資料.csv",
        "..a",
        "a" * 255,
        "é" * 255,
        "\N{STEAM LOCOMOTIVE}" * 255,
        "50%2F.csv",
        ".gitignore",
    ],
)
def test_a_plain_file_name_is_taken_as_it_is(name):
    assert read_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *NO_TEXT,
        "",
        ".",
        "..",
        " ",
        " . ",
        "../x",
        "..\\x",
        "/etc/passwd",
        "a/b",
        "C:\\x",
        "C:x.csv",
        "c:x",
        "a\x00.csv",
        "a\n.csv",
        "a\r\nb",
        "a\x7f",
        "a\x85",
        "a" * 256,
        # Composed as one spelling, it is two characters: https://www.unicode.org/reports/tr15/#Primary_Exclusion_List_Table
        "\N{DEVANAGARI LETTER QA}" * 128,
        "\ud800.csv",
    ],
)
def test_a_file_name_with_a_path_or_control_characters_is_refused(name):
    with pytest.raises(InvalidFieldError, match=r"^fileName: "):
        read_file_name(name)


def test_a_decomposed_file_name_is_composed_so_that_one_name_has_one_spelling():
    assert read_file_name("Gro\u0308ße.csv") == "Größe.csv"


@given(name=st.text(max_size=300))
def test_a_file_name_that_is_taken_is_safe_as_the_last_part_of_an_object_name(name):
    try:
        taken = read_file_name(name)
    except InvalidFieldError:
        return
    assert len(taken) <= 255
    assert not {"/", "\\", "\n", "\r", "\0"} & set(taken)
    assert taken.strip(". ")
    last = data_set_name("session", "upload", taken).removeprefix("datasets/session/upload/")
    assert len(last.encode()) <= 230
    assert not {"/", "\\", "\n", "\r", "\0"} & set(last)
    assert last.strip(". ")


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("a" * 226 + ".csv", "a" * 226 + ".csv"),
        ("a" * 227 + ".csv", "a" * 114 + "~" + "a" * 110 + ".csv"),
        ("é" * 200 + ".csv.gz", "é" * 57 + "~" + "é" * 53 + ".csv.gz"),
    ],
)
def test_an_object_name_lacks_the_middle_of_a_long_file_name(name, last):
    assert data_set_name("session", "upload", name) == f"datasets/session/upload/{last}"


@pytest.mark.parametrize("value", ["text/csv", "application/vnd.ms-excel", "application/x-7z+zip"])
def test_a_media_type_is_taken(value):
    assert read_content_type(value) == value


def test_a_media_type_is_written_in_lower_case():
    assert read_content_type("Text/CSV") == "text/csv"


@pytest.mark.parametrize(
    "value",
    [*NO_TEXT, "", "text", "text/", "/csv", "text/csv; charset=utf-8", "text/csv\r\nX: y", "../x", "text/.", "-/-"],
)
def test_what_is_no_media_type_is_refused(value):
    with pytest.raises(InvalidFieldError, match=r"^contentType: "):
        read_content_type(value)


def test_a_sha256_is_taken_in_either_case():
    assert read_sha256("AB" * 32) == read_sha256("ab" * 32) == "ab" * 32


@pytest.mark.parametrize("value", [*NO_TEXT, "", "ab" * 31, "ab" * 33, "xy" * 32, "ab" * 31 + "a\n"])
def test_what_is_no_sha256_is_refused(value):
    with pytest.raises(InvalidFieldError, match=r"^sha256: "):
        read_sha256(value)


@pytest.mark.parametrize("value", [None, True, False, 3.0, "3", [3], -1, 11, 10**400])
def test_a_number_of_another_type_or_out_of_range_is_refused(value):
    with pytest.raises(InvalidFieldError, match=r"^size: must be"):
        read_integer(value, "size", least=0, most=10)


@pytest.mark.parametrize("value", [0, 10])
def test_the_ends_of_a_range_belong_to_it(value):
    assert read_integer(value, "size", least=0, most=10) == value


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1.0", "+1", "1e3", "0x1", "--1", "²", "\u0661", "1" * 19])
def test_a_text_that_is_no_plain_number_is_refused(text):
    with pytest.raises(InvalidFieldError, match=r"^limit: must be a whole number"):
        read_number_text(text, "limit", least=-(10**18), most=10**18)


def test_a_number_in_a_query_is_read():
    assert read_number_text("-17", "limit", least=-20, most=20) == -17


@pytest.mark.parametrize("value", [None, 0, 1, "true", []])
def test_only_true_and_false_are_booleans(value):
    with pytest.raises(InvalidFieldError, match=r"^dryRun: must be true or false"):
        read_boolean(value, "dryRun")


def test_a_query_says_true_or_false():
    assert read_boolean_text("true", "redirect") is True
    assert read_boolean_text("false", "redirect") is False
    with pytest.raises(InvalidFieldError, match=r"^redirect: must be true or false"):
        read_boolean_text("maybe", "redirect")


@pytest.mark.parametrize("value", [[], [1, 2, 3, 4], {}, "abc", None])
def test_a_list_that_is_empty_too_long_or_none_is_refused(value):
    with pytest.raises(InvalidFieldError, match=r"^chunks: must"):
        read_list(value, "chunks", longest=3)


def test_a_uuid_is_recognised_in_either_case():
    assert is_uuid("0b2ff2c6-6b4c-4a0e-9d0d-ABCDEF012345")


@pytest.mark.parametrize(
    "text", ["", "x", "0b2ff2c66b4c4a0e9d0dabcdef012345", "{0b2ff2c6-6b4c-4a0e-9d0d-abcdef012345}"]
)
def test_other_spellings_of_a_uuid_are_not_recognised(text):
    assert not is_uuid(text)


@given(text=st.text(max_size=40) | st.uuids().map(str))
def test_whatever_is_recognised_is_a_uuid_for_the_database(text):
    if is_uuid(text):
        assert uuid.UUID(text)
