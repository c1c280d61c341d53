"""Looks into the Keras files of strangers before they are handed out; of a large one little is read.

The archive and its configuration are read here (shared/keras_archives.py), HDF5 by a `Hdf5Reader`.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from shared.keras_archives import WEIGHTS_NAME, ArchiveFinding, ArchiveReport, inspect_archive, inspect_config, weights


@dataclass(frozen=True)
class Hdf5Contents:
    """What an HDF5 file holds, as far as it matters.

    Attributes:
        finding: Why it must not be loaded, with a place in the file; None if nothing is wrong.
        config: The configuration of a network, as JSON, where the file has one.
    """

    finding: ArchiveFinding | None
    config: str | None = None


class Hdf5Reader(Protocol):
    """Reads HDF5 that may be hostile (shared/adapters/hdf5_sandbox.py)."""

    def contents(self, file: BinaryIO, start: int, n_bytes: int) -> Hdf5Contents:
        """Look at the HDF5 file that begins at `start` of another file.

        Raises:
            UnavailableError: The other file cannot be read just now.
        """


class KerasFiles:
    """Says what Keras files are, and what loading them would do besides, whatever their bytes."""

    def __init__(self, reader: Hdf5Reader) -> None:
        self._reader = reader

    def archive(self, file: BinaryIO, *, may_have_assets: bool = False) -> ArchiveReport:
        """Report on a `.keras` file.

        Args:
            may_have_assets: Files below `assets/`, such as the vocabulary of a layer, are no reason to refuse it.
        """
        report = inspect_archive(file, may_have_assets=may_have_assets)
        if report.refusal is not None:
            return report
        with weights(file) as found:
            finding = found if isinstance(found, ArchiveFinding) else self._reader.contents(*found).finding
        return report if finding is None else replace(report, findings=(finding.inside(WEIGHTS_NAME), *report.findings))

    def h5(self, file: BinaryIO) -> ArchiveReport:
        """Report on an `.h5` file; one of weights alone has no configuration to look at."""
        contents = self._reader.contents(file, 0, file.seek(0, io.SEEK_END))
        if contents.finding is not None:
            return ArchiveReport(None, None, (), (contents.finding,))
        try:
            config = json.loads(contents.config or "{}")
        except (ValueError, RecursionError):
            config = None
        if isinstance(config, dict):
            return inspect_config(config)
        finding = ArchiveFinding("not_json", "It is no object in JSON.", "model_config", is_refused=True)
        return ArchiveReport(None, None, (), (finding,))
