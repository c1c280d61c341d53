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

BLOCK_BYTES = 1 << 19
# A quote that is never closed would keep the rest of the file in memory.
LONGEST_RECORD_BYTES = 16 << 20
# Blocks with shorter lines are counted line by line.
MOST_LINE_ENDS_PER_WORD = 16
# Wider tables too.
WIDEST_IN_BYTES = 256
_LF, _CR, _QUOTE, _SPACE, _TAB = b'\n\r" \t'

# numpy arrays; numpy itself is loaded when the first table is counted.
Words: TypeAlias = Any
Bytes: TypeAlias = Any
Positions: TypeAlias = Any


class NumpyRowCounter:
    """Counts as `len(pandas.read_csv(...))` does. Thread-safe; memory for a few blocks of half a MiB."""

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
        """Return the number of lines if every one has exactly `width` fields, else 0.

        Delimiters are counted modulo 256, in single bytes. That is exact up to 256 fields: a line that is off by a
        multiple of 256 has too many, as none can lack 256; then so have all lines together, which are counted in full.
        """
        import numpy as np

        ends_per_word = np.bitwise_count(self.line_ends)
        if width > WIDEST_IN_BYTES or int(ends_per_word.max()) > MOST_LINE_ENDS_PER_WORD:
            return 0
        n_lines = int(ends_per_word.sum())
        per_word = np.bitwise_count(self.delimiters)
        if int(per_word.sum()) - self._n_delimiters_after_the_last_line() != n_lines * (width - 1):
            return 0
        # Delimiters before each word, less those that the lines ended before it must have.
        per_word -= ends_per_word * np.uint8(width - 1)
        surplus = np.cumsum(per_word, dtype=np.uint8)
        surplus -= per_word
        rest, delimiters, has_end, wanted = self.line_ends, self.delimiters, ends_per_word != 0, width - 1
        # One round for the first line end of every word, one for the second, and so on.
        while True:
            without_first = rest & (rest - np.uint64(1))
            # All bits below the first line end, and of them the delimiters.
            below = (rest ^ without_first) - np.uint64(1)
            below &= delimiters
            found = np.bitwise_count(below)
            found += surplus
            if ((found != np.uint8(wanted % 256)) & has_end).any():
                return 0
            left = np.flatnonzero(without_first != 0)
            if not len(left):
                return n_lines
            rest, delimiters, surplus = without_first[left], delimiters[left], surplus[left]
            has_end = np.True_
            wanted += width - 1

    def _n_delimiters_after_the_last_line(self) -> int:
        import numpy as np

        n_bytes = self.n_bytes()
        word, bit = divmod(n_bytes, 64)
        if word == len(self.delimiters):
            return 0
        after = int(np.bitwise_count(self.delimiters[word + 1 :]).sum())
        return after + (int(self.delimiters[word]) >> bit).bit_count()

    def n_bytes(self) -> int:
        """Return how many bytes the complete lines take; 0 if there is none."""
        import numpy as np

        # Mostly, the last word has one, or one of the few before it.
        few = self.line_ends[-64:]
        words = self.line_ends if not few.any() else few
        word = len(words) - 1 - int(np.argmax(words[::-1] != 0))
        return (len(self.line_ends) - len(words) + word) * 64 + int(words[word]).bit_length()

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
        self._matches = _Matches()
        self._n_held = 0
        other = re.escape(delimiter.encode())
        # Quoted with repeated quotes inside, then anything up to the field's end; or not quoted.
        self._field = re.compile(rb'(?:"[^"]*(?:""[^"]*)*+"|(?!"))[^%s\r\n]*+' % other)

    def add(self, piece: bytes) -> None:
        """Take some bytes and count what is complete, a block at a time."""
        taken = 0
        while taken < len(piece):
            n_bytes = min(len(piece) - taken, len(self._held) - self._n_held)
            # Through a view: a bytearray would copy the bytes twice.
            with memoryview(self._held) as held:
                held[self._n_held : self._n_held + n_bytes] = memoryview(piece)[taken : taken + n_bytes]
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

        mask = self._matches.mask
        line_ends = mask(content, _LF)
        n_line_feeds = int(np.bitwise_count(line_ends).sum())
        has_cr = self._held.find(b"\r", 0, self._n_held) >= 0
        if has_cr and (mask(content, _CR) & ~_moved_down(line_ends)).any():
            return None
        delimiters = mask(content, self._delimiter)
        if self._held.find(b'"', 0, self._n_held) >= 0:
            quotes = _Quotes(mask(content, _QUOTE))
            # A quote opens a field at its start only, or repeats one inside; anywhere else it is a character.
            if quotes.any_within_a_field(line_ends, delimiters):
                return None
            quotes.clear_inside(line_ends)
            quotes.clear_inside(delimiters)
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


class _Matches:
    """Masks of characters.

    The bytes in between, one for each of the content, are written to the same place each time: fresh memory from the
    system costs more than comparing does, half of the speed.
    """

    def __init__(self) -> None:
        import numpy as np

        self._are_equal = np.empty(_whole_words(BLOCK_BYTES), np.bool_)

    def mask(self, content: Bytes, character: int) -> Words:
        """Return a bit for each byte that is this character."""
        import numpy as np

        if len(self._are_equal) < len(content):
            self._are_equal = np.empty(len(content), np.bool_)
        are_equal = np.equal(content, character, out=self._are_equal[: len(content)])
        return np.packbits(are_equal, bitorder="little").view(np.uint64)


def _moved_down(words: Words) -> Words:
    """Move every bit to the position before."""
    import numpy as np

    moved = words >> np.uint64(1)
    moved[:-1] |= words[1:] << np.uint64(63)
    return moved


class _Quotes:
    """The quotes of a block, and what lies inside them: from each first of two up to the second.

    Most words have no quote: they lie inside as a whole, or not at all.
    """

    def __init__(self, quotes: Words) -> None:
        import numpy as np

        # The words that have quotes.
        self._at = np.flatnonzero(quotes != 0)
        self._some = quotes[self._at]
        # A bit is inside if an odd number of quotes are set up to and including it.
        inside = self._some.copy()
        for distance in (1, 2, 4, 8, 16, 32):
            inside ^= inside << np.uint64(distance)
        # A word with an odd number turns what is carried on.
        carried_on = np.logical_xor.accumulate((np.bitwise_count(self._some) & 1).astype(np.bool_))
        # All bits, or none.
        inside[1:] ^= np.negative(carried_on[:-1].astype(np.int64)).view(np.uint64)
        self._inside = inside
        # Words without quotes that lie inside: from a word that carries on to the next that has some.
        ends = np.append(self._at[1:], len(quotes))
        self._gaps = np.flatnonzero(carried_on & (ends > self._at + 1))
        self._gap_ends = ends[self._gaps]

    def any_within_a_field(self, line_ends: Words, delimiters: Words) -> bool:
        """Say whether a quote opens after something that is no quote, line end or delimiter."""
        import numpy as np

        at, some = self._at, self._some
        before = some | line_ends[at] | delimiters[at]
        before <<= np.uint64(1)
        # The last bit of the word before; what lies before the first counts as a line end.
        last = (line_ends[at - 1] | delimiters[at - 1]) >> np.uint64(63)
        follows = np.flatnonzero(at[1:] == at[:-1] + 1)
        last[follows + 1] |= some[follows] >> np.uint64(63)
        if len(at) and at[0] == 0:
            last[0] = 1
        before |= last
        return bool((some & self._inside & ~before).any())

    def clear_inside(self, words: Words) -> None:
        """Clear the bits that lie inside quotes."""
        words[self._at] &= ~self._inside
        for begin, end in zip(self._at[self._gaps] + 1, self._gap_ends, strict=True):
            words[begin:end] = 0


def _ranks(words: Words, positions: Positions) -> Positions:
    """Return for each position how many bits are set before it."""
    import numpy as np

    before = np.concatenate([[0], np.cumsum(np.bitwise_count(words), dtype=np.int64)])
    word = positions >> 6
    below = (np.uint64(1) << (positions & 63).astype(np.uint64)) - np.uint64(1)
    return before[word] + np.bitwise_count(words[word] & below)
