"""Fetches and sends files by signed addresses, with no credentials of its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from shared.errors import InvalidFieldError, ObjectNotFoundError, StorageUnavailableError
from shared.tracing import span

_PIECE_BYTES: Final = 1 << 20
# Connect, and between two packets [s].
_TIMEOUT_S: Final = 30
# https://docs.cloud.google.com/storage/docs/xml-api/reference-status : expired or wrong, gone.
_GONE: Final = frozenset({400, 401, 403, 404, 410})


class SignedFiles:
    """Speaks to one storage service only, whatever addresses say.

    Args:
        origin: That addresses must begin with.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def fetch(self, url: str, path: Path, n_bytes: int) -> None:
        """Write what an address gives into a file.

        Raises:
            InvalidFieldError: The address is another service's.
            ObjectNotFoundError: It has expired, or there is no such object.
            StorageUnavailableError: It gives something else than `n_bytes`, or nothing.
        """
        import httpx

        self._check(url)
        try:
            with (
                span("storage read"),
                httpx.stream("GET", url, timeout=_TIMEOUT_S, headers={"Accept-Encoding": "identity"}) as answer,
                path.open("wb") as file,
            ):
                self._raise_for(answer.status_code)
                left = n_bytes
                for piece in answer.iter_raw(_PIECE_BYTES):
                    left -= len(piece)
                    if left < 0:
                        break
                    file.write(piece)
        except httpx.HTTPError as error:
            raise StorageUnavailableError from error
        if left != 0:
            raise StorageUnavailableError(f"The address gave another number of bytes than {n_bytes}.")

    def send(self, url: str, headers: Mapping[str, str], path: Path) -> None:
        """Write a file to an address that takes one once; one that is there already is left alone.

        Raises:
            InvalidFieldError: The address is another service's.
            ObjectNotFoundError: It has expired.
            StorageUnavailableError: It does not answer.
        """
        import httpx

        self._check(url)
        length = {"Content-Length": str(path.stat().st_size)}
        try:
            with span("storage write"):
                answer = httpx.put(url, headers={**headers, **length}, content=_pieces(path), timeout=_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise StorageUnavailableError from error
        if answer.status_code != 412:  # Precondition Failed: an earlier try wrote it
            self._raise_for(answer.status_code)

    def _check(self, url: str) -> None:
        if not url.startswith(f"{self._origin}/"):
            raise InvalidFieldError("url", f"must begin with {self._origin}/")

    @staticmethod
    def _raise_for(status: int) -> None:
        if status in _GONE:
            raise ObjectNotFoundError(f"The address is answered {status}.")
        if status != 200:
            raise StorageUnavailableError


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
