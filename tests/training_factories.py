"""Makes what tests of training talk about."""

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shared.errors import DataSetError
from shared.keras_files import KerasFiles
from shared.manifests import ManifestIntake
from shared.models import ModelService
from shared.ports import Progress
from shared.publication import run_prefix
from shared.records.objects import StoredObject, data_set_name
from shared.records.sessions import SessionStatus
from shared.records.training import TRAINABLE_MODELS, CurvePoint, Run, TrainingOutcome, TrainingRequest, WrittenFile
from shared.records.uploads import DataFile, Upload, UploadState
from shared.training import TaskResult, TrainingRunner, TrainingService
from tests.factories import ALICE, a_caller, a_uuid, an_upload
from tests.fakes.hdf5 import Hdf5InProcess
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.sessions import InMemoryDatabase, InMemorySessions, Subscription, UploadRow
from tests.fakes.signer import InMemorySigner
from tests.fakes.training import InMemoryQueue, InMemoryTraining
from tests.fakes.uploads import InMemoryUploads

# One of each kind of file; that every model keeps the promises of the port is in tests/contract.
THREE_MODELS = ("linear_regression", "random_forest", "dense_network")
H5_MAGIC = b"\x89HDF\r\n\x1a\n"


def a_table(n_rows: int = 40, *, columns: Sequence[str] = ("a", "b", "y")) -> bytes:
    """Return a CSV of numbers whose last column follows from the others."""
    lines = [",".join(columns)]
    for row in range(n_rows):
        features = [float((row * (at + 3)) % 17) for at in range(len(columns) - 1)]
        lines.append(",".join(str(value) for value in [*features, sum(features) * 2 + 1]))
    return "\n".join(lines).encode() + b"\n"


def a_request(**fields: Any) -> TrainingRequest:
    defaults = {
        "target": "y",
        "models": THREE_MODELS,
        "test_fraction": 0.2,
        "seed": 42,
    }
    return TrainingRequest(**defaults | fields)


def a_data_file(content: bytes, n_rows: int, **fields: Any) -> DataFile:
    defaults = {
        "upload_id": a_uuid(),
        "file_name": "table.csv",
        "content_type": "text/csv",
        "object_name": "datasets/table.csv",
        "generation": 1,
        "size_bytes": len(content),
        "crc32c": "AAAAAA==",
        "sha256": hashlib.sha256(content).hexdigest(),
        "n_rows": n_rows,
    }
    return DataFile(**defaults | fields)


def a_zip(name: str) -> bytes:
    """Return the bytes of a small zip archive, the same ones at any time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), name)
    return buffer.getvalue()


def an_hdf5_file(build: Callable[[Any], None] | None = None) -> bytes:
    """Return a small HDF5 file, with what is built into it."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        if build is None:
            file.create_dataset("layers/dense/vars/0", data=[1.0, 2.0], dtype="f4")
        else:
            build(file)
    return buffer.getvalue()


def a_keras_archive(*layers: Mapping[str, Any], **members: str | bytes) -> bytes:
    """Return a `.keras` file, the same bytes at any time; packed as Keras does it: not at all.

    Args:
        members: Contents by name, instead of and beside those of an archive that is in order.
    """
    config = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
    contents = {"metadata.json": "{}", "config.json": config} | members
    contents.setdefault("model.weights.h5", an_hdf5_file())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def a_model_file_content(form: str) -> bytes:
    """Return a small file of that format."""
    contents = {
        "keras": a_keras_archive,
        "h5": an_hdf5_file,
        "skops": lambda: a_zip("schema.json"),
        "pkl": lambda: pickle.dumps({}, 2),
    }
    return contents[form]()


@dataclass
class FakeTrainer:
    """A `Trainer` that learns nothing: writes small files of the right kinds.

    Attributes:
        faults: What training a model of that name raises.
        while_training: Called in the middle, for example to delete the session.
        points: Of the learning curve, reported before the end.
    """

    faults: dict[str, BaseException] = field(default_factory=dict)
    while_training: Callable[[], None] = lambda: None
    trained: list[str] = field(default_factory=list)
    points: Sequence[CurvePoint] = ()

    def train(
        self,
        name: str,
        request: TrainingRequest,
        data_set: Sequence[DataFile],
        folder: Path,
        progress: Progress,
    ) -> TrainingOutcome:
        progress(0.1)
        if name in self.faults:
            raise self.faults[name]
        if not data_set:
            raise DataSetError("There is no table.")
        self.while_training()
        for point in self.points:
            progress(point.step / point.n_steps, point)
        progress(1.0)
        self.trained.append(name)
        forms = ("keras", "h5") if TRAINABLE_MODELS[name].framework == "keras" else ("skops", "pkl")
        files = []
        for form in forms:
            path = folder / f"model.{form}"
            path.write_bytes(a_model_file_content(form))
            files.append(WrittenFile(form, path, "application/octet-stream", form == "pkl"))
        quality = len(name) / 10
        return TrainingOutcome(
            class_name=f"fake.{name}",
            files=tuple(files),
            metrics={split: {"rmse": quality, "mae": quality / 2, "r2": 0.5} for split in ("train", "test")},
            signature={"inputs": [], "outputs": []},
            scalers=({"name": f"{name}.inputs", "type": "standard", "model": name},),
            charts=({"name": f"{name}.residuals", "kind": "histogram", "model": name},),
            description={"environment": {"python": "3.11"}, "features": ["a", "b"]},
        )


@dataclass
class TrainingBench:
    """Services of training and models on one database and two buckets in memory."""

    database: InMemoryDatabase = field(default_factory=InMemoryDatabase)
    store: InMemoryObjectStore = field(default_factory=InMemoryObjectStore)
    artifacts: InMemoryObjectStore = field(default_factory=InMemoryObjectStore)
    queue: InMemoryQueue = field(default_factory=InMemoryQueue)
    trainer: FakeTrainer = field(default_factory=FakeTrainer)

    def __post_init__(self) -> None:
        self.database.subscriptions.setdefault(ALICE, Subscription())
        self.runs = InMemoryTraining(self.database)
        self.signer = InMemorySigner(self.artifacts)

    def service(self) -> TrainingService:
        return TrainingService(self.runs, self.queue, InMemoryUploads(self.database), self.store)

    def runner(self, *, runs: Any = None, artifacts: Any = None, check: Any = None, **options: Any) -> TrainingRunner:
        """Return a runner that leaves published models pending, unless told how to check them."""
        check = check or (lambda run: run)
        return TrainingRunner(runs or self.runs, self.trainer, artifacts or self.artifacts, check, **options)

    def models(self) -> ModelService:
        return ModelService(self.runs, self.signer, [self.intake()])

    def intake(self) -> ManifestIntake:
        return ManifestIntake(self.runs, self.artifacts, KerasFiles(Hdf5InProcess()))

    def a_session(self, *tables: bytes, session_id: str = "weather", **fields: Any) -> str:
        """Make a finalized session that holds these tables; return its row id."""
        session = InMemorySessions(self.database).init(ALICE, session_id, {})
        for index, content in enumerate(tables):
            self.add_upload(session.id, content, **{"file_name": f"table{index}.csv"} | fields)
        self.set_status(session.id, SessionStatus.FINALIZED)
        return session.id

    def add_upload(self, session_uuid: str, content: bytes, **fields: Any) -> Upload:
        upload_id = a_uuid()
        name = data_set_name(session_uuid, upload_id, fields["file_name"])
        stored = self.store.write(name, content, "text/csv")
        defaults = {
            "id": upload_id,
            "session_uuid": session_uuid,
            "content_type": "text/csv",
            "size_bytes": len(content),
            "state": UploadState.ASSEMBLED,
            "object_name": name,
            "generation": stored.generation,
            "crc32c": stored.crc32c,
            "n_rows": max(0, len(content.splitlines()) - 1),
            "created_at": self.database.tick(),
        }
        upload = an_upload(**defaults | fields)
        self.database.uploads[upload.id] = UploadRow(upload, len(content))
        return upload

    def set_status(self, session_uuid: str, status: SessionStatus) -> None:
        row = self.database.sessions[session_uuid]
        row.record = replace(row.record, status=status)

    def status_of(self, session_uuid: str) -> SessionStatus:
        return self.database.sessions[session_uuid].record.status

    def start(self, *, target: str = "y", **fields: Any) -> Run:
        """Start a run, of three models where nothing else is said."""
        fields.setdefault("models", list(THREE_MODELS))
        return self.service().start(a_caller(), "weather", target=target, **fields)

    def run(self) -> Run:
        """Return the newest run as the database has it now."""
        return self.service().get(a_caller(), "weather")

    def deliver(self, runner: TrainingRunner | None = None) -> list[TaskResult]:
        """Deliver every queued task once, in order."""
        return [(runner or self.runner()).run(task.model_id) for task in self.queue.tasks]

    def train(self, **fields: Any) -> Run:
        """Start a run and train it to its end."""
        self.start(**fields)
        self.deliver()
        return self.run()

    def manifests(self) -> list[str]:
        return [name for name in self.artifacts.names() if name.endswith("manifest.json")]


def another_trainers_manifest(session_uuid: str, run_id: str, **fields: Any) -> dict[str, Any]:
    """Return a manifest with one model of one file, as a team's own trainer writes it."""
    content = a_model_file_content("skops")
    model = {
        "name": "gradient_boosting",
        "class": "lightgbm.LGBMRegressor",
        "framework": "sklearn",
        "status": "completed",
        "metrics": {"test": {"rmse": 1.5}},
        "files": [
            {
                "format": "skops",
                "object": f"{run_prefix(session_uuid, run_id)}gradient_boosting/model.skops",
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "media_type": "application/zip",
            }
        ],
    }
    defaults = {
        "schema_version": 1,
        "run_id": run_id,
        "session_uuid": session_uuid,
        "status": "completed",
        "models": [model],
        "scalers": [{"name": "inputs", "type": "minmax"}],
        "tables": [],
        "charts": [],
    }
    return defaults | fields


def publish_manifest(store: Any, document: Mapping[str, Any], *, content: bytes | None = None) -> StoredObject:
    """Write another trainer's file and manifest as it does: the manifest last."""
    prefix = run_prefix(document["session_uuid"], document["run_id"])
    store.write(f"{prefix}gradient_boosting/model.skops", content or a_model_file_content("skops"), "application/zip")
    return store.write(f"{prefix}manifest.json", json.dumps(document).encode(), "application/json")
