"""A small data set on the whole path: in, trained, out, reloaded. `make demo` does the same with a real one."""

import random
import time

import pytest

from dev.demo import check_all, download_all
from trainshed.errors import ServiceError
from trainshed.upload import upload_file

MODELS = ["dense_network", "gradient_boosting", "linear_regression", "random_forest"]
# All that can be opened without running what its writer chose.
RELOADED = {"dense_network.keras", "dense_network.h5"} | {
    f"{name}.{form}" for name in MODELS if name != "dense_network" for form in ("skops", "onnx")
}


@pytest.fixture
def data_set(tmp_path):
    numbers = random.Random(7)
    path = tmp_path / "data.csv"
    with path.open("w") as file:
        file.write("a,b,word,arr_delay\n")
        for _ in range(600):
            a, b = numbers.gauss(5, 2), numbers.gauss(-100, 30)
            file.write(f"{a},{b},text,{3 * a - 0.1 * b + numbers.gauss(0, 1)}\n")
    return path


def train(client, session, **options):
    client.train(session, "arr_delay", **options)
    until = time.monotonic() + 150
    while time.monotonic() < until:
        run = client.get_training(session)
        if run["status"] in {"completed", "failed"}:
            return run
        time.sleep(0.2)
    raise AssertionError(f"The training does not end: {run}")


def test_a_data_set_comes_back_as_models_that_predict_what_was_published(alice, new_session, data_set, tmp_path):
    session = new_session("whole-path")
    assert upload_file(alice, session, data_set, content_type="text/csv")["nRows"] == 600
    assert alice.finalize_session(session)["n_dat"] == 600
    assert alice.plot_variables(session)["variables"] == ["a", "b", "word", "arr_delay"]

    run = train(alice, session)
    assert run["status"] == "completed", run
    assert sorted(model["name"] for model in run["models"]) == MODELS
    scores = {model["name"]: model["metrics"]["test"]["r2"] for model in run["models"]}
    # The noise leaves 1 - 1/(36 + 9 + 1) to explain; a line is the right model for it.
    assert 0.95 < scores["linear_regression"] < 0.999
    assert alice.save_models(session)["models_saved"] == len(MODELS)

    models = alice.list_models(session)["models"]
    assert sorted(model["name"] for model in models) == MODELS
    assert {model["status"] for model in models} == {"ready"}
    files = download_all(alice, session, models, tmp_path / "models")
    checks = check_all(alice, session, data_set, files)
    assert {check.file for check in checks} == RELOADED
    assert all(check.is_equal for check in checks), checks

    charts = alice.visualizations(session)
    assert {chart["model"] for chart in charts} == set(MODELS)
    assert {scaler["model"] for scaler in alice.scalers(session)} >= {"dense_network"}

    with pytest.raises(ServiceError) as refusal:
        alice.create_upload(session, "late.csv", 5)
    assert refusal.value.code == "session_finalized"
