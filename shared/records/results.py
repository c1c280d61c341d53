"""What a run's trainer described: scalers, charts, tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ResultKind(StrEnum):
    """The lists of a run's results; the values are their tables."""

    SCALERS = "scalers"
    VISUALIZATIONS = "training_visualizations"
    EVALUATION_TABLES = "evaluation_tables"


@dataclass(frozen=True)
class ResultItem:
    """One scaler, chart or table as its trainer described it."""

    id: str
    run_id: str
    content: Mapping[str, Any]
