"""`trainshed doctor`: checks, from this machine to the bucket, what a client needs, each with the way to mend it."""

import importlib.metadata
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import google_crc32c
import httpx

from trainshed.client import Client
from trainshed.errors import ServiceError, SignInError, TrainshedError, UnreachableError
from trainshed.routes import BASE_PATH, ROUTES, Place, origin, url_of
from trainshed.run_files import crc32c_text
from trainshed.settings import Settings
from trainshed.version import VERSION

# A signed address is refused, and a token not valid yet, when clocks differ by more than some minutes; tokens are
# renewed a minute before they end.
_MOST_SKEW_S = 60.0
_SLOWEST_ANSWER_S = 15.0
_CONTENT = b"trainshed doctor\n"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        is_ok: None where it could not be looked at, because an earlier one failed.
        found: What is so.
        fix: What to do about it, where something is wrong.
    """

    name: str
    is_ok: bool | None
    found: str
    fix: str = ""


def run_checks(settings: Settings) -> Iterator[Check]:
    """Yield one check after the other; where one fails, what depends on it is not looked at."""
    yield _versions()
    yield _checksums()
    reached, clock = _address(settings.place)
    yield reached
    if not reached.is_ok:
        for name in ("clock", "sign-in", "upload"):
            yield Check(name, None, "not looked at: the service does not answer")
        return
    yield clock
    with Client(settings.place, settings.token) as client:
        token = _sign_in(client, settings)
        yield token
        yield _upload(client) if token.is_ok else Check("upload", None, "not looked at: not signed in")


def _versions() -> Check:
    found = {"trainshed": VERSION, "Python": platform.python_version(), "httpx": importlib.metadata.version("httpx")}
    return Check("versions", True, ", ".join(f"{name} {version}" for name, version in found.items()))


def _checksums() -> Check:
    if google_crc32c.implementation == "c":
        return Check("checksums", True, "google-crc32c computes them in C")
    return Check(
        "checksums",
        False,
        "google-crc32c has only its slow form in Python here; uploads take many times as long",
        "pip install --force-reinstall --only-binary :all: google-crc32c",
    )


def _address(place: Place) -> tuple[Check, Check]:
    """Ask the service for anything; what it answers tells that it is there, and what time it has."""
    lacking = [] if isinstance(place, str) else [name for name in ROUTES if name not in place]
    if lacking:
        fix = "Sign in with the map as it is now: terraform output -json console_config, trainshed login --config."
        return Check("address", False, f"no address is known of {', '.join(lacking)}", fix), Check("clock", None, "")
    address = url_of(place, "list-sessions")
    url = origin(address)
    try:
        asked = time.time()
        answer = httpx.get(address, params={"limit": "1"}, timeout=_SLOWEST_ANSWER_S)
        took_s = time.time() - asked
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        where = "Is `make start` running?" if urlsplit(url).hostname in {"localhost", "127.0.0.1"} else ""
        fix = f"Compare the address (TRAINSHED_URL, or trainshed login --url), and any proxy (HTTPS_PROXY). {where}"
        return Check("address", False, f"{url} does not answer: {reason}", fix.strip()), Check("clock", None, "")
    if "application/json" not in answer.headers.get("Content-Type", "") and "problem+json" not in answer.headers.get(
        "Content-Type", ""
    ):
        found = f"{url} answers {answer.status_code}, but not as Trainshed does"
        fix = f"Give the address that comes before {BASE_PATH}: TRAINSHED_URL, or trainshed login --url."
        return Check("address", False, found, fix), Check("clock", None, "")
    return Check("address", True, f"{url} answers in {took_s * 1000:.0f} ms"), _clock(answer, asked + took_s / 2)


def _clock(answer: httpx.Response, here: float) -> Check:
    try:
        there = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return Check("clock", True, "the service does not say what time it has")
    # The header has whole seconds.
    skew_s = here - there - 0.5
    if abs(skew_s) <= _MOST_SKEW_S:
        return Check("clock", True, f"within {max(1, round(abs(skew_s)))} s of the service's")
    direction = "ahead of" if skew_s > 0 else "behind"
    fix = "Set the clock: sudo timedatectl set-ntp true (Linux), or the time settings of the system."
    return Check(
        "clock", False, f"{abs(skew_s):,.0f} s {direction} the service's; tokens and addresses are refused", fix
    )


def _sign_in(client: Client, settings: Settings) -> Check:
    try:
        client.list_sessions(limit=1)
    except SignInError as error:
        return Check("sign-in", False, str(error), "trainshed login")
    except ServiceError as error:
        if error.code == "unauthenticated":
            missing = settings.token is None
            fix = "trainshed login" if missing else "Sign in again (trainshed login), or renew TRAINSHED_TOKEN."
            return Check("sign-in", False, f"the service does not take the token: {error.detail}", fix)
        return Check("sign-in", False, f"{error.detail} (request {error.request_id})", "Report the request id.")
    except UnreachableError as error:
        return Check("sign-in", False, str(error), "Try again; then look at the service.")
    return Check("sign-in", True, f"the service takes calls {settings.caller}")


def _upload(client: Client) -> Check:
    """Store one chunk by a signed request, and take it away again."""
    session = f"doctor-{uuid.uuid4()}"
    undo: list[Callable[[], object]] = []
    try:
        client.init_session(session)
        undo.append(lambda: client.delete_session(session))
        upload = client.create_upload(session, "doctor.txt", len(_CONTENT))
        undo.append(lambda: client.abort_upload(upload["uploadId"]))
        checksum = crc32c_text(google_crc32c.value(_CONTENT))
        signed = client.sign_chunks(upload["uploadId"], {0: checksum})[0]
        host = urlsplit(signed["url"]).netloc
        try:
            answer = client.put_chunk(signed, [_CONTENT])
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            fix = f"Allow connections to {host}, in the firewall and in the proxy (HTTPS_PROXY, NO_PROXY)."
            return Check("upload", False, f"the bucket at {host} does not answer: {reason}", fix)
        if not answer.is_success:
            return _refused(host, answer)
        stored = client.get_upload(upload["uploadId"])["received"]
        if [chunk["crc32c"] for chunk in stored] != [checksum]:
            return Check(
                "upload", False, "the service does not see what was stored", "Report it: the bucket is another."
            )
    except TrainshedError as error:
        fix = "Delete sessions, or wait for the next period." if _is_quota(error) else "Report it, with the request id."
        return Check("upload", False, str(error), fix)
    finally:
        for step in reversed(undo):
            with suppress(TrainshedError):
                step()
    return Check("upload", True, f"the bucket at {host} takes a signed chunk, and it can be deleted again")


def _refused(host: str, answer: httpx.Response) -> Check:
    found = f"the bucket at {host} answers {answer.status_code}: {' '.join(answer.text.split())[:200]}"
    if "SignatureDoesNotMatch" in answer.text:
        return Check(
            "upload",
            False,
            found,
            "Something on the way changes headers or addresses: try without the proxy (NO_PROXY).",
        )
    return Check("upload", False, found, "Those who run the service find out why with: make doctor")


def _is_quota(error: TrainshedError) -> bool:
    return isinstance(error, ServiceError) and error.code in {"processing_limit_reached", "storage_limit_reached"}
