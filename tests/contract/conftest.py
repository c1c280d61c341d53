"""The repositories in memory and on Supabase, each with what their suite needs to look at and to change."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Protocol

import pytest

from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.ports import SessionRepository, UploadRepository
from shared.records.callers import Caller, CallerKind
from tests.factories import a_caller, a_uuid
from tests.fakes.sessions import InMemoryDatabase, InMemorySessions, Subscription
from tests.fakes.uploads import InMemoryUploads
from tests.local_stack import LocalStack, People


class Backend(Protocol):
    """Both repositories on one database."""

    sessions: SessionRepository
    uploads: UploadRepository

    def user(self, **plan: Any) -> Caller:
        """Add a user with a plan of these limits."""

    def service(self) -> Caller:
        """Return a service caller."""

    def usage(self, caller: Caller) -> tuple[int, int]:
        """Return processing units and bytes that a user uses."""

    def renew(self, caller: Caller) -> None:
        """Begin a new period of the user's subscription now."""

    def make_older(self, upload_id: str, **duration: float) -> None:
        """Let an upload be last changed so long before now, and its lease end so much earlier."""

    def make_deletion_older(self, session_uuid: str, **duration: float) -> None:
        """Let a deletion have begun so much earlier."""


class MemoryBackend:
    def __init__(self) -> None:
        self._database = InMemoryDatabase()
        self.sessions = InMemorySessions(self._database)
        self.uploads = InMemoryUploads(self._database)

    def user(self, *, is_subscribed: bool = True, status: str = "active", **plan: Any) -> Caller:
        caller = a_caller(a_uuid())
        if is_subscribed:
            self._database.subscriptions[caller.user_id] = Subscription(is_active=status == "active", **plan)
        return caller

    def service(self) -> Caller:
        return a_caller(kind=CallerKind.SERVICE)

    def usage(self, caller: Caller) -> tuple[int, int]:
        usage = self._database.usage.get(caller.user_id)
        return (usage.processing_used, usage.bytes_stored) if usage else (0, 0)

    def renew(self, caller: Caller) -> None:
        self._database.subscriptions[caller.user_id].period_start = self._database.tick()

    def make_older(self, upload_id: str, **duration: float) -> None:
        row = self._database.uploads[upload_id]
        changed_at = row.record.updated_at - timedelta(**duration)
        object.__setattr__(row.record, "updated_at", changed_at)
        if row.lease_expires_at:
            row.lease_expires_at -= timedelta(**duration)

    def make_deletion_older(self, session_uuid: str, **duration: float) -> None:
        self._database.sessions[session_uuid].deleting_at -= timedelta(**duration)


class SupabaseBackend:
    def __init__(self, stack: LocalStack, people: People) -> None:
        self._stack = stack
        self._people = people
        self.sessions = SupabaseSessions(stack.database)
        self.uploads = SupabaseUploads(stack.database)

    def user(self, **plan: Any) -> Caller:
        return self._people.add(**plan)

    def service(self) -> Caller:
        return self._stack.service()

    def usage(self, caller: Caller) -> tuple[int, int]:
        return self._people.usage(caller)

    def renew(self, caller: Caller) -> None:
        self._stack.rows("update public.user_subscriptions set period_start = now() where user_id = %s", caller.user_id)

    def make_older(self, upload_id: str, **duration: float) -> None:
        self._stack.rows(
            "update public.uploads set updated_at = updated_at - %s, lease_expires_at = lease_expires_at - %s"
            " where id = %s",
            timedelta(**duration),
            timedelta(**duration),
            upload_id,
        )

    def make_deletion_older(self, session_uuid: str, **duration: float) -> None:
        self._stack.rows(
            "update public.sessions set deleting_at = deleting_at - %s where id = %s",
            timedelta(**duration),
            session_uuid,
        )


@pytest.fixture(params=["memory", "supabase"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "memory":
        yield MemoryBackend()
    else:
        yield SupabaseBackend(request.getfixturevalue("local_stack"), request.getfixturevalue("people"))
