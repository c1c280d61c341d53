"""The rules of manifests: taking in what a trainer published, and checking its files against what it says.

A manifest is what docs/results.md describes. No model is loaded and no picture is decoded: sizes, checksums and first
bytes are read, and Keras files are looked into, because loading one can do harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import ManifestInvalidError, ObjectNotFoundError
from shared.pictures import KIND as PICTURE
from shared.pictures import read_png
from shared.publication import (
    FORMATS,
    LARGEST_MANIFEST_BYTES,
    FormError,
    check_manifest,
    manifest_name,
    results_prefix,
    run_prefix,
)
from shared.records.objects import StoredObject
from shared.records.training import ModelFile, ModelStatus, Run, RunStatus
from shared.stored_files import stored_file

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.keras_archives import ArchiveReport
    from shared.keras_files import KerasFiles
    from shared.ports import ObjectStore, TrainingRepository

# Of a key that an answer names.
_LONGEST_KEY = 100
# Every format is known by fewer.
_HEAD_BYTES = 16


class ManifestIntake:
    """Takes in what trainers published: ours, whose runs are known, and those of others.

    Args:
        keras_files: Looks into Keras files; None where they are our own trainer's.
    """

    def __init__(self, runs: TrainingRepository, store: ObjectStore, keras_files: KerasFiles | None = None) -> None:
        self._runs = runs
        self._store = store
        self._keras_files = keras_files

    def take_in(self, owner: str, session_uuid: str, runs: Sequence[Run]) -> None:
        """Check the pending models of known runs, and record manifests that no run knows, first to last. Repeatable.

        Args:
            runs: All that are known of the session.

        Raises:
            ManifestInvalidError: A manifest of another trainer does not fit its files; it is not taken in. The others
                are, and of several that do not fit the first is told.
        """
        for run in runs:
            if run.status in {RunStatus.COMPLETED, RunStatus.CANCELLED} and run.manifest is not None:
                self.save_run(run)
        known = {manifest_name(session_uuid, run.id) for run in runs}
        invalid: ManifestInvalidError | None = None
        for stored in self._store.list(results_prefix(session_uuid)):
            is_manifest = stored.name.endswith("/manifest.json") and stored.name.count("/") == 3
            if is_manifest and stored.name not in known:
                try:
                    self._take_in(owner, session_uuid, stored)
                except ManifestInvalidError as error:
                    # It stays where it is until the session is deleted, and must not stand before the others.
                    invalid = invalid or error
        if invalid is not None:
            raise invalid

    def save_run(self, run: Run) -> Run:
        """Read the files of a run's pending models; each becomes ready, or refused with the reason.

        The run must have its manifest: without it, nothing that a trainer wrote is a result.
        """
        prefix = run_prefix(run.session_uuid, run.id)
        verdicts = {
            model.id: next((reason for file in model.files if (reason := self._verdict(prefix, file))), None)
            for model in run.models
            if model.status is ModelStatus.PENDING
        }
        return self._runs.mark(run.id, verdicts) if verdicts else run

    def _verdict(self, prefix: str, file: ModelFile) -> str | None:
        """Return why a file is not handed out, or None."""
        fault = self._fault(prefix, file)
        if fault is not None:
            return fault
        report = self._look(file)
        return f"{file.object_name}: {report.refusal.reason}" if report and report.refusal else None

    def _take_in(self, owner: str, session_uuid: str, stored: StoredObject) -> None:
        document, content = self._read_manifest(session_uuid, stored)
        self._check_objects(document, run_prefix(session_uuid, document["run_id"]), stored.name)
        refusals = self._look_into(document["models"])
        reference = {
            "object": stored.name,
            "generation": stored.generation,
            "bytes": stored.size_bytes,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        # What is recorded was checked a moment ago, so nothing is left to find out about it.
        run = self._runs.record(owner, session_uuid, reference, document)
        verdicts = {model.id: refusals.get(model.name) for model in run.models if model.status is ModelStatus.PENDING}
        if verdicts:
            self._runs.mark(run.id, verdicts)

    def _check_objects(self, document: Mapping[str, Any], prefix: str, manifest: str) -> None:
        """Read every object that a manifest names; note their generations, and what pictures are.

        Raises:
            ManifestInvalidError: One is not there, not this run's, or not what the manifest says.
        """
        for model in document["models"]:
            for file in model["files"]:
                if file.get("generation") is None and _lies_below(prefix, file["object"]):
                    # What is handed out is what is read now, whatever takes its name later.
                    with suppress(ObjectNotFoundError):
                        file["generation"] = self._store.stat(file["object"]).generation
                fault = self._fault(prefix, _model_file(file))
                if fault:
                    raise ManifestInvalidError(fault, manifest=manifest, object=file["object"])
        for chart in document["charts"]:
            if chart.get("kind") == PICTURE:
                chart.update(self._picture(prefix, chart, manifest))

    def _look_into(self, models: Sequence[dict[str, Any]]) -> dict[str, str]:
        """Note of Keras files what is in them; return why models are not handed out, by name."""
        refusals: dict[str, str] = {}
        for model in models:
            for file in model["files"]:
                report = self._look(_model_file(file))
                if report is not None:
                    file["loads_code"] = report.has_code
                    if report.refusal is not None:
                        refusals.setdefault(model["name"], f"{file['object']}: {report.refusal.reason}")
                    _add_findings(model, file["object"], report)
        return refusals

    def _read_manifest(self, session_uuid: str, stored: StoredObject) -> tuple[dict[str, Any], bytes]:
        def refuse(text: str) -> ManifestInvalidError:
            return ManifestInvalidError(f"{stored.name}: {text}", manifest=stored.name)

        if stored.size_bytes > LARGEST_MANIFEST_BYTES:
            raise refuse("a manifest may have 16 MiB")
        content = b"".join(self._store.read(stored.name, generation=stored.generation))
        try:
            document = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_without_repetition)
            check_manifest(document, session_uuid, stored.name)
        except FormError as error:
            raise refuse(str(error)) from error
        except RecursionError as error:
            raise refuse("is not JSON that can be read: it is nested too deep") from error
        except ValueError as error:
            # Of the decoders: what they expected, and where.
            raise refuse(f"is not JSON: {error}") from error
        for model in document["models"]:
            model["files"] = model.get("files", [])
            for file in model["files"]:
                # Whatever its writer says: opening a pickle runs code.
                file["loads_code"] = file["format"] == "pkl"
        # The fingerprint of another trainer's data is in its manifest; the row keeps that of our own uploads.
        return {"request": {}, **document, "data_set": []}, content

    def _look(self, file: ModelFile) -> ArchiveReport | None:
        """Look into a file that is what its manifest says; None where there is nothing to look into."""
        if self._keras_files is None or file.format not in {"keras", "h5"}:
            return None
        opened = stored_file(self._store, self._store.stat(file.object_name))
        if file.format == "h5":
            return self._keras_files.h5(opened)
        return self._keras_files.archive(opened, may_have_assets=True)

    def _fault(self, prefix: str, file: ModelFile) -> str | None:
        """Read a file and return what is wrong with it, or None."""
        name = file.object_name
        if not _lies_below(prefix, name):
            return f"{name} does not lie below {prefix}"
        try:
            found = self._measure(name, file.generation)
        except ObjectNotFoundError:
            return f"{name} is missing"
        fault = _difference(name, found, file.size_bytes, file.sha256)
        if fault is None and not found.head.startswith(FORMATS[file.format].begins):
            return f"{name} is no {file.format} file"
        return fault

    def _picture(self, prefix: str, chart: Mapping[str, Any], manifest: str) -> dict[str, Any]:
        """Read the picture that a chart names; return what it was found to be.

        Raises:
            ManifestInvalidError: It is not there, not this run's, not what the manifest says, or no picture.
        """
        name = chart.get("object")
        if not isinstance(name, str):
            raise ManifestInvalidError(f"{manifest}: object of a picture must be an object name", manifest=manifest)

        def refuse(text: str) -> ManifestInvalidError:
            return ManifestInvalidError(f"{name} {text}", manifest=manifest, object=name)

        if not _lies_below(prefix, name):
            raise refuse(f"does not lie below {prefix}")
        try:
            stored = self._store.stat(name)
            found = self._measure(name, stored.generation)
            size = read_png(stored_file(self._store, stored))
        except ObjectNotFoundError as error:
            raise refuse("is missing") from error
        fault = _difference(name, found, chart.get("bytes", found.n_bytes), chart.get("sha256", found.sha256))
        if fault is not None:
            raise ManifestInvalidError(fault, manifest=manifest, object=name)
        if size is None:
            raise refuse("is no PNG picture")
        return {
            "generation": stored.generation,
            "bytes": found.n_bytes,
            "sha256": found.sha256,
            "media_type": "image/png",
            "width": size.width,
            "height": size.height,
        }

    def _measure(self, name: str, generation: int | None) -> _Measured:
        """Read an object to its end."""
        sha256, n_bytes, head = hashlib.sha256(), 0, b""
        for piece in self._store.read(name, generation=generation):
            sha256.update(piece)
            n_bytes += len(piece)
            head = head or piece[:_HEAD_BYTES]
        return _Measured(n_bytes, sha256.hexdigest(), head)


@dataclass(frozen=True)
class _Measured:
    """What an object was found to be; `head` is how it begins."""

    n_bytes: int
    sha256: str
    head: bytes


def _lies_below(prefix: str, name: str) -> bool:
    return name.startswith(prefix) and "/../" not in name


def _difference(name: str, found: _Measured, n_bytes: object, sha256: object) -> str | None:
    """Return in what an object differs from what its manifest says, or None."""
    if found.n_bytes != n_bytes:
        return f"{name} has {found.n_bytes} bytes instead of {n_bytes}"
    return f"{name} has another sha256 than its manifest says" if found.sha256 != sha256 else None


def _add_findings(model: dict[str, Any], object_name: str, report: ArchiveReport) -> None:
    """Add what was found in a file to what the model's trainer tells of it."""
    told = model.get("findings")
    found = [
        {"code": one.code, "message": one.message, "where": f"{object_name.rpartition('/')[2]}: {one.where}"}
        for one in report.findings
    ]
    if found:
        model["findings"] = [*(told if isinstance(told, list) else []), *found]


def _refuse_constant(name: str) -> None:
    raise FormError(f"has {name}, which JSON has not")


def _without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values of one key some readers take the first, others the last: they would see different manifests."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise FormError(f"has {key[:_LONGEST_KEY]!r} twice")
        found[key] = value
    return found


def _model_file(file: Mapping[str, Any]) -> ModelFile:
    return ModelFile(
        format=file["format"],
        object_name=file["object"],
        generation=file.get("generation"),
        size_bytes=file["bytes"],
        sha256=file["sha256"],
        media_type=file["media_type"],
        loads_code=file["loads_code"],
    )
