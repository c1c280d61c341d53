"""The sign-in that `trainshed login` keeps: a file that only its owner can read, below the user's configuration.

A Supabase session is an access token that lives an hour and a refresh token that is good for one use. So a renewal is
made under a lock, by one process, and what it brings is written before anybody uses it.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from trainshed.auth import RENEW_BEFORE_END_S, AuthSession, password_session, refreshed_session, sign_out
from trainshed.deployment import Deployment
from trainshed.errors import SettingsError, SignInError
from trainshed.routes import Place

FOLDER = "trainshed"
FILE = "session.json"


@dataclass(frozen=True)
class SavedSession:
    """Where somebody is signed in, and as whom.

    Attributes:
        url: Address of Trainshed; empty where each function has one of its own.
        supabase_url: Of the project; sign-in lies at /auth/v1.
        ends_at: When the access token ends [s since 1970].
        urls: The address of each function, where each has one of its own.
    """

    url: str
    supabase_url: str
    publishable_key: str
    email: str
    access_token: str
    refresh_token: str
    ends_at: float
    urls: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Where the functions are."""
        return self.urls or self.url

    def renewed(self, session: AuthSession) -> "SavedSession":
        """Return the same sign-in with other tokens."""
        return replace(
            self,
            access_token=session.access_token,
            refresh_token=session.refresh_token or self.refresh_token,
            ends_at=time.time() + session.lives_s,
        )


def session_file(environment: Mapping[str, str]) -> Path:
    """Return where the sign-in is kept: https://specifications.freedesktop.org/basedir-spec/latest/."""
    configured = environment.get("XDG_CONFIG_HOME", "")
    # The specification has relative paths ignored.
    base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".config"
    return base / FOLDER / FILE


def load(path: Path) -> SavedSession | None:
    """Return the sign-in that is kept, or None.

    Raises:
        SettingsError: The file cannot be read, or others can read it too.
    """
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            document = json.load(file)
        if os.name == "posix" and mode & 0o077:
            raise SettingsError(f"Others can read {path}. Run: chmod 600 {path}")
        return SavedSession(**document)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{path} is no sign-in of this version. Sign in again: trainshed login") from error


def save(path: Path, session: SavedSession) -> None:
    """Keep a sign-in; a reader sees the old one or the new one, whole.

    Raises:
        SettingsError: It cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with mode 0600.
        with NamedTemporaryFile("w", dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
            try:
                json.dump(asdict(session), file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise SettingsError(f"Cannot write {path}: {error.strerror}.") from error


def log_in(path: Path, deployment: Deployment, email: str, password: str) -> SavedSession:
    """Sign in and keep it.

    Raises:
        SignInError: E-mail or password are wrong, or the sign-in service does not answer.
        SettingsError: It cannot be kept.
    """
    place, supabase_url, key = deployment.place, deployment.supabase_url, deployment.publishable_key
    found = password_session(supabase_url, key, email, password)
    url, urls = (place, {}) if isinstance(place, str) else ("", place)
    session = SavedSession(url, supabase_url, key, email, "", "", 0.0, urls).renewed(found)
    with _locked(path):
        save(path, session)
    return session


def log_out(path: Path) -> SavedSession | None:
    """Forget the sign-in and, as far as the service answers, end it; return what there was."""
    with _locked(path):
        session = load(path)
        path.unlink(missing_ok=True)
    if session is not None:
        # Here it is forgotten whatever the service says; there it ends by itself.
        with suppress(SignInError):
            sign_out(session.supabase_url, session.publishable_key, session.access_token)
    return session


class SavedSignIn:
    """Calls as a token source: the access token of the kept sign-in, renewed when it is about to end.

    Safe in several threads and processes.
    """

    def __init__(self, path: Path, session: SavedSession) -> None:
        self._path = path
        self._session = session

    def __call__(self) -> str:
        """Return a valid access token.

        Raises:
            SignInError: The sign-in has ended, or the sign-in service does not answer.
        """
        if time.time() > self._session.ends_at - RENEW_BEFORE_END_S:
            self._renew()
        return self._session.access_token

    def renew(self) -> None:
        """Replace an access token that the service does not take any more.

        Raises:
            SignInError: As in a call.
        """
        self._renew()

    def _renew(self) -> None:
        with _locked(self._path):
            kept = load(self._path)
            if kept is None or (kept.email, kept.supabase_url) != (self._session.email, self._session.supabase_url):
                raise SignInError("The sign-in was ended. Sign in again: trainshed login")
            if kept.access_token == self._session.access_token:
                try:
                    renewed = refreshed_session(kept.supabase_url, kept.publishable_key, kept.refresh_token)
                except SignInError as error:
                    raise SignInError(f"{error} Sign in again: trainshed login") from error
                kept = kept.renewed(renewed)
                save(self._path, kept)
            # Otherwise another process or thread has renewed it meanwhile.
            self._session = kept


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time renew the sign-in."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            _lock(lock)
            yield
    except OSError as error:
        raise SettingsError(f"Cannot use {path.parent}: {error.strerror}.") from error


def _lock(file: Any) -> None:
    try:
        import fcntl  # noqa: PLC0415 - not on Windows, where a renewal at the same moment asks to sign in again
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX)
