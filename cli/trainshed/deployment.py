"""A deployment's addresses, as the console reads them: `config.json`, which Terraform outputs as `console_config`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from trainshed.errors import SettingsError, UnreachableError
from trainshed.routes import Place

FILE = "config.json"
_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Deployment:
    """Where the servers of a deployment are.

    Attributes:
        place: Of the functions.
        supabase_url: Of the project; sign-in lies at /auth/v1.
    """

    place: Place
    supabase_url: str
    publishable_key: str


def read_deployment(source: str) -> Deployment:
    """Read a `config.json`.

    Args:
        source: The file; or its address, or that of the console beside which it lies.

    Raises:
        SettingsError: It cannot be read, or lacks something.
        UnreachableError: The console's server does not answer.
    """
    is_address = "://" in source
    address = _address_of(source) if is_address else ""
    content = _fetched(address) if is_address else _file(Path(source))
    try:
        document = json.loads(content)
    except ValueError as error:
        raise SettingsError(f"{address or source} is no JSON; give the {FILE} of a console.") from error
    return _deployment(document, address or source, address)


def check_address(address: str, name: str) -> None:
    """Demand an address with its scheme.

    Args:
        name: Of the setting, for the message.

    Raises:
        SettingsError: It is none.
    """
    if not address.startswith(("http://", "https://")):
        raise SettingsError(f"{name} must begin with http:// or https://.")


def _address_of(source: str) -> str:
    """Return where the `config.json` of a console lies; the addresses of its pages follow a #."""
    parts = urlsplit(source)
    # It says where the password goes: nobody on the way may change it.
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise SettingsError(f"{source} must begin with https://, because it says where the password goes.")
    path = parts.path.removesuffix("index.html")
    if not path.endswith(".json"):
        path = f"{path.rstrip('/')}/{FILE}"
    return parts._replace(path=path, query="", fragment="").geturl()


def _fetched(address: str) -> bytes:
    try:
        answer = httpx.get(address, timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise UnreachableError(f"{address} does not answer ({str(error) or type(error).__name__}).") from error
    if answer.status_code != httpx.codes.OK:
        raise SettingsError(f"{address} answers {answer.status_code}; give the address of a console, or of its {FILE}.")
    return answer.content


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"Cannot read {path}: {error.strerror}.") from error


def _deployment(document: Any, name: str, address: str) -> Deployment:
    if not isinstance(document, Mapping):
        raise SettingsError(f"{name} is no {FILE} of a console.")
    missing = [one for one in ("supabaseUrl", "supabasePublishableKey") if not isinstance(document.get(one), str)]
    if missing:
        raise SettingsError(f"{name} lacks {' and '.join(missing)}.")
    base, urls = document.get("baseUrl"), document.get("urls")
    if isinstance(urls, Mapping) and urls:
        place: Place = {str(function): str(url).rstrip("/") for function, url in urls.items()}
        for function, url in urls.items():
            check_address(str(url), f"urls.{function} in {name}")
    elif isinstance(base, str):
        # A console may have its functions on its own server, and say only their path.
        place = urljoin(address, base).rstrip("/")
        check_address(place, f"baseUrl in {name}")
    else:
        raise SettingsError(f"{name} needs baseUrl, or urls with the address of each function.")
    supabase_url = urljoin(address, document["supabaseUrl"]).rstrip("/")
    check_address(supabase_url, f"supabaseUrl in {name}")
    return Deployment(place, supabase_url, document["supabasePublishableKey"])
