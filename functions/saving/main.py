"""The function that takes results in: save_model. Rules: shared/models.py, shared/manifests.py, shared/legacy.py."""

import os
from functools import cache

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.hdf5_sandbox import Hdf5Sandbox
from shared.adapters.hdf5_template import Hdf5Template
from shared.adapters.json_documents import IjsonParser
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_documents import SupabaseDocuments
from shared.adapters.supabase_training import SupabaseTraining
from shared.keras_files import KerasFiles
from shared.legacy import LegacyIntake
from shared.manifests import ManifestIntake
from shared.models import Intake, ModelService, total_bytes
from shared.settings import storage_settings, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint
from shared.web.models_json import documents_json, model_json


@cache
def service() -> ModelService:
    """Build the service on the first request; building it twice is harmless."""
    storage = storage_settings(os.environ)
    database = SupabaseDatabase(supabase_settings(os.environ))
    runs = SupabaseTraining(database)
    store = GcsObjectStore(storage.artifacts_bucket)
    sandbox = Hdf5Sandbox(Hdf5Template())
    keras_files = KerasFiles(sandbox)
    intakes: list[Intake] = [
        ManifestIntake(runs, store, keras_files),
        LegacyIntake(SupabaseDocuments(database), store, IjsonParser(), keras_files, sandbox),
    ]
    return ModelService(runs, GcsUrlSigner(storage, storage.artifacts_bucket), intakes)


@endpoint
def save_model(call: Call) -> Reply:
    """POST /save-model/{session_id}: check what was published and say what is saved."""
    call.body()
    session_id = call.path["session_id"]
    listing = service().save(call.caller, session_id)
    entries = listing.models
    return Reply(
        200,
        {
            "session_id": session_id,
            "models_saved": len(entries),
            "models": [model_json(entry) for entry in entries],
            "total_size": total_bytes(entry.model for entry in entries),
            **documents_json(session_id, listing),
        },
    )
