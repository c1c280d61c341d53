"""What the door's tests share: the running stack's settings, and requests made as a browser makes them."""

import base64
import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import httpx
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2 import service_account

from dev.home import read_env

WRITE_ONCE = {"x-goog-if-generation-match": "0"}


@dataclass(frozen=True)
class Stack:
    """A running stack as its env file describes it."""

    settings: dict[str, str]

    def client(self) -> storage.Client:
        """Return a client of the functions' door."""
        return storage.Client(
            project="trainshed-local",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.settings["STORAGE_INTERNAL_URL"]},
        )

    def bucket(self) -> storage.Bucket:
        return self.client().bucket(self.settings["UPLOADS_BUCKET"])

    def sign(
        self,
        name: str,
        method: str = "PUT",
        *,
        seconds: int = 600,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> str:
        """Return a signed URL at the public door."""
        credentials = service_account.Credentials.from_service_account_file(self.settings["SIGNER_KEY_FILE"])
        signer = storage.Client(project="trainshed-local", credentials=credentials)
        blob = signer.bucket(self.settings["UPLOADS_BUCKET"]).blob(name)
        return blob.generate_signed_url(
            version="v4",
            expiration=timedelta(seconds=seconds),
            method=method,
            headers=dict(headers or {}),  # the library adds to it
            api_access_endpoint=self.settings["STORAGE_PUBLIC_URL"],
            **options,
        )

    def put(self, name: str, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """Sign a PUT with these headers and make it."""
        headers = headers or {}
        return httpx.put(self.sign(name, headers=headers), content=body, headers=headers)

    def exists(self, name: str) -> bool:
        return self.bucket().blob(name).exists()


def running_stack() -> Stack:
    """Return the stack that `TRAINSHED_ENV` names, or the one whose settings are in the environment."""
    file = os.environ.get("TRAINSHED_ENV")
    return Stack(read_env(Path(file)) if file else dict(os.environ))


def new_name() -> str:
    return f"chunks/{uuid.uuid4()}/00000"


def exactly(size: int) -> dict[str, str]:
    return {"x-goog-content-length-range": f"{size},{size}"}


def crc32c(body: bytes) -> str:
    return base64.b64encode(google_crc32c.value(body).to_bytes(4, "big")).decode()


def error_code(answer: httpx.Response) -> str:
    """Return the code of an XML error."""
    assert answer.headers["content-type"].startswith("application/xml"), answer.text
    return answer.text.partition("<Code>")[2].partition("</Code>")[0]
