"""The object store behind the door: the way to it, and who may change a name right now."""

import asyncio
import weakref
from dataclasses import dataclass
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
