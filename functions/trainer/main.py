"""The function that trains, run_training: shared/training.py with shared/adapters/reference_trainer.py."""

import os
from functools import cache

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_training import SupabaseTraining
from shared.api.requests.training import RunTraining
from shared.manifests import ManifestIntake
from shared.settings import buckets, supabase_settings
from shared.training import TrainingRunner
from shared.web.endpoint import Call, Reply, endpoint


@cache
def runner() -> TrainingRunner:
    """Build what does the training; it needs no queue."""
    names = buckets(os.environ)
    runs = SupabaseTraining(SupabaseDatabase(supabase_settings(os.environ)))
    artifacts = GcsObjectStore(names.artifacts)
    trainer = ReferenceTrainer(GcsObjectStore(names.uploads))
    return TrainingRunner(runs, trainer, artifacts, ManifestIntake(runs, artifacts).save_run)


@endpoint
def run_training(call: Call) -> Reply:
    """POST /run-training {modelId} (task queue): train one model; after the last one, complete the run."""
    body = call.body(RunTraining)
    result = runner().run(body["modelId"])
    return Reply(200, {"model_id": body["modelId"], "status": result.status})
