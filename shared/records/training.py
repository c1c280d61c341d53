"""Runs and their models, from a request to what training came to.

Which state may follow which is decided by the SQL functions in infra/supabase/migrations, where a transition and its
condition are one statement.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from shared.records.claims import ClaimOutcome
from shared.records.documents import LegacyDocument
from shared.records.uploads import DataFile


class RunStatus(StrEnum):
    """queued -> running -> completed | failed; queued | running -> cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ModelStatus(StrEnum):
    """queued -> training -> pending | failed; pending -> ready | refused; queued | training -> cancelled.

    `pending` is published and not yet checked. `unsupported` is for documents of the old backend.
    """

    QUEUED = "queued"
    TRAINING = "training"
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    CANCELLED = "cancelled"


class LearningTask(StrEnum):
    """What is learned: a number, a class, or the next values of a series."""

    REGRESSION = "regression"
    CLASSIFICATION = "classification"
    TIME_SERIES = "time_series"


@dataclass(frozen=True)
class TrainableModel:
    """A model of the reference trainer: its framework and the tasks it can be trained for."""

    framework: str
    tasks: frozenset[LearningTask]


# The models of the reference trainer by name. What stands here is offered to clients.
TRAINABLE_MODELS: Mapping[str, TrainableModel] = {
    "linear_regression": TrainableModel("sklearn", frozenset({LearningTask.REGRESSION, LearningTask.TIME_SERIES})),
    "logistic_regression": TrainableModel("sklearn", frozenset({LearningTask.CLASSIFICATION})),
    "random_forest": TrainableModel("sklearn", frozenset({LearningTask.REGRESSION, LearningTask.CLASSIFICATION})),
    "gradient_boosting": TrainableModel("sklearn", frozenset(LearningTask)),
    "dense_network": TrainableModel("keras", frozenset({LearningTask.REGRESSION, LearningTask.CLASSIFICATION})),
    "recurrent_network": TrainableModel("keras", frozenset({LearningTask.TIME_SERIES})),
}


def models_of_task(task: LearningTask) -> tuple[str, ...]:
    """Return the names of the models that can be trained for a task, in the order of TRAINABLE_MODELS."""
    return tuple(name for name, model in TRAINABLE_MODELS.items() if task in model.tasks)


@dataclass(frozen=True)
class TrainingRequest:
    """What is to be trained.

    Attributes:
        target: Column to predict.
        models: Names, keys of TRAINABLE_MODELS, without repetition.
        test_fraction: Part of the rows that is held out for evaluation, in (0, 1).
        seed: Decides the split and every random choice of the models.
        time_column: Of a time series: orders the rows; None where they are in order already.
        horizon: Of a time series: how many next values are forecast from each window.
        window: Of a time series: rows of history that a forecast sees; None lets the trainer choose.
    """

    target: str
    models: tuple[str, ...]
    test_fraction: float
    seed: int
    task: LearningTask = LearningTask.REGRESSION
    time_column: str | None = None
    horizon: int = 1
    window: int | None = None

    def document(self) -> dict[str, Any]:
        """Return the request as it is kept: JSON, in which only a time series says something about time.

        Requests that are in progress are compared in this form, so one that was begun before there were time series
        is still equal to the same one now.
        """
        document: dict[str, Any] = {
            "target": self.target,
            "models": list(self.models),
            "test_fraction": self.test_fraction,
            "seed": self.seed,
            "task": self.task.value,
        }
        if self.task is LearningTask.TIME_SERIES:
            document |= {"time_column": self.time_column, "horizon": self.horizon, "window": self.window}
        return document


def read_training_request(document: Mapping[str, Any]) -> TrainingRequest:
    """Make a request of its document again."""
    return TrainingRequest(
        **{
            **document,
            "models": tuple(document["models"]),
            "task": LearningTask(document.get("task", LearningTask.REGRESSION)),
        }
    )


@dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve, reported while a model is trained.

    Attributes:
        unit: What a step is: "epoch", "iteration", "tree".
        step: Counted from 1.
        n_steps: As many as there will be at most.
        train, validation: The loss on both parts after this step; None where it is not measured.
    """

    unit: str
    step: int
    n_steps: int
    train: float | None
    validation: float | None = None


@dataclass(frozen=True)
class ModelFile:
    """One file of a model in the artifacts bucket.

    Attributes:
        format: A key of FORMATS (shared/publication.py).
        loads_code: Opening it can run code that its writer chose.
    """

    format: str
    object_name: str
    generation: int | None
    size_bytes: int
    sha256: str
    media_type: str
    loads_code: bool


class ConversionStatus(StrEnum):
    """pending -> ready | unsupported | refused | failed."""

    PENDING = "pending"
    READY = "ready"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Conversion:
    """How far a model is on its way to the .h5 format.

    Attributes:
        finding: {code, message, where} of a file that was refused.
        attempt: From 1; each writes objects of its own.
    """

    status: ConversionStatus
    attempt: int
    detail: str | None = None
    finding: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TrainedModel:
    """One model of a run, from its task to its files.

    Attributes:
        path: Unique in its run: <run id>/<name>; of a legacy model its place in the document, such as `a.b[2].model`.
        progress: 0 to 1.
        attempts: Times that a task took it up.
        metrics: Values by split and metric, in the target's unit.
        origin: trained (by the reference trainer), published (by another one) or legacy (an old document).
        claimed_class: What its writer called it, where that is not what was read.
        version: From 1, per session and name, since it is ready; equal content has an equal version.
        published: What the task wrote (files, parameters, scalers, charts, ...); empty where it was not asked for.
        curve: {unit, n_steps, step, train, validation} as shared/learning_curves.py makes it; empty where there is
            none, or it was not asked for.
        remaining_s: How long training will probably take from now on [s], where that is known.
        conversion: Of a Keras model that was asked for as .h5 and was not published so.
    """

    id: str
    run_id: str
    session_uuid: str
    name: str
    path: str
    class_name: str | None
    framework: str
    status: ModelStatus
    status_detail: str | None
    progress: float
    attempts: int
    files: tuple[ModelFile, ...]
    metrics: Mapping[str, Mapping[str, float]]
    created_at: datetime
    updated_at: datetime
    origin: str = "trained"
    claimed_class: str | None = None
    version: int | None = None
    published: Mapping[str, Any] = field(default_factory=dict)
    curve: Mapping[str, Any] = field(default_factory=dict)
    remaining_s: int | None = None
    conversion: Conversion | None = None


@dataclass(frozen=True)
class Run:
    """One training of a session's data sets.

    Attributes:
        request: As asked for; a trainer of somebody else's may leave it empty.
        manifest: {object, generation, bytes, sha256} of the manifest, or of the legacy document, once it is read.
        document: Of runs that are legacy documents.
    """

    id: str
    session_uuid: str
    session_id: str
    owner: str
    status: RunStatus
    request: Mapping[str, Any]
    data_set: tuple[DataFile, ...]
    manifest: Mapping[str, Any] | None
    failure: str | None
    created_at: datetime
    finished_at: datetime | None
    models: tuple[TrainedModel, ...]
    document: LegacyDocument | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is trained any more."""
        return self.status in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}

    @property
    def awaits_manifest(self) -> bool:
        """Whether a manifest is to be written once all models are finished: of a cancelled run, if one has files."""
        is_cancelled = self.status is RunStatus.CANCELLED and self.manifest is None
        return not self.is_over or (is_cancelled and any(model.files for model in self.models))

    @property
    def last_sign_of_life(self) -> datetime:
        """When a task last did something for it; before the first, when it was asked for."""
        return max([self.created_at, *(model.updated_at for model in self.models)])


@dataclass(frozen=True)
class TrainingTask:
    """One message to the queue: train this model. The number tells a new task from a repeated one."""

    model_id: str
    number: int


@dataclass(frozen=True)
class TrainingClaim:
    """The answer to taking up a model, with its run.

    Attributes:
        are_models_finished: Nothing is left to train; the run's results can be published.
        busy_s: Where somebody else trains the model: the rest of their lease [s].
    """

    outcome: ClaimOutcome
    run: Run
    are_models_finished: bool
    busy_s: int | None = None


@dataclass(frozen=True)
class WrittenFile:
    """A file that a trainer wrote into its working folder."""

    format: str
    path: Path
    media_type: str
    loads_code: bool


@dataclass(frozen=True)
class TrainingOutcome:
    """What training one model came to: files and a description for the manifest (docs/results.md).

    Attributes:
        metrics: By split ("train", "test") and metric, in the target's unit where it has one.
        signature: Inputs and outputs: names, dtype, shape, unit ("raw", or "scaled" by the named scaler).
        scalers: Parameters, formula and inverse of each.
        charts: Kind, titles, encoding and data columns of each.
        description: The rest of the manifest's entry: features, ignored columns, split, check, params, environment.
        tables: Beside that of all models' metrics: name, title, typed columns, rows.
    """

    class_name: str
    files: tuple[WrittenFile, ...]
    metrics: Mapping[str, Mapping[str, float]]
    signature: Mapping[str, Any]
    scalers: tuple[Mapping[str, Any], ...]
    charts: tuple[Mapping[str, Any], ...]
    description: Mapping[str, Any]
    tables: tuple[Mapping[str, Any], ...] = ()
