"""The function visualizations. Rules: shared/drawings.py."""

import os
from functools import cache

from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_results import SupabaseResults
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.vega_charts import VegaCharts
from shared.api.requests.charts import DrawChart
from shared.drawings import ChartService, Drawing
from shared.records.results import ResultKind
from shared.results import JSON, ResultService
from shared.settings import storage_settings, supabase_settings
from shared.web.endpoint import Call, Reply, endpoint
from shared.web.results_json import items_json


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


@endpoint
def visualizations(call: Call) -> Reply:
    """GET /visualizations/{session_id}: the charts of the newest completed run, as data, or one of them drawn."""
    query = call.query(DrawChart)
    form = query.pop("format", JSON)
    if form == JSON:
        return Reply(
            200,
            items_json(results(), call.caller, call.path["session_id"], ResultKind.VISUALIZATIONS, query.get("name")),
        )
    drawn = charts().draw(call.caller, call.path["session_id"], Drawing(form, **query), picture_signer)
    if isinstance(drawn, str):
        return Reply.redirect(drawn)
    return call.file(drawn.make, drawn.content_type, drawn.name, drawn.tag)
