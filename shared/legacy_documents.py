"""Walks a legacy results document once, as a stream of JSON, and finds models, pictures and evaluation tables in it.

Memory is bounded whatever the document holds: base64 is decoded into temporary files as it comes, paths and keys are
kept for the open levels only, and everything that is counted has a limit. What the found bytes are is decided
elsewhere (`shared/pickles.py`, `shared/pictures.py`); what may be a table is collected and recognized by
`shared/legacy_tables.py`.
"""

import binascii
import hashlib
import math
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from shared.records.documents import JsonEvent

# [bytes] of one model, and of all that are open at once: a temporary file of a function lies in its memory.
MAX_MODEL_BYTES: Final = 128 << 20
# [bytes] of one picture; a plot of matplotlib has 50 KB.
MAX_PICTURE_BYTES: Final = 16 << 20
# [levels] that are looked at; what lies deeper is skipped and told.
MAX_DEPTH: Final = 200
# [values] of one document; 20 million take about 20 s.
MAX_VALUES: Final = 20_000_000
# [keys] of all open levels that are remembered, to notice a repeated one.
MAX_KEYS: Final = 200_000
# [models], [pictures], [tables] of one document.
MAX_MODELS: Final = 1_000
MAX_PICTURES: Final = 1_000
MAX_TABLES: Final = 100
# [findings] that are kept.
MAX_FINDINGS: Final = 100
# [values] that may be tables and are kept until their end.
MAX_TABLE_VALUES: Final = 5_000
# [characters] of one of them.
MAX_CELL_CHARACTERS: Final = 1_000
# [characters] of a path; of longer ones the end is kept, and a checksum.
MAX_PATH_CHARACTERS: Final = 400
# [characters] of what somebody calls a class.
MAX_CLASS_CHARACTERS: Final = 400

MODEL_TYPE: Final = "serialized_model"
_RESERVED: Final = frozenset({"_model_type", "_model_class", "_model_data"})
_MAX_KEY_CHARACTERS: Final = 100
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Keys under which the old backend and its users kept evaluations.
_EVALUATION = re.compile(r"(?:.*_)?(?:evaluation|evaluations|metrics|scores)(?:_tables?)?", re.IGNORECASE)
_PNG_BASE64: Final = b"iVBORw0KGgo"
_DATA_URL: Final = re.compile(rb"data:image/([a-z0-9.+-]{1,40})(?:;[a-z0-9=._-]{1,40})*;base64,", re.IGNORECASE)
# The first two bytes of a pickle of protocols 2 to 5: 0x80 and the protocol.
_PICKLE_BASE64: Final = re.compile(rb"gA[IJKLMNOPQRSTUVWX]")
_LONGEST_HEAD: Final = 128
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")
_LINE_BREAKS: Final = b"\r\n"


class DocumentRefusedError(Exception):
    """Nothing of the document is taken in.

    Attributes:
        code: Stable name, snake case.
        message: One sentence for people.
        path: Where in the document.
        offset: Where in its bytes, where that is known.
    """

    def __init__(self, code: str, message: str, path: str, offset: int | None = None) -> None:
        self.code = code
        self.message = message
        self.path = path
        self.offset = offset
        super().__init__(f"{path}: {message}")


@dataclass(frozen=True)
class DocumentFinding:
    """Something odd about a document, and the path of where it is."""

    code: str
    message: str
    path: str


class Decoded:
    """Base64 on its way into a temporary file.

    Attributes:
        file: What was decoded so far; closed if there is a fault.
        n_bytes: How many bytes it has.
        fault: What is wrong with the text, once something is.
        is_too_large: That is what is wrong.
    """

    def __init__(self, limit: int) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - whoever takes it closes it
        self.n_bytes = 0
        self.fault: str | None = None
        self.is_too_large = False
        self._limit = limit
        self._digest = hashlib.sha256()
        self._rest = b""
        self._n_characters = 0
        self._is_padded = False

    @property
    def sha256(self) -> str:
        """Of what was decoded, in lower-case hex."""
        return self._digest.hexdigest()

    def add(self, text: bytes) -> None:
        """Decode a piece. After a fault nothing more is kept."""
        if self.fault is not None:
            return
        odd = _NOT_BASE64.search(text)
        if odd is not None:
            # Line breaks, as base64.encodebytes makes them.
            text, n_before = text.translate(None, _LINE_BREAKS), self._n_characters
            odd = _NOT_BASE64.search(text)
            if odd is not None:
                self._fail(f"The base64 has a character that is none, at {n_before + odd.start()}.")
                return
        self._n_characters += len(text)
        text = self._rest + text
        whole = len(text) - len(text) % 4
        text, self._rest = text[:whole], text[whole:]
        if text and self._is_padded:
            self._fail("The base64 goes on after its end.")
            return
        try:
            content = binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            self._fail("The base64 has its end in the middle.")
            return
        self._is_padded = self._is_padded or text.endswith(b"=")
        self.n_bytes += len(content)
        if self.n_bytes > self._limit:
            self.is_too_large = True
            self._fail(f"It has more than {self._limit} bytes, more than is read.")
            return
        self._digest.update(content)
        self.file.write(content)

    def end(self) -> None:
        """Say that there is no more."""
        if self.fault is None and (self._rest or not self.n_bytes):
            self._fail("The base64 is cut short." if self._rest else "The base64 is empty.")

    def close(self) -> None:
        """Throw the file away."""
        self.file.close()

    def _fail(self, fault: str) -> None:
        self.fault = fault
        self.close()


@dataclass
class FoundModel:
    """A serialized model.

    Attributes:
        claimed_class: What the document calls it.
        decoded: Its pickle; None if there is none.
        fault: Why there is none that could be read.
        is_too_large: That is why.
        is_bare: A text that looks like a pickle and says nothing else of itself; it may be none.
    """

    path: str
    claimed_class: str | None
    decoded: Decoded | None
    fault: str | None = None
    is_too_large: bool = False
    is_bare: bool = False


@dataclass
class FoundPicture:
    """A picture in base64."""

    path: str
    decoded: Decoded


@dataclass
class FoundTable:
    """The value of a key that names an evaluation, with NaN and the infinities as None."""

    path: str
    value: Any


Found = FoundModel | FoundPicture | FoundTable


@dataclass(slots=True)
class _Level:
    """An open object or list.

    Attributes:
        index: Of a list: of the value that comes.
        step: Of an object: of the value that comes, as paths show it.
        key: The same, as it is.
        seen: Hashes of keys.
        model: What an object says about a model, by reserved key.
    """

    is_list: bool
    index: int = 0
    step: str = ""
    key: str = ""
    seen: set[int] = field(default_factory=set)
    model: dict[str, Any] | None = None


class DocumentWalk:
    """One walk through one document.

    Attributes:
        findings: What is odd about it, as far as the walk has come.
        path: Where the walk is.
    """

    def __init__(self) -> None:
        self.findings: list[DocumentFinding] = []
        self._levels: list[_Level] = []
        self._n_skipped_levels = 0
        self._n_values = 0
        self._n_keys = 0
        self._n_open_bytes = 0
        self._counts = {FoundModel: 0, FoundPicture: 0, FoundTable: 0}
        self._long: tuple[str, Decoded] | None = None
        self._tables: _Collector | None = None

    @property
    def path(self) -> str:
        """Return the path of the value that comes, such as `a.b[2].model`; `$` is the document itself."""
        path = ""
        for level in self._levels:
            path += f"[{level.index}]" if level.is_list else level.step if level.step[:1] == "[" else f".{level.step}"
        path = path.removeprefix(".")
        return abridged(path) or "$"

    def run(self, events: Iterable[tuple[JsonEvent, Any]]) -> Iterator[Found]:
        """Go through a document and yield what is found, in the order in which it ends.

        Whoever takes something with a decoded file closes it before the next is asked for.

        Raises:
            DocumentRefusedError: It asks for more than is allowed.
        """
        for event, value in events:
            if self._n_skipped_levels:
                self._skip(event)
                continue
            yield from self._take(event, value)

    def close(self) -> None:
        """Throw away what was found and not handed out."""
        if self._long is not None:
            self._long[1].close()
        for level in self._levels:
            decoded = (level.model or {}).get("_model_data")
            if isinstance(decoded, Decoded):
                decoded.close()

    def _skip(self, event: JsonEvent) -> None:
        self._count_value()
        if event in {JsonEvent.START_OBJECT, JsonEvent.START_LIST}:
            self._n_skipped_levels += 1
        elif event in {JsonEvent.END_OBJECT, JsonEvent.END_LIST}:
            self._n_skipped_levels -= 1
        if not self._n_skipped_levels:
            self._value_ends()

    def _take(self, event: JsonEvent, value: Any) -> Iterator[Found]:
        if event is JsonEvent.KEY:
            self._key(value)
        elif event is JsonEvent.TEXT:
            yield from self._text(value)
        elif event is JsonEvent.NUMBER or event is JsonEvent.LITERAL:
            self._plain(value)
        elif event is JsonEvent.START_OBJECT or event is JsonEvent.START_LIST:
            self._open(is_list=event is JsonEvent.START_LIST)
        elif event is JsonEvent.END_OBJECT or event is JsonEvent.END_LIST:
            yield from self._end()
        elif event is JsonEvent.LONG_TEXT:
            self._begin_long_text(value)
        elif event is JsonEvent.MORE_TEXT:
            if self._long is not None:
                self._long[1].add(value)
        elif event is JsonEvent.END_TEXT:
            yield from self._end_long_text()

    def _find(self, code: str, message: str, path: str | None = None) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(DocumentFinding(code, message, path or self.path))

    def _count(self, kind: type, most: int, what: str, decoded: Decoded | None = None) -> None:
        self._counts[kind] += 1
        if self._counts[kind] > most:
            if decoded is not None:
                decoded.close()
            raise DocumentRefusedError("too_much", f"It has more than {most} {what}.", self.path)

    # Structure

    def _open(self, *, is_list: bool) -> None:
        self._count_value()
        if len(self._levels) == MAX_DEPTH:
            self._find("too_deep", f"What lies deeper than {MAX_DEPTH} levels is not read.")
            self._n_skipped_levels = 1
            if self._tables is not None:
                self._tables.give_up()
            return
        level = self._levels[-1] if self._levels else None
        is_evaluation = level is not None and not level.is_list and _EVALUATION.fullmatch(level.key) is not None
        if self._tables is None and is_evaluation:
            self._tables = _Collector(self.path, len(self._levels))
        if self._tables is not None:
            self._tables.open(is_list)
        self._levels.append(_Level(is_list))

    def _end(self) -> Iterator[Found]:
        level = self._levels.pop()
        self._n_keys -= len(level.seen)
        if self._tables is not None:
            self._tables.end()
        if level.model is not None:
            yield from self._model(level.model)
        if self._tables is not None and self._tables.depth == len(self._levels):
            tables, self._tables = self._tables, None
            if not tables.is_given_up:
                self._count(FoundTable, MAX_TABLES, "evaluations")
                yield FoundTable(tables.path, tables.value)
        self._value_ends()

    def _key(self, key: str) -> None:
        level = self._levels[-1]
        shown = key if len(key) <= _MAX_KEY_CHARACTERS else key[: _MAX_KEY_CHARACTERS - 1] + "…"
        level.key = key if len(key) <= _MAX_KEY_CHARACTERS else ""
        level.step = shown if _IDENTIFIER.fullmatch(shown) else f"[{_quoted(shown)}]"
        if self._tables is not None:
            self._tables.key(shown)
        # Keys themselves may be long; 64 bits of a keyed hash are enough to tell 200,000 of them apart.
        hashed = hash(key)
        if hashed in level.seen:
            self._find("duplicate_key", "The same key comes again in this object.")
            if key in _RESERVED:
                self._note_model(level, "_is_ambiguous", key)
            level.step += f"#{self._n_values}"
        elif self._n_keys < MAX_KEYS:
            level.seen.add(hashed)
            self._n_keys += 1

    def _value_ends(self) -> None:
        if self._levels:
            level = self._levels[-1]
            level.index += 1

    def _count_value(self) -> None:
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise DocumentRefusedError("too_much", f"It has more than {MAX_VALUES} values.", self.path)

    def _plain(self, value: Any) -> None:
        self._count_value()
        if isinstance(value, int | float) and not _is_finite(value):
            self._find("not_a_number", f"{_shown_number(value)} is no number that is kept; it is taken as null.")
            value = None
        if self._tables is not None:
            self._tables.add(value)
        self._value_ends()

    # Texts

    def _text(self, text: str) -> Iterator[Found]:
        self._count_value()
        level = self._levels[-1] if self._levels else None
        key = level.key if level is not None and not level.is_list else ""
        if level is not None and key in _RESERVED and key != "_model_data":
            self._note_model(level, key, text[: MAX_CLASS_CHARACTERS + 1])
        elif key == "_model_data" or text.startswith(("iVBOR", "data:image/", "gA")):
            raw = text.encode("utf-8", "replace")
            found = self._decoding(raw[:_LONGEST_HEAD])
            if found is not None:
                kind, decoded, n_head = found
                decoded.add(raw[n_head:])
                yield from self._decoded(kind, decoded)
        if self._tables is not None:
            self._tables.add(text)
        self._value_ends()

    def _begin_long_text(self, first: bytes) -> None:
        self._count_value()
        if self._tables is not None:
            self._tables.give_up()
        found = self._decoding(first[:_LONGEST_HEAD])
        if found is not None:
            kind, decoded, n_head = found
            decoded.add(first[n_head:])
            self._long = kind, decoded

    def _end_long_text(self) -> Iterator[Found]:
        if self._long is not None:
            (kind, decoded), self._long = self._long, None
            yield from self._decoded(kind, decoded)
        self._value_ends()

    def _decoding(self, head: bytes) -> tuple[str, Decoded, int] | None:
        """Begin to decode a text if it is a model or a picture: by its key, or by how it begins.

        Returns:
            What it is, where it goes, and how many bytes at its beginning are not base64.
        """
        level = self._levels[-1] if self._levels else None
        if level is not None and not level.is_list and level.key == "_model_data":
            return "model", Decoded(MAX_MODEL_BYTES - self._n_open_bytes), 0
        url = _DATA_URL.match(head)
        if url is not None:
            if url[1].lower() != b"png":
                self._find("picture_unsupported", f"A picture of type {url[1].decode()} is not taken in, only PNG is.")
                return None
            return "picture", Decoded(MAX_PICTURE_BYTES), url.end()
        if head.startswith(_PNG_BASE64):
            return "picture", Decoded(MAX_PICTURE_BYTES), 0
        if _PICKLE_BASE64.match(head):
            return "pickle", Decoded(MAX_MODEL_BYTES - self._n_open_bytes), 0
        return None

    def _decoded(self, kind: str, decoded: Decoded) -> Iterator[Found]:
        decoded.end()
        if kind == "model":
            level = self._levels[-1]
            former = (level.model or {}).get("_model_data")
            if isinstance(former, Decoded):
                self._n_open_bytes -= former.n_bytes
                former.close()
            self._note_model(level, "_model_data", decoded)
            self._n_open_bytes += decoded.n_bytes
        elif kind == "picture":
            self._count(FoundPicture, MAX_PICTURES, "pictures", decoded)
            if decoded.fault is not None:
                self._find("picture_invalid", decoded.fault)
            else:
                yield FoundPicture(self.path, decoded)
        # A text that only looks like the beginning of a pickle is a text.
        elif decoded.fault is None:
            self._count(FoundModel, MAX_MODELS, "models", decoded)
            yield FoundModel(self.path, None, decoded, is_bare=True)

    # Models

    def _note_model(self, level: _Level, member: str, value: Any) -> None:
        if level.model is None:
            level.model = {}
        level.model[member] = value

    def _model(self, members: dict[str, Any]) -> Iterator[Found]:
        """Yield the model that an object is; its level is closed, so the path is the object's."""
        decoded: Decoded | None = members.get("_model_data")
        if decoded is not None:
            self._n_open_bytes -= decoded.n_bytes
        kind = members.get("_model_type")
        if kind != MODEL_TYPE:
            if decoded is not None:
                decoded.close()
                self._find("model_type_unknown", f"_model_data without _model_type {MODEL_TYPE} is not read.")
            return
        if self._tables is not None:
            self._tables.give_up()
        claimed = members.get("_model_class")
        if isinstance(claimed, str) and len(claimed) > MAX_CLASS_CHARACTERS:
            claimed = None
        fault = None
        if "_is_ambiguous" in members:
            fault = f"The object has {members['_is_ambiguous']} twice."
        elif decoded is None:
            fault = "The object has no _model_data."
        elif decoded.fault is not None:
            fault = decoded.fault
        self._count(FoundModel, MAX_MODELS, "models", decoded)
        if fault is not None and decoded is not None:
            decoded.close()
        is_too_large = fault is not None and decoded is not None and decoded.is_too_large
        yield FoundModel(self.path, claimed, None if fault else decoded, fault, is_too_large)


class _Collector:
    """Collects a value that may be a table, as long as it is small and plain."""

    def __init__(self, path: str, depth: int) -> None:
        self.path = path
        self.depth = depth
        self.value: Any = None
        self.is_given_up = False
        self._open: list[Any] = []
        self._keys: list[str] = []
        self._n_values = 0

    def open(self, is_list: bool) -> None:
        value: Any = [] if is_list else {}
        self.add(value)
        self._open.append(value)
        self._keys.append("")

    def end(self) -> None:
        if self._open:
            self._open.pop()
            self._keys.pop()

    def key(self, key: str) -> None:
        if self._keys:
            # It may become the name of a column, and NUL is no character for Postgres.
            self._keys[-1] = key.replace("\0", "\N{SYMBOL FOR NULL}")

    def add(self, value: Any) -> None:
        self._n_values += 1
        is_long = isinstance(value, str) and len(value) > MAX_CELL_CHARACTERS
        if is_long or self._n_values > MAX_TABLE_VALUES:
            self.give_up()
        if self.is_given_up:
            return
        if not self._open:
            self.value = value
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        else:
            self._open[-1][self._keys[-1]] = value

    def give_up(self) -> None:
        """Forget what was collected."""
        self.is_given_up = True
        self.value = None


def abridged(path: str) -> str:
    """Return a path, or of a long one a checksum of all of it and its end."""
    if len(path) <= MAX_PATH_CHARACTERS:
        return path
    checksum = hashlib.sha256(path.encode("utf-8", "replace")).hexdigest()[:16]
    return f"...{checksum}...{path[-(MAX_PATH_CHARACTERS - 22) :]}"


def _quoted(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    # A path is shown, stored and sent back in a query.
    return '"' + "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in escaped) + '"'


def _is_finite(value: float) -> bool:
    """Say whether a number is one of 64 bits, or near to one: a whole one may have a thousand digits."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown_number(value: float) -> str:
    if isinstance(value, int):
        return "A number beyond 1.8e308"
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
