"""Functions of archives: download_archive, build_archive. Rules: shared/archives.py."""

import os
import time
from functools import cache

from shared.adapters.cloud_tasks import CloudTasksJobs
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_training import SupabaseTraining
from shared.api.requests.models import BuildArchive, ChooseArchive
from shared.archives import RETRY_AFTER_S, ArchiveBuilder, ArchiveService
from shared.errors import InvalidFieldError
from shared.fields import read_boolean_text
from shared.settings import buckets, queue_settings, storage_settings, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint

BUILDING = "The archive is being built; ask again shortly."


@cache
def service() -> ArchiveService:
    """Build the service on the first request; building it twice is harmless."""
    storage = storage_settings(os.environ)
    return ArchiveService(
        SupabaseTraining(SupabaseDatabase(supabase_settings(os.environ))),
        GcsObjectStore(storage.artifacts_bucket),
        GcsUrlSigner(storage, storage.artifacts_bucket),
        CloudTasksJobs(queue_settings(os.environ, "ARCHIVER_URL"), "/build-archive"),
        builder(),
    )


@cache
def builder() -> ArchiveBuilder:
    """Build what needs the bucket alone."""
    return ArchiveBuilder(GcsObjectStore(buckets(os.environ).artifacts))


@endpoint
def download_archive(call: Call) -> Reply:
    """GET /download-archive/{session_id}: redirect to everything of a session as one zip."""
    is_redirect = read_boolean_text(call.query(ChooseArchive).get("redirect", "true"), "redirect")
    signed = service().download(call.caller, call.path["session_id"], time.time())
    if signed is None:
        return Reply(
            202, {"status": "pending", "format": "zip", "detail": BUILDING}, {"Retry-After": str(RETRY_AFTER_S)}
        )
    return Reply.redirect(signed.url) if is_redirect else Reply(200, {"url": signed.url})


@endpoint
def build_archive(call: Call) -> Reply:
    """POST /build-archive {plan} (task queue): build the archive of a plan."""
    plan = call.body(BuildArchive)["plan"]
    if not isinstance(plan, str) or not plan.startswith("archives/") or not plan.endswith(".json") or ".." in plan:
        raise InvalidFieldError("plan", "must name a plan below archives/")
    return Reply(200, {"plan": plan, "status": "built" if builder().build(plan) else "gone"})
