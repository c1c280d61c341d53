"""Where the service is and who calls it: read from the environment, then from what `trainshed login` keeps."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from trainshed.auth import PasswordSignIn
from trainshed.client import Client, TokenSource
from trainshed.credentials import SavedSignIn, load, session_file
from trainshed.errors import SettingsError

DEFAULT_URL = "http://localhost:8080"
_SIGN_IN = ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "TRAINSHED_EMAIL", "TRAINSHED_PASSWORD")
VARIABLES = f"""\
environment:
  TRAINSHED_URL      address of the service (default: where you are logged in, or {DEFAULT_URL})
  TRAINSHED_TOKEN    an access token, instead of `trainshed login`
  SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, TRAINSHED_EMAIL, TRAINSHED_PASSWORD
                     sign in with these for each command, for jobs
  XDG_CONFIG_HOME    `trainshed login` keeps its sign-in in trainshed/ below it (default: ~/.config)
  NO_COLOR           no colors

Without a token and without a sign-in, calls carry no token; a local stack takes them as its first user's.
"""


@dataclass(frozen=True)
class Settings:
    """Which service, and as whom.

    Attributes:
        caller: Whose calls that are, in words.
    """

    url: str
    token: TokenSource
    caller: str


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the settings; what comes first of token, password and kept sign-in counts.

    Raises:
        SettingsError: An address is none, or a part of what signing in needs is missing.
    """
    for name in ("TRAINSHED_URL", "SUPABASE_URL"):
        check_address(environment.get(name, "http://"), name)
    url = environment.get("TRAINSHED_URL", "").rstrip("/")
    if token := environment.get("TRAINSHED_TOKEN"):
        return Settings(url or DEFAULT_URL, token, "with the token of TRAINSHED_TOKEN")
    if environment.get("TRAINSHED_EMAIL") or environment.get("TRAINSHED_PASSWORD"):
        missing = [name for name in _SIGN_IN if not environment.get(name)]
        if missing:
            raise SettingsError(f"To sign in, set {', '.join(missing)} too.")
        sign_in = PasswordSignIn(*(environment[name] for name in _SIGN_IN))
        return Settings(url or DEFAULT_URL, sign_in, f"of {environment['TRAINSHED_EMAIL']}")
    path = session_file(environment)
    session = load(path)
    # A token is for the service it was given for, and nobody else gets to see it.
    if session is not None and url in {"", session.url}:
        return Settings(session.url, SavedSignIn(path, session), f"of {session.email}")
    return Settings(url or DEFAULT_URL, None, "without a token")


def check_address(address: str, name: str) -> None:
    """Demand an address with its scheme.

    Args:
        name: Of the setting, for the message.

    Raises:
        SettingsError: It is none.
    """
    if not address.startswith(("http://", "https://")):
        raise SettingsError(f"{name} must begin with http:// or https://.")


def client_from(environment: Mapping[str, str]) -> Client:
    """Return a client for the service and the user that the settings name.

    Raises:
        SettingsError: An address is none, or a part of what signing in needs is missing.
    """
    settings = settings_from(environment)
    return Client(settings.url, settings.token)


def connect() -> Client:
    """Return a client for the service and the user that the `trainshed` command would use here.

    Raises:
        SettingsError: An address is none, or a part of what signing in needs is missing.
    """
    return client_from(os.environ)
