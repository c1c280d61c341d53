from itertools import pairwise

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.checksums import EMPTY_CRC32C, combine_crc32c, decode_crc32c, encode_crc32c
from tests.factories import some_bytes
from tests.fakes.objects import crc32c_of


@given(parts=st.lists(st.binary(max_size=2000), max_size=20))
def test_combining_parts_gives_the_checksum_of_the_whole(parts):
    combined = combine_crc32c((crc32c_of(part), len(part)) for part in parts)

    assert combined == crc32c_of(b"".join(parts))


@given(whole=st.binary(max_size=5000), cuts=st.lists(st.integers(0, 5000), max_size=10))
def test_where_a_file_is_cut_makes_no_difference(whole, cuts):
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    parts = [whole[start:end] for start, end in pairwise(edges)]

    assert combine_crc32c((crc32c_of(part), len(part)) for part in parts) == crc32c_of(whole)


def test_a_chunk_of_8_mib_and_a_rest_give_the_checksum_of_the_file():
    chunk, rest = some_bytes(8 << 20), some_bytes(12345, seed=7)

    combined = combine_crc32c([(crc32c_of(chunk), len(chunk)), (crc32c_of(rest), len(rest))])

    assert combined == crc32c_of(chunk + rest)


def test_parts_in_another_order_give_another_checksum():
    one, two = (crc32c_of(b"one"), 3), (crc32c_of(b"two"), 3)

    assert combine_crc32c([one, two]) != combine_crc32c([two, one])


@given(n_bytes=st.integers(0, 1 << 50), part=st.binary(max_size=100))
def test_grouping_parts_first_makes_no_difference(n_bytes, part):
    """The compose tree joins groups of groups, of sizes no test can hold in memory."""
    a, b, c = (crc32c_of(b"a"), 1), ("n5Ncxw==", n_bytes), (crc32c_of(part), len(part))

    grouped = combine_crc32c([a, (combine_crc32c([b, c]), b[1] + c[1])])

    assert grouped == combine_crc32c([a, b, c])


def test_nothing_has_the_checksum_of_nothing():
    assert combine_crc32c([]) == EMPTY_CRC32C == crc32c_of(b"")


def test_the_check_value_of_the_specification_is_met():
    """RFC 3720, B.4: 32 bytes of zeros."""
    assert decode_crc32c(crc32c_of(bytes(32))) == 0x8A9136AA
    assert combine_crc32c([(crc32c_of(bytes(16)), 16)] * 2) == encode_crc32c(0x8A9136AA)


@given(content=st.binary(max_size=100))
def test_a_checksum_is_written_as_base64_of_four_big_endian_bytes(content):
    value = google_crc32c.value(content)

    assert decode_crc32c(encode_crc32c(value)) == value
    assert len(encode_crc32c(value)) == 8


@pytest.mark.parametrize("text", ["", "AAAA", "AAAAAA", "AAAAAAA=", "AAAAAAAA", "AA AAA==", "!!!!!!==", "ÄAAAAA=="])
def test_a_text_that_is_no_checksum_is_refused(text):
    with pytest.raises(ValueError, match=r"base64 of four bytes|ASCII"):
        decode_crc32c(text)
