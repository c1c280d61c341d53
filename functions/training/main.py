"""Functions that ask for training: train, get_training, cancel_training. Rules: shared/training.py."""

import os
from datetime import UTC, datetime
from functools import cache
from typing import Any

from shared.adapters.cloud_tasks import CloudTasksQueue
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_training import SupabaseTraining
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.api.requests.training import Train
from shared.records.training import ModelStatus, Run, TrainedModel
from shared.settings import buckets, queue_settings, supabase_settings
from shared.training import TrainingService, is_stalled
from shared.web.endpoint import Call, Reply, endpoint


@cache
def service() -> TrainingService:
    """Build the service on the first request; building it twice is harmless."""
    database = SupabaseDatabase(supabase_settings(os.environ))
    return TrainingService(
        SupabaseTraining(database),
        CloudTasksQueue(queue_settings(os.environ)),
        SupabaseUploads(database),
        GcsObjectStore(buckets(os.environ).uploads),
    )


@endpoint
def train(call: Call) -> Reply:
    """POST /train/{session_id} {target, task?, models?, testFraction?, seed?, timeColumn?, horizon?, window?}."""
    body = call.body(Train)
    run = service().start(
        call.caller,
        call.path["session_id"],
        target=body["target"],
        task=body.get("task"),
        models=body.get("models"),
        test_fraction=body.get("testFraction"),
        seed=body.get("seed"),
        time_column=body.get("timeColumn"),
        horizon=body.get("horizon"),
        window=body.get("window"),
    )
    # A name may hold a colon, and would look like a scheme without the dot.
    return Reply(202, _run_json(run), {"Location": f"./{call.path['session_id']}"})


@endpoint
def get_training(call: Call) -> Reply:
    """GET /train/{session_id}: the newest run with the progress of its models."""
    call.query()
    return Reply(200, _run_json(service().get(call.caller, call.path["session_id"])))


@endpoint
def cancel_training(call: Call) -> Reply:
    """POST /train/{session_id}/cancel, DELETE /train/{session_id}: cancel the run in progress."""
    call.body()
    return Reply(200, _run_json(service().cancel(call.caller, call.path["session_id"])))


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "session_id": run.session_id,
        "status": run.status,
        "detail": run.failure,
        "stalled": is_stalled(run, datetime.now(UTC)),
        "target": run.request.get("target"),
        "task": run.request.get("task"),
        "seed": run.request.get("seed"),
        "testFraction": run.request.get("test_fraction"),
        "timeColumn": run.request.get("time_column"),
        "horizon": run.request.get("horizon"),
        "window": run.request.get("window"),
        "created_at": run.created_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "models": [_model_json(model) for model in run.models],
    }


def _model_json(model: TrainedModel) -> dict[str, Any]:
    is_training = model.status is ModelStatus.TRAINING
    curve = model.curve
    return {
        "id": model.id,
        "name": model.name,
        "path": model.path,
        "framework": model.framework,
        "status": model.status,
        "progress": round(model.progress, 3),
        "remaining_s": model.remaining_s if is_training else None,
        "detail": f"{curve['unit']} {curve['step'][-1]} of {curve['n_steps']}"
        if is_training and curve
        else model.status_detail,
        "metrics": model.metrics,
        "curve": {part: curve[part] for part in ("step", "train", "validation")} if curve else None,
    }
