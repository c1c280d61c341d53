"""Function of publishing: publish. It alone signs writes into the artifacts bucket. Rules: shared/publishing.py."""

import os
from functools import cache
from typing import Any

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_training import SupabaseTraining
from shared.api.requests.publishing import Publish
from shared.publishing import PublishingService, RunFileState
from shared.settings import storage_settings, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint


@cache
def service() -> PublishingService:
    """Build the service on the first request; building it twice is harmless."""
    storage = storage_settings(os.environ)
    return PublishingService(
        SupabaseTraining(SupabaseDatabase(supabase_settings(os.environ))),
        GcsObjectStore(storage.artifacts_bucket),
        GcsUrlSigner(storage, storage.artifacts_bucket),
    )


@endpoint
def publish(call: Call) -> Reply:
    """POST /publish/{session_id} {runId, files: [{name, size, crc32c}]}: signed PUT requests for files of a run."""
    body = call.body(Publish)
    state = service().sign(call.caller, call.path["session_id"], body["runId"], body["files"])
    return Reply(
        200,
        {
            "session_id": call.path["session_id"],
            "session_uuid": state.session_uuid,
            "runId": state.run_id,
            "prefix": state.prefix,
            "files": [_file_json(file) for file in state.files],
        },
    )


def _file_json(state: RunFileState) -> dict[str, Any]:
    stored, request = state.stored, state.request
    return {
        "name": state.file.name,
        "object": state.object_name,
        "stored": {"size": stored.size_bytes, "crc32c": stored.crc32c, "generation": stored.generation}
        if stored
        else None,
        "request": {"url": request.url, "method": request.method, "headers": request.headers} if request else None,
    }
