"""Checks V4 signatures of Cloud Storage URLs.

The form of a signed URL and of what is signed:
https://docs.cloud.google.com/storage/docs/authentication/canonical-requests
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ALGORITHM = "GOOG4-RSA-SHA256"
LONGEST_EXPIRY_SECONDS = 7 * 24 * 3600
CLOCK_SKEW = timedelta(minutes=15)
PARAMETERS = ("X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires", "X-Goog-SignedHeaders", "X-Goog-Signature")


class RefusedError(Exception):
    """A request that Cloud Storage would refuse, with its status, error code and words."""

    def __init__(self, status: int, code: str, message: str, details: str = "") -> None:
        super().__init__(f"{code}: {message} {details}".strip())
        self.status = status
        self.code = code
        self.message = message
        self.details = details


@dataclass(frozen=True)
class SignedRequest:
    """A request as it came in.

    Attributes:
        path: as sent, percent-encoded.
        query: as sent, without the question mark.
        headers: names in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


def verify(request: SignedRequest, email: str, key: rsa.RSAPublicKey, now: datetime) -> None:
    """Accept a request that was signed by the service account and has not expired.

    Raises:
        RefusedError: it is unsigned, altered, expired, or lacks a header that was signed.
    """
    parameters = dict(parse_qsl(request.query, keep_blank_values=True))
    if parameters.get("X-Goog-Algorithm") != ALGORITHM:
        raise RefusedError(403, "AccessDenied", "Access denied.", "Anonymous caller does not have access.")
    for name in PARAMETERS:
        if name not in parameters:
            raise RefusedError(400, "AuthenticationRequired", f"{name} is missing.")
    _check_time(parameters, now)

    scope_email, _, scope = parameters["X-Goog-Credential"].partition("/")
    if scope_email != email:
        raise _mismatch("The account is unknown.")
    signed = parameters["X-Goog-SignedHeaders"].split(";")
    _check_headers(request.headers, signed)

    to_sign = "\n".join([ALGORITHM, parameters["X-Goog-Date"], scope, _sha256(_canonical_request(request, signed))])
    try:
        key.verify(bytes.fromhex(parameters["X-Goog-Signature"]), to_sign.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as error:
        raise _mismatch("Check your key and signing method.") from error


def _check_time(parameters: Mapping[str, str], now: datetime) -> None:
    lifetime = parameters["X-Goog-Expires"]
    try:
        signed_at = datetime.strptime(parameters["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise RefusedError(400, "InvalidArgument", "Invalid argument.", "X-Goog-Date is malformed.") from error
    if not lifetime.isdecimal() or not 1 <= int(lifetime) <= LONGEST_EXPIRY_SECONDS:
        raise RefusedError(400, "InvalidArgument", "Invalid argument.", "X-Goog-Expires is out of range.")
    if signed_at > now + CLOCK_SKEW:
        raise RefusedError(403, "RequestTimeTooSkewed", "The request was signed in the future.")
    expires_at = signed_at + timedelta(seconds=int(lifetime))
    if now >= expires_at:
        details = f"The provided token has expired. Request signature expired at: {expires_at.isoformat()}"
        raise RefusedError(400, "ExpiredToken", "Invalid argument.", details)


def _check_headers(headers: Mapping[str, str], signed: list[str]) -> None:
    if "host" not in signed:
        raise RefusedError(400, "MalformedSecurityHeader", "Your request has a malformed header.", "host")
    for name in signed:
        if name not in headers:
            details = f"{name} was included in signedheaders, but not in the request."
            raise RefusedError(400, "MalformedSecurityHeader", "Your request has a malformed header.", details)
    for name in headers:
        if name.startswith("x-goog-") and name not in signed:
            raise _mismatch(f"{name} was sent but not signed.")


def _canonical_request(request: SignedRequest, signed: list[str]) -> str:
    parameters = [
        (name, value) for name, value in parse_qsl(request.query, keep_blank_values=True) if name != "X-Goog-Signature"
    ]
    encoded = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in parameters)
    return "\n".join(
        [
            request.method,
            quote(unquote(request.path), safe="/~"),
            "&".join(f"{name}={value}" for name, value in encoded),
            *(f"{name}:{re.sub(r' +', ' ', request.headers[name].strip())}" for name in signed),
            "",
            ";".join(signed),
            request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )


def _mismatch(details: str) -> RefusedError:
    message = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your Google secret key and signing method."
    )
    return RefusedError(403, "SignatureDoesNotMatch", message, details)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
