"""Functions of trained models: save_model, list_models, download_model. Rules: shared/models.py."""

import os
from functools import cache
from typing import Any

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_training import SupabaseTraining
from shared.models import ModelService, total_bytes
from shared.records import ModelFile, TrainedModel
from shared.settings import storage_settings, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint

MIB = 1 << 20


@cache
def service() -> ModelService:
    """Build the service on the first request; building it twice is harmless."""
    storage = storage_settings(os.environ)
    return ModelService(
        SupabaseTraining(SupabaseDatabase(supabase_settings(os.environ))),
        GcsObjectStore(storage.artifacts_bucket),
        GcsUrlSigner(storage, storage.artifacts_bucket),
    )


@endpoint
def save_model(call: Call) -> Reply:
    """POST /save-model/{session_id}: check what was published and say what is saved."""
    call.optional_body()
    session_id = call.path["session_id"]
    models = service().save(call.caller, session_id)
    return Reply(
        200,
        {
            "session_id": session_id,
            "models_saved": len(models),
            "models": [_model_json(model) for model in models],
            "total_size": total_bytes(models),
        },
    )


@endpoint
def list_models(call: Call) -> Reply:
    """GET /list-models-database/{session_id}: the models of a session in every state, newest run first."""
    call.query()
    models = service().of_session(call.caller, call.path["session_id"])
    return Reply(200, {"models": [_model_json(model) for model in models], "count": len(models)})


@endpoint
def download_model(call: Call) -> Reply:
    """GET /download-model-h5/{session_id}?type&path&format: redirect to a short-lived address of a model's file."""
    query = call.query("type", "path", "format")
    signed = service().download(
        call.caller,
        call.path["session_id"],
        path=query.get("path"),
        framework=query.get("type"),
        form=query.get("format"),
    )
    return Reply.redirect(signed.url)


def _model_json(model: TrainedModel) -> dict[str, Any]:
    size = total_bytes([model])
    return {
        "id": model.id,
        "run_id": model.run_id,
        "path": model.path,
        "name": model.name,
        "class": model.class_name,
        "framework": model.framework,
        "status": model.status,
        "status_detail": model.status_detail,
        "size": size,
        "size_mb": round(size / MIB, 3),
        "formats": [_file_json(file) for file in model.files],
        "metrics": model.metrics,
        **model.published,
        "created_at": model.created_at.isoformat(),
    }


def _file_json(file: ModelFile) -> dict[str, Any]:
    return {
        "format": file.format,
        "size": file.size_bytes,
        "sha256": file.sha256,
        "media_type": file.media_type,
        "loads_code": file.loads_code,
    }
