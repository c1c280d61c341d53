"""The rules of giving uploads up: by their owner (abort) or by time (sweep), and deleting what they left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.chunks import all_prefixes, temporary_prefixes
from shared.fields import read_existing_upload_id, read_integer
from shared.records.uploads import Upload, UploadState
from shared.threads import RequestThreads

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore, UploadRepository

SWEPT_PER_RUN = 200
# Each deletes up to 16 objects at once: as many calls as there are connections (shared/adapters/gcs.py).
SWEPT_AT_ONCE = 4
DEFAULT_MAX_AGE_HOURS = 24
LARGEST_MAX_AGE_HOURS = 24 * 365
# What a sweep finds open or assembling (a dry run) or has moved to expiring.
_ABANDONED = {UploadState.OPEN, UploadState.ASSEMBLING, UploadState.EXPIRING}


@dataclass(frozen=True)
class SweptUpload:
    """What a cleanup deleted, or would delete, of one upload."""

    upload: Upload
    n_objects: int
    freed_bytes: int


@dataclass(frozen=True)
class Sweep:
    """What one cleanup run did, or would do."""

    n_uploads: int
    n_objects: int
    freed_bytes: int
    has_more: bool


class SweepService:
    """Ends uploads that came to nothing, and clears away what is left of the others."""

    def __init__(self, uploads: UploadRepository, store: ObjectStore) -> None:
        self._uploads = uploads
        self._store = store

    def abort(self, owner: str, upload_id: str) -> tuple[Upload, int]:
        """Give an upload up and delete its chunks; repeating it is harmless.

        Returns:
            The upload, and how many objects were deleted.

        Raises:
            UploadNotFoundError: The owner has no such upload.
            WrongStateError: It is being assembled, is assembled or has expired.
        """
        upload = self._uploads.abort(owner, read_existing_upload_id(upload_id))
        n_objects = sum(self._store.delete(self._store.list(prefix)) for prefix in all_prefixes(upload))
        self._uploads.finish_sweep(upload.id)
        return upload, n_objects

    def sweep(
        self,
        *,
        max_age_hours: Any = DEFAULT_MAX_AGE_HOURS,
        dry_run: bool = False,
        on_swept: Callable[[SweptUpload], None] = lambda _: None,
    ) -> Sweep:
        """Delete what abandoned and finished uploads left behind, up to 200 uploads a run and several at once.

        Args:
            max_age_hours: An open upload that was silent for so long is abandoned [h].
            dry_run: Only say what would go.
            on_swept: Told at once of each upload that was cleaned, so that a run that is killed or breaks off has said
                what it did. Called from several threads. A killed run may be repeated and tell of an upload again.

        Raises:
            InvalidFieldError: An age outside 0 to 8,760 hours.
            StorageUnavailableError: Try again; what is done is done.
        """
        age = read_integer(max_age_hours, "maxAgeHours", least=0, most=LARGEST_MAX_AGE_HOURS)
        uploads = self._uploads.begin_sweep(max_age_hours=age, limit=SWEPT_PER_RUN, dry_run=dry_run)

        def sweep_one(upload: Upload) -> SweptUpload:
            n_objects, n_bytes = 0, 0
            for prefix in _swept_prefixes(upload):
                objects = self._store.list(prefix)
                n_objects += len(objects) if dry_run else self._store.delete(objects)
                n_bytes += sum(stored.size_bytes for stored in objects)
            swept = SweptUpload(upload, n_objects, n_bytes)
            if not dry_run:
                if _is_cleaned(swept):
                    on_swept(swept)
                self._uploads.finish_sweep(upload.id)
            return swept

        with RequestThreads(SWEPT_AT_ONCE) as pool:
            running = [pool.submit(sweep_one, upload) for upload in uploads]
            wait(running, return_when=FIRST_EXCEPTION)
            # Where one fails, the next ones would too, each after its own time limit.
            pool.shutdown(cancel_futures=True)
        _raise_first(running)
        all_swept = [future.result() for future in running]
        return Sweep(
            n_uploads=sum(map(_is_cleaned, all_swept)),
            n_objects=sum(swept.n_objects for swept in all_swept),
            freed_bytes=sum(swept.freed_bytes for swept in all_swept),
            has_more=len(uploads) == SWEPT_PER_RUN,
        )


def _swept_prefixes(upload: Upload) -> Sequence[str]:
    return temporary_prefixes(upload) if upload.state is UploadState.ASSEMBLED else all_prefixes(upload)


def _is_cleaned(swept: SweptUpload) -> bool:
    """Tell whether there was anything to do: not where a finished upload had left nothing behind."""
    return bool(swept.freed_bytes or swept.n_objects) or swept.upload.state in _ABANDONED


def _raise_first(futures: Sequence[Future[SweptUpload]]) -> None:
    """Raise the first error, with the others as its notes."""
    errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
    if errors:
        for error in errors[1:]:
            errors[0].add_note(f"and {error!r}")
        raise errors[0]
