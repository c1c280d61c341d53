"""`UrlSigner` for Cloud Storage: V4 URLs signed with a local key, or by IAM's signBlob over one pooled session.

The form is Cloud Storage's own, and short: https://docs.cloud.google.com/storage/docs/authentication/signatures . Its
client makes the same URLs (tests/unit/test_signing.py), and is not loaded for it: it takes as long to import as the web
framework, and a function that only signs sends it nothing.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from shared.errors import StorageUnavailableError
from shared.records.objects import SignedUrl
from shared.settings import StorageSettings
from shared.tracing import span

if TYPE_CHECKING:
    from google.auth.crypt import Signer

# As many as signatures are asked for at once (SIGNED_AT_ONCE in shared/uploads.py).
POOLED_CONNECTIONS = 32
# Of one call to signBlob [s]; the client's own limit is 120.
TIMEOUT_S = 10
# All tries of one signature together.
RETRY_DEADLINE_S = 8.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
_ALGORITHM = "GOOG4-RSA-SHA256"


class GcsUrlSigner:
    """Signs requests to one bucket. Thread-safe."""

    def __init__(self, settings: StorageSettings, bucket: str) -> None:
        self._settings = settings
        self._bucket = bucket
        self._host = urlsplit(settings.public_url).netloc

    @cached_property
    def _signer(self) -> tuple[Signer, str]:
        """What signs, and the account it signs for."""
        if self._settings.signer_key_file:
            from google.auth.crypt import RSASigner

            key = json.loads(Path(self._settings.signer_key_file).read_bytes())
            return RSASigner.from_service_account_info(key), key["client_email"]
        import google.auth
        import requests.adapters
        from google.auth import iam
        from google.auth.transport.requests import Request

        own, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/iam"])
        # One session for all signatures; the client's own way opens a new connection for each.
        session = requests.Session()
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=POOLED_CONNECTIONS))
        email = self._settings.signer_email
        return iam.Signer(partial(Request(session), timeout=TIMEOUT_S), own, email), email

    def sign(
        self,
        method: str,
        name: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> SignedUrl:
        """Sign one request; it must then carry exactly these headers.

        Raises:
            StorageUnavailableError: The signing service does not answer.
        """
        signer, email = self._signer
        headers = dict(headers or {})
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        scope = f"{stamp[:8]}/auto/storage/goog4_request"
        signed = {"host": self._host} | {header.lower(): value.strip() for header, value in headers.items()}
        names = ";".join(sorted(signed))
        parameters = {
            "X-Goog-Algorithm": _ALGORITHM,
            "X-Goog-Credential": f"{email}/{scope}",
            "X-Goog-Date": stamp,
            "X-Goog-Expires": str(self._settings.signed_url_seconds),
            "X-Goog-SignedHeaders": names,
            **(query or {}),
        }
        encoded = "&".join(f"{_encoded(key)}={_encoded(value)}" for key, value in sorted(parameters.items()))
        path = f"/{self._bucket}/{quote(name, safe='/~')}"
        lines = "".join(f"{header}:{signed[header]}\n" for header in sorted(signed))
        canonical = f"{method}\n{path}\n{encoded}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        with span("storage sign"):
            signature = _patiently(signer, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode())
        url = f"{self._settings.public_url}{path}?{encoded}&X-Goog-Signature={signature.hex()}"
        return SignedUrl(url=url, method=method, headers=headers)


def _encoded(text: str) -> str:
    return quote(text, safe="~")


def _patiently(signer: Signer, content: bytes) -> bytes:
    """Ask for a signature, again while the service refuses.

    signBlob refuses for a moment when many ask at once, with 429 or a misleading 403:
    https://github.com/langfuse/langfuse/issues/8856. A signature may be asked for any number of times.
    """
    from google.auth.exceptions import TransportError

    began_at, longest_pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            signature: bytes = signer.sign(content)
        except TransportError as error:
            pause = random.uniform(longest_pause / 2, longest_pause)  # noqa: S311 - no secret
            if time.monotonic() - began_at + pause > RETRY_DEADLINE_S:
                raise StorageUnavailableError("Addresses cannot be signed right now; try again.") from error
        else:
            return signature
        time.sleep(pause)
        longest_pause = min(2 * longest_pause, LONGEST_PAUSE_S)
