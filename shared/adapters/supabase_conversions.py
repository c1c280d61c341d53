"""`ConversionRepository` on Supabase."""

from collections.abc import Mapping
from typing import Any

from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_training import read_conversion
from shared.records.training import Conversion


class SupabaseConversions:
    """Conversions, changed through SQL functions; read with the models they belong to."""

    def __init__(self, database: SupabaseDatabase) -> None:
        self._database = database

    def begin(self, owner: str, model_id: str, patience_s: int) -> Conversion:
        """Note that a model is to be converted, or return how far that is."""
        row = self._database.call("begin_conversion_v1", owner=owner, model_id=model_id, patience_s=patience_s)
        return read_conversion(row)

    def finish(
        self, owner: str, model_id: str, conversion: Conversion, file: Mapping[str, Any] | None = None
    ) -> Conversion:
        """Note how an attempt ended, and the file it made."""
        ended = {"status": conversion.status, "detail": conversion.detail, "finding": conversion.finding}
        row = self._database.call(
            "finish_conversion_v1",
            owner=owner,
            model_id=model_id,
            attempt=conversion.attempt,
            conversion=ended,
            file=dict(file) if file is not None else None,
        )
        return read_conversion(row)
