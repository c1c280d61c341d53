"""Reads pickles without running them: what they are, what they would import, and the numbers in them.

Nothing is imported, nothing is called, whatever the bytes (`shared/pickle_machine.py`). What comes out is plain: texts,
numbers, lists and dicts that JSON can carry; NaN and the infinities are the texts "NaN", "Infinity" and "-Infinity".

Not here: finding pickles in documents, what is in a `.keras` archive, and anything that needs the real objects.
"""

import codecs
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from operator import mul
from typing import Any, BinaryIO, Final

from shared.pickle_globals import PYTHON2_MODULES, Grade, grade, sklearn_part
from shared.pickle_machine import (
    Budget,
    DeadCall,
    DeadDict,
    DeadSet,
    DeadTree,
    Global,
    HugeInteger,
    ItemType,
    Payload,
    PickleRefusedError,
    count_items,
    in_pairs,
    play,
    read_item_type,
    read_payload,
)

# [values] in one description; it is kept in a row of the database, at about 50 bytes each.
MAX_NODES: Final = 5_000
# [levels] A Pipeline of a ColumnTransformer of Pipelines has 20; and it bounds our own recursion.
MAX_DEPTH: Final = 60
# [entries] of one list or dict that are described; a forest has hundreds of trees that say the same.
MAX_ENTRIES: Final = 100
# [characters] of one text.
MAX_CHARACTERS: Final = 1_000
# [numbers] of one array; of larger ones type, shape and size are told.
MAX_ARRAY_VALUES: Final = 1_000
# [features] of a scaler, whose numbers are only of use all together.
MAX_SCALER_FEATURES: Final = 10_000
# [bytes] of all arrays whose values are told; a scaler of 10,000 features has 320,000.
MAX_ARRAY_BYTES: Final = 1024 * 1024
# [attributes] of one object that are looked at; scikit-learn's largest have 60. An object may be shared by many.
MAX_ATTRIBUTES: Final = 1_000
# [objects] that are looked through for estimators; a forest of 55 MB has 10,000. One takes about 250 bytes.
MAX_VISITED: Final = 300_000
# [estimators] that are listed with their path; all are counted.
MAX_ESTIMATORS: Final = 100
# [findings] that are listed.
MAX_FINDINGS: Final = 100
# [scalers] and [Keras archives] of one pickle.
MAX_SCALERS: Final = 100
# [steps] of a path; deeper ones are abridged at the front.
MAX_PATH_STEPS: Final = 40

_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,40}")
_ZIP_BEGINS: Final = b"PK\x03\x04"
_LARGEST_JSON_INTEGER: Final = 2**63
# Fixed by numpy: the first entry of an array's state is the version of its form; four more follow.
_ARRAY_STATE_LENGTH: Final = 5
_STRUCT_LETTERS: Final = {
    ("b", 1): "?",
    ("i", 1): "b",
    ("i", 2): "h",
    ("i", 4): "i",
    ("i", 8): "q",
    ("u", 1): "B",
    ("u", 2): "H",
    ("u", 4): "I",
    ("u", 8): "Q",
    ("f", 2): "e",
    ("f", 4): "f",
    ("f", 8): "d",
}
# Functions whose first argument is the class of what they make.
_RECONSTRUCTORS: Final = frozenset({"_reconstructor", "__newobj__", "__newobj_ex__", "newObj"})
_NUMPY_CORE: Final = frozenset({"numpy._core", "numpy.core"})
_KERAS2_LOADER: Final = "deserialize_model_from_bytecode"
_KERAS3_LOADER: Final = "_unpickle_model"


@dataclass(frozen=True)
class Finding:
    """Something that people should know before they open the pickle.

    Attributes:
        code: foreign_global, dotted_name, getattr, keras2, keras_archive_missing, embedded_archive, array_size,
            scaler_incomplete, class_mismatch or description_cut.
        message: One sentence.
        where: A path into the object such as `$.steps[0][1]`, or a byte of the pickle.
    """

    code: str
    message: str
    where: str


@dataclass(frozen=True)
class NamedGlobal:
    """One entry of the import list.

    Attributes:
        module: As the pickle names it.
        name: Dotted names reach through a class or a module to something else.
        grade: What it is known to be.
        offset: Where it is named first [bytes].
    """

    module: str
    name: str
    grade: Grade
    offset: int

    @property
    def is_dotted(self) -> bool:
        """Whether the name reaches through something."""
        return "." in self.name


@dataclass(frozen=True)
class Estimator:
    """An object of scikit-learn or Keras somewhere in the pickle.

    Attributes:
        path: Where, from `$`, the root.
        class_name: With its module.
        sklearn_version: The version it was pickled with, if it says so.
    """

    path: str
    class_name: str
    sklearn_version: str | None


@dataclass(frozen=True)
class Scaler:
    """The numbers of a fitted scaler, in the terms of results.md.

    Attributes:
        path: Where, from `$`.
        type: standard, minmax, robust or maxabs.
        feature_names: Empty if the scaler was not given names.
        params: Lists of one number per feature, and settings.
        formula: Of `x` and the params.
        inverse: The other way.
        n_samples_seen: None if it is not one number.
        sklearn_version: None if the pickle does not say.
    """

    path: str
    type: str
    feature_names: tuple[str, ...]
    params: Mapping[str, Any]
    formula: str
    inverse: str
    n_samples_seen: int | None
    sklearn_version: str | None


@dataclass(frozen=True)
class KerasArchive:
    """The `.keras` file that a pickled Keras 3 model consists of.

    Attributes:
        path: Where, from `$`.
        class_name: Of the model.
        start: Where its bytes begin in the pickle.
        stop: Where they end; between them the file stands as it is, unless the pickle has protocol 2.
    """

    path: str
    class_name: str
    start: int
    stop: int
    _data: bytes = field(repr=False)
    _payload: Payload = field(repr=False)

    def content(self) -> bytes:
        """Return the file, byte for byte as Keras wrote it.

        Raises:
            PickleRefusedError: Protocol 2 writes bytes as text, and this text has characters that are no bytes.
        """
        try:
            return read_payload(self._data, self._payload)
        except ValueError as error:
            raise PickleRefusedError("malformed", "The archive is written in no readable way.", self.start) from error


@dataclass(frozen=True)
class PickleDescription:
    """What a pickle holds, as far as it can be told without running it.

    Attributes:
        n_bytes: Its size.
        protocol: 0 to 5.
        n_opcodes: How many steps it has.
        class_name: Of its object, with the module, such as sklearn.preprocessing._data.MinMaxScaler or builtins.dict.
        framework: sklearn, keras or other; by what was read, not by what anybody claims.
        sklearn_version: The version the object was pickled with, if it says so.
        parameters: How it was set up.
        fitted: What it learned; arrays of up to 1,000 values with their values.
        globals: Everything it would import, in order of first appearance.
        estimators: The first 100 objects of scikit-learn and Keras in it, the root included.
        n_estimators: How many there are.
        scalers: The fitted scalers of the four kinds with a closed formula.
        keras_archives: The Keras 3 models.
        requirements: What must be installed to open it, as far as it shows, as lines of a requirements.txt.
        findings: What people should know before they open it.
    """

    n_bytes: int
    protocol: int
    n_opcodes: int
    class_name: str
    framework: str
    sklearn_version: str | None
    parameters: Mapping[str, Any]
    fitted: Mapping[str, Any]
    globals: tuple[NamedGlobal, ...]
    estimators: tuple[Estimator, ...]
    n_estimators: int
    scalers: tuple[Scaler, ...]
    keras_archives: tuple[KerasArchive, ...]
    requirements: tuple[str, ...]
    findings: tuple[Finding, ...]


def read_pickle(
    source: bytes | BinaryIO, *, claimed_class: str | None = None, budget: Budget | None = None
) -> PickleDescription:
    """Describe a pickle without importing or calling anything.

    Args:
        source: A pickle of protocol 0 to 5, or one of joblib without compression; a file is read from its beginning.
        claimed_class: What somebody says it is; a finding says if that is wrong.
        budget: How much it may ask for, if not the usual.

    Raises:
        PickleRefusedError: It is no pickle, a broken one, needs something from outside (persistent ids, extension
            codes, buffers), or asks for more than the budget. It names the byte, and what the pickle named before it.
    """
    budget = budget or Budget()
    tree = play(source if isinstance(source, bytes) else _read_file(source, budget), budget)
    return _Reading(tree).describe(claimed_class)


def list_globals(refusal: PickleRefusedError) -> tuple[NamedGlobal, ...]:
    """Grade what a refused pickle had named until it was refused."""
    return _graded(refusal.globals)


def _read_file(file: BinaryIO, budget: Budget) -> bytes:
    file.seek(0)
    # One byte more than allowed tells that there is more, without reading all of it.
    return file.read(budget.pickle_bytes + 1)


def _graded(named: Sequence[Global]) -> tuple[NamedGlobal, ...]:
    return tuple(
        NamedGlobal(_printable(seen.module), _printable(seen.name), grade(seen.module, seen.name), seen.offset)
        for seen in named
    )


@dataclass(frozen=True)
class _Array:
    """A numpy array: its values are a payload, a list of objects, or missing."""

    item_type: ItemType
    shape: tuple[int, ...]
    is_fortran: bool
    content: Any

    @property
    def n_items(self) -> int:
        return math.prod(self.shape)


# Where an object stands: the path of what holds it, and the last step.
_Path = tuple[Any, str] | None


class _Reading:
    """Turns one dead tree into its description."""

    def __init__(self, tree: DeadTree) -> None:
        self.tree = tree
        self.data = tree.data
        self.findings: list[Finding] = []
        self.estimators: list[Estimator] = []
        self.n_estimators = 0
        self.scalers: list[Scaler] = []
        self.archives: list[KerasArchive] = []
        self.archived: set[Payload] = set()
        self.versions: dict[str, None] = {}
        self.n_nodes = 0
        self.n_array_bytes = 0
        self.n_scalers_tried = 0
        self.is_cut = False

    def describe(self, claimed_class: str | None) -> PickleDescription:
        named = self.graded()
        self.look_at_globals(named)
        self.look_at_objects()
        root = self.tree.root
        class_name = _class_name(root)
        if claimed_class is not None and not _fits(claimed_class, class_name):
            self.find("class_mismatch", f"It is said to be {claimed_class!r:.200} and is {class_name}.", "$")
        attributes = _attributes(root)
        if isinstance(root, DeadDict) and len(attributes) != len(root.pairs) // 2:
            self.is_cut = True
        parameters, fitted = {}, {}
        shown = {self.plain_text(name): value for name, value in attributes.items() if not name.startswith("_")}
        # What it was set up with goes first, in case there is more than can be told.
        for name, value in shown.items():
            if not name.endswith("_"):
                parameters[name] = self.plain(value, 0)
        for name, value in shown.items():
            if name.endswith("_"):
                fitted[name] = self.plain(value, 0)
        if self.is_cut:
            self.find("description_cut", "It holds more than is described here.", "$")
        return PickleDescription(
            n_bytes=len(self.data),
            protocol=self.tree.protocol,
            n_opcodes=self.tree.n_opcodes,
            class_name=class_name,
            framework=self.framework(class_name),
            sklearn_version=_version(attributes),
            parameters=parameters,
            fitted=fitted,
            globals=named,
            estimators=tuple(self.estimators),
            n_estimators=self.n_estimators,
            scalers=tuple(self.scalers),
            keras_archives=tuple(self.archives),
            requirements=self.requirements(),
            findings=tuple(self.findings),
        )

    def graded(self) -> tuple[NamedGlobal, ...]:
        """Grade the import list; getattr counts as Keras's own where it is asked for nothing but Keras's loader."""
        named = _graded(self.tree.globals)
        if not self.has_plain_getattr():
            return named
        return tuple(replace(seen, grade=Grade.ESTIMATOR) if _is_getattr(seen) else seen for seen in named)

    def find(self, code: str, message: str, where: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code, message, where))

    def framework(self, class_name: str) -> str:
        root = _class_global(self.tree.root)
        if root is not None and root.name == _KERAS2_LOADER:
            return "keras"
        module = class_name.partition(".")[0]
        return module if module in {"sklearn", "keras"} else "other"

    def requirements(self) -> tuple[str, ...]:
        """Return what opening it takes, from the names alone (research/models.md, section 6, "Skew that bites")."""
        modules = {seen.module for seen in self.tree.globals}
        roots = {module.partition(".")[0] for module in modules}
        lines = []
        # numpy 2 renamed numpy.core; numpy 1 does not know the new name, numpy 2 knows the old one.
        if any(module.startswith("numpy._core") for module in modules):
            lines.append("numpy>=2")
        elif "numpy" in roots:
            lines.append("numpy")
        if self.versions:
            lines.extend(f"scikit-learn=={version}" for version in self.versions)
        elif "sklearn" in roots:
            lines.append("scikit-learn")
        if "scipy" in roots:
            lines.append("scipy")
        if any(module.startswith("keras.src.") for module in modules):
            lines.append("keras>=3")
        if "joblib" in roots:
            lines.append("joblib")
        return tuple(lines)

    def look_at_globals(self, named: Sequence[NamedGlobal]) -> None:
        for seen in named:
            full_name, where = f"{seen.module}.{seen.name}", f"byte {seen.offset}"
            if seen.is_dotted:
                self.find("dotted_name", f"{full_name} reaches through a class or module to something else.", where)
            if seen.name == _KERAS2_LOADER:
                self.find("keras2", "A model of Keras 2 is a program; it can only be handed out as it is.", where)
            elif seen.grade is Grade.FOREIGN:
                self.find("foreign_global", f"Opening it would import {full_name}.", where)

    def has_plain_getattr(self) -> bool:
        """Say whether getattr is asked for nothing but the loader of Keras 3, which every such model asks for."""
        return bool(self.tree.attributes) and all(
            asked is not None and asked[2] == _KERAS3_LOADER and grade(*asked[:2]) is Grade.ESTIMATOR
            for asked in self.tree.attributes
        )

    def look_at_objects(self) -> None:
        """Visit every object once, whatever refers to it, and note estimators, scalers and archives."""
        embedded: list[tuple[Payload, _Path]] = []
        seen: set[int] = set()
        waiting: list[tuple[Any, _Path]] = [(self.tree.root, None)]
        while waiting:
            value, path = waiting.pop()
            if isinstance(value, _LEAVES) or id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Payload):
                if self.data.startswith(_ZIP_BEGINS, value.start, value.stop):
                    embedded.append((value, path))
                continue
            if isinstance(value, DeadCall):
                self.look_at_call(value, path)
            # More objects than this are in no model; the list of them would take more memory than the objects.
            room = MAX_VISITED - len(seen) - len(waiting)
            children = list(islice(_children(value, path), room + 1))
            if len(children) > room:
                self.is_cut = True
                break
            waiting.extend(reversed(children))
        for payload, path in embedded:
            if payload not in self.archived:
                self.find("embedded_archive", "It holds a zip archive that is no Keras model.", _written(path))

    def look_at_call(self, call: DeadCall, path: _Path) -> None:
        self.is_cut = self.is_cut or _has_too_many_attributes(call)
        self.look_for_archive(call, path)
        known = _class_global(call)
        if known is None or grade(known.module, known.name) is not Grade.ESTIMATOR:
            return
        self.n_estimators += 1
        if len(self.estimators) < MAX_ESTIMATORS:
            version = _version(_attributes(call))
            if version is not None:
                self.versions[version] = None
            self.estimators.append(Estimator(_written(path), _full_name(known), version))
        if sklearn_part(known.module) == "preprocessing" and known.name in _SCALERS:
            self.n_scalers_tried += 1
            if self.n_scalers_tried <= MAX_SCALERS:
                self.look_at_scaler(known.name, _attributes(call), path)
            else:
                self.is_cut = True

    def look_for_archive(self, call: DeadCall, path: _Path) -> None:
        """Find the exact form in which Keras 3 pickles a model: getattr(class, loader)(BytesIO with a zip)."""
        loader = call.function
        if not isinstance(loader, DeadCall) or not _is_keras3_loader(loader):
            return
        model_class = _full_name(loader.arguments[0])
        payload = _buffer_of(call.arguments[0]) if len(call.arguments) == 1 else None
        if payload is None or not self.data.startswith(_ZIP_BEGINS, payload.start, payload.stop):
            self.find("keras_archive_missing", f"There is no .keras archive in this {model_class}.", _written(path))
            return
        self.archived.add(payload)
        if len(self.archives) < MAX_SCALERS:
            self.archives.append(
                KerasArchive(_written(path), model_class, payload.start, payload.stop, self.data, payload)
            )
        else:
            self.is_cut = True

    def look_at_scaler(self, name: str, attributes: Mapping[str, Any], path: _Path) -> None:
        kind, learned, settings = _SCALERS[name]
        if not any(attribute in attributes for attribute in learned.values()):
            # Never fitted: there are no numbers to miss.
            return
        params: dict[str, Any] = {}
        for param, attribute in learned.items():
            params[param] = self.numbers(attributes.get(attribute))
        for setting in settings:
            params[setting] = self.plain(attributes.get(setting), 0)
        formula, inverse, needed = _scaling(kind, params)
        lengths = {len(params[param]) if isinstance(params[param], list) else None for param in needed}
        if None in lengths or len(lengths) > 1:
            self.find("scaler_incomplete", f"The numbers of this {name} cannot be read.", _written(path))
            return
        # With missing values it is one number per feature; of a table with names it is a float.
        n_samples = self.plain(attributes.get("n_samples_seen_"), 0)
        names = _array_of(attributes.get("feature_names_in_"))
        n_features = next(iter(lengths), None)
        self.scalers.append(
            Scaler(
                path=_written(path),
                type=kind,
                feature_names=self.texts(names.content, n_features) if names is not None else (),
                # Whether it clips is in the formula, where `clip` is a function.
                params={name: value for name, value in params.items() if value is not None and name != "clip"},
                formula=formula,
                inverse=inverse,
                n_samples_seen=int(n_samples) if isinstance(n_samples, int | float) else None,
                sklearn_version=_version(attributes),
            )
        )

    def numbers(self, value: Any) -> list[Any] | None:
        """Return a row of numbers, or None if this is none, or too long."""
        array = _array_of(value)
        if array is None or len(array.shape) != 1 or array.item_type.kind not in "iuf":
            return None
        return self.values(array, MAX_SCALER_FEATURES)

    def texts(self, items: Any, n_items: int | None) -> tuple[str, ...]:
        """Return a list of so many texts, if the number is known, or nothing if this is none."""
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            return ()
        if len(items) > MAX_SCALER_FEATURES or n_items not in {len(items), None}:
            return ()
        return tuple(self.plain_text(item) for item in items)

    def values(self, array: _Array, most: int) -> list[Any] | None:
        """Return the values of an array in rows, or None if there are too many, or they are not plain."""
        if array.n_items > most:
            return None
        if isinstance(array.content, list):
            return [self.plain(value, 1) for value in array.content] if len(array.content) == array.n_items else None
        raw = self.raw(array)
        values = None if raw is None else _decoded(raw, array.item_type)
        if values is None:
            return None
        if array.item_type.kind == "U":
            values = [self.plain_text(value) for value in values]
        if not array.is_fortran or len(array.shape) < 2:
            return values
        return [values[place] for place in _places_in_columns(array.shape)]

    def raw(self, array: _Array) -> bytes | None:
        """Return the bytes of an array, or None if they are not as many as its type and shape say."""
        content = array.content
        declared = array.item_type.n_bytes * array.n_items
        if isinstance(content, Payload):
            # At most six characters stand for one byte, so much longer ones need not be decoded to be refused.
            if not declared <= content.stop - content.start <= 6 * declared:
                return None
            self.n_array_bytes += declared
            if self.n_array_bytes > MAX_ARRAY_BYTES:
                self.is_cut = True
                return None
            try:
                content = read_payload(self.data, content)
            except ValueError:
                return None
        elif isinstance(content, str):
            content = content.encode("latin-1", "replace")
        return content if isinstance(content, bytes) and len(content) == declared else None

    def plain(self, value: Any, depth: int) -> Any:
        """Return what JSON can carry, cut where it gets long or deep."""
        self.n_nodes += 1
        if self.n_nodes > MAX_NODES or depth > MAX_DEPTH:
            return self.cut()
        if isinstance(value, str):
            return self.plain_text(value)
        if isinstance(value, list | tuple):
            return self.plain_list(value, depth)
        if isinstance(value, DeadDict):
            return self.plain_dict(value.pairs, depth)
        if isinstance(value, DeadCall):
            return self.plain_call(value, depth)
        return (
            {"kind": "set", "members": self.plain_list(value.members, depth)}
            if isinstance(value, DeadSet)
            else (_plain_leaf(value))
        )

    def cut(self, n_more: int | None = None) -> dict[str, Any]:
        self.is_cut = True
        return {"kind": "cut"} if n_more is None else {"kind": "cut", "n_more": n_more}

    def plain_text(self, text: str) -> str:
        if len(text) > MAX_CHARACTERS:
            self.is_cut = True
            text = text[: MAX_CHARACTERS - 1] + "…"
        # Half a surrogate pair is no text for JSON and Postgres; NUL is none for Postgres.
        return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{SYMBOL FOR NULL}")

    def plain_list(self, items: Sequence[Any], depth: int) -> list[Any]:
        plain = [self.plain(item, depth + 1) for item in items[:MAX_ENTRIES]]
        return plain if len(items) <= MAX_ENTRIES else [*plain, self.cut(len(items) - MAX_ENTRIES)]

    def plain_dict(self, pairs: Sequence[Any], depth: int) -> dict[str, Any]:
        """Return an object if all keys are texts, otherwise pairs; a key `kind` would be taken for one of ours."""
        shown = list(in_pairs(pairs[: 2 * MAX_ENTRIES]))
        if all(isinstance(key, str) and key != "kind" for key, _ in shown):
            described = {self.plain_text(key): self.plain(value, depth + 1) for key, value in shown}
            if len(pairs) > 2 * MAX_ENTRIES:
                described["…"] = self.cut(len(pairs) // 2 - MAX_ENTRIES)
            return described
        plain: list[Any] = [[self.plain(key, depth + 1), self.plain(value, depth + 1)] for key, value in shown]
        if len(pairs) > 2 * MAX_ENTRIES:
            plain.append(self.cut(len(pairs) // 2 - MAX_ENTRIES))
        return {"kind": "dict", "pairs": plain}

    def plain_call(self, call: DeadCall, depth: int) -> Any:
        scalar = _scalar_of(call)
        if scalar is not None:
            raw = self.raw(scalar)
            values = None if raw is None else _decoded(raw, scalar.item_type)
            if values is not None:
                return values[0]
        array = _array_of(call)
        if array is not None:
            return self.described_array(array)
        known = _class_global(call)
        described: dict[str, Any] = {"kind": "object", "class": _class_name(call)}
        attributes = _attributes(call)
        is_estimator = known is not None and grade(known.module, known.name) is Grade.ESTIMATOR
        if attributes:
            shown = [
                (name, value)
                for name, value in attributes.items()
                if not (is_estimator and (name.startswith("_") or name.endswith("_")))
            ]
            self.is_cut = self.is_cut or len(shown) > MAX_ENTRIES
            described["parameters" if is_estimator else "state"] = {
                self.plain_text(name): self.plain(value, depth + 1) for name, value in shown[:MAX_ENTRIES]
            }
        elif call.state is not None:
            described["state"] = self.plain(call.state, depth + 1)
        if call.arguments and not is_estimator:
            described["arguments"] = self.plain_list(call.arguments, depth + 1)
        if call.items:
            described["items"] = self.plain_list(call.items, depth + 1)
        if call.pairs:
            described["entries"] = self.plain_dict(call.pairs, depth + 1)
        return described

    def described_array(self, array: _Array) -> dict[str, Any]:
        described: dict[str, Any] = {
            "kind": "array",
            "dtype": str(array.item_type),
            "shape": [size if size < _LARGEST_JSON_INTEGER else str(size) for size in array.shape],
        }
        values = self.values(array, MAX_ARRAY_VALUES)
        if values is not None:
            described["values"] = values
        elif self.has_wrong_size(array):
            self.find("array_size", f"An array of {array.n_items} values has more or fewer bytes than that.", "$")
        return described

    def has_wrong_size(self, array: _Array) -> bool:
        content = array.content
        if not isinstance(content, Payload) or content.encoding != "bytes":
            return False
        return content.stop - content.start != array.item_type.n_bytes * array.n_items


_LEAVES = (str, int, float, Global, HugeInteger, type(None))


def _children(value: Any, path: _Path) -> Iterator[tuple[Any, _Path]]:
    """Go through what an object holds, with the path of each."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if not isinstance(item, _LEAVES):
                yield item, (path, f"[{index}]")
    elif isinstance(value, DeadDict):
        yield from _entries(value.pairs, path)
    elif isinstance(value, DeadSet):
        yield value.members, path
    elif isinstance(value, DeadCall):
        yield value.function, path
        yield value.arguments, (path, "()")
        yield from ((held, path) for held in (value.keywords, value.state, value.items, value.array))
        yield from _entries(value.pairs or (), path)


def _entries(pairs: Sequence[Any], path: _Path) -> Iterator[tuple[Any, _Path]]:
    for key, value in in_pairs(pairs):
        if not isinstance(key, _LEAVES):
            yield key, (path, "[key]")
        if not isinstance(value, _LEAVES):
            yield value, (path, _step(key))


def _step(key: Any) -> str:
    if isinstance(key, str) and len(key) <= MAX_CHARACTERS:
        key = _printable(key)
        return f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"
    return f"[{key}]" if isinstance(key, int) and abs(key) < _LARGEST_JSON_INTEGER else "[...]"


def _written(path: _Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(step)
        if len(steps) > MAX_PATH_STEPS:
            return "$..." + "".join(reversed(steps))
    return "$" + "".join(reversed(steps))


def _printable(text: str) -> str:
    # Not encode("unicode_escape"): the first use of a codec by its name imports a module.
    return text if text.isascii() and text.isprintable() else codecs.unicode_escape_encode(text)[0].decode("ascii")


def _is_getattr(seen: NamedGlobal) -> bool:
    return (PYTHON2_MODULES.get(seen.module, seen.module), seen.name) == ("builtins", "getattr")


def _full_name(named: Global) -> str:
    module = PYTHON2_MODULES.get(named.module, named.module)
    return f"{_printable(module)}.{_printable(named.name)}"


def _class_global(value: Any) -> Global | None:
    """Return the class of what a call would make, or the function if it is not known to be told a class."""
    if not isinstance(value, DeadCall):
        return None
    function = value.function
    if isinstance(function, DeadCall):
        # getattr(class, name)(...), in which the class is what tells something.
        return function.arguments[0] if _is_keras3_loader(function) else None
    first = value.arguments[0] if value.arguments else None
    is_told = function.name in _RECONSTRUCTORS or function.name.startswith("__pyx_unpickle_")
    return first if is_told and isinstance(first, Global) else function


def _class_name(value: Any) -> str:
    if _array_of(value) is not None:
        return "numpy.ndarray"
    known = _class_global(value)
    if known is not None:
        return _full_name(known)
    if isinstance(value, DeadCall):
        return "unknown"
    if isinstance(value, Payload):
        return "builtins.bytes" if value.encoding in {"bytes", "string_escape"} else "builtins.str"
    plain = {DeadDict: "dict", DeadSet: "set", Global: "type", HugeInteger: "int"}
    return f"builtins.{plain.get(type(value)) or type(value).__name__}"


def _is_keras3_loader(call: DeadCall) -> bool:
    function, arguments = call.function, call.arguments
    return (
        isinstance(function, Global)
        and function.name == "getattr"
        and len(arguments) == 2
        and isinstance(arguments[0], Global)
        and arguments[0].module.startswith("keras.")
        and isinstance(arguments[1], str)
        and arguments[1] == _KERAS3_LOADER
    )


def _buffer_of(value: Any) -> Payload | None:
    """Return the bytes that a pickled `io.BytesIO` begins with: its state is (bytes, position, attributes)."""
    if not isinstance(value, DeadCall) or not isinstance(value.function, Global):
        return None
    if (value.function.module, value.function.name) != ("_io", "BytesIO"):
        return None
    content = value.state[0] if isinstance(value.state, tuple) and value.state else None
    return _bytes_of(content)


def _bytes_of(value: Any) -> Payload | None:
    """Return bytes as the protocols write them: as they are, or up to protocol 2 as a text to be encoded in latin-1."""
    if isinstance(value, Payload):
        return value
    if isinstance(value, DeadCall) and isinstance(value.function, Global) and value.arguments:
        is_encode = (value.function.module, value.function.name) == ("_codecs", "encode")
        return value.arguments[0] if is_encode and isinstance(value.arguments[0], Payload) else None
    return None


def _content_of(value: Any) -> Any:
    """Return the bytes of an array as a payload, a short text or bytes; None if they are not there."""
    if isinstance(value, Payload | str | list):
        return value
    if not isinstance(value, DeadCall) or not isinstance(value.function, Global):
        return None
    if (value.function.module, value.function.name) == ("_codecs", "encode") and value.arguments:
        return value.arguments[0] if isinstance(value.arguments[0], Payload | str) else None
    # Protocol 2 writes empty bytes as a call of bytes().
    return b"" if _full_name(value.function) == "builtins.bytes" and not value.arguments else None


def _array_of(value: Any) -> _Array | None:
    """Recognize the three ways in which numpy arrays are pickled: numpy's two, and joblib's."""
    if not isinstance(value, DeadCall) or not isinstance(value.function, Global):
        return None
    function, state = value.function, value.state
    core = function.module.rpartition(".")[0]
    if core in _NUMPY_CORE and function.name == "_reconstruct":
        if isinstance(state, tuple) and len(state) == _ARRAY_STATE_LENGTH:
            return _checked_array(state[2], state[1], state[3] is True, state[4])
    elif core in _NUMPY_CORE and function.name == "_frombuffer":
        if len(value.arguments) == 4:
            content, item_type, shape, order = value.arguments
            return _checked_array(item_type, shape, isinstance(order, str) and order == "F", content)
    elif value.array is not None:
        described = _attributes(value)
        order = described.get("order")
        content = value.array
        inner = _array_of(content) if isinstance(content, DeadCall) else None
        if inner is not None:
            return inner
        return _checked_array(
            described.get("dtype"), described.get("shape"), isinstance(order, str) and order == "F", content
        )
    return None


def _checked_array(item_type: Any, shape: Any, is_fortran: bool, content: Any) -> _Array | None:
    known = read_item_type(item_type)
    if known is None or count_items(shape) is None:
        return None
    sizes = shape if isinstance(shape, tuple) else (shape,)
    return _Array(known, sizes, is_fortran, _content_of(content))


def _scalar_of(value: DeadCall) -> _Array | None:
    """Recognize a number of numpy: scalar(dtype, bytes)."""
    function = value.function
    if not isinstance(function, Global) or function.name != "scalar" or len(value.arguments) != 2:
        return None
    if function.module.rpartition(".")[0] not in _NUMPY_CORE:
        return None
    return _checked_array(value.arguments[0], (), is_fortran=False, content=value.arguments[1])


def _decoded(raw: bytes, item_type: ItemType) -> list[Any] | None:
    """Return numbers, truth values or texts from their bytes; None for types that are not plain."""
    byte_order = ">" if item_type.byte_order == ">" else "<"
    if item_type.kind == "U" and item_type.n_bytes:
        return _decoded_texts(raw, item_type.n_bytes, byte_order)
    letter = _STRUCT_LETTERS.get((item_type.kind, item_type.n_bytes))
    if letter is None:
        return None
    values = struct.unpack(f"{byte_order}{len(raw) // item_type.n_bytes}{letter}", raw)
    return [_plain_float(value) for value in values] if item_type.kind == "f" else list(values)


def _decoded_texts(raw: bytes, n_bytes: int, byte_order: str) -> list[Any] | None:
    n_characters = n_bytes // 4
    codes = struct.unpack(f"{byte_order}{len(raw) // 4}I", raw)
    if any(code > 0x10FFFF or 0xD800 <= code <= 0xDFFF for code in codes):
        return None
    text = "".join(map(chr, codes))
    return [text[start : start + n_characters].rstrip("\0") for start in range(0, len(text), n_characters)]


def _places_in_columns(shape: tuple[int, ...]) -> Iterator[int]:
    """Go through an array row by row, telling where each value stands when it is stored column by column."""
    strides = list(accumulate(shape[:-1], mul, initial=1))
    for number in range(math.prod(shape)):
        place = 0
        for size, stride in zip(reversed(shape), reversed(strides), strict=True):
            number, index = divmod(number, size)  # noqa: PLW2901 - what is left of it for the dimensions before
            place += index * stride
        yield place


def _plain_leaf(value: Any) -> Any:
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, Payload):
        kind = "bytes" if value.encoding in {"bytes", "string_escape"} else "text"
        return {"kind": kind, "n_bytes": value.stop - value.start}
    if isinstance(value, Global):
        return {"kind": "global", "name": _full_name(value)}
    if isinstance(value, HugeInteger):
        return {"kind": "integer", "n_bytes": value.n_bytes}
    if isinstance(value, int) and abs(value) >= _LARGEST_JSON_INTEGER:
        return {"kind": "integer", "value": str(value)}
    return value


def _plain_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _states(value: Any) -> tuple[Any, ...]:
    """Return what sets the attributes of an object: a dict, or a dict and one of slots. Of a dict it is the dict."""
    state = value if isinstance(value, DeadDict) else value.state if isinstance(value, DeadCall) else None
    return state if isinstance(state, tuple) and len(state) == 2 else (state,)


def _has_too_many_attributes(value: Any) -> bool:
    return any(isinstance(part, DeadDict) and len(part.pairs) > 2 * MAX_ATTRIBUTES for part in _states(value))


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes that the state of an object sets, or of a dict its entries under texts.

    None of an object that has more than can be looked at.
    """
    if _has_too_many_attributes(value):
        return {}
    return {
        key: held
        for part in _states(value)
        if isinstance(part, DeadDict)
        for key, held in in_pairs(part.pairs)
        if isinstance(key, str)
    }


def _version(attributes: Mapping[str, Any]) -> str | None:
    """Return the version of scikit-learn that an estimator was pickled with, if it is one: it goes into files."""
    version = attributes.get("_sklearn_version")
    return version if isinstance(version, str) and _VERSION.fullmatch(version) else None


def _fits(claimed: str, class_name: str) -> bool:
    """Say whether a claim such as `MinMaxScaler` or `<class 'keras.Sequential'>` names the class that was read."""
    names = re.findall(r"\w+", claimed)
    return bool(names) and names[-1] == class_name.rpartition(".")[2]


# For each class: its type, what it learned as (param, attribute), and the settings that change the formula.
_SCALERS: Final[dict[str, tuple[str, dict[str, str], tuple[str, ...]]]] = {
    "StandardScaler": ("standard", {"mean": "mean_", "scale": "scale_", "var": "var_"}, ("with_mean", "with_std")),
    "MinMaxScaler": (
        "minmax",
        {"data_min": "data_min_", "data_max": "data_max_", "scale": "scale_", "min": "min_"},
        ("feature_range", "clip"),
    ),
    "RobustScaler": ("robust", {"center": "center_", "scale": "scale_"}, ("with_centering", "with_scaling")),
    "MaxAbsScaler": ("maxabs", {"scale": "scale_", "max_abs": "max_abs_"}, ("clip",)),
}


def _scaling(kind: str, params: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """Return the formula of a scaler, its inverse, and the params they need.

    Source:
        The `transform` methods of sklearn.preprocessing: a shift or a scale that is switched off is not applied, though
        its numbers may have been learned.
    """
    if kind == "minmax":
        formula = "x * scale + min"
        clip = params["clip"] is True
        low_high = "feature_range[0], feature_range[1]"
        return (f"clip({formula}, {low_high})" if clip else formula), "(x - min) / scale", ("scale", "min")
    if kind == "maxabs":
        return ("clip(x / scale, -1, 1)" if params["clip"] is True else "x / scale"), "x * scale", ("scale",)
    shift, shifts, scales = {
        "standard": ("mean", "with_mean", "with_std"),
        "robust": ("center", "with_centering", "with_scaling"),
    }[kind]
    is_shifted, is_scaled = params[shifts] is not False, params[scales] is not False
    if is_shifted and is_scaled:
        return f"(x - {shift}) / scale", f"x * scale + {shift}", (shift, "scale")
    if is_shifted:
        return f"x - {shift}", f"x + {shift}", (shift,)
    return ("x / scale", "x * scale", ("scale",)) if is_scaled else ("x", "x", ())
