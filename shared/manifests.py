"""The rules of manifests: taking in what a trainer published, and checking its files against what it says.

A manifest is what docs/results.md describes. No model is opened: sizes, checksums and first bytes are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from shared.errors import ManifestInvalidError, ObjectNotFoundError
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

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore, TrainingRepository

# Of a key that an answer names.
_LONGEST_KEY = 100


class Look(Protocol):
    """Looks into a file that a stranger published (shared/published_archives.py)."""

    def __call__(self, store: ObjectStore, file: dict[str, Any], /) -> str | None:
        """Return why it must not be handed out, or None; note in `file` whether opening it can run code."""


class ManifestIntake:
    """Takes in what trainers published: ours, whose runs are known, and those of others.

    Attributes:
        look: Looks into the files of others, once they are what their manifest says.
    """

    def __init__(self, runs: TrainingRepository, store: ObjectStore, look: Look | None = None) -> None:
        self._runs = runs
        self._store = store
        self._look = look

    def take_in(self, owner: str, session_uuid: str, runs: Sequence[Run]) -> None:
        """Check the pending models of known runs, and record manifests that no run knows, first to last. Repeatable.

        Args:
            runs: All that are known of the session.

        Raises:
            ManifestInvalidError: A manifest of another trainer does not fit its files; it is not taken in.
        """
        for run in runs:
            if run.status in {RunStatus.COMPLETED, RunStatus.CANCELLED} and run.manifest is not None:
                self.save_run(run)
        known = {manifest_name(session_uuid, run.id) for run in runs}
        for stored in self._store.list(results_prefix(session_uuid)):
            is_manifest = stored.name.endswith("/manifest.json") and stored.name.count("/") == 3
            if is_manifest and stored.name not in known:
                self._take_in(owner, session_uuid, stored)

    def save_run(self, run: Run) -> Run:
        """Read the files of a run's pending models; each becomes ready, or refused with the reason.

        The run must have its manifest: without it, nothing that a trainer wrote is a result.
        """
        prefix = run_prefix(run.session_uuid, run.id)
        verdicts = {
            model.id: next((fault for file in model.files if (fault := self._fault(prefix, file))), None)
            for model in run.models
            if model.status is ModelStatus.PENDING
        }
        return self._runs.mark(run.id, verdicts) if verdicts else run

    def _take_in(self, owner: str, session_uuid: str, stored: StoredObject) -> None:
        document, content = self._read_manifest(session_uuid, stored)
        prefix = run_prefix(session_uuid, document["run_id"])
        for model in document["models"]:
            for file in model["files"]:
                fault = self._fault(prefix, _model_file(file))
                if not fault and self._look is not None:
                    fault = self._look(self._store, file)
                if fault:
                    raise ManifestInvalidError(fault, manifest=stored.name, object=file["object"])
        reference = {
            "object": stored.name,
            "generation": stored.generation,
            "bytes": stored.size_bytes,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        # What is recorded was checked a moment ago, so nothing is left to find out about it.
        run = self._runs.record(owner, session_uuid, reference, document)
        pending = {model.id: None for model in run.models if model.status is ModelStatus.PENDING}
        if pending:
            self._runs.mark(run.id, pending)

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

    def _fault(self, prefix: str, file: ModelFile) -> str | None:
        """Read a file and return what is wrong with it, or None."""
        if not file.object_name.startswith(prefix) or "/../" in file.object_name:
            return f"{file.object_name} does not lie below {prefix}"
        magic = FORMATS[file.format].begins
        sha256 = hashlib.sha256()
        n_bytes = 0
        head = b""
        try:
            for piece in self._store.read(file.object_name, generation=file.generation):
                sha256.update(piece)
                n_bytes += len(piece)
                head = head or piece[: len(magic)]
        except ObjectNotFoundError:
            return f"{file.object_name} is missing"
        if n_bytes != file.size_bytes:
            return f"{file.object_name} has {n_bytes} bytes instead of {file.size_bytes}"
        if sha256.hexdigest() != file.sha256:
            return f"{file.object_name} has another sha256 than its manifest says"
        if not head.startswith(magic):
            return f"{file.object_name} is no {file.format} file"
        return None


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
