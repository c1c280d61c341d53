"""Typed settings, read from a mapping on the first request; all faults are reported at once.

They are named tuples, because every cold start makes these classes, and a dataclass takes longer to make than all
the rest of this file.
"""

from collections.abc import Mapping
from typing import NamedTuple

from shared.errors import SettingsError


class SupabaseSettings(NamedTuple):
    """Where the database answers and with which keys.

    Attributes:
        url: Base address; REST lies at /rest/v1.
        publishable_key: Sent as `apikey` beside a user's token.
        service_key: Sent as `apikey` for writes; opens every row.
    """

    url: str
    publishable_key: str
    service_key: str


class AuthSettings(NamedTuple):
    """What a token must say to be believed.

    Attributes:
        issuer: `iss` of user tokens.
        audience: `aud` of user tokens.
        jwks_url: Public keys of user tokens.
        hs256_secret: Shared secret of legacy projects; empty where keys are asymmetric.
        oidc_issuer: `iss` of Google's tokens (scheduler and tasks).
        oidc_jwks_url: Their public keys.
        oidc_audience: `aud` that scheduler and task tokens must carry.
        scheduler_email: Service account of the scheduler.
        tasks_email: Service account of the task queue.
    """

    issuer: str
    audience: str
    jwks_url: str
    hs256_secret: str
    oidc_issuer: str
    oidc_jwks_url: str
    oidc_audience: str
    scheduler_email: str
    tasks_email: str


class Buckets(NamedTuple):
    """Names of the two buckets.

    Attributes:
        uploads: Chunks and data sets.
        artifacts: Results and models.
    """

    uploads: str
    artifacts: str


class StorageSettings(NamedTuple):
    """Buckets, and how URLs are signed.

    Attributes:
        uploads_bucket: Chunks and data sets.
        artifacts_bucket: Results and models.
        public_url: Origin of signed URLs.
        signer_key_file: Service-account JSON with a private key, or empty.
        signer_email: Account whose `signBlob` signs where there is no key file.
        signed_url_seconds: Lifetime of a signed URL [s].
    """

    uploads_bucket: str
    artifacts_bucket: str
    public_url: str
    signer_key_file: str
    signer_email: str
    signed_url_seconds: int


class QueueSettings(NamedTuple):
    """Where training tasks go.

    Attributes:
        queue: projects/P/locations/L/queues/Q.
        target_url: Base address of the function that does the work.
        tasks_email: Service account whose token the queue sends.
        oidc_audience: Audience of that token.
        emulator_host: host:port of an emulator, or empty.
    """

    queue: str
    target_url: str
    tasks_email: str
    oidc_audience: str
    emulator_host: str


class _Reader:
    """Collects faults while reading, so that one start names them all."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._faults: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(name, "").strip()
        if not value and default is None:
            self._faults.append(f"{name} is not set")
        return value or default or ""

    def seconds(self, name: str, default: int, longest: int) -> int:
        value = self._environ.get(name, "").strip()
        if not value:
            return default
        if not value.isdecimal() or not 1 <= int(value) <= longest:
            self._faults.append(f"{name} must be a number of seconds from 1 to {longest}, not {value!r}")
            return default
        return int(value)

    def demand(self, fault: str) -> None:
        self._faults.append(fault)

    def check(self) -> None:
        if self._faults:
            raise SettingsError("; ".join(self._faults))


# Google refuses V4 URLs that live longer: https://cloud.google.com/storage/docs/access-control/signed-urls
# and keys behind signBlob are only good for 12 hours:
# https://docs.cloud.google.com/storage/docs/authentication/creating-signatures
LONGEST_SIGNED_URL_S = 12 * 3600


DEFAULT_STORAGE_URL = "https://storage.googleapis.com"


def supabase_settings(environ: Mapping[str, str]) -> SupabaseSettings:
    """Read SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY and SUPABASE_SERVICE_KEY.

    Raises:
        SettingsError: One is missing.
    """
    read = _Reader(environ)
    settings = SupabaseSettings(
        url=read.text("SUPABASE_URL").rstrip("/"),
        publishable_key=read.text("SUPABASE_PUBLISHABLE_KEY"),
        service_key=read.text("SUPABASE_SERVICE_KEY"),
    )
    read.check()
    return settings


def auth_settings(environ: Mapping[str, str]) -> AuthSettings:
    """Read what tokens are checked against: JWT_*, OIDC_*, SCHEDULER_EMAIL, TASKS_EMAIL.

    Raises:
        SettingsError: Something is missing.
    """
    read = _Reader(environ)
    issuer = read.text("JWT_ISSUER", environ.get("SUPABASE_URL", "").rstrip("/") + "/auth/v1")
    settings = AuthSettings(
        issuer=issuer,
        audience=read.text("JWT_AUDIENCE", "authenticated"),
        jwks_url=read.text("JWT_JWKS_URL", f"{issuer}/.well-known/jwks.json"),
        hs256_secret=read.text("JWT_HS256_SECRET", ""),
        oidc_issuer=read.text("OIDC_ISSUER", "https://accounts.google.com"),
        oidc_jwks_url=read.text("OIDC_JWKS_URL", "https://www.googleapis.com/oauth2/v3/certs"),
        oidc_audience=read.text("OIDC_AUDIENCE", ""),
        scheduler_email=read.text("SCHEDULER_EMAIL", ""),
        tasks_email=read.text("TASKS_EMAIL", ""),
    )
    if not issuer.startswith(("http://", "https://")):
        read.demand("SUPABASE_URL or JWT_ISSUER must be set")
    read.check()
    return settings


def buckets(environ: Mapping[str, str]) -> Buckets:
    """Read UPLOADS_BUCKET and ARTIFACTS_BUCKET, for functions that sign nothing.

    Raises:
        SettingsError: One is missing.
    """
    read = _Reader(environ)
    names = Buckets(uploads=read.text("UPLOADS_BUCKET"), artifacts=read.text("ARTIFACTS_BUCKET"))
    read.check()
    return names


def storage_origin(environ: Mapping[str, str]) -> str:
    """Read STORAGE_PUBLIC_URL, for functions that only know signed addresses."""
    return environ.get("STORAGE_PUBLIC_URL", "").strip().rstrip("/") or DEFAULT_STORAGE_URL


def storage_settings(environ: Mapping[str, str]) -> StorageSettings:
    """Read the buckets, STORAGE_PUBLIC_URL, the signer and SIGNED_URL_SECONDS.

    Raises:
        SettingsError: Something is missing, or a lifetime is not a sensible number.
    """
    read = _Reader(environ)
    settings = StorageSettings(
        uploads_bucket=read.text("UPLOADS_BUCKET"),
        artifacts_bucket=read.text("ARTIFACTS_BUCKET"),
        public_url=storage_origin(environ),
        signer_key_file=read.text("SIGNER_KEY_FILE", ""),
        signer_email=read.text("SIGNER_EMAIL", ""),
        signed_url_seconds=read.seconds("SIGNED_URL_SECONDS", 3600, LONGEST_SIGNED_URL_S),
    )
    if not settings.signer_key_file and not settings.signer_email:
        read.demand("SIGNER_EMAIL or SIGNER_KEY_FILE must be set")
    read.check()
    return settings


def queue_settings(environ: Mapping[str, str], target: str = "TASKS_TARGET_URL") -> QueueSettings:
    """Read TASKS_QUEUE, the target's address, TASKS_EMAIL, OIDC_AUDIENCE and CLOUD_TASKS_EMULATOR_HOST.

    Args:
        target: Name of the variable that says where the function answers that does the work.

    Raises:
        SettingsError: Something is missing.
    """
    read = _Reader(environ)
    settings = QueueSettings(
        queue=read.text("TASKS_QUEUE"),
        target_url=read.text(target).rstrip("/"),
        tasks_email=read.text("TASKS_EMAIL"),
        oidc_audience=read.text("OIDC_AUDIENCE"),
        emulator_host=read.text("CLOUD_TASKS_EMULATOR_HOST", ""),
    )
    read.check()
    return settings


def allowed_origins(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the web origins that may read answers (ALLOWED_ORIGINS, comma separated)."""
    return frozenset(origin.strip() for origin in environ.get("ALLOWED_ORIGINS", "").split(",") if origin.strip())
