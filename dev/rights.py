"""Holds each function to the rights that Terraform gives its service account (functions/manifest.yaml).

In the cloud a function that reaches beyond them is refused by IAM. Here its store, signer and queue refuse it, so that
a right that the manifest forgot is missed on a developer's machine and not after the deployment.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar
from unittest import mock

from shared.adapters import cloud_tasks, gcs, signing
from shared.records.objects import SignedUrl, StoredObject
from shared.records.training import TrainingTask
from shared.settings import StorageSettings

# What each signer may sign: its bucket, and methods with the prefix. Terraform has the same ones
# (infra/terraform/locals.tf).
SIGNERS: Mapping[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "artifacts": ("artifacts", [("GET", "")]),
    "conversions": ("artifacts", [("GET", ""), ("PUT", "conversions/")]),
    "results": ("artifacts", [("PUT", "results/")]),
    "uploads": ("uploads", [("PUT", "chunks/")]),
}


class MissingRightError(Exception):
    """A function did what functions/manifest.yaml gives it no right to do."""


@dataclass(frozen=True)
class Rights:
    """What one function may do.

    Attributes:
        function: Its name.
        entry: What the manifest says of it.
        buckets: `uploads` and `artifacts` by name of the bucket.
    """

    function: str
    entry: Mapping[str, Any]
    buckets: Mapping[str, str]

    def demand_objects(self, bucket_name: str, action: str, names: Iterable[str]) -> None:
        """Refuse an action on objects unless it is granted for the prefixes they lie below."""
        bucket = self.buckets[bucket_name]
        for place in sorted({name.partition("/")[0] for name in names}):
            self.demand(f"{action} {place}/ in {bucket}", f"{action} {place}/" in self.entry.get(bucket, ()))

    def demand(self, right: str, is_granted: bool) -> None:
        """Refuse what is not granted.

        Raises:
            MissingRightError: It is not.
        """
        if not is_granted:
            raise MissingRightError(f"{self.function} has no right to {right}: see functions/manifest.yaml.")


class _Store(gcs.GcsObjectStore):
    """A bucket as one function's account may use it."""

    rights: ClassVar[Rights]

    def list(self, prefix: str) -> list[StoredObject]:
        bucket = self.rights.buckets[self._bucket_name]
        self.rights.demand(f"list {bucket}", "list" in self.rights.entry.get(bucket, ()))
        return super().list(prefix)

    def stat(self, name: str) -> StoredObject:
        self.rights.demand_objects(self._bucket_name, "read", [name])
        return super().stat(name)

    def compose(self, sources: Sequence[StoredObject], destination: str, content_type: str) -> StoredObject:
        self.rights.demand_objects(self._bucket_name, "read", [source.name for source in sources])
        self.rights.demand_objects(self._bucket_name, "create", [destination])
        return super().compose(sources, destination, content_type)

    def write(self, name: str, content: bytes | BinaryIO, content_type: str) -> StoredObject:
        self.rights.demand_objects(self._bucket_name, "create", [name])
        return super().write(name, content, content_type)

    @contextlib.contextmanager
    def writing(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        self.rights.demand_objects(self._bucket_name, "create", [name])
        with super().writing(name, content_type) as file:
            yield file

    def read(self, name: str, *, generation: int | None = None, start: int = 0) -> Iterator[bytes]:
        self.rights.demand_objects(self._bucket_name, "read", [name])
        return super().read(name, generation=generation, start=start)

    def delete(self, objects: Iterable[StoredObject]) -> int:
        doomed = [*objects]
        self.rights.demand_objects(self._bucket_name, "delete", [stored.name for stored in doomed])
        return super().delete(doomed)


class _Signer(signing.GcsUrlSigner):
    """The signer as one function's account may use it."""

    rights: ClassVar[Rights]

    def __init__(self, settings: StorageSettings, bucket: str) -> None:
        super().__init__(settings, bucket)
        self._signed_bucket = self.rights.buckets[bucket]

    def sign(self, method: str, name: str, **options: Any) -> SignedUrl:
        bucket, allowed = SIGNERS.get(self.rights.entry.get("signs", ""), ("", ()))
        is_granted = self._signed_bucket == bucket and any(
            method == one and name.startswith(prefix) for one, prefix in allowed
        )
        self.rights.demand(f"sign {method} of {name.partition('/')[0]}/", is_granted)
        return super().sign(method, name, **options)


class _Jobs(cloud_tasks.CloudTasksJobs):
    """The queue as one function's account may use it."""

    rights: ClassVar[Rights]

    def enqueue(self, name: str, body: Mapping[str, Any]) -> None:
        self.rights.demand("queue tasks", self.rights.entry.get("enqueues", False))
        super().enqueue(name, body)


class _Queue(cloud_tasks.CloudTasksQueue):
    """The queue of training as one function's account may use it."""

    rights: ClassVar[Rights]

    def enqueue(self, task: TrainingTask) -> None:
        self.rights.demand("queue tasks", self.rights.entry.get("enqueues", False))
        super().enqueue(task)


@contextlib.contextmanager
def held_to(rights: Rights) -> Iterator[None]:
    """Let what is imported meanwhile have these rights and no others."""
    held = {"rights": rights}
    with (
        mock.patch.object(gcs, "GcsObjectStore", type("GcsObjectStore", (_Store,), held)),
        mock.patch.object(signing, "GcsUrlSigner", type("GcsUrlSigner", (_Signer,), held)),
        mock.patch.object(cloud_tasks, "CloudTasksJobs", type("CloudTasksJobs", (_Jobs,), held)),
        mock.patch.object(cloud_tasks, "CloudTasksQueue", type("CloudTasksQueue", (_Queue,), held)),
    ):
        yield
