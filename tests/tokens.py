"""Signs tokens as the identity service does, and every kind that it would not sign."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@dataclass
class Mint:
    """A private key and what it signs."""

    private_key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    key_id: str = "a-key"

    @property
    def algorithm(self) -> str:
        return "RS256" if isinstance(self.private_key, rsa.RSAPrivateKey) else "ES256"

    def sign(self, claims: Mapping[str, Any], **headers: Any) -> str:
        return jwt.encode(dict(claims), self.private_key, self.algorithm, headers={"kid": self.key_id} | headers)

    def key_set(self) -> dict[str, Any]:
        """Return the public half as a JWKS."""
        kind = jwt.algorithms.RSAAlgorithm if self.algorithm == "RS256" else jwt.algorithms.ECAlgorithm
        public = kind.to_jwk(self.private_key.public_key(), as_dict=True)
        return {"keys": [public | {"kid": self.key_id, "alg": self.algorithm, "use": "sig"}]}

    def public_pem(self) -> bytes:
        return self.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def rsa_mint(key_id: str = "a-key") -> Mint:
    return Mint(rsa.generate_private_key(public_exponent=65537, key_size=2048), key_id)


def lasting(**claims: Any) -> dict[str, Any]:
    """Return claims that hold for an hour."""
    now = int(time.time())
    return {"iat": now, "exp": now + 3600} | claims


def user_claims(user_id: str, issuer: str, **claims: Any) -> dict[str, Any]:
    """Return the claims of a signed-in user's access token."""
    return lasting(iss=issuer, aud="authenticated", role="authenticated", sub=user_id) | claims


def without(claims: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


def bad_tokens(mint: Mint, good: Mapping[str, Any]) -> dict[str, str]:
    """Return tokens that must be refused, by what is wrong with them.

    Args:
        good: Claims that, signed by the mint, would be believed.
    """
    now = int(time.time())
    signed = mint.sign(good)
    head, body, signature = signed.split(".")
    other = "RS256" if mint.algorithm == "ES256" else "ES256"
    stranger = type(mint)(key_id=mint.key_id) if mint.algorithm == "ES256" else rsa_mint(mint.key_id)
    return {
        "expired": mint.sign(good | {"exp": now - 3600, "iat": now - 7200}),
        "not yet valid": mint.sign(good | {"nbf": now + 3600}),
        "issued in the future": mint.sign(good | {"iat": now + 3600}),
        "of another issuer": mint.sign(good | {"iss": "https://elsewhere.example/auth/v1"}),
        "for another audience": mint.sign(good | {"aud": "elsewhere"}),
        "without issuer": mint.sign(without(good, "iss")),
        "without audience": mint.sign(without(good, "aud")),
        "without expiry": mint.sign(without(good, "exp")),
        "without subject": mint.sign(without(good, "sub")),
        "unsigned": jwt.encode(dict(good), None, "none"),
        "unsigned though it names a key": jwt.encode(dict(good), None, "none", headers={"kid": mint.key_id}),
        "signed with a stranger's key of the same name": stranger.sign(good),
        "signed with a key nobody knows": stranger.sign(good, kid="nobody"),
        "signed with the public key as a secret": _confused(mint, good),
        "naming another algorithm than its key's": f"{_encoded({'alg': other, 'kid': mint.key_id})}.{body}.{signature}",
        "altered": f"{head}.{_encoded(dict(good) | {'sub': '00000000-0000-4000-8000-000000000000'})}.{signature}",
        "cut off": signed[:-10],
        "without signature": f"{head}.{body}.",
        "of two parts": f"{head}.{body}",
        "no token": "x",
        "dots": "..",
        "no base64": "!.!.!",
        "with a key id that is no text": f"{_encoded({'alg': mint.algorithm, 'kid': 5})}.{body}.{signature}",
        "with a header that is a list": f"{_encoded(['alg'])}.{body}.{signature}",
        "with claims that are a list": f"{head}.{_encoded(['sub'])}.{signature}",
        "with an unknown critical extension": mint.sign(good, crit=["x"], x=1),
    }


def _confused(mint: Mint, claims: Mapping[str, Any]) -> str:
    """Sign with HMAC and the public key, as somebody would who hopes for a verifier that lets the token choose."""
    content = f"{_encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': mint.key_id})}.{_encoded(claims)}"
    signature = hmac.digest(mint.public_pem(), content.encode(), hashlib.sha256)
    return f"{content}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class RenewableToken:
    """A token source of a client that counts how often it was told to renew."""

    def __init__(self) -> None:
        self.renewals = 0

    def __call__(self) -> str:
        return f"token-{self.renewals}"

    def renew(self) -> None:
        self.renewals += 1
