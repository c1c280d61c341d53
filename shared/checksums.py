"""crc32c of a whole from the crc32c of its parts, without reading either.

A CRC is a remainder of polynomials over GF(2): appending n bytes multiplies the first part's remainder by x^(8n), so
the checksum of a concatenation costs a few multiplications per part whatever the sizes. Checksums are written the way
Cloud Storage writes them, base64 of four big-endian bytes: https://cloud.google.com/storage/docs/hashes-etags
"""

import base64
import binascii
from collections.abc import Iterable
from functools import cache, lru_cache

# The Castagnoli polynomial, lowest power first (RFC 3720, section 12.1).
_POLYNOMIAL = 0x82F63B78
_ONE = 1 << 31
EMPTY_CRC32C = "AAAAAA=="


def _multiply(a: int, b: int) -> int:
    """Return a * b modulo the polynomial; bit 31 is x^0."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@cache
def _x_to_power_of_two(exponent: int) -> int:
    """Return x^(2^exponent) modulo the polynomial."""
    if exponent == 0:
        return _ONE >> 1
    half = _x_to_power_of_two(exponent - 1)
    return _multiply(half, half)


@lru_cache(maxsize=256)
def _shift(n_bytes: int) -> int:
    """Return x^(8 * n_bytes) modulo the polynomial. Parts mostly share one size, hence the cache."""
    power = _ONE
    bits = n_bytes * 8
    exponent = 0
    while bits:
        if bits & 1:
            power = _multiply(power, _x_to_power_of_two(exponent))
        bits >>= 1
        exponent += 1
    return power


def combine_crc32c(parts: Iterable[tuple[str, int]]) -> str:
    """Return the crc32c of a concatenation.

    Args:
        parts: (crc32c in base64, size in bytes) of each part, in order.

    Raises:
        ValueError: A checksum is not base64 of four bytes.
    """
    total = 0
    for crc32c, size_bytes in parts:
        total = _multiply(_shift(size_bytes), total) ^ decode_crc32c(crc32c)
    return encode_crc32c(total)


def encode_crc32c(value: int) -> str:
    """Write a checksum as Cloud Storage does."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def decode_crc32c(text: str) -> int:
    """Read a checksum as Cloud Storage writes it.

    Raises:
        ValueError: It is not base64 of four bytes.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("a crc32c is base64 of four bytes") from error
    if len(raw) != 4:  # 32 bits
        raise ValueError("a crc32c is base64 of four bytes")
    return int.from_bytes(raw, "big")
