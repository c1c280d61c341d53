"""`RowCounter` with numpy: counts the rows of a delimited table as it streams by, at the speed of the bucket.

Every byte becomes a bit in one mask for each character that matters: line end, quote, delimiter. Whether a position
lies inside quotes is the running XOR of the quote mask, taken 64 positions at a time; the rest is a few operations per
64 bytes. Blocks whose quotes or line ends are unusual go field by field, with the same result. The bit technique is
described in Langdale and Lemire, "Parsing Gigabytes of JSON per Second", https://arxiv.org/abs/1902.08318, section 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from shared.errors import DataSetError

BLOCK_BYTES = 1 << 20
# A quote that is never closed would keep the rest of the file in memory.
LONGEST_RECORD_BYTES = 16 << 20
# Blocks with shorter lines are counted line by line.
MOST_LINE_ENDS_PER_WORD = 16
_LF, _CR, _QUOTE, _SPACE, _TAB = b'\n\r" \t'

# numpy arrays; numpy itself is loaded when the first table is counted.
Words: TypeAlias = Any
Bytes: TypeAlias = Any
Positions: TypeAlias = Any


class NumpyRowCounter:
    """Counts as `len(pandas.read_csv(...))` does. Thread-safe; memory for a few blocks of 1 MiB."""

    def count(self, pieces: Iterable[bytes], delimiter: str) -> int:
        """Count data rows.

        The first line that is not blank is the header; blank lines do not count; a quoted field may hold line ends.

        Args:
            pieces: The table's bytes in an encoding that extends ASCII, in pieces of any size.
            delimiter: One ASCII character.

        Returns:
            Rows after the header.

        Raises:
            DataSetError: The bytes are no such table; details.line is the line in the file, from 1.
        """
        table = _Table(delimiter)
        for piece in pieces:
            table.add(piece)
        return table.finish()


@dataclass(frozen=True)
class _Records:
    """Complete records of a block.

    Attributes:
        starts: Position of the first byte of each, shape (n,).
        ends: Position after its content, without the line end, shape (n,).
        fields: How many fields it has, shape (n,).
        n_bytes: Bytes of the block they take, line ends included.
    """

    starts: Positions
    ends: Positions
    fields: Positions
    n_bytes: int


@dataclass(frozen=True)
class _Masks:
    """Line ends and delimiters outside quotes: a bit a byte, 64 to a word, the lowest bit first.

    `n_line_feeds` counts those inside quotes too.
    """

    line_ends: Words
    delimiters: Words
    has_cr: bool
    n_line_feeds: int

    def n_rectangular(self, width: int) -> int:
        """Return the number of lines if every one has exactly `width` fields, else 0."""
        import numpy as np

        one = np.uint64(1)
        per_word = np.bitwise_count(self.line_ends)
        if int(per_word.max()) > MOST_LINE_ENDS_PER_WORD:
            return 0
        lines = np.cumsum(per_word, dtype=np.int32)
        # Delimiters before each word, less those that the lines ended before it must have.
        per_word_delimiters = np.bitwise_count(self.delimiters)
        surplus = np.cumsum(per_word_delimiters, dtype=np.int32)
        surplus -= per_word_delimiters
        surplus -= (lines - per_word) * np.int32(width - 1)
        rest, delimiters, wanted = self.line_ends, self.delimiters, width - 1
        # One round for the first line end of every word, one for the second, and so on.
        while True:
            without_first = rest & (rest - one)
            before_first = (rest ^ without_first) - one
            found = surplus + np.bitwise_count(delimiters & before_first)
            if ((found != wanted) & (rest != 0)).any():
                return 0
            left = np.flatnonzero(without_first)
            if not len(left):
                return int(lines[-1])
            rest, delimiters, surplus = without_first[left], delimiters[left], surplus[left]
            wanted += width - 1

    def n_bytes(self) -> int:
        """Return how many bytes the complete lines take; there is at least one."""
        import numpy as np

        word = len(self.line_ends) - 1 - int(np.argmax(self.line_ends[::-1] != 0))
        return word * 64 + int(self.line_ends[word]).bit_length()

    def records(self, content: Bytes) -> _Records:
        """Return every complete line as a record."""
        import numpy as np

        ends = np.flatnonzero(np.unpackbits(self.line_ends.view(np.uint8), bitorder="little"))
        if not len(ends):
            return _Records(ends, ends, ends, 0)
        starts = np.concatenate([[0], ends[:-1] + 1])
        fields = np.diff(_ranks(self.delimiters, ends), prepend=0) + 1
        n_bytes = int(ends[-1]) + 1
        if self.has_cr:
            ends = ends - ((content[ends - 1] == _CR) & (ends > starts))
        return _Records(starts, ends, fields, n_bytes)


class _Table:
    """A table on its way: what was counted, and how wide a row may be."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = ord(delimiter)
        self._blanks = b" \t".replace(delimiter.encode(), b"")
        self._n_lines = 0
        self._n_records = 0
        self._header_fields = 0
        self._width = 0
        # The bytes that are not counted yet: from the start of a record on.
        self._held = bytearray(_whole_words(BLOCK_BYTES))
        self._n_held = 0
        other = re.escape(delimiter.encode())
        # Quoted with repeated quotes inside, then anything up to the field's end; or not quoted.
        self._field = re.compile(rb'(?:"[^"]*(?:""[^"]*)*+"|(?!"))[^%s\r\n]*+' % other)

    def add(self, piece: bytes) -> None:
        """Take some bytes and count what is complete, a block at a time."""
        taken = 0
        while taken < len(piece):
            n_bytes = min(len(piece) - taken, len(self._held) - self._n_held)
            self._held[self._n_held : self._n_held + n_bytes] = memoryview(piece)[taken : taken + n_bytes]
            self._n_held += n_bytes
            taken += n_bytes
            if self._n_held == len(self._held):
                self._count_held(is_last=False)
                if self._n_held == len(self._held):
                    if len(self._held) >= LONGEST_RECORD_BYTES:
                        raise self.fault("starts a row of more than 16 MiB; is a quote not closed?")
                    self._held.extend(bytes(len(self._held)))

    def finish(self) -> int:
        """Count what is left, whose last line need not end, and return the number of data rows."""
        if self._n_held:
            self.add(b"\n")
        if self._n_held:
            self._count_held(is_last=True)
        if self._n_held:
            raise self.fault("opens a quote that is never closed", self._line_of_open_quote())
        if not self._n_records:
            raise DataSetError("The file is empty: a table needs a header line.", line=1)
        return self._n_records - 1

    def _line_of_open_quote(self) -> int:
        """Return the line of the field that the bytes held do not end."""
        start = 0
        while field := self._field.match(self._held, start, self._n_held):
            start = field.end() + 1
        return self._n_lines + self._held.count(b"\n", 0, start) + 1

    def fault(self, what: str, line: int | None = None, **details: Any) -> DataSetError:
        """Return the error that names a line; by default the one after those counted."""
        number = line or self._n_lines + 1
        return DataSetError(f"Line {number} {what}.", line=number, **details)

    def _count_held(self, *, is_last: bool) -> None:
        """Count the complete records and keep the bytes after them."""
        import numpy as np

        held, n_held = self._held, self._n_held
        nul = held.find(b"\0", 0, n_held)
        if nul >= 0:
            line = self._n_lines + held.count(b"\n", 0, nul) + 1
            raise self.fault("holds a NUL character: this is not text", line)
        # Whole words of 64; what lies behind the bytes is made to match nothing.
        n_words_bytes = _whole_words(n_held)
        held[n_held:n_words_bytes] = bytes(n_words_bytes - n_held)
        content = np.frombuffer(held, np.uint8, n_words_bytes)
        masks = self._masks(content)
        if masks and self._n_records >= 2 and self._width > 1 and (n_lines := masks.n_rectangular(self._width)):
            # Most blocks are plain: no blank lines, every row as wide as the widest.
            n_bytes = masks.n_bytes()
            self._n_records += n_lines
        else:
            records = masks.records(content) if masks else self._records_by_field(n_held, is_last=is_last)
            n_bytes = records.n_bytes
            if n_bytes:
                self._count(content, records)
        n_line_feeds = masks.n_line_feeds if masks else held.count(b"\n", 0, n_held)
        self._n_lines += n_line_feeds - held.count(b"\n", n_bytes, n_held)
        held[: n_held - n_bytes] = held[n_bytes:n_held]
        self._n_held = n_held - n_bytes

    def _count(self, content: Bytes, records: _Records) -> None:
        import numpy as np

        is_blank = records.ends == records.starts
        first = content[records.starts]
        for index in np.flatnonzero(np.isin(first, list(self._blanks)) & ~is_blank):
            is_blank[index] = not self._held[records.starts[index] : records.ends[index]].strip(self._blanks)
        fields = records.fields[~is_blank]
        if self._n_records == 0 and len(fields):
            self._header_fields = int(fields[0])
        # The first row may be wider than the header: pandas then takes its first columns for an index.
        n_leading = max(0, min(2 - self._n_records, len(fields)))
        self._width = max(self._width, *map(int, fields[:n_leading]), 0)
        too_wide = np.flatnonzero(fields[n_leading:] > self._width)
        if len(too_wide):
            at = n_leading + int(too_wide[0])
            line = self._n_lines + self._held.count(b"\n", 0, int(records.starts[~is_blank][at])) + 1
            raise self.fault(
                f"has {int(fields[at])} columns; the header has {self._header_fields}",
                line,
                columns=int(fields[at]),
                expected=self._header_fields,
            )
        self._n_records += len(fields)

    def _masks(self, content: Bytes) -> _Masks | None:
        """Return the line ends and delimiters outside quotes, or None where quotes or line ends are unusual."""
        import numpy as np

        line_ends = _mask(content, _LF)
        n_line_feeds = int(np.bitwise_count(line_ends).sum())
        has_cr = self._held.find(b"\r", 0, self._n_held) >= 0
        if has_cr and (_mask(content, _CR) & ~_moved_down(line_ends)).any():
            return None
        delimiters = _mask(content, self._delimiter)
        if self._held.find(b'"', 0, self._n_held) >= 0:
            quotes = _mask(content, _QUOTE)
            inside = _running_xor(quotes)
            # A quote opens a field at its start only, or repeats one inside; anywhere else it is a character.
            if (quotes & inside & ~_moved_up(quotes | line_ends | delimiters)).any():
                return None
            outside = ~inside
            line_ends &= outside
            delimiters &= outside
        return _Masks(line_ends, delimiters, has_cr, n_line_feeds)

    def _records_by_field(self, n_held: int, *, is_last: bool) -> _Records:
        import numpy as np

        found: list[tuple[int, int, int]] = []
        start = position = 0
        n_fields = 1
        held = self._held
        while (field := self._field.match(held, position, n_held)) and field.end() < n_held:
            end = field.end()
            position = end + 1
            if held[end] == self._delimiter:
                n_fields += 1
                continue
            if held[end] == _CR:
                # Whether a line feed follows is only known with the next block.
                if position == n_held and not is_last:
                    break
                position += position < n_held and held[position] == _LF
            found.append((start, end, n_fields))
            start = position
            n_fields = 1
        starts, ends, fields = np.array(found, np.int64).reshape(-1, 3).T
        return _Records(starts, ends, fields, start)


def _whole_words(n_bytes: int) -> int:
    """Return the bytes that fill whole words of a mask."""
    return -(-n_bytes // 64) * 64


def _mask(content: Bytes, character: int) -> Words:
    """Return a bit for each byte that is this character."""
    import numpy as np

    return np.packbits(content == character, bitorder="little").view(np.uint64)


def _moved_up(words: Words) -> Words:
    """Move every bit to the next position; the first position counts as set."""
    import numpy as np

    moved = words << np.uint64(1)
    moved[1:] |= words[:-1] >> np.uint64(63)
    moved[0] |= np.uint64(1)
    return moved


def _moved_down(words: Words) -> Words:
    """Move every bit to the position before."""
    import numpy as np

    moved = words >> np.uint64(1)
    moved[:-1] |= words[1:] << np.uint64(63)
    return moved


def _running_xor(words: Words) -> Words:
    """Set every bit that has an odd number of set bits up to and including it."""
    import numpy as np

    running = words.copy()
    moved = np.empty_like(words)
    for distance in (1, 2, 4, 8, 16, 32):
        np.left_shift(running, np.uint64(distance), out=moved)
        running ^= moved
    is_odd = (np.bitwise_count(words) & 1).astype(np.uint64)
    carried = np.zeros_like(words)
    carried[1:] = np.bitwise_xor.accumulate(is_odd)[:-1]
    # 0 - 1 sets all bits of a word, 0 - 0 none.
    return running ^ (np.uint64(0) - carried)


def _ranks(words: Words, positions: Positions) -> Positions:
    """Return for each position how many bits are set before it."""
    import numpy as np

    before = np.concatenate([[0], np.cumsum(np.bitwise_count(words), dtype=np.int64)])
    word = positions >> 6
    below = (np.uint64(1) << (positions & 63).astype(np.uint64)) - np.uint64(1)
    return before[word] + np.bitwise_count(words[word] & below)
