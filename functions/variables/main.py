"""The function plot_variables. Rules: shared/variables.py."""

import os
from functools import cache

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.pandas_tables import PandasTableReader
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.api.requests.variables import PlotColumns
from shared.settings import buckets, supabase_settings
from shared.variables import VariableService
from shared.web.endpoint import Call, Reply, endpoint


@cache
def variables() -> VariableService:
    """Build the service on the first request; building it twice is harmless."""
    uploads = SupabaseUploads(SupabaseDatabase(supabase_settings(os.environ)))
    store = GcsObjectStore(buckets(os.environ).uploads)
    return VariableService(uploads, PandasTableReader(store))


@endpoint
def plot_variables(call: Call) -> Reply:
    """GET /plot-variables/{session_id}: statistics, a histogram and a thinned-out series for columns."""
    query = call.query(PlotColumns)
    session_id = call.path["session_id"]
    files = variables().describe(call.caller, session_id, query.get("points"), query.get("columns"))
    names = list(dict.fromkeys(column["name"] for file in files for column in file["columns"]))
    return Reply(200, {"session_id": session_id, "files": files, "variables": names})
