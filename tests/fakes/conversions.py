"""Conversions in memory; follows 20261126010000_converted_models.sql."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared.errors import ModelNotFoundError
from shared.records.training import Conversion, ConversionStatus
from tests.fakes.training import InMemoryTraining, ModelRow, _files

MOST_ATTEMPTS = 3


class InMemoryConversions:
    """`ConversionRepository` in memory, on the models of an `InMemoryTraining`."""

    def __init__(self, runs: InMemoryTraining) -> None:
        self._runs = runs
        self._asked_at: dict[str, datetime] = {}

    def begin(self, owner: str, model_id: str, patience_s: int) -> Conversion:
        with self._runs._database.lock:
            model = self._owned(owner, model_id)
            now = self._runs._database.now
            old = model.record.conversion
            is_late = (
                old is not None
                and old.status is ConversionStatus.PENDING
                and (self._asked_at[model_id] < now - timedelta(seconds=patience_s))
            )
            if old is not None and not is_late:
                return old
            attempt = old.attempt if old else 0
            if attempt < MOST_ATTEMPTS:
                new = Conversion(ConversionStatus.PENDING, attempt + 1)
                self._asked_at[model_id] = now
            else:
                new = Conversion(ConversionStatus.FAILED, attempt, "It was tried three times, and no answer came.")
            model.record = replace(model.record, conversion=new)
            return new

    def finish(
        self, owner: str, model_id: str, conversion: Conversion, file: Mapping[str, Any] | None = None
    ) -> Conversion:
        with self._runs._database.lock:
            model = self._owned(owner, model_id)
            old = model.record.conversion
            if old is None or old.status is not ConversionStatus.PENDING or old.attempt != conversion.attempt:
                return old
            files = _files({"files": [file]}) if file is not None else ()
            model.record = replace(model.record, conversion=conversion, files=(*model.record.files, *files))
            return conversion

    def _owned(self, owner: str, model_id: str) -> ModelRow:
        run, model = self._runs._locked(model_id)
        if run.record.owner != owner:
            raise ModelNotFoundError
        return model
