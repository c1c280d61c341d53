"""Access tokens for the client: sign-in with e-mail and password at Supabase Auth."""

import threading
import time

import httpx

from cli.errors import SignInError

# A token that ends within this time is replaced, so that none ends on its way [s].
_RENEW_BEFORE_END_S = 60.0


class PasswordSignIn:
    """Calls as a token source: signs in on the first call and again shortly before the token ends.

    Safe to call from several threads; one of them signs in, the others wait.

    Args:
        supabase_url: Base address of the project; sign-in lies at /auth/v1.
        publishable_key: The project's publishable (anon) key.
    """

    def __init__(
        self,
        supabase_url: str,
        publishable_key: str,
        email: str,
        password: str,
        *,
        timeout_s: float = 15.0,
    ) -> None:
        self._url = f"{supabase_url.rstrip('/')}/auth/v1/token"
        self._key = publishable_key
        self._email = email
        self._password = password
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._token = ""
        self._ends_at = 0.0

    def __call__(self) -> str:
        """Return a valid access token.

        Raises:
            SignInError: E-mail or password are wrong, or the sign-in service does not answer.
        """
        with self._lock:
            if time.monotonic() > self._ends_at - _RENEW_BEFORE_END_S:
                self._sign_in()
            return self._token

    def _sign_in(self) -> None:
        try:
            answer = httpx.post(
                self._url,
                params={"grant_type": "password"},
                headers={"apikey": self._key},
                json={"email": self._email, "password": self._password},
                timeout=self._timeout_s,
            )
        except httpx.HTTPError as error:
            raise SignInError(f"The sign-in service at {self._url} does not answer.") from error
        try:
            document = answer.json()
            if answer.is_success:
                self._token = str(document["access_token"])
                self._ends_at = time.monotonic() + float(document["expires_in"])
                return
            # Supabase Auth has used each of these names for the text.
            reason = document.get("msg") or document.get("message") or document.get("error_description")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SignInError(f"The sign-in service answered {answer.status_code} without a token.") from error
        raise SignInError(f"Cannot sign in as {self._email}: {reason or answer.status_code}.")
