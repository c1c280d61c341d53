"""Functions of trained models: list_models, download_model. Rules: shared/models.py, shared/conversions.py."""

import os
from functools import cache

from shared.adapters.cloud_tasks import CloudTasksJobs
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_conversions import SupabaseConversions
from shared.adapters.supabase_training import SupabaseTraining
from shared.api.requests.models import ChooseModel
from shared.conversions import RETRY_AFTER_S, ConversionService
from shared.fields import read_boolean_text
from shared.models import Choice, ModelService
from shared.records.training import Conversion
from shared.settings import queue_settings, storage_settings, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint
from shared.web.models_json import documents_json, model_json

CONVERTING = "The file is being made; ask again shortly."


@cache
def service() -> ModelService:
    """Build the service on the first request; building it twice is harmless."""
    storage = storage_settings(os.environ)
    database = SupabaseDatabase(supabase_settings(os.environ))
    signer = GcsUrlSigner(storage, storage.artifacts_bucket)
    converting = ConversionService(
        SupabaseConversions(database),
        GcsObjectStore(storage.artifacts_bucket),
        signer,
        CloudTasksJobs(queue_settings(os.environ, "CONVERTER_URL"), "/convert-model"),
    )
    return ModelService(SupabaseTraining(database), signer, converting=converting)


@endpoint
def list_models(call: Call) -> Reply:
    """GET /list-models-database/{session_id}: the models of a session in every state, newest run first."""
    call.query()
    session_id = call.path["session_id"]
    listing = service().list(call.caller, session_id)
    return Reply(
        200,
        {
            "models": [model_json(entry) for entry in listing.models],
            "count": len(listing.models),
            **documents_json(session_id, listing),
        },
    )


@endpoint
def download_model(call: Call) -> Reply:
    """GET /download-model-h5/{session_id}: redirect to a short-lived address of a file; the query chooses it."""
    query = call.query(ChooseModel)
    is_redirect = read_boolean_text(query.pop("redirect", "true"), "redirect")
    choice = Choice(framework=query.pop("type", None), form=query.pop("format", None), **query)
    found = service().download(call.caller, call.path["session_id"], choice)
    if isinstance(found, Conversion):
        return Reply(
            202, {"status": found.status, "format": "h5", "detail": CONVERTING}, {"Retry-After": str(RETRY_AFTER_S)}
        )
    return Reply.redirect(found.url) if is_redirect else Reply(200, {"url": found.url})
