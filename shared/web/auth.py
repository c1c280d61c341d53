"""From the headers of a request to a verified caller."""

import hmac
import importlib.util
import sys
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from shared.errors import ForbiddenError, UnauthenticatedError, UnavailableError
from shared.fields import is_uuid
from shared.records.callers import Caller, CallerKind
from shared.settings import AuthSettings

if TYPE_CHECKING:
    from jwt import PyJWKClient

# Supabase caches its key set for 10 minutes and asks clients to do no more:
# https://supabase.com/docs/guides/auth/signing-keys
JWKS_LIFETIME_S = 600
JWKS_TIMEOUT_S = 5
CLOCK_SKEW_S = 10
_ASYMMETRIC = ["ES256", "RS256"]
# Tokens that were verified are believed again without a signature check, for as long as a key would be.
KNOWN_TOKENS = 1000


class Headers(Protocol):
    """Of a request, by lower-case names."""

    def get(self, name: str, default: str, /) -> str:
        """Return a header, or the default."""


class Authenticator:
    """Verifies tokens of users, the scheduler and the task queue. Thread-safe.

    Tokens are checked here, with fixed algorithms and all of `iss`, `aud`, `exp` and `sub`; nothing is asked of the
    identity service but its public keys, which are cached.
    """

    def __init__(self, settings: AuthSettings, service_key: str) -> None:
        self._settings = settings
        self._service_key = service_key
        self._known: dict[tuple[str, str], tuple[float, Caller]] = {}

    @cached_property
    def _user_keys(self) -> "PyJWKClient":
        return _key_client(self._settings.jwks_url)

    @cached_property
    def _oidc_keys(self) -> "PyJWKClient":
        return _key_client(self._settings.oidc_jwks_url)

    def authenticate(self, headers: Headers, allowed: str) -> Caller:
        """Return the caller behind a request.

        Args:
            headers: Of the request; asked for names in lower case.
            allowed: `caller` of the manifest: user, user_or_service, scheduler or task.

        Raises:
            UnauthenticatedError: There is no token, or it is not valid.
            ForbiddenError: The token is valid, but of somebody who may not call this.
            UnavailableError: The public keys cannot be fetched.
        """
        # Supabase's secret keys are no tokens; they travel in `apikey`.
        # https://supabase.com/docs/guides/api/api-keys
        key = headers.get("apikey", "")
        if allowed == "user_or_service" and key and hmac.compare_digest(key.encode(), self._service_key.encode()):
            return Caller(CallerKind.SERVICE, user_id="", token="")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnauthenticatedError("Send an access token: Authorization: Bearer <token>.")
        return self._caller_of(token.strip(), "user" if allowed == "user_or_service" else allowed)

    def _caller_of(self, token: str, kind: str) -> Caller:
        """Return the caller of a token, from memory if it was verified in the last ten minutes and has not expired."""
        now = time.time()
        until, caller = self._known.get((token, kind), (0.0, None))
        if caller is not None and now < until:
            return caller
        caller, expires_at = self._user(token) if kind == "user" else self._machine(token, CallerKind(kind))
        if len(self._known) >= KNOWN_TOKENS:
            # Rare, and cheap beside what it saves: those that are needed are verified once more.
            self._known.clear()
        self._known[token, kind] = (min(expires_at + CLOCK_SKEW_S, now + JWKS_LIFETIME_S), caller)
        return caller

    def _user(self, token: str) -> tuple[Caller, float]:
        settings = self._settings
        if settings.hs256_secret and _algorithm(token) == "HS256":
            claims = _decode(token, settings.hs256_secret, ["HS256"], settings.audience, settings.issuer)
        else:
            key = _signing_key(self._user_keys, token)
            claims = _decode(token, key, _ASYMMETRIC, settings.audience, settings.issuer)
        if claims.get("role") != "authenticated" or not is_uuid(str(claims["sub"])):
            raise UnauthenticatedError("This is not the access token of a signed-in user.")
        return Caller(CallerKind.USER, user_id=str(claims["sub"]), token=token), float(claims["exp"])

    def _machine(self, token: str, kind: CallerKind) -> tuple[Caller, float]:
        settings = self._settings
        emails = {CallerKind.SCHEDULER: settings.scheduler_email, CallerKind.TASK: settings.tasks_email}
        key = _signing_key(self._oidc_keys, token)
        claims = _decode(token, key, _ASYMMETRIC, settings.oidc_audience, settings.oidc_issuer)
        if not emails[kind] or claims.get("email") != emails[kind] or claims.get("email_verified") is not True:
            raise ForbiddenError(f"Only the {kind.value} may call this.")
        return Caller(kind, user_id=str(claims["sub"]), token=token), float(claims["exp"])


def _jwt() -> Any:
    """Import PyJWT, without the X.509 certificates that it could read keys from: half of the import's 80 ms of CPU.

    They are there when something asks for one; key sets do not.
    """
    if "jwt" not in sys.modules:
        import cryptography

        name = "cryptography.x509"
        spec = importlib.util.find_spec(name)
        if name not in sys.modules and spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = cryptography.x509 = module  # as importing it does
            spec.loader.exec_module(module)
    import jwt

    return jwt


def _key_client(url: str) -> "PyJWKClient":
    keys: PyJWKClient = _jwt().PyJWKClient(url, lifespan=JWKS_LIFETIME_S, timeout=JWKS_TIMEOUT_S)
    return keys


def _algorithm(token: str) -> str:
    jwt = _jwt()
    try:
        return str(jwt.get_unverified_header(token).get("alg"))
    except jwt.PyJWTError as error:
        raise UnauthenticatedError("The access token cannot be read.") from error


def _signing_key(keys: "PyJWKClient", token: str) -> Any:
    jwt = _jwt()
    try:
        # With the key goes its algorithm: the token's header does not choose how it is used.
        return keys.get_signing_key_from_jwt(token)
    except jwt.PyJWKClientConnectionError as error:
        raise UnavailableError("The public keys of the identity service cannot be fetched.") from error
    except jwt.PyJWTError as error:
        raise UnauthenticatedError("The access token is not signed with a key of this project.") from error


def _decode(token: str, key: Any, algorithms: list[str], audience: str, issuer: str) -> dict[str, Any]:
    jwt = _jwt()
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=algorithms,
            audience=audience,
            issuer=issuer,
            leeway=CLOCK_SKEW_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except jwt.ExpiredSignatureError as error:
        raise UnauthenticatedError("The access token has expired; sign in again.") from error
    except jwt.PyJWTError as error:
        raise UnauthenticatedError("The access token is not valid.") from error
    return claims
