"""Functions that read results: scalers, evaluation_tables. Rules: shared/results.py."""

import os
from functools import cache

from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_results import SupabaseResults
from shared.api.requests.results import WriteTable
from shared.records.results import ResultKind
from shared.results import JSON, ResultService, TableService
from shared.settings import supabase_settings
from shared.web.endpoint import Call, Reply, endpoint
from shared.web.results_json import items_json


@cache
def results() -> ResultService:
    """Build the service on the first request; building it twice is harmless."""
    return ResultService(SupabaseResults(SupabaseDatabase(supabase_settings(os.environ))))


@endpoint
def scalers(call: Call) -> Reply:
    """GET /scalers/{session_id}: the scalers of the newest completed run, as numbers and formulas."""
    call.query()
    return Reply(200, items_json(results(), call.caller, call.path["session_id"], ResultKind.SCALERS))


@endpoint
def evaluation_tables(call: Call) -> Reply:
    """GET /evaluation-tables/{session_id}: the tables of the newest completed run, or one of them as CSV."""
    query = call.query(WriteTable)
    form, name = query.get("format", JSON), query.get("name")
    if form == JSON:
        return Reply(
            200, items_json(results(), call.caller, call.path["session_id"], ResultKind.EVALUATION_TABLES, name)
        )
    table = TableService(results()).write(call.caller, call.path["session_id"], form, name)
    return call.file(table.make, table.content_type, table.name, table.tag)
