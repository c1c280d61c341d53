"""Function of the description: describe. What it says is made of the manifest and `shared/api`."""

import hashlib
import json
from functools import cache

from shared.web.endpoint import Call, Reply, endpoint
from shared.web.openapi import document
from shared.web.reference_page import POLICY, page


@endpoint
def describe(call: Call) -> Reply:
    """GET /openapi.json, GET /docs: the description of the API for programs and for people."""
    call.query()
    is_page = call.request.path.endswith("/docs")
    content, tag = _page() if is_page else _document()
    if call.has_copy(tag):
        return Reply.unchanged(tag)
    headers = {"ETag": f'"{tag}"', "Cache-Control": "public, max-age=300"}
    if is_page:
        return Reply(200, {}, headers | {"Content-Type": "text/html", "Content-Security-Policy": POLICY}, content)
    return Reply(200, {}, headers | {"Content-Type": "application/json"}, content)


@cache
def _document() -> tuple[bytes, str]:
    return _tagged(json.dumps(document(), ensure_ascii=False))


@cache
def _page() -> tuple[bytes, str]:
    return _tagged(page(document()))


def _tagged(text: str) -> tuple[bytes, str]:
    content = text.encode()
    return content, hashlib.sha256(content).hexdigest()[:32]
