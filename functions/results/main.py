"""Functions of results: plot_variables, visualizations, scalers, evaluation_tables. Rules: shared/results.py."""

import os
from functools import cache
from typing import Any

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_results import SupabaseResults
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.adapters.vega_charts import VegaCharts
from shared.api.requests.results import DrawChart, PlotColumns, WriteTable
from shared.records.results import ResultKind
from shared.results import (
    JSON,
    ChartService,
    Drawing,
    ResultFile,
    ResultService,
    TableService,
    VariableService,
    named,
)
from shared.settings import buckets, storage_settings, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint


@cache
def results() -> ResultService:
    """Build the service on the first request; building it twice is harmless."""
    return ResultService(SupabaseResults(SupabaseDatabase(supabase_settings(os.environ))))


@cache
def charts() -> ChartService:
    """Build the service that draws."""
    database = SupabaseDatabase(supabase_settings(os.environ))
    return ChartService(results(), SupabaseSessions(database), VegaCharts())


@cache
def picture_signer() -> GcsUrlSigner:
    """Build what signs addresses of stored pictures; charts need none."""
    storage = storage_settings(os.environ)
    return GcsUrlSigner(storage, storage.artifacts_bucket)


@cache
def variables() -> VariableService:
    """Build the service that reads data sets."""
    # Only one of this source's functions reads a table; pandas would make each cold start of the others slower.
    from shared.adapters.pandas_tables import PandasTableReader  # noqa: PLC0415 - see above

    database = SupabaseDatabase(supabase_settings(os.environ))
    store = GcsObjectStore(buckets(os.environ).uploads)
    return VariableService(SupabaseSessions(database), SupabaseUploads(database), PandasTableReader(store))


@endpoint
def plot_variables(call: Call) -> Reply:
    """GET /plot-variables/{session_id}: statistics, a histogram and a thinned-out series for columns."""
    query = call.query(PlotColumns)
    session_id = call.path["session_id"]
    files = variables().describe(call.caller, session_id, query.get("points"), query.get("columns"))
    names = list(dict.fromkeys(column["name"] for file in files for column in file["columns"]))
    return Reply(200, {"session_id": session_id, "files": files, "variables": names})


@endpoint
def visualizations(call: Call) -> Reply:
    """GET /visualizations/{session_id}: the charts of the newest completed run, as data, or one of them drawn."""
    query = call.query(DrawChart)
    form = query.pop("format", JSON)
    if form == JSON:
        return _items(call, ResultKind.VISUALIZATIONS, "visualizations", query.get("name"))
    drawn = charts().draw(call.caller, call.path["session_id"], Drawing(form, **query), picture_signer)
    return Reply.redirect(drawn) if isinstance(drawn, str) else _file(call, drawn)


@endpoint
def scalers(call: Call) -> Reply:
    """GET /scalers/{session_id}: the scalers of the newest completed run, as numbers and formulas."""
    call.query()
    return _items(call, ResultKind.SCALERS, "scalers")


@endpoint
def evaluation_tables(call: Call) -> Reply:
    """GET /evaluation-tables/{session_id}: the tables of the newest completed run, or one of them as CSV."""
    query = call.query(WriteTable)
    form, name = query.get("format", JSON), query.get("name")
    if form == JSON:
        return _items(call, ResultKind.EVALUATION_TABLES, "evaluation_tables", name)
    return _file(call, TableService(results()).write(call.caller, call.path["session_id"], form, name))


def _items(call: Call, kind: ResultKind, member: str, name: str | None = None) -> Reply:
    session_id = call.path["session_id"]
    if name is None:
        found = results().items(call.caller, session_id, kind)
    else:
        found = [named(results(), call.caller, session_id, kind, name)]
    items: list[dict[str, Any]] = [{**item.content, "id": item.id, "run_id": item.run_id} for item in found]
    return Reply(200, {"session_id": session_id, member: items, "count": len(items)})


def _file(call: Call, file: ResultFile) -> Reply:
    if call.has_copy(file.tag):
        return Reply.unchanged(file.tag)
    return Reply.file(file.make(), file.content_type, file.name, file.tag)
