"""The rules of legacy documents: each is read once, and becomes models, scalers, pictures and tables.

A document is streamed; `shared/legacy_documents.py` finds things in it. Every pickle is read without running it
(`shared/pickles.py`) and stored as it is. Names and ids follow from the run and the path, so a reading that was killed
and is repeated writes the same objects. All rows appear at once, after their objects were written and read back.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from shared.errors import (
    JsonError,
    LeaseLostError,
    ObjectExistsError,
    ObjectNotFoundError,
    RunNotFoundError,
    ServiceError,
    SessionBusyError,
)
from shared.keras_archives import inspect_archive
from shared.legacy_documents import (
    MAX_MODEL_BYTES,
    MAX_MODELS,
    Decoded,
    DocumentRefusedError,
    DocumentWalk,
    Found,
    FoundModel,
    FoundPicture,
    abridged,
)
from shared.legacy_tables import find_tables
from shared.pickle_machine import Budget, PickleRefusedError
from shared.pickles import KerasArchive, PickleDescription, list_globals, read_pickle
from shared.pictures import read_png
from shared.publication import FORMATS, file_entry
from shared.records.claims import ClaimOutcome
from shared.records.documents import DocumentStatus
from shared.records.objects import StoredObject, models_prefix, pictures_prefix
from shared.records.training import Run

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.keras_files import KerasFiles
    from shared.ports import DocumentParser, DocumentRepository, KerasConverter, ObjectStore

# Longer than save-model may run (functions/manifest.yaml): whose lease ran out is dead.
LEASE_S: Final = 600
# [scalers] of one document.
MAX_SCALERS: Final = 1_000
# [characters] of JSON that one model's parameters and import list may take in its row.
MAX_DESCRIPTION_CHARACTERS: Final = 16_384
# [imports] that a row lists.
MAX_IMPORTS: Final = 200
_LONGEST_NAME: Final = 128
_NAME_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]+")
# Of what a pickle holds.
_ROOT: Final = "$"
_FRAMEWORKS: Final = frozenset({"keras", "sklearn"})


class LegacyIntake:
    """Takes in the documents of the old backend."""

    def __init__(
        self,
        documents: DocumentRepository,
        store: ObjectStore,
        parser: DocumentParser,
        keras_files: KerasFiles,
        converter: KerasConverter,
    ) -> None:
        self._documents = documents
        self._store = store
        self._parser = parser
        self._keras_files = keras_files
        self._converter = converter

    def take_in(self, owner: str, session_uuid: str, runs: Sequence[Run]) -> None:
        """Read the session's unread documents. Repeatable, also when it was killed half-way.

        A document that cannot be read is marked refused, with the reason; so is each model in it, on its own.

        Raises:
            SessionBusyError: Another call reads one of them right now.
            LeaseLostError: Another call has taken over.
            UnavailableError: Storage or database; the document stays unread.
        """
        for run in runs:
            if run.document is not None and run.document.status is DocumentStatus.UNREAD:
                self._take_in(owner, session_uuid, run.id)

    def _take_in(self, owner: str, session_uuid: str, run_id: str) -> None:
        lease_token = str(uuid.uuid4())
        claim = self._documents.claim(owner, run_id, lease_token, LEASE_S)
        if claim.outcome is ClaimOutcome.BUSY:
            raise SessionBusyError(
                "A document of the session is being read; try again shortly.",
                retry_after_s=min(claim.busy_s or 1, 30),
                run_id=run_id,
            )
        if claim.outcome is ClaimOutcome.DONE:
            return
        reading = _Reading(self._store, self._keras_files, self._converter, session_uuid, run_id)
        try:
            pieces, where = self._open(owner, run_id, claim.object_name)
            found = reading.read(pieces, self._parser)
            self._documents.record(owner, run_id, lease_token, {**where, **reading.measured}, found)
        except RunNotFoundError:
            # The session is being deleted, and its objects may have been deleted before these were written.
            reading.forget()
            raise
        except DocumentRefusedError as error:
            reading.forget()
            detail = {"code": error.code, "message": error.message, "path": error.path, "byte": error.offset}
            self._documents.refuse(owner, run_id, lease_token, detail)
        except LeaseLostError:
            raise
        except ServiceError:
            self._documents.release(run_id, lease_token)
            raise
        except ObjectNotFoundError as error:
            # What was just written, or is just read, is gone: somebody deletes the session.
            self._documents.release(run_id, lease_token)
            raise SessionBusyError(retry_after_s=1, run_id=run_id) from error

    def _open(self, owner: str, run_id: str, object_name: str | None) -> tuple[Iterator[bytes], dict[str, Any]]:
        """Return the document's bytes, and where they lie."""
        if object_name is None:
            return self._documents.read(owner, run_id), {"object": None, "generation": None}
        try:
            stored = self._store.stat(object_name)
        except ObjectNotFoundError as error:
            raise DocumentRefusedError("object_missing", f"{object_name} is missing.", "$") from error
        pieces = self._store.read(stored.name, generation=stored.generation)
        return pieces, {"object": stored.name, "generation": stored.generation}


class _Reading:
    """One reading of one document.

    Attributes:
        measured: Size and sha256 of the document, once it was read to its end.
    """

    def __init__(
        self, store: ObjectStore, keras_files: KerasFiles, converter: KerasConverter, session_uuid: str, run_id: str
    ) -> None:
        self._store = store
        self._keras_files = keras_files
        self._converter = converter
        self._session_uuid = session_uuid
        self._run_id = run_id
        self._written: list[StoredObject] = []
        self._names: set[str] = set()
        self._models: list[dict[str, Any]] = []
        self._scalers: list[dict[str, Any]] = []
        self._pictures: list[dict[str, Any]] = []
        self._tables: list[dict[str, Any]] = []
        self._findings: list[dict[str, Any]] = []
        self.measured: dict[str, Any] = {}

    def read(self, pieces: Iterable[bytes], parser: DocumentParser) -> dict[str, Any]:
        """Read the document to its end; return what rows are made of.

        Raises:
            DocumentRefusedError: It is not JSON to its end, or asks for too much.
        """
        walk = DocumentWalk()
        try:
            for found in walk.run(parser.parse(self._measuring(pieces))):
                self._take(found)
        except JsonError as error:
            raise DocumentRefusedError("not_json", error.message, walk.path, error.offset) from error
        finally:
            walk.close()
        findings = [asdict(finding) for finding in walk.findings] + self._findings
        return {
            "models": self._models,
            "scalers": self._scalers,
            "charts": self._pictures,
            "tables": self._tables,
            "detail": {
                "models": len(self._models),
                "scalers": len(self._scalers),
                "pictures": len(self._pictures),
                "tables": len(self._tables),
                "findings": findings,
            },
        }

    def forget(self) -> None:
        """Delete what was written."""
        self._store.delete(self._written)

    def _measuring(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        digest, n_bytes = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(piece)
            n_bytes += len(piece)
            yield piece
        self.measured = {"bytes": n_bytes, "sha256": digest.hexdigest()}

    def _take(self, found: Found) -> None:
        if isinstance(found, FoundModel):
            try:
                self._model(found)
            finally:
                if found.decoded is not None:
                    found.decoded.close()
        elif isinstance(found, FoundPicture):
            try:
                self._picture(found)
            finally:
                found.decoded.close()
        else:
            self._tables.extend(find_tables(found.path, found.value))

    def _model(self, found: FoundModel) -> None:
        if found.decoded is None:
            status = "unsupported" if found.is_too_large else "refused"
            self._add_model(found.path, found.claimed_class, status=status, detail=found.fault)
            return
        budget = Budget(pickle_bytes=MAX_MODEL_BYTES)
        try:
            description = read_pickle(found.decoded.file, claimed_class=found.claimed_class, budget=budget)
        except PickleRefusedError as error:
            # A text that only looks like a pickle is a text.
            if not found.is_bare:
                published = {"findings": [_refusal(error)], "imports": _imports(list_globals(error))}
                detail = f"{error} ({error.code})"
                self._add_model(found.path, found.claimed_class, status="refused", detail=detail, published=published)
            return
        self._read_model(found, found.decoded, description)

    def _read_model(self, found: FoundModel, decoded: Decoded, description: PickleDescription) -> None:
        known = {"class": _text(description.class_name), "framework": description.framework}
        published = _published(description)
        status, detail = _verdict(description)
        files: list[dict[str, Any]] = []
        archives = [
            (archive, _Archive.of(archive, self._keras_files, self._converter))
            for archive in description.keras_archives
        ]
        own = next((kept for archive, kept in archives if archive.path == _ROOT), None)
        if own is not None:
            published["findings"] += own.findings
            if own.refusal is not None:
                status, detail = "refused", own.refusal
        if status != "refused":
            if own is not None:
                files.extend(self._keep_archive(found.path, own))
            files.append(self._keep_file(found.path, "pkl", decoded.file, decoded.n_bytes, decoded.sha256))
        name = self._add_model(
            found.path, found.claimed_class, status=status, detail=detail, files=files, published=published, **known
        )
        for archive, kept in archives:
            # A training's History holds the whole model, and a dict may hold several.
            if archive.path != _ROOT:
                self._add_inner_model(found.path, archive, kept)
        self._add_scalers(name, found.path, description)

    def _add_inner_model(self, path: str, archive: KerasArchive, kept: _Archive) -> None:
        inner = abridged(f"{path}{archive.path}")
        note = {"code": "inner_model", "message": f"It was found inside the pickle at {path}.", "where": archive.path}
        self._add_model(
            inner,
            None,
            status="ready" if kept.refusal is None else "refused",
            detail=kept.refusal,
            files=self._keep_archive(inner, kept) if kept.refusal is None else [],
            published={"findings": [note, *kept.findings]},
            framework="keras",
            **{"class": _text(archive.class_name)},
        )

    def _add_model(self, path: str, claimed_class: str | None, *, status: str, **fields: Any) -> str:
        if len(self._models) == MAX_MODELS:
            raise DocumentRefusedError("too_much", f"It has more than {MAX_MODELS} models.", path)
        name = self._name_of(path)
        defaults: dict[str, Any] = {"class": None, "framework": "other", "detail": None, "published": {}, "files": []}
        known = {"id": self._id_of(path), "path": path, "name": name, "claimed_class": _text(claimed_class)}
        self._models.append({**defaults, **known, "status": status, **fields})
        return name

    def _add_scalers(self, name: str, path: str, description: PickleDescription) -> None:
        for scaler in description.scalers:
            if len(self._scalers) == MAX_SCALERS:
                message = f"Only the first {MAX_SCALERS} scalers are listed."
                self._findings.append({"code": "too_many_scalers", "message": message, "path": path})
                return
            described = {key: value for key, value in asdict(scaler).items() if key != "path"}
            inner = scaler.path.removeprefix("$")
            self._scalers.append(
                {"name": f"{name}{inner}", "model": name, "path": path, "origin": "legacy", **described}
            )

    def _picture(self, found: FoundPicture) -> None:
        size = read_png(found.decoded.file)
        if size is None:
            message = "It begins as a PNG and is not a whole one."
            self._findings.append({"code": "picture_invalid", "message": message, "path": found.path})
            return
        object_name = f"{pictures_prefix(self._session_uuid)}{self._id_of(found.path)}.png"
        sha256, n_bytes = found.decoded.sha256, found.decoded.n_bytes
        stored = self._keep(object_name, found.decoded.file, sha256, "image/png")
        self._pictures.append(
            {
                "name": self._name_of(found.path),
                "kind": "picture",
                "title": found.path,
                "path": found.path,
                "origin": "legacy",
                "object": object_name,
                "generation": stored.generation,
                "media_type": "image/png",
                "width": size.width,
                "height": size.height,
                "bytes": n_bytes,
                "sha256": sha256,
            }
        )

    def _keep_archive(self, path: str, archive: _Archive) -> list[dict[str, Any]]:
        contents = {"keras": archive.content}
        if archive.h5 is not None:
            contents["h5"] = archive.h5
        return [
            self._keep_file(path, form, content, len(content), hashlib.sha256(content).hexdigest())
            | {"loads_code": archive.has_code}
            for form, content in contents.items()
        ]

    def _keep_file(self, path: str, form: str, content: bytes | BinaryIO, n_bytes: int, sha256: str) -> dict[str, Any]:
        object_name = f"{models_prefix(self._session_uuid)}{self._id_of(path)}.{form}"
        stored = self._keep(object_name, content, sha256, FORMATS[form].media_type)
        return file_entry(
            form, object_name, size_bytes=n_bytes, sha256=sha256, generation=stored.generation, crc32c=stored.crc32c
        )

    def _keep(self, name: str, content: bytes | BinaryIO, sha256: str, media_type: str) -> StoredObject:
        """Write an object, or find it as an earlier reading wrote it; either way, read it back."""
        if not isinstance(content, bytes):
            content.seek(0)
        try:
            stored = self._store.write(name, content, media_type)
        except ObjectExistsError:
            stored = self._store.stat(name)
        self._written.append(stored)
        digest = hashlib.sha256()
        for piece in self._store.read(name, generation=stored.generation):
            digest.update(piece)
        if digest.hexdigest() != sha256:
            raise DocumentRefusedError("object_differs", f"{name} is there already with other content.", "$")
        return stored

    def _id_of(self, path: str) -> str:
        return str(uuid.uuid5(uuid.UUID(self._run_id), path))

    def _name_of(self, path: str) -> str:
        """Return a name that files can have, unique in the document: `a.b[2].model` becomes `a.b.2.model`."""
        plain = ".".join(part for part in _NAME_CHARACTERS.split(path) if part) or "model"
        name = plain
        if len(name) > _LONGEST_NAME or not name[0].isalnum() or name in self._names:
            tail = plain[-(_LONGEST_NAME - 14) :].lstrip("._-")
            name = f"m{hashlib.sha256(path.encode()).hexdigest()[:12]}.{tail}".rstrip(".")
        self._names.add(name)
        return name


@dataclass(frozen=True)
class _Archive:
    """A `.keras` archive that was cut out of a pickle and looked at.

    Attributes:
        refusal: Why it is not handed out.
        has_code: It carries code of its writer.
        h5: The same in the old form, where that can be had at once.
    """

    content: bytes
    findings: list[dict[str, Any]]
    refusal: str | None
    has_code: bool
    h5: bytes | None = None

    @classmethod
    def of(cls, archive: KerasArchive, keras_files: KerasFiles, converter: KerasConverter) -> Self:
        try:
            content = archive.content()
        except PickleRefusedError as error:
            return cls(b"", [_refusal(error)], f"{error} ({error.code})", has_code=False)
        report = inspect_archive(io.BytesIO(content))
        h5 = converter.to_h5(content) if report.refusal is None else None
        if h5 is None:
            # Of what became an .h5, the weights were looked at.
            report = keras_files.archive(io.BytesIO(content))
        findings = [
            {"code": one.code, "message": one.message, "where": f"{archive.path}: {one.where}"}
            for one in report.findings
        ]
        refusal = report.refusal
        return cls(content, findings, refusal.reason if refusal else None, report.has_code, h5)


def _verdict(description: PickleDescription) -> tuple[str, str | None]:
    """Say what becomes of a pickle that could be read."""
    is_known = description.framework in _FRAMEWORKS
    if description.framework == "sklearn":
        # A name may begin with sklearn and reach through it to something else.
        is_known = any(estimator.path == _ROOT for estimator in description.estimators)
    if not is_known:
        return "unsupported", f"It is no model of scikit-learn or Keras but {description.class_name}."
    has_archive = any(archive.path == _ROOT for archive in description.keras_archives)
    if description.framework == "keras" and not has_archive:
        what = next((finding.message for finding in description.findings if finding.code.startswith("keras")), None)
        return "unsupported", what or f"It is no model of Keras but {description.class_name}."
    return "ready", None


def _published(description: PickleDescription) -> dict[str, Any]:
    """Return what lists show of a pickle, as far as it fits into a row."""
    findings = [asdict(finding) for finding in description.findings]
    params: Mapping[str, Any] = description.parameters
    if len(json.dumps(params)) > MAX_DESCRIPTION_CHARACTERS:
        params = {}
        message = "It has more parameters than a list can show."
        findings.append({"code": "description_cut", "message": message, "where": _ROOT})
    version = description.sklearn_version
    return {
        "params": params,
        "environment": {"scikit-learn": version} if version else {},
        "requirements": list(description.requirements),
        "imports": _imports(description.globals),
        "findings": findings,
    }


def _imports(named: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"name": f"{one.module}.{one.name}", "grade": one.grade.value} for one in named[:MAX_IMPORTS]]


def _refusal(error: PickleRefusedError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "where": f"byte {error.offset}"}


def _text(text: str | None) -> str | None:
    # NUL is no character for Postgres, half a surrogate pair none for JSON.
    return None if text is None else text.encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")
