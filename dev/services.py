"""The stack's own small server: identity and the decisions of the storage door, behind the gateway.

`python -m dev.services --port N`
"""

import argparse
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

from dev.door.emulator import Emulator
from dev.door.files import ObjectFiles
from dev.door.internal import InternalDoor
from dev.door.public import PublicDoor
from dev.door.rules import load_cors
from dev.home import home_from
from dev.identity import Identity
from dev.keys import SIGNER_EMAIL, Keys

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def build_app() -> Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]:
    """Return the app, set up from the environment that `dev.start` gives it.

    The gateway says in `X-Door` which door a request came through; it removes that header from what
    clients send.
    """
    home = home_from(os.environ)
    keys = Keys(home)
    origins = frozenset(os.environ["ALLOWED_ORIGINS"].split(","))
    emulator, files = Emulator(os.environ["GCS_URL"]), ObjectFiles(home.storage)
    buckets = {"uploads": os.environ["UPLOADS_BUCKET"], "artifacts": os.environ["ARTIFACTS_BUCKET"]}
    public = PublicDoor(emulator, files, load_cors(buckets, origins), SIGNER_EMAIL, keys.signer_public_key)
    internal = InternalDoor(emulator, files)
    identity = Starlette(routes=Identity(keys, os.environ["JWT_ISSUER"], origins).routes())

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        door = dict(scope.get("headers", ())).get(b"x-door", b"").decode()
        if not door:
            await identity(scope, receive, send)
            return
        request = Request(scope, receive)
        kind, _, step = door.partition("-")
        answer = await (public.answer(request, step) if kind == "public" else internal.answer(request, step))
        await answer(scope, receive, send)

    return app


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(prog="python -m dev.services")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(build_app(), host="127.0.0.1", port=port, log_level="warning", proxy_headers=False, lifespan="off")


if __name__ == "__main__":
    main()
