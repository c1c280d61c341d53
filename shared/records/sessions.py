"""Sessions: the unit of work, from files to models.

Which state may follow which is decided by the SQL functions in infra/supabase/migrations, where a transition and its
condition are one statement.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class SessionStatus(StrEnum):
    """initialized -> uploading -> finalized -> training -> trained | failed."""

    INITIALIZED = "initialized"
    UPLOADING = "uploading"
    FINALIZED = "finalized"
    TRAINING = "training"
    TRAINED = "trained"
    FAILED = "failed"


@dataclass(frozen=True)
class Session:
    """One data set on its way from files to models.

    Attributes:
        id: Row id, a uuid made by the service.
        session_id: The client's own name for it, unique per user.
        n_dat: Rows of all data sets, known once finalized.
    """

    id: str
    session_id: str
    owner: str
    status: SessionStatus
    metadata: Mapping[str, Any]
    n_dat: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class PageKey:
    """Where a page of sessions ends: the keyset of its last row."""

    created_at: datetime
    id: str
