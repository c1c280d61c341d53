"""Listing the models of a session whose legacy document has 100 MiB; run by `python -m benchmarks.models listing`."""

import base64
import json
import pickle
import statistics
import time
from typing import Any

import httpx
import numpy as np
from sklearn.ensemble import RandomForestRegressor

from benchmarks.measuring import MIB, Figure, ServerProcess, running_stack, seconds, show
from benchmarks.sessions import milliseconds, timed
from shared.adapters import supabase_training
from shared.records.callers import Caller
from tests.local_stack import LocalStack, People

N_MODELS = (8, 20)
# Of all models together: a document has 100 MiB, with few large models or with many smaller ones.
N_ROWS = 400_000
SESSION = "legacy"
N_CALLS = 200
N_DOWNLOADS = 3
MOST_RATIO = 2.0
LEAST_TIMES = 100
# What save-model may use (functions/manifest.yaml).
MOST_MEMORY = 1024 * MIB


def a_document(n_models: int) -> bytes:
    """Return a document of folds, each with a forest, its metrics, and its predictions; of eight a forest has 9 MB."""
    rows = np.random.default_rng(1).normal(size=(N_ROWS // n_models, 3))
    forest = RandomForestRegressor(2, max_features=1, random_state=1).fit(rows, rows[:, 0] * rows[:, 1])
    fold = {
        "model": {
            "_model_type": "serialized_model",
            "_model_class": "RandomForestRegressor",
            "_model_data": base64.b64encode(pickle.dumps(forest)).decode(),
        },
        "metrics": {"rmse": 1.5},
        "predictions": forest.predict(rows).tolist(),
    }
    return json.dumps({"folds": [fold] * n_models}).encode()


def bring_in(stack: LocalStack, user: Caller, document: bytes) -> None:
    """Import a document into the database."""
    call = b'{"p_owner": "%s", "p_session_id": "%s", "p_document": %s}' % (
        user.user_id.encode(),
        SESSION.encode(),
        document,
    )
    headers = {"apikey": stack.env["SUPABASE_SERVICE_KEY"], "Content-Type": "application/json"}
    url = f"{stack.env['SUPABASE_URL']}/rest/v1/rpc/import_legacy_results_v1"
    httpx.post(url, content=call, headers=headers, timeout=300).raise_for_status()


def main() -> None:
    """Measure a document of each number of models."""
    stack = running_stack()
    show("Legacy documents", [figure for n_models in N_MODELS for figure in measured(stack, n_models)])


def measured(stack: LocalStack, n_models: int) -> list[Figure]:
    """Bring a document in, read it once, and list its models in turns with the bare select."""
    document = a_document(n_models)
    with People(stack) as people:
        user = people.add()
        token = {"Authorization": f"Bearer {user.token}"}
        keyed = token | {"apikey": stack.env["SUPABASE_PUBLISHABLE_KEY"]}
        with httpx.Client(base_url=stack.env["TRAINSHED_URL"], timeout=600) as client:
            client.post("/api/training/init-session", json={"sessionId": SESSION}, headers=token).raise_for_status()
            bring_in(stack, user, document)
            functions = ServerProcess(stack, "api")
            functions.forget_peak()
            reading = seconds(
                lambda: client.post(f"/api/training/save-model/{SESSION}", headers=token).raise_for_status()
            )
            peak = functions.peak_bytes()
            select: dict[str, Any] = {
                "select": f"id,session_id,training_results({supabase_training.RUN_COLUMNS},"
                f"models({supabase_training.DESCRIBED_MODEL_COLUMNS}))",
                "session_id": f"eq.{SESSION}",
                "user_id": f"eq.{user.user_id}",
            }
            whole, bare = [], []
            for _ in range(N_CALLS):
                whole.append(timed(client, f"/api/training/list-models-database/{SESSION}", {}, token))
                bare.append(timed(client, "/rest/v1/sessions", select, keyed))
            parsing = statistics.median(download_and_parse(client, keyed) for _ in range(N_DOWNLOADS))
            listed = client.get(f"/api/training/list-models-database/{SESSION}", headers=token).json()["data"]
            if listed["count"] != n_models:
                raise SystemExit(f"{listed['count']} models are listed instead of {n_models}.")
            client.delete(f"/api/training/session/{SESSION}", headers=token).raise_for_status()
    ratio = statistics.median(whole) / statistics.median(bare)
    times = parsing / statistics.median(whole)
    size = f"{len(document) / MIB:.0f} MiB"
    return [
        Figure(
            f"p50 of list-models, {n_models} models of a document of {size}",
            milliseconds(whole),
            f"bare PostgREST select of the same rows: {milliseconds(bare)}",
            f"{ratio:.2f} times",
            f"{MOST_RATIO} or less",
            ratio <= MOST_RATIO,
        ),
        Figure(
            f"the same, {n_models} models",
            milliseconds(whole),
            f"downloading and parsing the document: {parsing:.2f} s",
            f"{times:.0f} times faster",
            f"{LEAST_TIMES} times",
            times >= LEAST_TIMES,
        ),
        Figure(
            f"reading the document of {n_models} models, once",
            f"{reading:.1f} s",
            "no peer",
            f"{peak / MIB:.0f} MiB in the process of all functions",
            f"{MOST_MEMORY / MIB:.0f} MiB",
            peak <= MOST_MEMORY,
        ),
    ]


def download_and_parse(client: httpx.Client, headers: dict[str, str]) -> float:
    """Return how long it takes to do what the old backend did for a list [s]."""
    begun = time.perf_counter()
    answer = client.get("/rest/v1/training_results", params={"select": "results"}, headers=headers)
    answer.raise_for_status()
    json.loads(answer.content)
    return time.perf_counter() - begun
