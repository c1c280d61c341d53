"""Looks into the Keras archives that strangers publish, of which little is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.keras_archives import inspect_archive
from shared.stored_files import stored_file

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import ObjectStore

# What loading one would do elsewhere. One that cannot be read at all does nothing.
_HARMFUL = frozenset({"outside_reference", "saved_model"})


def look_into(store: ObjectStore, file: dict[str, Any]) -> str | None:
    """Return why a published file must not be handed out, or None; note whether opening it can run code.

    Args:
        file: Entry of a manifest, whose object was found to be what it says.
    """
    if file["format"] != "keras":
        return None
    report = inspect_archive(stored_file(store, store.stat(file["object"])), may_have_assets=True)
    file["loads_code"] = report.has_code
    for finding in report.findings:
        if finding.code in _HARMFUL:
            return f"{file['object']}: {finding.where}: {finding.message} ({finding.code})"
    return None
