"""Progress and tables in the terminal. Progress goes to standard error and only where that is a terminal."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table

from cli.answers import Model, Run, RunModel, Session
from cli.client import Client
from cli.errors import TrainingFailedError
from cli.upload import Progress as UploadProgress

_ASK_EVERY_S = 0.5
_OVER = frozenset({"completed", "failed"})


@contextmanager
def upload_bar(console: Console, file_name: str) -> Iterator[Callable[[UploadProgress], None]]:
    """Show how many bytes of the file the bucket has, the rate and the remaining time."""
    columns = (
        TextColumn("{task.fields[phase]} [bold]{task.description}[/bold]"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(file_name, total=None, phase="opening")

        def show(progress: UploadProgress) -> None:
            # A file of 0 bytes is whole from the start.
            bars.update(
                task,
                total=max(progress.size_bytes, 1),
                completed=progress.stored_bytes if progress.size_bytes else 1,
                phase=progress.phase,
            )

        yield show


def wait_for_training(client: Client, session_id: str, console: Console) -> Run:
    """Show a run until it is over.

    Raises:
        TrainingFailedError: It ended without a single model.
    """
    run = client.get_training(session_id)
    started = time.monotonic()
    with Live(run_table(run, 0.0), console=console, auto_refresh=False, transient=not console.is_terminal) as live:
        while run["status"] not in _OVER:
            time.sleep(_ASK_EVERY_S)
            run = client.get_training(session_id)
            if console.is_terminal:
                live.update(run_table(run, time.monotonic() - started), refresh=True)
    if run["status"] == "failed":
        reasons = [f"{model['name']}: {model.get('detail') or model['status']}" for model in run["models"]]
        raise TrainingFailedError(f"Training failed. {'; '.join(reasons)}")
    return run


def run_table(run: Run, seconds: float) -> Table:
    """Return the models of a run with their progress and, once they are trained, their errors on held-out rows."""
    table = Table(title=f"Training for {run['target']} ({run['status']}, {seconds:.0f} s)", title_justify="left")
    for name in ("model", "status", "progress"):
        table.add_column(name)
    for name in ("test RMSE", "test R²"):
        table.add_column(name, justify="right")
    for model in run["models"]:
        bar = ProgressBar(total=1.0, completed=model["progress"], width=24)
        table.add_row(model["name"], model["status"], bar, _test(model, "rmse"), _test(model, "r2"))
    return table


def models_tables(models: Sequence[Model]) -> list[Table]:
    """Return one table per run, in the order given; a model's path is the run and its name."""
    tables: dict[str, Table] = {}
    for model in models:
        run = model["path"].removesuffix(f"/{model['name']}")
        if run not in tables:
            tables[run] = table = Table(title=f"Models of run {run}", title_justify="left")
            for name in ("name", "class", "status", "formats"):
                table.add_column(name)
            table.add_column("size", justify="right")
        formats = ", ".join(file["format"] for file in model["formats"])
        size = f"{model['size'] / 1e6:.2f} MB"
        name = (model["class"] or "").rpartition(".")[2]
        tables[run].add_row(model["name"], name, model["status"], formats, size)
    return list(tables.values())


def sessions_table(sessions: list[Session]) -> Table:
    """Return sessions, one per row."""
    table = Table(title="Sessions", title_justify="left")
    for name in ("session", "status", "created at"):
        table.add_column(name, overflow="fold")
    table.add_column("rows", justify="right")
    for session in sessions:
        rows = "" if session["n_dat"] is None else f"{session['n_dat']:,}"
        table.add_row(session["session_id"], session["status"], session["created_at"][:19], rows)
    return table


def _test(model: RunModel, metric: str) -> str:
    value = ((model.get("metrics") or {}).get("test") or {}).get(metric)
    return "" if value is None else f"{value:,.4g}"
