"""Signed URLs are those that Google's own client makes of the same request."""

import datetime as dt
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from google.oauth2 import service_account

from shared.adapters import signing
from shared.adapters.signing import GcsUrlSigner
from shared.settings import StorageSettings

NOW = dt.datetime(2026, 11, 26, 12, 0, 0, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    document = {
        "type": "service_account",
        "private_key": pem,
        "private_key_id": "1",
        "client_email": "signer@project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    path = tmp_path_factory.mktemp("key") / "signer.json"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize(
    ("method", "name", "headers", "query"),
    [
        ("GET", "models/1/2.keras", {}, {}),
        ("PUT", "chunks/1/00000", {"x-goog-content-length-range": "5,5", "x-goog-if-generation-match": "0"}, {}),
        ("PUT", "chunks/1/00001", {"X-Goog-Hash": "crc32c=KS+ytw=="}, {}),
        (
            "GET",
            "datasets/1/2/größe & maß ~+%.csv",
            {},
            {"response-content-disposition": 'attachment; filename="a b.csv"', "generation": "17"},
        ),
    ],
)
def test_a_url_is_the_one_that_the_client_of_cloud_storage_makes(key_file, monkeypatch, method, name, headers, query):
    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW

    monkeypatch.setattr(signing, "datetime", Clock)
    monkeypatch.setattr("google.cloud.storage._signing._NOW", lambda _tz: NOW)
    settings = StorageSettings("uploads", "artifacts", "https://storage.googleapis.com", key_file, "", 3600)

    ours = GcsUrlSigner(settings, "uploads").sign(method, name, headers=headers, query=query)

    bucket = Client(project="p", credentials=AnonymousCredentials()).bucket("uploads")
    theirs = bucket.blob(name).generate_signed_url(
        version="v4",
        expiration=dt.timedelta(seconds=3600),
        method=method,
        headers=dict(headers),
        query_parameters=dict(query),
        credentials=service_account.Credentials.from_service_account_file(key_file),
        api_access_endpoint="https://storage.googleapis.com",
    )
    assert ours.url == theirs
    assert ours.headers == headers
