"""Access tokens for the client: sessions of Supabase Auth."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx

from trainshed.errors import SignInError

# A token that ends within this time is replaced, so that none ends on its way [s].
RENEW_BEFORE_END_S = 60.0
_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class AuthSession:
    """What signing in brings.

    Attributes:
        refresh_token: Good for one renewal.
        lives_s: How long the access token is valid from now [s].
    """

    access_token: str
    refresh_token: str
    lives_s: float


def password_session(supabase_url: str, publishable_key: str, email: str, password: str) -> AuthSession:
    """Sign in with e-mail and password.

    Raises:
        SignInError: They are wrong, or the sign-in service does not answer.
    """
    return _ask(
        supabase_url,
        publishable_key,
        "password",
        {"email": email, "password": password},
        f"Cannot sign in as {email}",
    )


def refreshed_session(supabase_url: str, publishable_key: str, refresh_token: str) -> AuthSession:
    """Exchange a refresh token.

    Raises:
        SignInError: It was used, or ended, or the sign-in service does not answer.
    """
    body = {"refresh_token": refresh_token}
    return _ask(supabase_url, publishable_key, "refresh_token", body, "The sign-in has ended")


def sign_out(supabase_url: str, publishable_key: str, access_token: str) -> None:
    """End the session of an access token; its refresh token is of no use any more.

    Raises:
        SignInError: The sign-in service does not answer.
    """
    url = f"{supabase_url.rstrip('/')}/auth/v1/logout"
    headers = {**_headers(publishable_key), "Authorization": f"Bearer {access_token}"}
    try:
        httpx.post(url, params={"scope": "local"}, headers=headers, timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise SignInError(f"The sign-in service at {url} does not answer.") from error


class PasswordSignIn:
    """Calls as a token source: signs in on the first call and again shortly before the token ends.

    Safe to call from several threads; one of them signs in, the others wait.

    Args:
        supabase_url: Base address of the project; sign-in lies at /auth/v1.
        publishable_key: The project's publishable (anon) key.
    """

    def __init__(self, supabase_url: str, publishable_key: str, email: str, password: str) -> None:
        self._url = supabase_url
        self._key = publishable_key
        self._email = email
        self._password = password
        self._lock = threading.Lock()
        self._token = ""
        self._ends_at = 0.0

    def __call__(self) -> str:
        """Return a valid access token.

        Raises:
            SignInError: E-mail or password are wrong, or the sign-in service does not answer.
        """
        with self._lock:
            if time.monotonic() > self._ends_at - RENEW_BEFORE_END_S:
                session = password_session(self._url, self._key, self._email, self._password)
                self._token = session.access_token
                self._ends_at = time.monotonic() + session.lives_s
            return self._token

    def renew(self) -> None:
        """Sign in again on the next call, because the service does not take the token any more."""
        with self._lock:
            self._ends_at = 0.0


def _ask(url: str, key: str, grant: str, body: dict[str, str], failure: str) -> AuthSession:
    address = f"{url.rstrip('/')}/auth/v1/token"
    try:
        answer = httpx.post(address, params={"grant_type": grant}, headers=_headers(key), json=body, timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise SignInError(f"The sign-in service at {address} does not answer.", is_passing=True) from error
    try:
        document: dict[str, Any] = answer.json()
        if answer.is_success:
            refresh_token = str(document.get("refresh_token") or "")
            return AuthSession(str(document["access_token"]), refresh_token, float(document["expires_in"]))
        # Supabase Auth has used each of these names for the text.
        reason = document.get("msg") or document.get("message") or document.get("error_description")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SignInError(f"The sign-in service answered {answer.status_code} without a token.") from error
    text = str(reason or answer.status_code).rstrip(".")
    raise SignInError(f"{failure}: {text}.", is_passing=answer.status_code >= 500)


def _headers(key: str) -> dict[str, str]:
    """The key names the project; a service that is reached without Supabase's gateway needs none."""
    return {"apikey": key} if key else {}
