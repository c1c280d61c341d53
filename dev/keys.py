"""The stack's key material, and the tokens signed with it.

Three key pairs live in `TRAINSHED_HOME/keys`: ES256 for what Supabase Auth signs (users' and roles'
tokens), RS256 for what Google signs (scheduler and task tokens), and the RSA key of the service
account that signs storage URLs.
"""

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from dev.home import Home, write_private

PROJECT = "trainshed-local"
SCHEDULER_EMAIL = f"scheduler@{PROJECT}.iam.gserviceaccount.com"
TASKS_EMAIL = f"tasks@{PROJECT}.iam.gserviceaccount.com"
SIGNER_EMAIL = f"signer@{PROJECT}.iam.gserviceaccount.com"
OIDC_ISSUER = "https://accounts.google.com"
OIDC_AUDIENCE = "trainshed"

# Both Supabase and Google issue tokens for one hour.
TOKEN_SECONDS = 3600
# The role tokens stand for Supabase's API keys, which do not expire.
ROLE_TOKEN_SECONDS = 10 * 365 * 24 * 3600


@dataclass(frozen=True)
class User:
    """A ready-made user of the local stack."""

    name: str
    id: str
    email: str
    password: str


USERS = (
    User("alice", "00000000-0000-4000-8000-00000000a11c", "alice@example.com", "alice-trains-models"),
    User("bob", "00000000-0000-4000-8000-000000000b0b", "bob@example.com", "bob-trains-models"),
)


def user_by(**field: str) -> User | None:
    """Return the user whose named field (name, id or email) has that value."""
    ((name, value),) = field.items()
    return next((user for user in USERS if getattr(user, name) == value), None)


class Keys:
    """Loads the keys of a home, making them on first use, and signs tokens with them."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._supabase = self._load("supabase", lambda: ec.generate_private_key(ec.SECP256R1()))
        self._google = self._load("google", _new_rsa_key)
        self._signer = self._load("signer", _new_rsa_key)
        if not self.signer_file.exists():
            write_private(self.signer_file, json.dumps(self._signer_account()).encode())

    @property
    def signer_file(self) -> Path:
        """Path of the service-account file that storage URLs are signed with."""
        return self._home.keys / "signer.json"

    @property
    def signer_public_key(self) -> rsa.RSAPublicKey:
        """Key that signatures of storage URLs are checked with."""
        return self._signer.public_key()

    @property
    def publishable_key(self) -> str:
        """API key that stands for the role anon."""
        return self._home.secret("publishable_key", prefix="sb_publishable_")

    @property
    def service_key(self) -> str:
        """API key that stands for the role service_role."""
        return self._home.secret("service_key", prefix="sb_secret_")

    def supabase_jwks(self) -> dict[str, Any]:
        """Return the key set that users' and roles' tokens are verified with."""
        return {"keys": [_public_jwk(ECAlgorithm, self._supabase, "ES256")]}

    def google_jwks(self) -> dict[str, Any]:
        """Return the key set that scheduler and task tokens are verified with."""
        return {"keys": [_public_jwk(RSAAlgorithm, self._google, "RS256")]}

    def user_token(self, user: User, issuer: str, session_id: str | None = None) -> str:
        """Sign an access token with the claims of Supabase Auth's.

        https://supabase.com/docs/guides/auth/jwt-fields
        """
        return self._sign_supabase(
            {
                "aal": "aal1",
                "amr": [{"method": "password", "timestamp": int(time.time())}],
                "app_metadata": {"provider": "email", "providers": ["email"]},
                "aud": "authenticated",
                "email": user.email,
                "is_anonymous": False,
                "iss": issuer,
                "phone": "",
                "role": "authenticated",
                "session_id": session_id or str(uuid.uuid4()),
                "sub": user.id,
                "user_metadata": {"email_verified": True},
            },
            TOKEN_SECONDS,
        )

    def refresh_token(self, user: User, session_id: str) -> str:
        """Sign a refresh token: it survives restarts without being stored."""
        return self._sign_supabase({"aud": "refresh", "sub": user.id, "session_id": session_id}, ROLE_TOKEN_SECONDS)

    def role_token(self, role: str) -> str:
        """Sign the token that Supabase's gateway puts in place of an API key (anon, service_role)."""
        return self._sign_supabase({"iss": "supabase", "role": role}, ROLE_TOKEN_SECONDS)

    def oidc_token(self, email: str) -> str:
        """Sign a token as Google gives it to the scheduler and the task queue."""
        now = int(time.time())
        claims = {
            "aud": OIDC_AUDIENCE,
            "azp": email,
            "email": email,
            "email_verified": True,
            "exp": now + TOKEN_SECONDS,
            "iat": now,
            "iss": OIDC_ISSUER,
            "sub": str(uuid.uuid5(uuid.NAMESPACE_DNS, email).int)[:21],
        }
        return jwt.encode(claims, self._google, "RS256", headers={"kid": _key_id(self._google)})

    def read_supabase_token(self, token: str, audience: str) -> dict[str, Any]:
        """Return the claims of a token signed here.

        Raises:
            jwt.InvalidTokenError: it is not, or it has expired.
        """
        return jwt.decode(token, self._supabase.public_key(), ["ES256"], audience=audience)

    def _sign_supabase(self, claims: dict[str, Any], seconds: int) -> str:
        now = int(time.time())
        return jwt.encode(
            {**claims, "iat": now, "exp": now + seconds},
            self._supabase,
            "ES256",
            headers={"kid": _key_id(self._supabase)},
        )

    def _load(self, name: str, generate: Any) -> Any:
        file = self._home.keys / f"{name}.pem"
        if not file.exists():
            pem = generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_private(file, pem)
        return serialization.load_pem_private_key(file.read_bytes(), password=None)

    def _signer_account(self) -> dict[str, str]:
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": _key_id(self._signer),
            "private_key": (self._home.keys / "signer.pem").read_text(),
            "client_email": SIGNER_EMAIL,
            "client_id": "0",
            "token_uri": "https://oauth2.googleapis.com/token",
        }


def _new_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _key_id(private_key: Any) -> str:
    """Name a key after its public half, so that a new key never passes for an old one."""
    der = private_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return str(uuid.uuid5(uuid.NAMESPACE_OID, der.hex()))


def _public_jwk(algorithm: Any, private_key: Any, name: str) -> dict[str, Any]:
    jwk: dict[str, Any] = algorithm.to_jwk(private_key.public_key(), as_dict=True)
    return {**jwk, "alg": name, "kid": _key_id(private_key), "use": "sig", "key_ops": ["verify"]}
