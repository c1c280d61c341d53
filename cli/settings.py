"""Where the service is and who calls it, read from the environment."""

from collections.abc import Mapping

from cli.auth import PasswordSignIn
from cli.client import Client
from cli.errors import SettingsError

DEFAULT_URL = "http://localhost:8080"
_SIGN_IN = ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "TRAINSHED_EMAIL", "TRAINSHED_PASSWORD")
VARIABLES = f"""\
environment:
  TRAINSHED_URL        address of the service (default {DEFAULT_URL})
  TRAINSHED_TOKEN      an access token; or, to sign in with e-mail and password:
  SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, TRAINSHED_EMAIL, TRAINSHED_PASSWORD

Without a token and without a sign-in, calls carry no token; a local stack takes them as its first user's.
"""


def client_from(environment: Mapping[str, str]) -> Client:
    """Return a client for the service and the user that the environment names.

    Raises:
        SettingsError: An address is none, or a part of what signing in needs is missing.
    """
    url = environment.get("TRAINSHED_URL") or DEFAULT_URL
    for name in ("TRAINSHED_URL", "SUPABASE_URL"):
        if not environment.get(name, "http://").startswith(("http://", "https://")):
            raise SettingsError(f"{name} must begin with http:// or https://.")
    if token := environment.get("TRAINSHED_TOKEN"):
        return Client(url, token)
    if not environment.get("TRAINSHED_EMAIL") and not environment.get("TRAINSHED_PASSWORD"):
        return Client(url)
    missing = [name for name in _SIGN_IN if not environment.get(name)]
    if missing:
        raise SettingsError(f"To sign in, set {', '.join(missing)} too.")
    return Client(url, PasswordSignIn(*(environment[name] for name in _SIGN_IN)))
