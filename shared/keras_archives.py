"""Looks at a `.keras` archive of Keras 3 without Keras: what it is, and what loading it would do besides.

A `.keras` file is a zip of `metadata.json`, `config.json` and `model.weights.h5`. The first two are read here, and the
last is found for those who read HDF5 (shared/keras_files.py).

Source:
    research/models.md, sections 2 and 4.2: the known ways in which loading such a file did harm.
"""

import json
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final, Self

# [bytes] of config.json and metadata.json; a network of a thousand layers has 1 MB.
MAX_CONFIG_BYTES: Final = 16 << 20
# Keras' own limit (keras/src/saving/saving_lib.py).
MAX_EXPANSION: Final = 100
# [values] of config.json.
MAX_NODES: Final = 1_000_000
# [layers] that are listed, and [findings].
MAX_LAYERS: Final = 1_000
MAX_FINDINGS: Final = 100
# [bytes] of weights that are packed, unpacked: they must be unpacked to be looked at, and a function's temporary files
# lie in its memory. Keras does not pack them, so they may have any size.
MAX_PACKED_WEIGHTS_BYTES: Final = 256 << 20

WEIGHTS_NAME: Final = "model.weights.h5"
_MEMBERS: Final = ("config.json", "metadata.json", WEIGHTS_NAME)
_LOCAL_HEADER: Final = struct.Struct("<26xHH")
_PIECE_BYTES: Final = 1 << 20
_BEGINS: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 0x1
_MODULE = re.compile(r"keras(?:\..*)?|builtins")
# A place outside the file: a URL, an absolute path, or one that goes up.
_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/|[A-Za-z]:[\\/]|\\\\|(?:.*[\\/])?\.\.[\\/]")
# Of parts that lead nowhere else.
_ASSET = re.compile(r"assets/(?:(?!\.\.?/)[^/\\]+/)*(?!\.\.?$)[^/\\]*")
_LONGEST_TEXT: Final = 200
_LONGEST_PLACE: Final = 300
# What zipfile and zlib raise for contents that are broken, and NotImplementedError for methods that are not known.
_BROKEN: Final = (
    zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError, RuntimeError, zlib.error, struct.error
)  # fmt: skip


@dataclass(frozen=True)
class ArchiveFinding:
    """Something that people should know before they load the file.

    Attributes:
        code: lambda, custom_object, outside_reference, saved_model, or why the archive is none: not_a_zip, members,
            too_large, not_json. Of HDF5: link, external_dataset, virtual_dataset, filter, members, too_large,
            too_expensive, crashed, not_hdf5.
        message: One sentence.
        where: A path into config.json such as `config.layers[2]`, a member of the archive, or a path in HDF5.
        is_refused: The file must not be handed out or loaded.
    """

    code: str
    message: str
    where: str
    is_refused: bool

    def __post_init__(self) -> None:
        # They are kept in rows: NUL is no character for Postgres, half a surrogate pair none for JSON.
        for name in ("code", "message", "where"):
            text = getattr(self, name).encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")
            object.__setattr__(self, name, text)

    def inside(self, member: str) -> Self:
        """Return the same of a member of an archive."""
        return replace(self, where=f"{member}:{self.where}"[:_LONGEST_PLACE])

    @property
    def reason(self) -> str:
        """What is where, in one line."""
        return f"{self.where}: {self.message} ({self.code})"


@dataclass(frozen=True)
class ArchiveReport:
    """What a `.keras` archive is.

    Attributes:
        class_name: Of the model, as config.json says.
        keras_version: That wrote it.
        layers: Classes of the layers, in order.
        findings: In the order in which they were met.
    """

    class_name: str | None
    keras_version: str | None
    layers: tuple[str, ...]
    findings: tuple[ArchiveFinding, ...]

    @property
    def refusal(self) -> ArchiveFinding | None:
        """The first reason why the file must not be handed out."""
        return next((finding for finding in self.findings if finding.is_refused), None)

    @property
    def has_code(self) -> bool:
        """Whether it carries code of its writer, which Keras runs when it is told to trust the file."""
        return any(finding.code == "lambda" for finding in self.findings)


class _RefusedError(Exception):
    def __init__(self, code: str, message: str, where: str) -> None:
        self.finding = ArchiveFinding(code, message, where, is_refused=True)
        super().__init__(message)


def inspect_archive(file: BinaryIO, *, may_have_assets: bool = False) -> ArchiveReport:
    """Report on an archive; whatever the bytes, it raises nothing.

    Args:
        may_have_assets: Files below `assets/`, such as the vocabulary of a layer, are no reason to refuse it.
    """
    try:
        config, metadata = _read(file, may_have_assets=may_have_assets)
    except _RefusedError as error:
        return ArchiveReport(None, None, (), (error.finding,))
    return replace(inspect_config(config), keras_version=_text(metadata, "keras_version"))


def inspect_config(config: Mapping[str, Any]) -> ArchiveReport:
    """Report on a configuration alone, in the spelling of `.keras` or of `.h5`."""
    try:
        findings, layers = _walk(config)
    except _RefusedError as error:
        return ArchiveReport(None, None, (), (error.finding,))
    return ArchiveReport(_text(config, "class_name"), None, layers, findings)


@contextmanager
def weights(file: BinaryIO) -> Iterator[tuple[BinaryIO, int, int] | ArchiveFinding]:
    """Find the weights in an archive that was inspected: in which file, from which byte, how many.

    Yields:
        Why they cannot be had, where that is so.
    """
    with tempfile.TemporaryFile() as unpacked:
        found: tuple[BinaryIO, int, int] | ArchiveFinding
        try:
            found = _find_weights(file, unpacked)
        except _RefusedError as error:
            found = error.finding
        yield found


def _find_weights(file: BinaryIO, unpacked: BinaryIO) -> tuple[BinaryIO, int, int]:
    try:
        with zipfile.ZipFile(file) as archive:
            member = archive.getinfo(WEIGHTS_NAME)
            # Opening it compares its two headers.
            with archive.open(member) as source:
                if member.compress_type == zipfile.ZIP_STORED:
                    if member.compress_size != member.file_size:
                        raise _RefusedError("members", "It has two sizes and is not packed.", "/")
                    file.seek(member.header_offset)
                    start = member.header_offset + _LOCAL_HEADER.size
                    return file, start + sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))), member.file_size
                if member.file_size > MAX_PACKED_WEIGHTS_BYTES:
                    limit = f"{MAX_PACKED_WEIGHTS_BYTES >> 20} MiB"
                    raise _RefusedError("too_large", f"It is packed, and has more than {limit} unpacked.", "/")
                while piece := source.read(_PIECE_BYTES):
                    unpacked.write(piece)
        return unpacked, 0, unpacked.tell()
    except _BROKEN as error:
        raise _RefusedError("not_a_zip", f"It cannot be unpacked: {error}"[:_LONGEST_TEXT], "/") from error


def _read(file: BinaryIO, *, may_have_assets: bool) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return config.json and metadata.json of an archive whose members are in order."""
    file.seek(0)
    if file.read(len(_BEGINS)) != _BEGINS:
        raise _RefusedError("not_a_zip", "It does not begin as a zip archive.", "$")
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if may_have_assets:
                members = [one for one in members if not _ASSET.fullmatch(one.filename)]
            _check_members(members)
            return _json(archive, "config.json"), _json(archive, "metadata.json")
    except _BROKEN as error:
        raise _RefusedError(
            "not_a_zip", f"It is no zip archive that can be read: {error}"[:_LONGEST_TEXT], "$"
        ) from error


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    names = sorted(member.filename for member in members)
    if names != sorted(_MEMBERS):
        shown = ", ".join(repr(name) for name in names[:5])[:_LONGEST_TEXT]
        raise _RefusedError("members", f"It must hold {', '.join(_MEMBERS)}, each once, and holds {shown}.", "$")
    for member in members:
        if member.flag_bits & _ENCRYPTED or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise _RefusedError("members", "It is encrypted, or packed in a way Keras does not use.", member.filename)
        is_json = member.filename.endswith(".json")
        if member.file_size > MAX_EXPANSION * max(member.compress_size, 1) or (
            is_json and member.file_size > MAX_CONFIG_BYTES
        ):
            raise _RefusedError("too_large", f"It claims {member.file_size} bytes unpacked.", member.filename)


def _json(archive: zipfile.ZipFile, name: str) -> Mapping[str, Any]:
    # What a member really holds may be more than it claims.
    with archive.open(name) as member:
        content = member.read(MAX_CONFIG_BYTES + 1)
    if len(content) > MAX_CONFIG_BYTES:
        raise _RefusedError("too_large", "It has more than it claims.", name)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _RefusedError("not_json", "It is no JSON that can be read.", name) from error
    if not isinstance(document, dict):
        raise _RefusedError("not_json", "It is no object.", name)
    return document


def _walk(config: Mapping[str, Any]) -> tuple[tuple[ArchiveFinding, ...], tuple[str, ...]]:
    """Go through all of config.json, however deep, and return findings and layers."""
    findings: list[ArchiveFinding] = []
    layers: list[str] = []
    waiting: list[tuple[str, str, Any]] = [("", "", config)]
    n_nodes = 0
    while waiting:
        path, key, value = waiting.pop()
        n_nodes += 1
        if n_nodes > MAX_NODES:
            raise _RefusedError("too_large", f"It has more than {MAX_NODES} values.", "config.json")
        if isinstance(value, dict):
            findings.extend(_of_object(path or "$", value))
            name = _text(value, "class_name")
            if name is not None and ".layers[" in path and path.endswith("]"):
                layers.append(name)
            waiting.extend(reversed([(_inside(path, f".{inner}"), inner, one) for inner, one in value.items()]))
        elif isinstance(value, list):
            waiting.extend(reversed([(_inside(path, f"[{at}]"), "", one) for at, one in enumerate(value)]))
        elif isinstance(value, str) and _PLACE.match(value):
            message = f"It names a place outside the file: {value!r}"[:_LONGEST_TEXT]
            findings.append(ArchiveFinding("outside_reference", message, path, is_refused=True))
        elif isinstance(value, str) and key == "vocabulary":
            message = f"Its vocabulary would be read from a file: {value!r}"[:_LONGEST_TEXT]
            findings.append(ArchiveFinding("outside_reference", message, path, is_refused=True))
    # What is refused must not be pushed out by what is only told.
    findings.sort(key=lambda finding: not finding.is_refused)
    return tuple(findings[:MAX_FINDINGS]), tuple(layers[:MAX_LAYERS])


def _of_object(path: str, value: Mapping[str, Any]) -> Iterator[ArchiveFinding]:
    name, module, registered = (_text(value, key) for key in ("class_name", "module", "registered_name"))
    if name in {"Lambda", "__lambda__"}:
        yield ArchiveFinding("lambda", "It carries code of its writer as bytecode.", path, is_refused=False)
    elif name == "TFSMLayer":
        yield ArchiveFinding("saved_model", "It would load a program from a place outside.", path, is_refused=True)
    elif name is not None and (
        (module is not None and not _MODULE.fullmatch(module)) or (registered is not None and ">" in registered)
    ):
        shown = f"{module or ''}.{name}".lstrip(".")[:_LONGEST_TEXT]
        yield ArchiveFinding(
            "custom_object", f"Loading it needs {shown}, which Keras does not have.", path, is_refused=False
        )


def _inside(path: str, step: str) -> str:
    # Keys may be long, and each of many values has a path.
    return f"{path}{step[:_LONGEST_TEXT]}".lstrip(".")[-_LONGEST_TEXT:]


def _text(value: Mapping[str, Any], key: str) -> str | None:
    text = value.get(key)
    return text if isinstance(text, str) else None
