"""Reading JSON in a stream."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters import json_documents
from shared.adapters.json_documents import IjsonParser
from shared.errors import JsonError
from shared.records.documents import JsonEvent

PARSER = IjsonParser()
PIECE_SIZES = (1, 2, 3, 7, 1 << 20)


@pytest.fixture
def short_pieces(monkeypatch):
    """Take every text of more than six bytes for a long one."""
    monkeypatch.setattr(json_documents, "LONG_TEXT_BYTES", 6)


def events(content, size=1 << 20):
    return list(PARSER.parse(content[at : at + size] for at in range(0, len(content), size)))


def value_of(found):
    """Build the value of a stream of events."""
    root = []
    stack = [root]
    keys = [None]

    def add(value):
        if isinstance(stack[-1], list):
            stack[-1].append(value)
        else:
            stack[-1][keys[-1]] = value

    text = b""
    for event, value in found:
        if event in {JsonEvent.START_OBJECT, JsonEvent.START_LIST}:
            inner = {} if event is JsonEvent.START_OBJECT else []
            add(inner)
            stack.append(inner)
            keys.append(None)
        elif event in {JsonEvent.END_OBJECT, JsonEvent.END_LIST}:
            stack.pop()
            keys.pop()
        elif event is JsonEvent.KEY:
            keys[-1] = value
        elif event is JsonEvent.LONG_TEXT:
            text = value
        elif event is JsonEvent.MORE_TEXT:
            text += value
        elif event is JsonEvent.END_TEXT:
            add(text.decode())
        else:
            add(value)
    (value,) = root
    return value


# Keys that are long are refused, and half a surrogate pair is no character.
TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('abc"\\é', max_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.integers(1, 40), st.sampled_from([None, 2]))
def test_what_json_writes_is_read_however_it_is_cut(value, size, indent):
    original = json_documents.LONG_TEXT_BYTES
    json_documents.LONG_TEXT_BYTES = 16
    try:
        content = json.dumps(value, ensure_ascii=False, indent=indent).encode()
        assert repr(value_of(events(content, size))) == repr(value)
    finally:
        json_documents.LONG_TEXT_BYTES = original


@pytest.mark.parametrize("size", PIECE_SIZES)
def test_escapes_in_long_texts_are_resolved(short_pieces, size):
    content = rb'["line\n quote \" slash \/ u \u00e4 \\u00e4 back\\", 1]'
    assert value_of(events(content, size)) == ['line\n quote " slash / u ä \\u00e4 back\\', 1]


@pytest.mark.parametrize("size", PIECE_SIZES)
def test_numbers_that_json_has_not_are_numbers_here(size):
    first, second, third, fourth = value_of(events(b"[NaN,-Infinity,Infinity,1e999]", size))
    assert math.isnan(first)
    assert (second, third, fourth) == (-math.inf, math.inf, math.inf)


def test_whole_numbers_stay_whole_and_fractions_are_floats():
    numbers = value_of(events(b"[12345678901234567890123, 0.1, 1e5, -0]"))
    assert numbers == [12345678901234567890123, 0.1, 100000.0, 0]
    assert [type(number) for number in numbers] == [int, float, float, int]


def test_a_repeated_key_comes_twice():
    assert [value for event, value in events(b'{"a":1,"a":2}') if event is JsonEvent.KEY] == ["a", "a"]


def test_a_byte_order_mark_is_left_out():
    assert value_of(events(b"\xef\xbb\xbf[1]", 1)) == [1]


@pytest.mark.parametrize("size", PIECE_SIZES)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1,]",
        b"[1",
        b'["abc',
        b'["abcdefghijkl',
        b"[tru]",
        b"[nul",
        b"[N]",
        b"[NaNa]",
        b"[-Inf]",
        b"[--1]",
        b"[1]]",
        b"[1] [2]",
        b'[1]"abcdefghijkl"',
        b'{"a" 1}',
        b'["\xff\xff"]',
        b'["abcdefghijkl\\q"]',
        b'["abcdefghijkl\\uzzzz"]',
        b"[" + b"1" * 1_001 + b"]",
        '["ä"]'.encode("utf-16"),
        b"\x80\x04.",
    ],
)
def test_what_is_not_json_is_refused_with_its_place(short_pieces, content, size):
    with pytest.raises(JsonError) as caught:
        events(content, size)
    assert 0 <= caught.value.offset <= len(content)
    assert caught.value.message


def test_a_key_that_is_long_is_refused(short_pieces):
    with pytest.raises(JsonError, match="key"):
        events(b'{"abcdefghijklmnop": 1}', 3)


def test_what_came_before_a_fault_is_told():
    parsed = PARSER.parse([b'{"a": [1, ', b"2, x]}"])
    assert [next(parsed)[0] for _ in range(3)] == [JsonEvent.START_OBJECT, JsonEvent.KEY, JsonEvent.START_LIST]


def test_nesting_has_no_limit():
    n = 100_000
    assert len(events(b"[" * n + b"]" * n)) == 2 * n
