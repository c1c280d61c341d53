"""`UrlSigner` for Cloud Storage: V4 URLs signed with a local key, or by IAM's signBlob over one pooled session."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailableError
from shared.records import SignedUrl
from shared.settings import StorageSettings

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

# As many as signatures are asked for at once (SIGNED_AT_ONCE in shared/uploads.py).
POOLED_CONNECTIONS = 32
# Of one call to signBlob [s]; the client's own limit is 120.
TIMEOUT_S = 10
# All tries of one signature together.
RETRY_DEADLINE_S = 8.0
_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, no secret


class GcsUrlSigner:
    """Signs requests to one bucket. Thread-safe."""

    def __init__(self, settings: StorageSettings, bucket: str) -> None:
        self._settings = settings
        self._bucket_name = bucket

    @cached_property
    def _credentials(self) -> Any:
        from google.oauth2 import service_account

        if self._settings.signer_key_file:
            return service_account.Credentials.from_service_account_file(self._settings.signer_key_file)
        import google.auth
        import requests.adapters
        from google.auth import iam
        from google.auth.transport.requests import Request

        own, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/iam"])
        # One session for all signatures; the client's own way opens a new connection for each.
        session = requests.Session()
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=POOLED_CONNECTIONS))
        signer = iam.Signer(partial(Request(session), timeout=TIMEOUT_S), own, self._settings.signer_email)
        return service_account.Credentials(
            signer=signer, service_account_email=self._settings.signer_email, token_uri=_TOKEN_URI
        )

    @cached_property
    def _bucket(self) -> Bucket:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        # Only a namesake for signing: this client sends nothing.
        return Client(project="signing", credentials=AnonymousCredentials()).bucket(self._bucket_name)

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
        from google.api_core.exceptions import RetryError
        from google.api_core.retry import Retry, if_exception_type
        from google.auth.exceptions import TransportError

        # signBlob refuses for a moment when many ask at once, with 429 or a misleading 403:
        # https://github.com/langfuse/langfuse/issues/8856. A signature may be asked for any number of times.
        patient = Retry(if_exception_type(TransportError), initial=0.1, maximum=1.0, timeout=RETRY_DEADLINE_S)
        try:
            url = patient(self._bucket.blob(name).generate_signed_url)(
                version="v4",
                expiration=dt.timedelta(seconds=self._settings.signed_url_seconds),
                method=method,
                headers=dict(headers or {}),
                query_parameters=dict(query or {}),
                credentials=self._credentials,
                api_access_endpoint=self._settings.public_url,
            )
        except (TransportError, RetryError) as error:
            raise StorageUnavailableError("Addresses cannot be signed right now; try again.") from error
        return SignedUrl(url=url, method=method, headers=dict(headers or {}))
