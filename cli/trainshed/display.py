"""Progress and tables, in the terminal and in a notebook.

In a terminal, progress goes to standard error, and only where that is a terminal: a pipe gets none.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from trainshed.answers import Model, Run, RunModel, Session, SessionDetails
from trainshed.client import Client
from trainshed.errors import TrainingFailedError
from trainshed.notebook import TrainingOutput, UploadOutput, is_notebook
from trainshed.upload import Progress as UploadProgress

_ASK_EVERY_S = 0.5
_OVER = frozenset({"completed", "failed", "cancelled"})
_MIB = 1 << 20
# With it the longest of our models' names and three errors fit into 80 columns.
_BAR_WIDTH = 12
_WIDEST_BAR = 40
# "999.9/999.9 GB", "999.9 MB/s" and "00:00:00" with a space before each; "assembling" and a space.
_NUMBERS_WIDTH = 35
_PHASE_WIDTH = 11
_LEAST_NAME_WIDTH = 8


def progress_console() -> Console:
    """Return where progress is shown: standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def upload_bar(console: Console, file_name: str) -> Iterator[Callable[[UploadProgress], None]]:
    """Show how many bytes of the file the bucket has, the rate and the remaining time."""
    if is_notebook():
        yield UploadOutput(file_name)
        return
    name, columns = _upload_columns(file_name, console.width)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=None, phase="opening", name=name)
        phase = ""

        def show(progress: UploadProgress) -> None:
            nonlocal phase
            # A file of 0 bytes is whole from the start.
            total = max(progress.size_bytes, 1)
            completed = progress.done_bytes if progress.size_bytes else 1
            if progress.phase != phase:
                # What was stored before does not count as speed.
                phase = progress.phase
                bars.reset(task, total=total, completed=completed, phase=phase, name=name)
            else:
                bars.update(task, total=total, completed=completed)

        yield show


def _upload_columns(file_name: str, width: int) -> tuple[str, list[ProgressColumn]]:
    """Return the name as far as there is room, and what is shown: the numbers always, the rest where there is room."""
    room = width - _NUMBERS_WIDTH
    left: list[ProgressColumn] = []
    if room >= _PHASE_WIDTH + _LEAST_NAME_WIDTH:
        left.append(TextColumn("{task.fields[phase]}", table_column=Column(width=_PHASE_WIDTH - 1, no_wrap=True)))
        room -= _PHASE_WIDTH
    has_bar = room > _LEAST_NAME_WIDTH + _BAR_WIDTH
    name = Text(_printable(file_name))
    name.truncate(max(1, room - (_BAR_WIDTH + 1 if has_bar else 0)), overflow="ellipsis")
    left.append(TextColumn("[bold]{task.fields[name]}[/bold]", markup=True))
    if has_bar:
        left.append(BarColumn(bar_width=min(_WIDEST_BAR, room - name.cell_len - 1)))
    # Powers of ten, like the rate beside it.
    numbers = (DownloadColumn, TransferSpeedColumn, TimeRemainingColumn)
    return escape(name.plain), [*left, *(column(table_column=Column(no_wrap=True)) for column in numbers)]


def wait_for_training(client: Client, session_id: str, console: Console) -> Run:
    """Show a run until it is over.

    Raises:
        TrainingFailedError: It ended without a single model, or was cancelled.
    """
    started = time.monotonic()
    run = client.get_training(session_id)
    with _shown_run(run, console) as show:
        while run["status"] not in _OVER:
            time.sleep(_ASK_EVERY_S)
            run = client.get_training(session_id)
            show(run, time.monotonic() - started)
    if run["status"] == "cancelled":
        raise TrainingFailedError("The training was cancelled; models that were finished stay.")
    if run["status"] == "failed":
        reasons = [f"{model['name']}: {model.get('detail') or model['status']}" for model in run["models"]]
        raise TrainingFailedError(f"Training failed. {'; '.join(reasons)}")
    return run


@contextmanager
def _shown_run(run: Run, console: Console) -> Iterator[Callable[[Run, float], None]]:
    if is_notebook():
        show = TrainingOutput()
        show(run, 0.0)
        yield show
        return
    if not console.is_terminal:
        yield lambda _run, _seconds: None
        return
    with Live(run_table(run, 0.0), console=console, auto_refresh=False) as live:
        yield lambda run, seconds: live.update(run_table(run, seconds), refresh=True)


def run_table(run: Run, seconds: float) -> Table:
    """Return the models of a run with their progress and, once they are trained, their errors on held-out rows."""
    title = f"Training for {run['target']} ({run['status']}, {seconds:.0f} s)"
    table = Table(title=_plain(title), title_justify="left")
    for name in ("model", "status", "progress"):
        table.add_column(name, overflow="fold")
    metrics = _metric_names(run["models"]) or ["rmse", "r2"]
    for name in metrics:
        table.add_column(f"test {name}", justify="right", overflow="fold")
    for model in run["models"]:
        bar = ProgressBar(total=1.0, completed=model["progress"], width=_BAR_WIDTH)
        table.add_row(_plain(model["name"]), model["status"], bar, *(_test(model, name) for name in metrics))
    return table


def models_tables(models: Sequence[Model]) -> list[Table]:
    """Return one table per run, in the order given; a model's path is the run and its name."""
    tables: dict[str, Table] = {}
    for model in models:
        run = model["path"].removesuffix(f"/{model['name']}")
        if run not in tables:
            tables[run] = table = Table(title=f"Models of run {run}", title_justify="left")
            for name in ("name", "class", "status", "formats"):
                table.add_column(name, overflow="fold")
            table.add_column("size", justify="right", overflow="fold")
        # Marked like in the console: opening such a file can run code.
        formats = ", ".join(f"{file['format']}{'!' if file['loads_code'] else ''}" for file in model["formats"])
        size = f"{model['size'] / 1e6:.2f} MB"
        name = (model["class"] or "").rpartition(".")[2]
        aliases = f" ({', '.join(model['aliases'])})" if model.get("aliases") else ""
        tables[run].add_row(_plain(f"{model['name']}{aliases}"), _plain(name), model["status"], formats, size)
    return list(tables.values())


def sessions_table(sessions: Sequence[Session]) -> Table:
    """Return sessions, one per row."""
    table = Table(title="Sessions", title_justify="left")
    for name in ("session", "status", "created at"):
        table.add_column(name, overflow="fold")
    table.add_column("rows", justify="right", overflow="fold")
    for session in sessions:
        rows = "" if session["n_dat"] is None else f"{session['n_dat']:,}"
        table.add_row(session["session_id"], session["status"], session["created_at"][:19], rows)
    return table


def session_tables(session: SessionDetails) -> list[Table]:
    """Return a session's files, and its uploads that are no files yet."""
    files = Table(title=f"Session {session['session_id']} ({session['status']})", title_justify="left")
    files.add_column("file", overflow="fold")
    for name in ("size", "rows"):
        files.add_column(name, justify="right", overflow="fold")
    for file in session["files"]:
        rows = "" if file["n_rows"] is None else f"{file['n_rows']:,}"
        files.add_row(_plain(file["name"]), f"{file['size'] / _MIB:,.2f} MiB", rows)
    others = [upload for upload in session["uploads"] if upload["state"] != "assembled"]
    if not others:
        return [files]
    uploads = Table(title="Uploads that are no files", title_justify="left")
    for name in ("upload", "file", "state"):
        uploads.add_column(name, overflow="fold")
    for upload in others:
        uploads.add_row(upload["uploadId"], _plain(upload["fileName"]), upload["state"])
    return [files, uploads]


def _metric_names(models: Sequence[RunModel]) -> list[str]:
    tests = [(model.get("metrics") or {}).get("test") or {} for model in models]
    return list(dict.fromkeys(name for test in tests for name, value in test.items() if isinstance(value, int | float)))


def _test(model: RunModel, metric: str) -> str:
    value = ((model.get("metrics") or {}).get("test") or {}).get(metric)
    return "" if value is None else f"{value:,.4g}"


def _plain(text: str) -> str:
    """Keep rich from reading markup in names that others chose, and terminals from obeying control characters."""
    return escape(_printable(text))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
