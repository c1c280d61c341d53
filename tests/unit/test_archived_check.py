"""The program that an archive is checked with, on models of the reference trainer, in a process of its own."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import shared.archived
from shared.adapters import keras_models
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.records.training import LearningTask
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import a_data_file, a_request

# Keras asks TensorFlow's variables for arrays in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

CASES = [
    ("linear_regression", {}),
    ("logistic_regression", {"task": LearningTask.CLASSIFICATION, "target": "part"}),
    ("linear_regression", {"task": LearningTask.TIME_SERIES, "time_column": "when", "horizon": 2, "window": 5}),
    ("dense_network", {"task": LearningTask.CLASSIFICATION, "target": "part"}),
    ("recurrent_network", {"task": LearningTask.TIME_SERIES, "time_column": "when", "horizon": 2, "window": 5}),
]


def an_archive(folder: Path, name: str, fields: dict) -> Path:
    """Train a model and lay it out as an archive does."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=120, freq="h"), "a": random.normal(size=120)})
    frame["part"] = random.choice(["dawn", "dusk"], 120)
    frame["y"] = frame["a"] * 2 + (frame["part"] == "dawn") * 3 + frame["when"].dt.hour
    frame.loc[::9, "a"] = np.nan
    content = frame.to_csv(index=False).encode()
    store = InMemoryObjectStore()
    store.write("datasets/table.csv", content, "text/csv")
    model, scalers = folder / f"models/{name}-v1", folder / "scalers/one"
    model.mkdir(parents=True)
    scalers.mkdir(parents=True)
    outcome = ReferenceTrainer(store).train(
        name, a_request(**fields), [a_data_file(content, 120)], model, lambda *_: None
    )
    framework = "keras" if name.endswith("network") else "sklearn"
    record = {**outcome.description, "signature": outcome.signature, "framework": framework, "run_id": "one"}
    (model / "model.json").write_text(json.dumps(record))
    for scaler in outcome.scalers:
        (scalers / f"{scaler['name']}.json").write_text(json.dumps(scaler | {"run_id": "one"}))
    for program in ("check.py", "load.py", "encoding.py"):
        (folder / program).write_bytes((Path(shared.archived.__file__).parent / program).read_bytes())
    paths = [path for path in folder.rglob("*") if path.is_file()]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}" for path in paths]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_a_model_that_is_reloaded_from_an_archive_predicts_from_raw_rows_as_published(
    name, fields, tmp_path, monkeypatch
):
    monkeypatch.setattr(keras_models, "MOST_EPOCHS", 2)
    folder = an_archive(tmp_path, name, fields)
    done = subprocess.run([sys.executable, "check.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "check inputs as published" in done.stdout
    assert "Everything is right." in done.stdout
