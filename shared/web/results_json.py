"""Lists of results as JSON: the same for those that are read and those that are drawn."""

from typing import Any

from shared.records.callers import Caller
from shared.records.results import ResultKind
from shared.results import ResultService, named

# What each list is called in an answer.
_MEMBERS = {
    ResultKind.SCALERS: "scalers",
    ResultKind.VISUALIZATIONS: "visualizations",
    ResultKind.EVALUATION_TABLES: "evaluation_tables",
}


def items_json(
    results: ResultService, caller: Caller, session_id: str, kind: ResultKind, name: str | None = None
) -> dict[str, Any]:
    """Return a list of the newest completed run, or the one item of this name, as a list too."""
    if name is None:
        found = results.items(caller, session_id, kind)
    else:
        found = [named(results, caller, session_id, kind, name)]
    items = [{**item.content, "id": item.id, "run_id": item.run_id} for item in found]
    return {"session_id": session_id, _MEMBERS[kind]: items, "count": len(items)}
