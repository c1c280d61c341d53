"""The rules of conversions: the old .h5 form of a Keras network that only Keras can write, made when it is asked for.

Keras is in the bundle of one function, which has no role on any data: it gets signed addresses of what it reads and
writes, and leaves a report beside the file. What it wrote lies apart until it was read back here, because that function
opens files of strangers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from shared.errors import ModelNotFoundError, ObjectExistsError, ObjectNotFoundError
from shared.publication import FORMATS, file_entry
from shared.records.objects import StoredObject, conversions_prefix, models_prefix
from shared.records.training import Conversion, ConversionStatus, ModelFile, TrainedModel

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ConversionRepository, JobQueue, ObjectStore, UrlSigner

# Longer than a conversion and the wait for an instance take, and shorter than addresses live.
PATIENCE_S: Final = 900
# When to ask again [s]: loading TensorFlow alone takes that long.
RETRY_AFTER_S: Final = 5
# [bytes] of the archive; loading it takes several times as much of the converter's memory.
MAX_ARCHIVE_BYTES: Final = 256 << 20
# [bytes] of what may come of it.
MAX_H5_BYTES: Final = 512 << 20
MAX_REPORT_BYTES: Final = 64 << 10
_LONGEST_TEXT: Final = 500
_H5: Final = "h5"
_ENDS: Final = {"refused", "unsupported", "failed"}


class ConversionService:
    """Asks for conversions and takes in what came of them."""

    def __init__(
        self, conversions: ConversionRepository, store: ObjectStore, signer: UrlSigner, jobs: JobQueue
    ) -> None:
        self._conversions = conversions
        self._store = store
        self._signer = signer
        self._jobs = jobs

    def to_h5(self, owner: str, model: TrainedModel) -> ModelFile | Conversion:
        """Return a model's .h5 file, or how far it is on its way; the first call asks for it. Repeatable.

        Args:
            model: A ready one with a .keras file and no .h5 file.

        Raises:
            ModelNotFoundError: Its session is being deleted.
            QueueUnavailableError: The conversion could not be queued; the next call tries again.
        """
        source = _archive_of(model)
        if source is None or source.size_bytes > MAX_ARCHIVE_BYTES:
            detail = f"Files of more than {MAX_ARCHIVE_BYTES >> 20} MiB are not converted."
            return Conversion(ConversionStatus.UNSUPPORTED, 0, detail)
        conversion = model.conversion
        if conversion is not None and conversion.status is not ConversionStatus.PENDING:
            return conversion
        if conversion is not None:
            taken_in = self._take_in(owner, model, conversion)
            if not isinstance(taken_in, Conversion) or taken_in.status is not ConversionStatus.PENDING:
                return taken_in
        conversion = self._conversions.begin(owner, model.id, PATIENCE_S)
        if conversion.status is ConversionStatus.PENDING:
            # The name is the attempt's, so asking again queues nothing twice, and what was lost once.
            self._jobs.enqueue(f"{model.id}-h5-{conversion.attempt}", self._job(model, source, conversion.attempt))
        return conversion

    def take_in(self, owner: str, models: Iterable[TrainedModel]) -> bool:
        """Take in what came of the conversions of one session's models; say whether there was anything new."""
        pending = [
            (model, model.conversion)
            for model in models
            if model.conversion is not None and model.conversion.status is ConversionStatus.PENDING
        ]
        if not pending:
            return False
        reports = {stored.name for stored in self._store.list(conversions_prefix(pending[0][0].session_uuid))}
        done = [
            self._take_in(owner, model, conversion)
            for model, conversion in pending
            if _report_name(model, conversion.attempt) in reports
        ]
        return bool(done)

    def _job(self, model: TrainedModel, source: ModelFile, attempt: int) -> Mapping[str, Any]:
        once = {"x-goog-if-generation-match": "0"}
        target = self._signer.sign(
            "PUT",
            _target_name(model, attempt),
            headers={
                "Content-Type": FORMATS[_H5].media_type,
                "x-goog-content-length-range": f"1,{MAX_H5_BYTES}",
                **once,
            },
        )
        report = self._signer.sign(
            "PUT",
            _report_name(model, attempt),
            headers={
                "Content-Type": "application/json",
                "x-goog-content-length-range": f"1,{MAX_REPORT_BYTES}",
                **once,
            },
        )
        return {
            "source": {"url": self._signer.sign("GET", source.object_name).url, "bytes": source.size_bytes},
            "target": {"url": target.url, "headers": dict(target.headers), "bytes": MAX_H5_BYTES},
            "report": {"url": report.url, "headers": dict(report.headers)},
        }

    def _take_in(self, owner: str, model: TrainedModel, conversion: Conversion) -> ModelFile | Conversion:
        """Read an attempt's report, if it is there; record how it ended, and its file."""
        try:
            report = self._store.stat(_report_name(model, conversion.attempt))
            content = b"".join(self._store.read(report.name, generation=report.generation))
            ended = _read_report(content, conversion.attempt)
            temporary = [report]
            entry = None
            if ended.status is ConversionStatus.READY:
                written = self._store.stat(_target_name(model, conversion.attempt))
                temporary.append(written)
                entry = self._keep(model, conversion.attempt, written)
                if entry is None:
                    ended = Conversion(ConversionStatus.FAILED, conversion.attempt, "What was written is no HDF5 file.")
        except ObjectNotFoundError:
            # Not there yet, or taken in by another call just now, which the next one sees.
            return conversion
        try:
            ended = self._conversions.finish(owner, model.id, ended, entry)
        except ModelNotFoundError:
            # The session is being deleted, and its objects may have been deleted before this one was written.
            if entry is not None:
                self._store.delete([self._store.stat(entry["object"])])
            raise
        self._store.delete(temporary)
        if entry is None or ended.status is not ConversionStatus.READY:
            return ended
        return ModelFile(
            format=_H5,
            object_name=entry["object"],
            generation=entry["generation"],
            size_bytes=entry["bytes"],
            sha256=entry["sha256"],
            media_type=entry["media_type"],
            loads_code=False,
        )

    def _keep(self, model: TrainedModel, attempt: int, written: StoredObject) -> dict[str, Any] | None:
        """Read a file back, and give it its place among the session's models; None if it is not what it should be."""
        digest, n_bytes, head = hashlib.sha256(), 0, b""
        for piece in self._store.read(written.name, generation=written.generation):
            digest.update(piece)
            n_bytes += len(piece)
            head = head or piece[:8]
        if not head.startswith(FORMATS[_H5].begins):
            return None
        name = f"{models_prefix(model.session_uuid)}{model.id}.{attempt}.{_H5}"
        try:
            kept = self._store.compose([written], name, FORMATS[_H5].media_type)
        except ObjectExistsError:
            # A call that was killed before it could record it, or one at the same time, put it there.
            kept = self._store.stat(name)
        if (kept.size_bytes, kept.crc32c) != (n_bytes, written.crc32c):
            return None
        return file_entry(
            _H5,
            name,
            size_bytes=n_bytes,
            sha256=digest.hexdigest(),
            generation=kept.generation,
            crc32c=kept.crc32c,
            made_by="converter",
        )


def _archive_of(model: TrainedModel) -> ModelFile | None:
    return next((file for file in model.files if file.format == "keras"), None)


def _target_name(model: TrainedModel, attempt: int) -> str:
    return f"{conversions_prefix(model.session_uuid)}{model.id}.{attempt}.{_H5}"


def _report_name(model: TrainedModel, attempt: int) -> str:
    return f"{conversions_prefix(model.session_uuid)}{model.id}.{attempt}.json"


def _read_report(content: bytes, attempt: int) -> Conversion:
    """Make a record of a report. Its writer opened a file of a stranger, so it is believed in form only."""
    try:
        report = json.loads(content)
        status = report["status"]
        if status == "converted":
            return Conversion(ConversionStatus.READY, attempt)
        finding = report.get("finding")
        return Conversion(
            ConversionStatus(status if status in _ENDS else "failed"),
            attempt,
            _text(report.get("detail")),
            {key: _text(finding.get(key)) for key in ("code", "message", "where")} if finding else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Conversion(ConversionStatus.FAILED, attempt, "Its report cannot be read.")


def _text(value: Any) -> str:
    # NUL is no character for Postgres, half a surrogate pair none for JSON.
    return str(value)[:_LONGEST_TEXT].encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")
