"""The rules of trained models: listing them, saving what was found, and handing out files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from shared.errors import InvalidFieldError, ManifestInvalidError, ModelNotFoundError, ModelUnavailableError
from shared.fields import read_existing_session_id
from shared.model_choices import ALIASES, BEST, DEFAULT_FORMATS, DEFAULT_FRAMEWORK, LATEST
from shared.publication import FORMATS
from shared.records.callers import Caller
from shared.records.documents import LegacyDocument
from shared.records.objects import SignedUrl
from shared.records.training import Conversion, ConversionStatus, ModelFile, ModelStatus, Run, TrainedModel

if TYPE_CHECKING:
    # Only type checkers need the protocols; a bundle may have 100 KiB.
    from shared.ports import TrainingRepository, UrlSigner

# By what models of one target are compared on held-out rows, the first that one of them has; True: more is better.
MAIN_METRICS: Mapping[str, bool] = {
    "rmse": False,
    "mae": False,
    "f1_macro": True,
    "balanced_accuracy": True,
    "accuracy": True,
    "roc_auc": True,
    "log_loss": False,
}
_WITH_FILES = (ModelStatus.READY, ModelStatus.UNSUPPORTED)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Intake(Protocol):
    """One kind of results that no row tells of yet; what is found becomes rows and files."""

    def take_in(self, owner: str, session_uuid: str, runs: Sequence[Run]) -> None:
        """Find and record them. Repeatable, also when it was killed half-way."""


class Converting(Protocol):
    """Makes files that nobody published, when they are asked for (shared/conversions.py)."""

    def to_h5(self, owner: str, model: TrainedModel) -> ModelFile | Conversion:
        """Return a model's .h5 file, or how far it is on its way."""

    def take_in(self, owner: str, models: Iterable[TrainedModel]) -> bool:
        """Take in what came of conversions; say whether there was anything new."""


@dataclass(frozen=True)
class ModelEntry:
    """A model as lists show it.

    Attributes:
        run: That it belongs to: its lineage.
        aliases: `latest` for the newest version of its name, `best` for the best of its target.
    """

    model: TrainedModel
    run: Run
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """What a session has: models in every state, those of the newest run first, and legacy documents by run id."""

    models: list[ModelEntry]
    documents: Mapping[str, LegacyDocument]


@dataclass(frozen=True)
class Choice:
    """Which file of which model to download; what is None does not matter.

    Attributes:
        framework: A key of DEFAULT_FORMATS.
        form: A key of FORMATS.
        version: From 1, in decimal.
        alias: latest or best.
    """

    framework: str | None = None
    form: str | None = None
    id: str | None = None
    path: str | None = None
    name: str | None = None
    version: str | None = None
    alias: str | None = None

    @property
    def names_a_model(self) -> bool:
        """Whether it says more than a kind of file."""
        return any(value is not None for value in (self.id, self.path, self.name, self.version, self.alias))


class ModelService:
    """What callers may do with trained models.

    Attributes:
        intakes: Asked in this order when a session's models are saved.
        converting: Makes files that nobody published; without it, there are none of those.
    """

    def __init__(
        self,
        runs: TrainingRepository,
        signer: UrlSigner,
        intakes: Sequence[Intake] = (),
        converting: Converting | None = None,
    ) -> None:
        self._runs = runs
        self._signer = signer
        self._intakes = intakes
        self._converting = converting

    def of_session(self, caller: Caller, session_id: str) -> list[ModelEntry]:
        """Return the models of a session in every state, those of the newest run first.

        Raises:
            SessionNotFoundError: The caller has none of this name.
        """
        return self.list(caller, session_id).models

    def list(self, caller: Caller, session_id: str) -> Listing:
        """Return what a session has, from rows alone: no document and no model is read.

        Only while a conversion is under way, the bucket is asked whether it has ended.

        Raises:
            SessionNotFoundError: The caller has none of this name.
        """
        name = read_existing_session_id(session_id)
        _, runs = self._runs.of_session(caller, name)
        if self._converting is not None and self._converting.take_in(caller.user_id, _models_of(runs)):
            _, runs = self._runs.of_session(caller, name)
        return Listing(list_models(runs), {run.id: run.document for run in runs if run.document is not None})

    def save(self, caller: Caller, session_id: str) -> Listing:
        """Take in what was published and not checked yet, and return the models that are saved. Repeatable.

        Raises:
            SessionBusyError: Another call reads a legacy document of the session.
            SessionNotFoundError: The caller has none of this name.
            ManifestInvalidError: A manifest of another trainer does not fit its files; it is not taken in, all else is.
        """
        name = read_existing_session_id(session_id)
        session_uuid, runs = self._runs.of_session(caller, name)
        invalid: ManifestInvalidError | None = None
        for intake in self._intakes:
            try:
                intake.take_in(caller.user_id, session_uuid, runs)
            except ManifestInvalidError as error:
                invalid = error
        if invalid is not None:
            raise invalid
        listing = self.list(caller, name)
        return replace(listing, models=[one for one in listing.models if one.model.status is ModelStatus.READY])

    def download(self, caller: Caller, session_id: str, choice: Choice) -> SignedUrl | Conversion:
        """Sign a download of one file of a saved model, or say how far the file is on its way.

        Of several models that fit, a saved one of the newest run is taken. A choice that names no model takes the
        framework of the format, or Keras; one without a format takes h5 for Keras and skops for scikit-learn.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            ModelNotFoundError: It has no such model.
            ModelUnavailableError: It has, but not saved or not in this format (details: available, status, reason).
            InvalidFieldError: An unknown framework, format or alias, or a version that is no number.
        """
        version = _read_choice(choice)
        framework = choice.framework
        if framework is None and not choice.names_a_model:
            framework = FORMATS[choice.form].framework if choice.form else DEFAULT_FRAMEWORK
        entries = [
            entry
            for entry in self.of_session(caller, session_id)
            if framework in {None, entry.model.framework}
            and choice.id in {None, entry.model.id}
            and choice.path in {None, entry.model.path}
            and choice.name in {None, entry.model.name}
            and version in {None, entry.model.version}
            and (choice.alias is None or choice.alias in entry.aliases)
        ]
        if not entries:
            raise ModelNotFoundError
        models = [entry.model for entry in entries]
        model = next((model for model in models if model.status is ModelStatus.READY), models[0])
        converting = self._converting
        if converting is None or not is_convertible(model) or (choice.form or DEFAULT_FORMATS["keras"]) != "h5":
            return self._sign(model, _file_of(model, choice.form))
        made = converting.to_h5(caller.user_id, model)
        if isinstance(made, ModelFile):
            return self._sign(model, made)
        if made.status is ConversionStatus.PENDING:
            return made
        raise ModelUnavailableError(
            f"There is no h5 file of this model: its conversion was {made.status}. {made.detail or ''}".rstrip(),
            available=[file.format for file in model.files],
            status=model.status,
            reason=made.detail,
            path=model.path,
            conversion=made.status,
            finding=made.finding,
        )

    def _sign(self, model: TrainedModel, file: ModelFile) -> SignedUrl:
        # The name is made of a model's name, which is plain ASCII, and the run's id.
        file_name = f"{model.name}-{model.run_id[:8]}.{file.format}"
        query = {"response-content-disposition": f'attachment; filename="{file_name}"'}
        if file.generation is not None:
            # What was looked into, and nothing that has its name since.
            query["generation"] = str(file.generation)
        return self._signer.sign("GET", file.object_name, query=query)


def _models_of(runs: Iterable[Run]) -> Iterator[TrainedModel]:
    return (model for run in runs for model in run.models)


def list_models(runs: Iterable[Run]) -> list[ModelEntry]:
    """Return the models of runs in their order, with the aliases that they have among each other."""
    pairs = [(model, run) for run in runs for model in run.models]
    latest, best = _latest(pairs), _best(pairs)
    return [
        ModelEntry(model, run, tuple(alias for alias, ids in ((LATEST, latest), (BEST, best)) if model.id in ids))
        for model, run in pairs
    ]


def _latest(pairs: Iterable[tuple[TrainedModel, Run]]) -> set[str]:
    """Return the ids of the ready models with the highest version of their name."""
    found: dict[str, TrainedModel] = {}
    for model, _ in pairs:
        if model.version is None:
            continue
        other = found.get(model.name)
        # The first of equal versions is that of the newest run.
        if other is None or (other.version or 0) < model.version:
            found[model.name] = model
    return {model.id for model in found.values()}


def _best(pairs: Iterable[tuple[TrainedModel, Run]]) -> set[str]:
    """Return the ids of the best ready models, one per task and target."""
    groups: dict[str, list[TrainedModel]] = {}
    for model, run in pairs:
        if model.status is ModelStatus.READY:
            # Of another trainer's request they may be lists, or anything else.
            learned = json.dumps([run.request.get("task"), run.request.get("target")], sort_keys=True)
            groups.setdefault(learned, []).append(model)
    best = set()
    for models in groups.values():
        for metric, more_is_better in MAIN_METRICS.items():
            scored = [(value, model.id) for model in models if (value := _test_metric(model, metric)) is not None]
            if scored:
                # Of equals the first, which is of the newest run.
                best.add((max if more_is_better else min)(scored, key=lambda pair: pair[0])[1])
                break
    return best


def _test_metric(model: TrainedModel, metric: str) -> float | None:
    of_test = model.metrics.get("test")
    value = of_test.get(metric) if isinstance(of_test, Mapping) else None
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        # A whole number of more than 308 digits.
        return None


def _read_choice(choice: Choice) -> int | None:
    """Check the members that have few values; return the version."""
    for field, value, allowed in (
        ("type", choice.framework, DEFAULT_FORMATS),
        ("format", choice.form, FORMATS),
        ("alias", choice.alias, ALIASES),
    ):
        if value is not None and value not in allowed:
            raise InvalidFieldError(field, f"must be one of {', '.join(allowed)}")
    if choice.version is None:
        return None
    if not _VERSION.fullmatch(choice.version):
        raise InvalidFieldError("version", "must be a whole number from 1")
    return int(choice.version)


def _file_of(model: TrainedModel, form: str | None) -> ModelFile:
    # What is no model that we know is kept as it came, for who asks for exactly that.
    is_kept = model.status is ModelStatus.READY or (model.status is ModelStatus.UNSUPPORTED and form is not None)
    available = [file.format for file in model.files] if model.status in _WITH_FILES else []
    default = DEFAULT_FORMATS.get(model.framework)
    if default is None or (model.framework == "sklearn" and model.origin == "legacy"):
        # A model of another library has what it has; of scikit-learn the old backend kept pickles only.
        default = next(iter(available), "pkl")
    chosen = form or default
    file = next((file for file in model.files if file.format == chosen), None)
    if is_kept and file is not None:
        return file
    reason = f" {model.status_detail}" if model.status_detail else ""
    raise ModelUnavailableError(
        f"There is no {chosen} file of this model."
        if model.status is ModelStatus.READY
        else f"The model is {model.status} and there is no {chosen} file of it.{reason}",
        available=available,
        status=model.status,
        reason=model.status_detail,
        path=model.path,
    )


def is_convertible(model: TrainedModel) -> bool:
    """Say whether a model could have an .h5 file and has none."""
    formats = {file.format for file in model.files}
    return model.status is ModelStatus.READY and "keras" in formats and "h5" not in formats


def total_bytes(models: Iterable[TrainedModel]) -> int:
    """Return the size of all files of some models [bytes]."""
    return sum(file.size_bytes for model in models for file in model.files)
