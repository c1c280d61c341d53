"""From asking for a model to being sent to its file, against reading a session; and which bundles hold TensorFlow.

Run by `python -m benchmarks.models download` and `... bundles`.
"""

import pickle
import statistics
import subprocess
import sys

import httpx
import numpy as np
from sklearn.linear_model import LinearRegression

from benchmarks.legacy_documents import bring_in
from benchmarks.measuring import Figure, running_stack, seconds, show
from benchmarks.sessions import milliseconds, timed
from dev.home import REPOSITORY
from shared.web.manifest import functions
from tests.legacy_factories import a_model_node
from tests.local_stack import People

N_CALLS = 300
MOST_RATIO = 1.5
SESSION = "legacy"
WITH_TENSORFLOW = {"converter", "training"}
# Prints which of two libraries a function's module has loaded once it can answer.
_LOADED = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(sorted({"tensorflow", "keras"} & set(sys.modules)))
"""


def download() -> None:
    """Ask for a model and for its session in turns, and print the table."""
    rows = np.random.default_rng(1).normal(size=(20, 3))
    document = {"model": a_model_node(pickle.dumps(LinearRegression().fit(rows, rows[:, 0])))}
    stack = running_stack()
    with People(stack) as people:
        user = people.add()
        token = {"Authorization": f"Bearer {user.token}"}
        with httpx.Client(base_url=stack.env["TRAINSHED_URL"], timeout=60) as client:
            client.post("/api/training/init-session", json={"sessionId": SESSION}, headers=token).raise_for_status()
            bring_in(stack, user, httpx.Request("POST", "http://x", json=document).content)
            client.post(f"/api/training/save-model/{SESSION}", headers=token).raise_for_status()
            redirect = client.get(f"/api/training/download-model-h5/{SESSION}", params={"path": "model"}, headers=token)
            if redirect.status_code != httpx.codes.FOUND:
                sys.exit(f"The model is answered {redirect.status_code}: {redirect.text[:300]}")
            asked, read = [], []
            for _ in range(N_CALLS):
                asked.append(
                    seconds(
                        lambda: client.get(
                            f"/api/training/download-model-h5/{SESSION}", params={"path": "model"}, headers=token
                        )
                    )
                )
                read.append(timed(client, f"/api/training/session/{SESSION}", {}, token))
            client.delete(f"/api/training/session/{SESSION}", headers=token).raise_for_status()
    ratio = statistics.median(asked) / statistics.median(read)
    show(
        "Downloads",
        [
            Figure(
                "p50 of download-model, request to redirect",
                milliseconds(asked),
                f"get-session: {milliseconds(read)}",
                f"{ratio:.2f} times",
                f"{MOST_RATIO} or less",
                ratio <= MOST_RATIO,
            )
        ],
    )


def bundles() -> None:
    """Print which requirements hold TensorFlow, and whether a function that lists, reads or downloads loads it."""
    groups = {function.requirements for function in functions().values()}
    holding = {group for group in groups if "tensorflow" in (REPOSITORY / "requirements" / f"{group}.txt").read_text()}
    sources = sorted({one.source for one in functions().values() if one.requirements not in WITH_TENSORFLOW})
    loading = [
        source
        for source in sources
        if subprocess.run(
            [sys.executable, "-c", _LOADED, f"functions.{source}.main"], capture_output=True, text=True, check=True
        ).stdout.strip()
        != "[]"
    ]
    show(
        "TensorFlow",
        [
            Figure(
                "bundles that hold it",
                ", ".join(sorted(holding)),
                f"{len(groups)} groups of requirements",
                str(len(holding)),
                "2",
                holding == WITH_TENSORFLOW,
            ),
            Figure(
                "other functions that load it",
                ", ".join(loading) or "none",
                f"{len(sources)} sources",
                str(len(loading)),
                "none",
                not loading,
            ),
        ],
    )
