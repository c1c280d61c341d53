"""Functions of training: train, get_training, run_training. Rules: shared/training.py."""

import os
from functools import cache
from typing import Any

from shared.adapters.cloud_tasks import CloudTasksQueue
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_training import SupabaseTraining
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.models import ModelService
from shared.records import Run, TrainedModel
from shared.settings import buckets, queue_settings, supabase_settings
from shared.training import TrainingRunner, TrainingService
from shared.web.endpoint import Call, Reply, endpoint


@cache
def service() -> TrainingService:
    """Build the service on the first request; building it twice is harmless."""
    database = SupabaseDatabase(supabase_settings(os.environ))
    return TrainingService(
        SupabaseTraining(database),
        CloudTasksQueue(queue_settings(os.environ)),
        SupabaseSessions(database),
        SupabaseUploads(database),
        GcsObjectStore(buckets(os.environ).uploads),
    )


@cache
def runner() -> TrainingRunner:
    """Build what does the training; it needs no queue."""
    names = buckets(os.environ)
    runs = SupabaseTraining(SupabaseDatabase(supabase_settings(os.environ)))
    artifacts = GcsObjectStore(names.artifacts)
    trainer = ReferenceTrainer(GcsObjectStore(names.uploads))
    return TrainingRunner(runs, trainer, artifacts, ModelService(runs, artifacts).save_run)


@endpoint
def train(call: Call) -> Reply:
    """POST /train/{session_id} {target, models?, testFraction?, seed?}: begin a run."""
    body = call.body("target", optional=("models", "testFraction", "seed"))
    run = service().start(
        call.caller,
        call.path["session_id"],
        target=body["target"],
        models=body.get("models"),
        test_fraction=body.get("testFraction"),
        seed=body.get("seed"),
    )
    return Reply(202, _run_json(run))


@endpoint
def get_training(call: Call) -> Reply:
    """GET /train/{session_id}: the newest run with the progress of its models."""
    call.query()
    return Reply(200, _run_json(service().get(call.caller, call.path["session_id"])))


@endpoint
def run_training(call: Call) -> Reply:
    """POST /run-training {modelId} (task queue): train one model; after the last one, complete the run."""
    body = call.body("modelId")
    result = runner().run(body["modelId"])
    return Reply(200, {"model_id": body["modelId"], "status": result.status})


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "session_id": run.session_id,
        "status": run.status,
        "detail": run.failure,
        "target": run.request.get("target"),
        "task": run.request.get("task"),
        "seed": run.request.get("seed"),
        "testFraction": run.request.get("test_fraction"),
        "created_at": run.created_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "models": [_model_json(model) for model in run.models],
    }


def _model_json(model: TrainedModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "path": model.path,
        "framework": model.framework,
        "status": model.status,
        "progress": round(model.progress, 3),
        "detail": model.status_detail,
        "metrics": model.metrics,
    }
