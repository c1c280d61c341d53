"""Functions of results: plot_variables, visualizations, scalers, evaluation_tables. Rules: shared/results.py."""

import os
from functools import cache
from typing import Any

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.pandas_tables import PandasTableReader
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_training import SupabaseTraining
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.records import ResultKind
from shared.results import ResultService, VariableService
from shared.settings import buckets, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint


@cache
def results() -> ResultService:
    """Build the service on the first request; building it twice is harmless."""
    return ResultService(SupabaseTraining(SupabaseDatabase(supabase_settings(os.environ))))


@cache
def variables() -> VariableService:
    """Build the service that reads data sets."""
    database = SupabaseDatabase(supabase_settings(os.environ))
    store = GcsObjectStore(buckets(os.environ).uploads)
    return VariableService(SupabaseSessions(database), SupabaseUploads(database), PandasTableReader(store))


@endpoint
def plot_variables(call: Call) -> Reply:
    """GET /plot-variables/{session_id}?points: statistics and a downsampled series for every column."""
    query = call.query("points")
    session_id = call.path["session_id"]
    files = variables().describe(call.caller, session_id, query.get("points"))
    names = list(dict.fromkeys(column["name"] for file in files for column in file["columns"]))
    return Reply(200, {"session_id": session_id, "files": files, "variables": names})


@endpoint
def visualizations(call: Call) -> Reply:
    """GET /visualizations/{session_id}: the charts of the newest completed run, as data."""
    return _items(call, ResultKind.VISUALIZATIONS, "visualizations")


@endpoint
def scalers(call: Call) -> Reply:
    """GET /scalers/{session_id}: the scalers of the newest completed run, as numbers and formulas."""
    return _items(call, ResultKind.SCALERS, "scalers")


@endpoint
def evaluation_tables(call: Call) -> Reply:
    """GET /evaluation-tables/{session_id}: the tables of the newest completed run, with typed columns."""
    return _items(call, ResultKind.EVALUATION_TABLES, "evaluation_tables")


def _items(call: Call, kind: ResultKind, name: str) -> Reply:
    call.query()
    session_id = call.path["session_id"]
    items: list[dict[str, Any]] = [
        {**item.content, "id": item.id, "run_id": item.run_id}
        for item in results().items(call.caller, session_id, kind)
    ]
    return Reply(200, {"session_id": session_id, name: items, "count": len(items)})
