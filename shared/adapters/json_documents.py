"""`DocumentParser` on ijson, with long texts and what is not JSON kept away from it.

ijson streams, but hands out every text whole: one of 400 MiB would take 400 MiB, and its parser's buffer as much again.
So the bytes are cut into tokens first, by one regular expression. What it matches goes to ijson as it is; a text that
does not fit into a piece is passed by in parts, and ijson gets an empty one in its place. NaN and the infinities, which
ijson refuses and Python's own json module writes, are passed by in the same way. ijson decides what is JSON.
"""

import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

from shared.errors import JsonError
from shared.records.documents import JsonEvent

# [bytes] A text that is longer, and does not end in the piece in which it begins, comes in parts.
LONG_TEXT_BYTES = 64 * 1024
# [bytes] What ijson gets at once: its events are collected before we see them, 64 bytes each.
_SLICE_BYTES = 64 * 1024
# [characters] of a number; ijson keeps them all, and reading a whole number takes quadratic time.
_LONGEST_NUMBER = 1_000

_NUMBER_CHARACTERS = b"0123456789.eE+-"
_NUMBER = rb"[0-9.eE+\-]{1,%d}+(?![0-9.eE+\-])" % _LONGEST_NUMBER
_TOO_LONG_NUMBER = re.compile(rb"[0-9.eE+\-]{%d}" % (_LONGEST_NUMBER + 1))
_TEXT_BODY = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
# Complete tokens, as many as there are.
_TOKENS = re.compile(rb'(?:[\[\]{},:\s]++|true|false|null|(?!-I)%b|"%b")*+' % (_NUMBER, _TEXT_BODY), re.DOTALL)
# The same with whole escapes, so that it ends before half of one.
_BODY = re.compile(rb'[^"\\]*+(?:\\(?:u[0-9a-fA-F]{4}|[^u])[^"\\]*+)*+', re.DOTALL)
_LONGEST_ESCAPE = len(rb"\uffff")
_NOT_FINITE = re.compile(rb"NaN|-?Infinity")
# What a piece can end with that the next one completes.
_BEGINNING = re.compile(rb"(?:-?I|N|t|f|n)[A-Za-z]{0,8}\Z|-\Z")
_ESCAPE = re.compile(rb"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
_BOM = b"\xef\xbb\xbf"

_EVENTS = {
    "start_map": JsonEvent.START_OBJECT,
    "end_map": JsonEvent.END_OBJECT,
    "start_array": JsonEvent.START_LIST,
    "end_array": JsonEvent.END_LIST,
    "map_key": JsonEvent.KEY,
    "string": JsonEvent.TEXT,
    "number": JsonEvent.NUMBER,
    "boolean": JsonEvent.LITERAL,
    "null": JsonEvent.LITERAL,
}
_Event = tuple[JsonEvent, Any]


class IjsonParser:
    """Streams JSON documents with bounded memory: a few pieces of the input, whatever is in it."""

    def parse(self, pieces: Iterable[bytes]) -> Iterator[_Event]:
        """Yield the events of one document; see the port."""
        return _Parsing().run(iter(pieces))


class _Parsing:
    def __init__(self) -> None:
        import ijson
        from ijson.backends import yajl2_c

        self._error: type[Exception] = ijson.JSONError
        self._events = ijson.sendable_list()
        # Numbers as Decimal: as floats, ijson ends the whole document at a whole number of 20 digits.
        self._parser = yajl2_c.basic_parse_coro(self._events)
        self._offset = 0

    def run(self, pieces: Iterator[bytes]) -> Iterator[_Event]:
        rest = b""
        for piece in pieces:
            buffer = rest + piece
            if self._offset == 0 and buffer.startswith(_BOM):
                buffer, self._offset = buffer[len(_BOM) :], len(_BOM)
            elif self._offset == 0 and _BOM.startswith(buffer):
                rest = buffer
                continue
            rest = yield from self._take(buffer, pieces)
        if rest:
            # Half a token: let ijson say what is missing.
            yield from self._feed(rest)
        yield from self._send(self._parser.close)

    def _take(self, buffer: bytes, pieces: Iterator[bytes]) -> Generator[_Event, None, bytes]:
        """Yield the events of all complete tokens; return what is left of the buffer."""
        at = 0
        while at < len(buffer):
            match = _TOKENS.match(buffer, at)
            end = match.end() if match else at
            if end == len(buffer):
                # A number at the end may go on.
                stop = at + len(buffer[at:].rstrip(_NUMBER_CHARACTERS))
                yield from self._feed(buffer[at:stop])
                return buffer[stop:]
            yield from self._feed(buffer[at:end])
            at = end
            if _BEGINNING.match(buffer, at) and not _NOT_FINITE.match(buffer, at):
                return buffer[at:]
            if buffer.startswith(b'"', at):
                if len(buffer) - at <= LONG_TEXT_BYTES:
                    return buffer[at:]
                buffer, at = (yield from self._pass_text_by(buffer[at:], pieces)), 0
            elif found := _NOT_FINITE.match(buffer, at):
                yield from self._replace(b"null", (JsonEvent.NUMBER, float(found[0].decode())))
                self._offset += len(found[0]) - len(b"null")
                at = found.end()
            elif _TOO_LONG_NUMBER.match(buffer, at):
                raise JsonError(f"A number has more than {_LONGEST_NUMBER} characters.", self._offset)
            else:
                # ijson says what is wrong with it.
                yield from self._feed(buffer[at : at + 1])
                at += 1
        return b""

    def _pass_text_by(self, buffer: bytes, pieces: Iterator[bytes]) -> Generator[_Event, None, bytes]:
        """Yield a long text in parts; return what follows it."""
        kind, begun_at = JsonEvent.LONG_TEXT, self._offset
        n_bytes, buffer = 1, buffer[1:]
        while True:
            match = _BODY.match(buffer)
            end = match.end() if match else 0
            is_over = buffer.startswith(b'"', end)
            if len(buffer) - end >= _LONGEST_ESCAPE and not is_over:
                raise JsonError("A text has an escape that JSON does not know.", begun_at + n_bytes + end)
            if end:
                yield kind, _unescaped(buffer[:end], begun_at)
                kind = JsonEvent.MORE_TEXT
            n_bytes, buffer = n_bytes + end, buffer[end:]
            if is_over:
                break
            piece = next(pieces, None)
            if piece is None:
                raise JsonError("A text has no end.", begun_at)
            buffer += piece
        yield from self._replace(b'""', (JsonEvent.END_TEXT, None))
        self._offset = begun_at + n_bytes + 1
        return buffer[1:]

    def _replace(self, token: bytes, event: _Event) -> Iterator[_Event]:
        """Give ijson another token, and yield an event in the place of its."""
        for kind, _ in self._feed(token):
            if kind is JsonEvent.KEY:
                raise JsonError(f"A key has more than {LONG_TEXT_BYTES} bytes.", self._offset)
            yield event

    def _feed(self, tokens: bytes) -> Iterator[_Event]:
        for at in range(0, len(tokens), _SLICE_BYTES):
            part = tokens[at : at + _SLICE_BYTES]
            yield from self._send(partial(self._parser.send, part))
            self._offset += len(part)

    def _send(self, call: Callable[[], object]) -> Iterator[_Event]:
        fault = None
        try:
            call()
        except self._error as error:
            fault = JsonError(_first_line(error), self._offset)
        except ValueError:
            # Python itself reads no whole number of more than 4,300 digits; ours end before.
            fault = JsonError("A number cannot be read.", self._offset)
        for name, value in self._events:
            yield _EVENTS[name], _plain(value)
        del self._events[:]
        if fault is not None:
            raise fault


def _plain(value: Any) -> Any:
    if not isinstance(value, Decimal):
        return value
    number = float(value)
    # A float that is too large for one: what Python's json module makes of it.
    return number if not math.isnan(number) else math.inf


def _unescaped(text: bytes, begun_at: int) -> bytes:
    def character(match: re.Match[bytes]) -> bytes:
        escape = match[1]
        if escape[:1] == b"u":
            # Half a surrogate pair is no character; what is read from such texts is base64, which has none.
            return chr(int(escape[1:], 16)).encode("utf-8", "replace")
        if escape not in _ESCAPES:
            raise JsonError("A text has an escape that JSON does not know.", begun_at)
        return _ESCAPES[escape]

    # Not json.loads: a part may begin or end within a character of several bytes.
    return _ESCAPE.sub(character, text) if b"\\" in text else text


def _first_line(error: Exception) -> str:
    """Return what is wrong, of a message that goes on with an excerpt of the document."""
    cause = error.args[0] if error.args else "it is not JSON"
    text = cause.decode("utf-8", "replace") if isinstance(cause, bytes) else str(cause)
    return text.split("\n", 1)[0].strip() or "it is not JSON"
