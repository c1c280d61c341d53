"""The request in a manifest gives the same results again in another process, whose sets have another order."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CASES = (
    "regression random_forest",
    "regression dense_network",
    "classification logistic_regression",
    "classification gradient_boosting",
    "time_series gradient_boosting",
    "time_series recurrent_network",
)
# Prints a checksum of all that is published beside the files, for each case.
TRAINER = """
import hashlib, json, sys, tempfile, warnings
from pathlib import Path
import numpy as np
import pandas as pd
from shared.adapters import keras_models, sklearn_models
from shared.adapters.reference_trainer import ReferenceTrainer
from shared.records.training import read_training_request
from tests.fakes.objects import InMemoryObjectStore
from tests.training_factories import a_data_file

warnings.simplefilter("ignore")
keras_models.MOST_EPOCHS, sklearn_models.N_TREES, sklearn_models.MOST_ITERATIONS = 2, 10, 50
random = np.random.default_rng(0)
frame = pd.DataFrame({"a": random.normal(5, 3, 300), "when": pd.date_range("2024-01-01", periods=300, freq="7min")})
frame["carrier"] = random.choice(["AA", "UA", "LH"], 300)
frame["late"] = random.choice(["no", "yes", "never"], 300)
frame["y"] = 3 * frame["a"] + (frame["carrier"] == "AA") * 10
content = frame.to_csv(index=False).encode()
store = InMemoryObjectStore()
store.write("datasets/table.csv", content, "text/csv")
for case in sys.argv[1:]:
    task, name = case.split()
    document = {"task": task, "target": "late" if task == "classification" else "y", "models": [name], "seed": 5}
    document |= {"test_fraction": 0.2} | ({"horizon": 2, "window": 4} if task == "time_series" else {})
    request = read_training_request(document)
    assert request.document().items() >= document.items()
    with tempfile.TemporaryDirectory() as folder:
        files = [a_data_file(content, 300)]
        made = ReferenceTrainer(store).train(name, request, files, Path(folder), lambda *_: None)
    told = [made.metrics, made.signature, made.scalers, made.charts, made.tables, made.description]
    print(case, hashlib.sha256(json.dumps(told).encode()).hexdigest())
"""


def test_another_process_with_the_same_request_and_data_publishes_the_same():
    def train(hash_seed: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", TRAINER, *CASES],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    (one, errors), (other, _) = [process.communicate() for process in (train("1"), train("2"))]
    assert [line.rpartition(" ")[0] for line in one.splitlines()] == list(CASES), errors
    assert one == other
