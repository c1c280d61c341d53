"""Where the service is and who calls it: read from the environment, then from what `trainshed login` keeps."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from trainshed.auth import PasswordSignIn
from trainshed.client import Client, TokenSource
from trainshed.credentials import SavedSignIn, load, session_file
from trainshed.deployment import check_address, read_deployment
from trainshed.errors import SettingsError
from trainshed.routes import Place

DEFAULT_URL = "http://localhost:8080"
_SIGN_IN = ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "TRAINSHED_EMAIL", "TRAINSHED_PASSWORD")
VARIABLES = f"""\
environment:
  TRAINSHED_URL      address of the service (default: where you are logged in, or {DEFAULT_URL})
  TRAINSHED_CONFIG   config.json of a console, a file or its address, instead of TRAINSHED_URL, SUPABASE_URL and
                     SUPABASE_PUBLISHABLE_KEY; where each function has an address of its own, it has all of them
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
        place: Address of the service, or of each function.
        caller: Whose calls that are, in words.
    """

    place: Place
    token: TokenSource
    caller: str


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the settings; what comes first of token, password and kept sign-in counts.

    Raises:
        SettingsError: An address is none, or a part of what signing in needs is missing.
        UnreachableError: TRAINSHED_CONFIG is an address, and nobody answers there.
    """
    for name in ("TRAINSHED_URL", "SUPABASE_URL"):
        check_address(environment.get(name, "http://"), name)
    place: Place = environment.get("TRAINSHED_URL", "").rstrip("/")
    if config := environment.get("TRAINSHED_CONFIG"):
        if place:
            raise SettingsError(
                "TRAINSHED_CONFIG says where the service is, and so does TRAINSHED_URL: set one of them."
            )
        deployment = read_deployment(config)
        place = deployment.place
        said = {"SUPABASE_URL": deployment.supabase_url, "SUPABASE_PUBLISHABLE_KEY": deployment.publishable_key}
        environment = {**environment, **said}
    if token := environment.get("TRAINSHED_TOKEN"):
        return Settings(place or DEFAULT_URL, token, "with the token of TRAINSHED_TOKEN")
    if environment.get("TRAINSHED_EMAIL") or environment.get("TRAINSHED_PASSWORD"):
        missing = [name for name in _SIGN_IN if not environment.get(name)]
        if missing:
            raise SettingsError(f"To sign in, set {', '.join(missing)} too.")
        sign_in = PasswordSignIn(*(environment[name] for name in _SIGN_IN))
        return Settings(place or DEFAULT_URL, sign_in, f"of {environment['TRAINSHED_EMAIL']}")
    path = session_file(environment)
    session = load(path)
    # A token is for the service it was given for, and nobody else gets to see it.
    if session is not None and place in ("", session.place):
        return Settings(session.place, SavedSignIn(path, session), f"of {session.email}")
    return Settings(place or DEFAULT_URL, None, "without a token")


def client_from(environment: Mapping[str, str]) -> Client:
    """Return a client for the service and the user that the settings name.

    Raises:
        SettingsError: An address is none, or a part of what signing in needs is missing.
    """
    settings = settings_from(environment)
    return Client(settings.place, settings.token)


def connect() -> Client:
    """Return a client for the service and the user that the `trainshed` command would use here.

    Raises:
        SettingsError: An address is none, or a part of what signing in needs is missing.
    """
    return client_from(os.environ)
