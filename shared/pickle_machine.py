"""Plays the opcodes of a pickle with dead objects: nothing is imported, looked up or called.

A pickle is a program for a small stack machine. This is that machine without its hands: a global is only its name, a
call only a note of what would be called with what. There is no class to resolve, no attribute to reach and no key to
hash, so there is nothing to get around. Why not a subclass of `pickle.Unpickler`: decision 8, docs/decisions.

Large bytes and texts are not copied: the machine keeps where they stand. What the objects mean is not decided here
(`shared/pickles.py`).
"""

import codecs
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# [bytes] The largest legacy document is 500 MiB; base64 leaves three quarters of that for a pickle.
MAX_PICKLE_BYTES: Final = 384 * 1024 * 1024
# [opcodes] A forest of 55 MB has 26,553 (research/models.md, E4); 2 million take about 1 s.
MAX_OPCODES: Final = 2_000_000
# [entries] Picklers note less than one object per opcode; an entry costs about 100 bytes here.
MAX_MEMO_ENTRIES: Final = 1_000_000
# [open marks] One per level of nesting; a pickler stops at about 500 levels, the depth of the Python stack.
MAX_OPEN_MARKS: Final = 5_000
# [bytes] What the dead objects may take, estimated upwards; the functions have 1 GiB and the pickle takes its part.
MAX_HELD_BYTES: Final = 192 * 1024 * 1024
# [distinct globals] 52 kinds of scikit-learn objects together need 100 (research/models.md, E1).
MAX_GLOBALS: Final = 1_000
# [characters] of a module or a name; the longest of scikit-learn have 70.
MAX_NAME_CHARACTERS: Final = 400
# [characters] of a number written as text; reading one takes quadratic time, and Python itself stops at 4,300.
MAX_NUMBER_CHARACTERS: Final = 1_000
# [bytes] Whole numbers up to this length are kept; generators of random numbers have states of 16.
MAX_INTEGER_BYTES: Final = 64
# [bytes] Texts up to this length are decoded at once; longer ones are arrays of protocols 0 to 2, or documents.
MAX_TEXT_BYTES: Final = 4_096

HIGHEST_PROTOCOL: Final = 5
# numpy's own limit is 64 since version 2, 32 before.
_MOST_DIMENSIONS: Final = 64
# NPY_ITEM_REFCOUNT, the flag of a dtype that contains Python objects; the flags are the eighth entry of its state.
_HOLDS_OBJECTS: Final = 1
_ITEM_TYPE = re.compile(r"([?a-zA-Z])([0-9]{1,9})")
_UCS4_BYTES: Final = 4
_JOBLIB_ARRAY: Final = "NumpyArrayWrapper"
_JOBLIB_MODULES: Final = frozenset({"joblib.numpy_pickle", "sklearn.externals.joblib.numpy_pickle"})
# Files that are taken for pickles, by their first bytes.
_OTHER_FILES: Final = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"\x78\x01": "compressed with zlib",
    b"\x78\x5e": "compressed with zlib",
    b"\x78\x9c": "compressed with zlib",
    b"\x78\xda": "compressed with zlib",
}


@dataclass(frozen=True)
class Budget:
    """How much one pickle may ask for; each limit is explained at its constant."""

    pickle_bytes: int = MAX_PICKLE_BYTES
    opcodes: int = MAX_OPCODES
    memo_entries: int = MAX_MEMO_ENTRIES
    open_marks: int = MAX_OPEN_MARKS
    held_bytes: int = MAX_HELD_BYTES
    globals: int = MAX_GLOBALS


class PickleRefusedError(Exception):
    """The bytes are no pickle, a broken one, or one that asks for too much.

    Attributes:
        code: Stable name, snake case.
        message: One sentence for people.
        offset: Where in the pickle [bytes].
        globals: What it had named until there, in order.
    """

    def __init__(self, code: str, message: str, offset: int, named: "tuple[Global, ...]" = ()) -> None:
        self.code = code
        self.message = message
        self.offset = offset
        self.globals = named
        super().__init__(f"{message} (byte {offset})")


class Global:
    """The name of something a real unpickler would import."""

    __slots__ = ("module", "name", "offset")

    def __init__(self, module: str, name: str, offset: int) -> None:
        self.module = module
        self.name = name
        self.offset = offset


class Payload:
    """Bytes, or a text in an encoding, that stay where they are in the pickle."""

    __slots__ = ("encoding", "start", "stop")

    def __init__(self, start: int, stop: int, encoding: str = "bytes") -> None:
        self.start = start
        self.stop = stop
        self.encoding = encoding


class HugeInteger:
    """A whole number that is too long to be kept."""

    __slots__ = ("n_bytes",)

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes


class DeadDict:
    """Keys and values in turn. Keys are not hashed: nested tuples would take exponential time, or the C stack."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[Any]) -> None:
        self.pairs = pairs


class DeadSet:
    """The members of a set or a frozenset, in the order in which they came; not hashed."""

    __slots__ = ("members",)

    def __init__(self, members: list[Any]) -> None:
        self.members = members


class DeadCall:
    """What a real unpickler would have made by calling something.

    Attributes:
        function: What would be called: a global, or another dead object.
        arguments: With what.
        keywords: With which keyword arguments, or None.
        state: What its `__setstate__` would get, or None.
        items: What would be appended or added to it, or None.
        pairs: Keys and values in turn that would be set, or None.
        array: The bytes joblib writes behind an array's description, or the object of an array of objects.
    """

    __slots__ = ("arguments", "array", "function", "items", "keywords", "pairs", "state")

    def __init__(self, function: Any, arguments: tuple[Any, ...], keywords: DeadDict | None = None) -> None:
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.state: Any = None
        self.items: list[Any] | None = None
        self.pairs: list[Any] | None = None
        self.array: Any = None


@dataclass
class DeadTree:
    """What a pickle was found to be.

    Attributes:
        data: The pickle, into which the payloads point.
        root: Its object.
        protocol: The highest protocol it announces; 0 if it announces none.
        n_opcodes: How many it has, those of nested pickles included.
        globals: Every global it names, in order of first appearance.
        attributes: What it would ask of `getattr`: module and name of a global, and a text; None for anything else.
    """

    data: bytes
    root: Any = None
    protocol: int = 0
    n_opcodes: int = 0
    globals: tuple[Global, ...] = ()
    attributes: set[tuple[str, str, str] | None] = field(default_factory=set)


def play(data: bytes, budget: Budget) -> DeadTree:
    """Play a pickle to its end.

    Args:
        data: A pickle of protocol 0 to 5, or one written by joblib without compression.
        budget: How much it may ask for.

    Raises:
        PickleRefusedError: It is no pickle, broken, asks for too much, or for something only a program can give it.
    """
    machine = _Machine(data, budget)
    if len(data) > budget.pickle_bytes:
        raise machine.refused("too_large", f"The pickle has more than {budget.pickle_bytes} bytes.")
    for beginning, what in _OTHER_FILES.items():
        if data.startswith(beginning):
            raise machine.refused("not_a_pickle", f"This is not a pickle but {what}.")
    try:
        machine.tree.root = machine.read_stream(is_nested=False)
    except (IndexError, KeyError) as error:
        raise machine.refused("malformed", "The pickle takes something that it has not put there.") from error
    except (ValueError, struct.error) as error:
        raise machine.refused("malformed", "The pickle holds a number or a text that cannot be read.") from error
    if machine.position != len(data):
        raise machine.refused("trailing_bytes", "There are bytes behind the end of the pickle.")
    machine.tree.globals = machine.named()
    return machine.tree


class _Machine:
    """The stack, the marks and the memo of one pickle; each method without result is an opcode."""

    def __init__(self, data: bytes, budget: Budget) -> None:
        self.data = data
        self.end = len(data)
        self.budget = budget
        self.tree = DeadTree(data)
        self.position = 0
        self.offset = 0
        self.held = 0
        self.n_memo = 0
        self.is_nested = False
        self.globals: dict[tuple[str, str], Global] = {}
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def named(self) -> tuple[Global, ...]:
        return tuple(self.globals.values())

    def refused(self, code: str, message: str) -> PickleRefusedError:
        return PickleRefusedError(code, message, self.offset, self.named())

    def read_stream(self, *, is_nested: bool) -> Any:
        """Play from here to the next STOP, with a stack and a memo of its own, and return the object."""
        outside = self.stack, self.below, self.memo, self.is_nested
        self.stack, self.below, self.memo, self.is_nested = [], [], {}, is_nested
        data, end, tree = self.data, self.end, self.tree
        most_opcodes, most_held = self.budget.opcodes, self.budget.held_bytes
        while True:
            self.offset = position = self.position
            if position >= end:
                raise self.refused("truncated", "The pickle ends before it is finished.")
            opcode = data[position]
            self.position = position + 1
            tree.n_opcodes += 1
            self.held += _COSTS[opcode]
            if tree.n_opcodes > most_opcodes:
                raise self.refused("too_many_opcodes", f"The pickle has more than {most_opcodes} opcodes.")
            if self.held > most_held:
                raise self.refused("too_much_memory", f"Its objects take more than {most_held} bytes of memory.")
            if opcode == _STOP:
                break
            _OPCODES[opcode](self)
        root = self.stack.pop()
        if self.stack or self.below:
            raise self.refused("malformed", "The pickle leaves objects behind that are not part of its result.")
        self.stack, self.below, self.memo, self.is_nested = outside
        return root

    def take(self, n_bytes: int) -> int:
        """Step over so many bytes, which must be there, and return where they start."""
        start = self.position
        if n_bytes < 0:
            raise self.refused("malformed", "The pickle claims a negative length.")
        if n_bytes > self.end - start:
            raise self.refused("truncated", f"The pickle claims {n_bytes} bytes where {self.end - start} are left.")
        self.position = start + n_bytes
        return start

    def take_byte(self) -> int:
        return self.data[self.take(1)]

    def take_number(self, layout: struct.Struct) -> Any:
        return layout.unpack_from(self.data, self.take(layout.size))[0]

    def take_line(self) -> tuple[int, int]:
        """Step over a line, and return where it starts and ends."""
        start = self.position
        stop = self.data.find(b"\n", start)
        if stop < 0:
            raise self.refused("truncated", "The pickle ends within a line.")
        self.position = stop + 1
        return start, stop

    def take_number_line(self) -> str:
        start, stop = self.take_line()
        if stop - start > MAX_NUMBER_CHARACTERS:
            raise self.refused("number_too_long", f"A number has more than {MAX_NUMBER_CHARACTERS} characters.")
        return str(self.data[start:stop], "ascii")

    def take_name_line(self) -> str:
        start, stop = self.take_line()
        return str(self.data[start : min(stop, start + 4 * MAX_NAME_CHARACTERS + 4)], "utf-8", "replace")

    def take_index(self, layout: struct.Struct | None) -> int:
        return int(self.take_number_line()) if layout is None else self.take_number(layout)

    def items_to_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    # Opcodes that put a value on the stack.

    def push_none(self) -> None:
        self.stack.append(None)

    def push_true(self) -> None:
        self.stack.append(True)

    def push_false(self) -> None:
        self.stack.append(False)

    def push_integer_line(self) -> None:
        line = self.take_number_line()
        self.stack.append({"00": False, "01": True}[line] if line in {"00", "01"} else int(line, 0))

    def push_long_line(self) -> None:
        self.stack.append(int(self.take_number_line().removesuffix("L"), 0))

    def push_float_line(self) -> None:
        self.stack.append(float(self.take_number_line()))

    def push_number(self, layout: struct.Struct) -> None:
        self.stack.append(self.take_number(layout))

    def push_long(self, layout: struct.Struct) -> None:
        n_bytes = self.take_number(layout)
        start = self.take(n_bytes)
        if n_bytes > MAX_INTEGER_BYTES:
            self.stack.append(HugeInteger(n_bytes))
        else:
            self.stack.append(int.from_bytes(self.data[start : self.position], "little", signed=True))

    def push_bytes(self, layout: struct.Struct) -> None:
        start = self.take(self.take_number(layout))
        self.stack.append(Payload(start, self.position))

    def push_text(self, layout: struct.Struct) -> None:
        start = self.take(self.take_number(layout))
        self.push_decoded(start, self.position, "utf-8")

    def push_text_line(self) -> None:
        start, stop = self.take_line()
        self.push_decoded(start, stop, "raw_unicode_escape")

    def push_python2_bytes(self, layout: struct.Struct) -> None:
        start = self.take(self.take_number(layout))
        self.push_python2(start, self.position, "bytes")

    def push_python2_line(self) -> None:
        start, stop = self.take_line()
        if stop - start < 2 or self.data[start] != self.data[stop - 1] or self.data[start] not in b"'\"":
            raise self.refused("malformed", "A text of Python 2 has no quotation marks.")
        self.push_python2(start + 1, stop - 1, "string_escape")

    def push_python2(self, start: int, stop: int, encoding: str) -> None:
        """Put what Python 2 did not tell apart: a short text if it is ASCII, bytes otherwise."""
        content = Payload(start, stop, encoding)
        if stop - start <= MAX_TEXT_BYTES:
            raw = read_payload(self.data, content)
            if raw.isascii():
                self.stack.append(self.held_text(raw.decode("ascii")))
                return
        self.stack.append(content)

    def push_decoded(self, start: int, stop: int, encoding: str) -> None:
        content = Payload(start, stop, encoding)
        self.stack.append(
            content if stop - start > MAX_TEXT_BYTES else self.held_text(read_text_payload(self.data, content))
        )

    def held_text(self, text: str) -> str:
        self.held += text.__sizeof__()
        return text

    def push_global_lines(self) -> None:
        module = self.take_name_line()
        self.push_named(module, self.take_name_line())

    def push_stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise self.refused("malformed", "A global is named by something else than two short texts.")
        self.push_named(module, name)

    def push_named(self, module: str, name: str) -> None:
        self.stack.append(self.global_named(module, name))

    def global_named(self, module: str, name: str) -> Global:
        known = self.globals.get((module, name))
        if known is None:
            if max(len(module), len(name)) > MAX_NAME_CHARACTERS:
                raise self.refused("name_too_long", f"A global's name has more than {MAX_NAME_CHARACTERS} characters.")
            if len(self.globals) >= self.budget.globals:
                raise self.refused("too_many_globals", f"It names more than {self.budget.globals} globals.")
            known = self.globals[module, name] = Global(module, name, self.offset)
        return known

    # Opcodes that build tuples, lists, dicts and sets.

    def mark(self) -> None:
        if len(self.below) >= self.budget.open_marks:
            raise self.refused("too_deep", f"It nests deeper than {self.budget.open_marks} levels.")
        self.below.append(self.stack)
        self.stack = []

    def push_empty_tuple(self) -> None:
        self.stack.append(())

    def push_tuple(self) -> None:
        items = tuple(self.items_to_mark())
        self.stack.append(items)

    def push_tuple_of(self, n_items: int) -> None:
        if len(self.stack) < n_items:
            raise IndexError
        self.stack[-n_items:] = [tuple(self.stack[-n_items:])]

    def push_empty_list(self) -> None:
        self.stack.append([])

    def push_list(self) -> None:
        items = self.items_to_mark()
        self.stack.append(items)

    def push_empty_dict(self) -> None:
        self.stack.append(DeadDict([]))

    def push_dict(self) -> None:
        pairs = self.pairs_to_mark()
        self.stack.append(DeadDict(pairs))

    def push_empty_set(self) -> None:
        self.stack.append(DeadSet([]))

    def push_frozenset(self) -> None:
        items = self.items_to_mark()
        self.stack.append(DeadSet(items))

    def pairs_to_mark(self) -> list[Any]:
        pairs = self.items_to_mark()
        if len(pairs) % 2:
            raise self.refused("malformed", "A key has no value.")
        return pairs

    def append(self) -> None:
        self.append_to_top([self.stack.pop()])

    def appends(self) -> None:
        self.append_to_top(self.items_to_mark())

    def append_to_top(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, DeadSet):
            target.members.extend(items)
        elif isinstance(target, DeadCall):
            if target.items is None:
                target.items = []
            target.items.extend(items)
        else:
            raise self.refused("malformed", "It appends to something that is no list.")

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_on_top([key, value])

    def set_items(self) -> None:
        self.set_on_top(self.pairs_to_mark())

    def set_on_top(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, DeadDict):
            target.pairs.extend(pairs)
        elif isinstance(target, DeadCall):
            if target.pairs is None:
                target.pairs = []
            target.pairs.extend(pairs)
        else:
            raise self.refused("malformed", "It sets an entry of something that is no dict.")

    # Opcodes that would call something.

    def reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.called(self.stack[-1], arguments)

    def new_object_with_keywords(self) -> None:
        keywords, arguments = self.stack.pop(), self.stack.pop()
        if not isinstance(keywords, DeadDict):
            raise self.refused("malformed", "It calls something with keywords that are no dict.")
        self.stack[-1] = self.called(self.stack[-1], arguments, keywords)

    def instance(self) -> None:
        module = self.take_name_line()
        function = self.global_named(module, self.take_name_line())
        arguments = tuple(self.items_to_mark())
        self.stack.append(self.called(function, arguments))

    def object(self) -> None:
        function, *arguments = self.items_to_mark() or [None]
        self.stack.append(self.called(function, tuple(arguments)))

    def called(self, function: Any, arguments: Any, keywords: DeadDict | None = None) -> DeadCall:
        if not isinstance(function, Global | DeadCall):
            raise self.refused("malformed", "It calls something that cannot be called.")
        if not isinstance(arguments, tuple):
            raise self.refused("malformed", "It calls something with arguments that are no tuple.")
        if isinstance(function, Global) and function.name == "getattr" and len(self.tree.attributes) < MAX_GLOBALS:
            self.tree.attributes.add(_attribute(arguments))
        return DeadCall(function, arguments, keywords)

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, DeadCall):
            raise self.refused("malformed", "It sets the state of something that has none.")
        if target.state is not None:
            # No pickler does; somebody who does wants the first state to be read and the second to be used.
            raise self.refused("malformed", "It sets the state of an object twice.")
        target.state = state
        function = target.function
        is_joblib = (
            isinstance(function, Global) and function.name == _JOBLIB_ARRAY and function.module in _JOBLIB_MODULES
        )
        # joblib writes an array of objects as a pickle of its own, in which there are no more such arrays.
        if is_joblib and not self.is_nested:
            target.array = self.take_joblib_array(state)

    def take_joblib_array(self, state: Any) -> Any:
        """Step over an array that joblib wrote behind its description.

        Source:
            joblib.numpy_pickle.NumpyArrayWrapper.write_array: one byte with the length of a padding, the padding, the
            items; without the padding in old versions; a pickle of its own if there are Python objects in the array.
        """
        if not isinstance(state, DeadDict):
            raise self.refused("malformed", "An array of joblib is not described.")
        described = {key: value for key, value in in_pairs(state.pairs) if isinstance(key, str)}
        item_type = read_item_type(described.get("dtype"))
        n_items = count_items(described.get("shape"))
        if item_type is None or n_items is None:
            raise self.refused("malformed", "An array of joblib has no readable type or shape.")
        if item_type.holds_objects:
            return self.read_stream(is_nested=True)
        if described.get("numpy_array_alignment_bytes") is not None:
            self.take(self.take_byte())
        start = self.take(item_type.n_bytes * n_items)
        return Payload(start, self.position)

    # Opcodes that move things about.

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.items_to_mark()

    def pop_mark(self) -> None:
        self.items_to_mark()

    def duplicate(self) -> None:
        self.stack.append(self.stack[-1])

    def get(self, layout: struct.Struct | None) -> None:
        self.stack.append(self.memo[self.take_index(layout)])

    def put(self, layout: struct.Struct | None) -> None:
        self.memoize_as(self.take_index(layout))

    def memoize(self) -> None:
        self.memoize_as(len(self.memo))

    def memoize_as(self, index: int) -> None:
        # A real unpickler makes room for every index below: nine bytes can ask for a gigabyte.
        if not 0 <= index <= self.tree.n_opcodes:
            raise self.refused("memo_index", f"It notes an object under number {index} before it has so many.")
        if index not in self.memo:
            self.n_memo += 1
            if self.n_memo > self.budget.memo_entries:
                raise self.refused("too_many_memo_entries", f"It notes more than {self.budget.memo_entries} objects.")
        self.memo[index] = self.stack[-1]

    def protocol(self) -> None:
        protocol = self.take_byte()
        if protocol > HIGHEST_PROTOCOL:
            raise self.refused("unknown_protocol", f"Protocol {protocol} is not known; the highest is 5.")
        self.tree.protocol = max(self.tree.protocol, protocol)

    def frame(self) -> None:
        n_bytes = self.take_number(_UINT64)
        if n_bytes > self.end - self.position:
            raise self.refused(
                "truncated", f"A frame claims {n_bytes} bytes where {self.end - self.position} are left."
            )

    def do_nothing(self) -> None:
        """Leave a buffer as it is: none is ever written to."""

    # Opcodes that only a program around the pickle could serve.

    def refuse_persistent(self) -> None:
        raise self.refused("persistent_id", "It refers to an object outside by a persistent id.")

    def refuse_extension(self) -> None:
        raise self.refused("extension_code", "It names a global by a code of the extension registry.")

    def refuse_buffer(self) -> None:
        raise self.refused("out_of_band_buffer", "It refers to a buffer that was sent beside it.")

    def refuse_unknown(self) -> None:
        code, what = (
            ("not_a_pickle", "This is no pickle") if self.tree.n_opcodes == 1 else ("malformed", "It is broken")
        )
        raise self.refused(code, f"{what}: there is no opcode {self.data[self.offset]:#04x}.")


@dataclass(frozen=True)
class ItemType:
    """A numpy dtype: its kind as in the array interface, its size [bytes], and how its bytes are ordered."""

    kind: str
    n_bytes: int
    byte_order: str
    holds_objects: bool

    def __str__(self) -> str:
        return f"{self.byte_order}{self.kind}{self.n_bytes // _UCS4_BYTES if self.kind == 'U' else self.n_bytes}"


def read_item_type(value: Any) -> ItemType | None:
    """Read a pickled `numpy.dtype`, or return None if this is none."""
    if not isinstance(value, DeadCall) or not isinstance(value.function, Global):
        return None
    if (value.function.module, value.function.name) != ("numpy", "dtype") or not value.arguments:
        return None
    written = value.arguments[0]
    fits = _ITEM_TYPE.fullmatch(written) if isinstance(written, str) else None
    if fits is None:
        return None
    kind, size = fits[1], int(fits[2])
    state = value.state if isinstance(value.state, tuple) else ()
    # Compared, not looked up: looking up would hash whatever stands there.
    byte_order = next((order for order in "<>" if len(state) > 1 and state[1] == order), "|")
    flags = state[7] if len(state) > 7 and isinstance(state[7], int) else 0
    n_bytes = size * _UCS4_BYTES if kind == "U" else size
    return ItemType(kind, n_bytes, byte_order, kind == "O" or bool(flags & _HOLDS_OBJECTS))


def count_items(shape: Any) -> int | None:
    """Return how many items an array of this shape has, or None if this is no shape."""
    sizes = (shape,) if isinstance(shape, int) else shape
    if not isinstance(sizes, tuple) or len(sizes) > _MOST_DIMENSIONS:
        return None
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        return None
    return math.prod(sizes)


def in_pairs(pairs: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Go through keys and values that stand in turn."""
    return zip(pairs[::2], pairs[1::2], strict=True)


def read_payload(data: bytes, payload: Payload) -> bytes:
    """Return the bytes of a payload.

    Raises:
        ValueError: They are not what their encoding says, or characters above 255 stand in bytes written as text.
    """
    raw = data[payload.start : payload.stop]
    if payload.encoding == "bytes":
        return raw
    if payload.encoding == "string_escape":
        return _ESCAPED.sub(_unescaped, raw)
    return read_text_payload(data, payload).encode("latin-1")


def read_text_payload(data: bytes, payload: Payload) -> str:
    """Return the text of a payload.

    Raises:
        ValueError: It is not written in its encoding.
    """
    raw = data[payload.start : payload.stop]
    if payload.encoding == "utf-8":
        return str(raw, "utf-8", "surrogatepass")
    if payload.encoding == "raw_unicode_escape":
        # Loading a codec by its name would import a module.
        return codecs.raw_unicode_escape_decode(raw)[0]
    return read_payload(data, payload).decode("latin-1")


def _attribute(arguments: tuple[Any, ...]) -> tuple[str, str, str] | None:
    owner, name = arguments if len(arguments) == 2 else (None, None)
    return (owner.module, owner.name, name) if isinstance(owner, Global) and isinstance(name, str) else None


# What repr() of Python 2 writes into a text; anything else behind a backslash stays as it is, as in Python.
_ESCAPED = re.compile(rb"\\(x[0-9a-fA-F]{2}|[\\'\"nrt])")
_PLAIN_ESCAPES: Final = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescaped(escaped: re.Match[bytes]) -> bytes:
    return _PLAIN_ESCAPES.get(escaped[1]) or bytes([int(escaped[1][1:], 16)])


_UINT8 = struct.Struct("<B")
_UINT16 = struct.Struct("<H")
_INT32 = struct.Struct("<i")
_UINT32 = struct.Struct("<I")
_UINT64 = struct.Struct("<Q")
_FLOAT64 = struct.Struct(">d")
_STOP: Final = ord(".")


def _with(opcode: Callable[[_Machine, struct.Struct], None], layout: struct.Struct) -> Callable[[_Machine], None]:
    def play_opcode(machine: _Machine) -> None:
        opcode(machine, layout)

    return play_opcode


def _by_line(opcode: Callable[[_Machine, struct.Struct | None], None]) -> Callable[[_Machine], None]:
    def play_opcode(machine: _Machine) -> None:
        opcode(machine, None)

    return play_opcode


def _of(n_items: int) -> Callable[[_Machine], None]:
    def play_opcode(machine: _Machine) -> None:
        machine.push_tuple_of(n_items)

    return play_opcode


# The opcodes of protocols 0 to 5, as pickletools lists them; tests hold this table to that list.
_NAMED: Final[dict[bytes, Callable[[_Machine], None]]] = {
    b"N": _Machine.push_none,
    b"\x88": _Machine.push_true,
    b"\x89": _Machine.push_false,
    b"I": _Machine.push_integer_line,
    b"J": _with(_Machine.push_number, _INT32),
    b"K": _with(_Machine.push_number, _UINT8),
    b"M": _with(_Machine.push_number, _UINT16),
    b"L": _Machine.push_long_line,
    b"\x8a": _with(_Machine.push_long, _UINT8),
    b"\x8b": _with(_Machine.push_long, _INT32),
    b"F": _Machine.push_float_line,
    b"G": _with(_Machine.push_number, _FLOAT64),
    b"B": _with(_Machine.push_bytes, _UINT32),
    b"C": _with(_Machine.push_bytes, _UINT8),
    b"\x8e": _with(_Machine.push_bytes, _UINT64),
    b"\x96": _with(_Machine.push_bytes, _UINT64),
    b"V": _Machine.push_text_line,
    b"X": _with(_Machine.push_text, _UINT32),
    b"\x8c": _with(_Machine.push_text, _UINT8),
    b"\x8d": _with(_Machine.push_text, _UINT64),
    b"S": _Machine.push_python2_line,
    b"T": _with(_Machine.push_python2_bytes, _INT32),
    b"U": _with(_Machine.push_python2_bytes, _UINT8),
    b"c": _Machine.push_global_lines,
    b"\x93": _Machine.push_stack_global,
    b"(": _Machine.mark,
    b")": _Machine.push_empty_tuple,
    b"t": _Machine.push_tuple,
    b"\x85": _of(1),
    b"\x86": _of(2),
    b"\x87": _of(3),
    b"]": _Machine.push_empty_list,
    b"l": _Machine.push_list,
    b"}": _Machine.push_empty_dict,
    b"d": _Machine.push_dict,
    b"\x8f": _Machine.push_empty_set,
    b"\x91": _Machine.push_frozenset,
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"\x90": _Machine.appends,
    b"s": _Machine.set_item,
    b"u": _Machine.set_items,
    b"R": _Machine.reduce,
    b"\x81": _Machine.reduce,
    b"\x92": _Machine.new_object_with_keywords,
    b"i": _Machine.instance,
    b"o": _Machine.object,
    b"b": _Machine.build,
    b"0": _Machine.pop,
    b"1": _Machine.pop_mark,
    b"2": _Machine.duplicate,
    b"g": _by_line(_Machine.get),
    b"h": _with(_Machine.get, _UINT8),
    b"j": _with(_Machine.get, _UINT32),
    b"p": _by_line(_Machine.put),
    b"q": _with(_Machine.put, _UINT8),
    b"r": _with(_Machine.put, _UINT32),
    b"\x94": _Machine.memoize,
    b"\x80": _Machine.protocol,
    b"\x95": _Machine.frame,
    b"\x98": _Machine.do_nothing,
    b"P": _Machine.refuse_persistent,
    b"Q": _Machine.refuse_persistent,
    b"\x82": _Machine.refuse_extension,
    b"\x83": _Machine.refuse_extension,
    b"\x84": _Machine.refuse_extension,
    b"\x97": _Machine.refuse_buffer,
}
_OPCODES: Final = [_NAMED.get(bytes([byte]), _Machine.refuse_unknown) for byte in range(256)]

# [bytes] What the object of an opcode takes at most, with its place on the stack and in what holds it (CPython 3.11,
# 64 bits). The characters of texts are counted when they are decoded.
_ANY_BYTES: Final = 16
_NUMBER_BYTES: Final = 48
_CONTAINER_BYTES: Final = 128
_CALL_BYTES: Final = 128
_MEMO_BYTES: Final = 112
_COSTS: Final = [
    _CONTAINER_BYTES
    if byte in b"()tl]}d\x8f\x91\x85\x86\x87aesu\x90"
    else _CALL_BYTES
    if byte in b"R\x81\x92iob"
    else _MEMO_BYTES
    if byte in b"pqr\x94"
    else _NUMBER_BYTES + _ANY_BYTES
    if byte in b"IJKMLFGBCVXSTU\x8a\x8b\x8e\x96\x8c\x8d"
    else _ANY_BYTES
    for byte in range(256)
]
