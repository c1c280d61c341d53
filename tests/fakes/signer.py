import uuid
from collections.abc import Mapping

from shared.errors import ObjectExistsError, ObjectNotFoundError
from shared.records.objects import SignedUrl
from tests.fakes.objects import InMemoryObjectStore, crc32c_of


class InMemorySigner:
    """`UrlSigner` for an `InMemoryObjectStore`, and the door that lets signed requests in."""

    def __init__(self, store: InMemoryObjectStore) -> None:
        self._store = store
        self._signed: dict[str, tuple[str, str, dict[str, str], str | None]] = {}

    def sign(
        self,
        method: str,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> SignedUrl:
        url = f"memory:{name}?{uuid.uuid4().hex}"
        self._signed[url] = (method, name, dict(headers or {}), (query or {}).get("generation"))
        return SignedUrl(url=url, method=method, headers=dict(headers or {}))

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """Answer a request to a URL as the bucket does.

        Returns:
            HTTP status and body.
        """
        if url not in self._signed:
            return 403, b""
        signed_method, name, signed_headers, generation = self._signed[url]
        sent = {header.lower(): value for header, value in headers.items()}
        if method != signed_method or any(
            sent.get(header.lower()) != value for header, value in signed_headers.items()
        ):
            return 403, b""
        if method == "GET":
            try:
                return 200, b"".join(self._store.read(name, generation=int(generation) if generation else None))
            except ObjectNotFoundError:
                return 404, b""
        return self._put(name, sent, body), b""

    def _put(self, name: str, headers: Mapping[str, str], body: bytes) -> int:
        least, _, most = headers.get("x-goog-content-length-range", f"0,{len(body)}").partition(",")
        if not int(least) <= len(body) <= int(most):
            return 400
        if headers.get("x-goog-hash", f"crc32c={crc32c_of(body)}") != f"crc32c={crc32c_of(body)}":
            return 400
        try:
            self._store.write(name, body, headers.get("content-type", "application/octet-stream"))
        except ObjectExistsError:
            return 412
        return 200
