"""The functions that this package calls: the route of each, and where it is.

The names and routes are those of functions/manifest.yaml (compared by tests/architecture).
"""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from trainshed.errors import ServiceError, SettingsError

# What the front door has before every route; a function's own address has none.
BASE_PATH = "/api/training"

ROUTES: Mapping[str, tuple[str, str]] = {
    "init-session": ("POST", "/init-session"),
    "list-sessions": ("GET", "/list-sessions"),
    "get-session": ("GET", "/session/{session_id}"),
    "delete-session": ("POST", "/session/{session_id}/delete"),
    "create-upload": ("POST", "/uploads"),
    "sign-chunks": ("POST", "/uploads/{upload_id}/chunks"),
    "get-upload": ("GET", "/uploads/{upload_id}"),
    "assemble-upload": ("POST", "/uploads/{upload_id}/assemble"),
    "abort-upload": ("POST", "/uploads/{upload_id}/abort"),
    "finalize-session": ("POST", "/finalize-session"),
    "train": ("POST", "/train/{session_id}"),
    "get-training": ("GET", "/train/{session_id}"),
    "cancel-training": ("POST", "/train/{session_id}/cancel"),
    "save-model": ("POST", "/save-model/{session_id}"),
    "list-models": ("GET", "/list-models-database/{session_id}"),
    "download-model": ("GET", "/download-model-h5/{session_id}"),
    "download-archive": ("GET", "/download-archive/{session_id}"),
    "publish": ("POST", "/publish/{session_id}"),
    "plot-variables": ("GET", "/plot-variables/{session_id}"),
    "visualizations": ("GET", "/visualizations/{session_id}"),
    "scalers": ("GET", "/scalers/{session_id}"),
    "evaluation-tables": ("GET", "/evaluation-tables/{session_id}"),
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
    _, path = ROUTES[name]
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
