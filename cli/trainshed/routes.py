"""The functions that this package calls: the route of each, and where it is.

The names and routes are those of functions/manifest.yaml (compared by tests/architecture).
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from trainshed.errors import ServiceError, SettingsError

# What the front door has before every route; a function's own address has none.
BASE_PATH = "/api/training"


class Route(NamedTuple):
    """How a function is asked.

    Attributes:
        timeout_s: The longest that it may take to answer [s].
    """

    method: str
    path: str
    timeout_s: int


ROUTES: Mapping[str, Route] = {
    "init-session": Route("POST", "/init-session", 30),
    "list-sessions": Route("GET", "/list-sessions", 30),
    "get-session": Route("GET", "/session/{session_id}", 30),
    "delete-session": Route("POST", "/session/{session_id}/delete", 300),
    "create-upload": Route("POST", "/uploads", 60),
    "sign-chunks": Route("POST", "/uploads/{upload_id}/chunks", 60),
    "get-upload": Route("GET", "/uploads/{upload_id}", 60),
    "assemble-upload": Route("POST", "/uploads/{upload_id}/assemble", 300),
    "abort-upload": Route("POST", "/uploads/{upload_id}/abort", 300),
    "finalize-session": Route("POST", "/finalize-session", 60),
    "train": Route("POST", "/train/{session_id}", 60),
    "get-training": Route("GET", "/train/{session_id}", 30),
    "cancel-training": Route("POST", "/train/{session_id}/cancel", 60),
    "save-model": Route("POST", "/save-model/{session_id}", 540),
    "list-models": Route("GET", "/list-models-database/{session_id}", 30),
    "download-model": Route("GET", "/download-model-h5/{session_id}", 60),
    "download-archive": Route("GET", "/download-archive/{session_id}", 120),
    "publish": Route("POST", "/publish/{session_id}", 60),
    "plot-variables": Route("GET", "/plot-variables/{session_id}", 300),
    "visualizations": Route("GET", "/visualizations/{session_id}", 60),
    "scalers": Route("GET", "/scalers/{session_id}", 30),
    "evaluation-tables": Route("GET", "/evaluation-tables/{session_id}", 30),
}

# The address of a front door, or the address of each function by its name, as Terraform outputs them.
Place = str | Mapping[str, str]


def url_of(place: Place, name: str, **ids: str) -> str:
    """Return the address of a request to a function.

    Args:
        place: An address that has a path already says where the functions are; else they lie below /api/training.
        ids: What the route's variables stand for.

    Raises:
        ServiceError: There is no such session or upload, because none can have that id.
        SettingsError: The map lacks the function.
    """
    for variable, text in ids.items():
        _check_id(variable.removesuffix("_id"), text)
    path = ROUTES[name].path
    return _base(place, name) + path.format(**{variable: quote(text, safe="") for variable, text in ids.items()})


def origin(url: str) -> str:
    """Return an address as far as its server goes."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _base(place: Place, name: str) -> str:
    if isinstance(place, str):
        base = place.rstrip("/")
        return base if urlsplit(base).path else f"{base}{BASE_PATH}"
    if not place.get(name):
        raise SettingsError(
            f"No address is known of the function {name}. Take the map anew: terraform output -json function_urls, or, "
            "for the command, console_config and trainshed login --config."
        )
    return place[name].rstrip("/")


def _check_id(kind: str, text: str) -> None:
    """Answer as the service would, were it asked: a slash or dots alone lead to another address, or to none."""
    if "/" in text or not text.strip(".") or not text.isprintable():
        detail = f"There is no {kind} {text!r}: an id has no slash and no line end, and is not of dots alone."
        raise ServiceError(404, f"{kind}_not_found", detail)
