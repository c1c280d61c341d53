"""The object store behind the door: what it holds, and who may change a name right now."""

import asyncio
import weakref
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

# Uploads land here first and get their name only when they are complete and wanted.
INCOMING_BUCKET = "door-incoming"


@dataclass(frozen=True)
class ObjectName:
    """An object's bucket and name."""

    bucket: str
    name: str

    @property
    def path(self) -> str:
        """Path of the object's metadata in the JSON API."""
        return f"/storage/v1/b/{self.bucket}/o/{quote(self.name, safe='')}"


class Emulator:
    """Calls fake-gcs-server through its JSON API."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        self.http = httpx.AsyncClient(base_url=url, timeout=None, limits=limits, trust_env=False)
        self._locks: weakref.WeakValueDictionary[ObjectName, asyncio.Lock] = weakref.WeakValueDictionary()

    def lock(self, target: ObjectName) -> asyncio.Lock:
        """Return the lock under which that name's object is checked and changed."""
        lock = self._locks.get(target)
        if lock is None:
            lock = self._locks[target] = asyncio.Lock()
        return lock

    async def metadata(self, target: ObjectName) -> dict[str, Any] | None:
        """Return the object's resource, or None if there is no such object."""
        answer = await self.http.get(target.path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def existing(self, target: ObjectName) -> dict[str, Any]:
        """Return the resource of an object that was stored a moment ago."""
        resource = await self.metadata(target)
        assert resource is not None, target
        return resource

    async def has_bucket(self, bucket: str) -> bool:
        """Tell whether there is such a bucket."""
        answer = await self.http.get(f"/storage/v1/b/{bucket}")
        return answer.is_success

    async def delete(self, target: ObjectName) -> httpx.Response:
        """Delete an object; its absence is an answer, not an error."""
        return await self.http.delete(target.path)
