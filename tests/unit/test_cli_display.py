"""Progress and tables in the terminal."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from shared.records.training import TRAINABLE_MODELS
from tests.fakes.upload_service import FakeUploadService, running
from trainshed.client import Client
from trainshed.commands import COMMANDS
from trainshed.display import (
    models_tables,
    run_table,
    session_tables,
    sessions_table,
    upload_bar,
    wait_for_training,
)
from trainshed.errors import TrainingFailedError
from trainshed.upload import Progress

MIB = 1 << 20
NAMES = sorted(TRAINABLE_MODELS)


def text_of(*parts, terminal=False, width=200):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def a_run(status, *models):
    return {"run_id": "r", "target": "y", "status": status, "models": list(models)}


class Runs:
    """A client whose run is in one state after the other."""

    def __init__(self, *runs):
        self.runs = list(runs)

    def get_training(self, _):
        return self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("trainshed.display.time.sleep", lambda _: None)


def test_a_bar_shows_rate_and_remaining_time_in_a_terminal_and_nothing_in_a_pipe():
    for terminal in (True, False):
        console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
        with upload_bar(console, "data.csv") as show:
            for stored in (0, 1 * MIB, 2 * MIB):
                show(Progress("uploading", "u", stored, 2 * MIB))
        shown = console.file.getvalue()
        if not terminal:
            assert shown == ""
            continue
        assert "data.csv" in shown
        assert "2.1/2.1 MB" in shown
        assert re.search(r"\d+:\d\d:\d\d", shown)


def test_a_bar_shows_how_far_the_joined_file_was_checked():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with upload_bar(console, "data.csv") as show:
        show(Progress("assembling", "u", 4 * MIB, 4 * MIB))
        show(Progress("checking", "u", 4 * MIB, 4 * MIB, 1 * MIB))
    assert "1.0/4.2 MB" in console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize(
    "name", ["d.csv", "a" * 200, "\N{CJK UNIFIED IDEOGRAPH-5B57}" * 60], ids=["short", "long", "wide"]
)
def test_a_bar_fits_into_a_line_with_its_numbers_whatever_the_width_and_the_name(width, name):
    now = [0.0]
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, get_time=lambda: now[0])
    with upload_bar(console, name) as show:
        for stored in (0, 200, 400, 600):
            now[0] += 5.0
            show(Progress("uploading", "u", stored * 10**9, 999 * 10**9))
    *_, line = re.split(r"\r|\x1b\[2K", console.file.getvalue().removesuffix("\n\x1b[?25h"))
    assert "\n" not in line
    assert cell_len(line) <= width
    assert re.search(r" 600\.0/999\.0 GB 40\.0 GB/s 0:00:10", line)
    assert ("uploading" in line, "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in line) == (width >= 60, width >= 80)
    assert name[0] in line


def last_line(*steps, name="d.csv"):
    """Return the bar after steps of 5 s each."""
    now = [0.0]
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None, get_time=lambda: now[0])
    with upload_bar(console, name) as show:
        for step in steps:
            now[0] += 5.0
            show(step)
    return re.split(r"\r|\x1b\[2K", console.file.getvalue())[-1]


def test_what_was_stored_before_does_not_count_as_speed():
    compared = [Progress("comparing", "u", stored * 10**9, 999 * 10**9) for stored in (0, 300, 600)]
    sent = [Progress("uploading", "u", stored * 10**9, 999 * 10**9) for stored in (600, 605, 610)]
    assert " 610.0/999.0 GB 1.0 GB/s " in last_line(*compared, *sent)


def test_a_file_of_0_bytes_is_whole_from_the_start():
    assert " 1/1 bytes " in last_line(Progress("uploading", "u", 0, 0))


def test_a_name_in_the_bar_is_shown_as_it_is():
    assert " [red]x[/red].csv " in last_line(Progress("uploading", "u", 0, 9), name="[red]x[/red].csv")


@pytest.mark.parametrize("width", [32, 60])
def test_no_number_of_a_table_is_cut_in_a_narrow_terminal(width):
    test = {"r2": 0.861123, "mae": 12.0429, "rmse": 16.5298}
    model = {
        "name": "forest",
        "path": "r/forest",
        "class": "a.B",
        "status": "ready",
        "size": 123_456_789,
        "formats": [],
    }
    session = {"session_id": "s", "status": "finalized", "created_at": "2026-01-02T03:04:05", "n_dat": 123_456_789}
    file = {"name": "d" * 60, "size": 123_456_789, "n_rows": 123_456_789}
    column = {"name": "delay", "type": "integer", "missing": 12_345, "mean": 1.2345, "min": -9.8765, "max": 98.765}
    tables = [
        run_table(a_run("completed", {**model, "progress": 1.0, "metrics": {"test": test}}), 3.0),
        *models_tables([model]),
        sessions_table([session]),
        *session_tables({**session, "files": [file], "uploads": []}),
        *COMMANDS["plot"].show(
            {"files": [{"name": "d.csv", "n_rows": 3, "columns": [column]}], "charts": [], "column": None}
        ),
    ]
    for table in tables:
        rows = [
            line
            for line in text_of(table, width=width).splitlines()
            if line.startswith("\N{BOX DRAWINGS LIGHT VERTICAL}")
        ]
        assert rows
        assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(rows)


def test_waiting_ends_with_the_run():
    model = {"name": "forest", "status": "ready", "progress": 1.0, "metrics": {"test": {"rmse": 1.5}}}
    client = Runs(a_run("queued"), a_run("running"), a_run("completed", model))
    assert wait_for_training(client, "s", Console(file=io.StringIO()))["status"] == "completed"


@pytest.mark.parametrize(("status", "text"), [("cancelled", "was cancelled"), ("failed", "forest: no memory")])
def test_waiting_for_a_run_that_comes_to_nothing_is_an_error(status, text):
    model = {"name": "forest", "status": status, "progress": 0.1, "detail": "no memory"}
    with pytest.raises(TrainingFailedError, match=text):
        wait_for_training(Runs(a_run("running"), a_run(status, model)), "s", Console(file=io.StringIO()))


def test_a_run_shows_the_metrics_that_its_task_has():
    model = {"name": "forest", "status": "ready", "progress": 1.0, "metrics": {"test": {"accuracy": 0.98765}}}
    shown = text_of(run_table(a_run("running", model), 3.0))
    assert "test accuracy" in shown
    assert "0.9877" in shown
    assert "rmse" not in shown


def test_our_models_are_named_in_full_in_a_terminal_of_80_columns():
    test = {"r2": 0.861123, "mae": 12.0429, "rmse": 16.5298}
    run = a_run(
        "completed", *({"name": n, "status": "ready", "progress": 1.0, "metrics": {"test": test}} for n in NAMES)
    )
    shown = text_of(run_table(run, 3.0), width=80)
    assert [name for name in NAMES if name not in shown] == []


def test_what_is_too_long_for_a_terminal_is_folded_and_not_cut():
    name = "a" * 60
    metrics = {"test": {"r2": 0.5, "mae": 1.5, "rmse": 2.5}}
    run = a_run("completed", {"name": name, "status": "ready", "progress": 1.0, "metrics": metrics})
    model = {"name": name, "path": f"r/{name}", "class": "b" * 60, "status": "ready", "size": 1, "formats": []}
    for table in (run_table(run, 3.0), *models_tables([model])):
        shown = text_of(table, width=80)
        assert "\N{HORIZONTAL ELLIPSIS}" not in shown
        assert shown.count("a") >= 60


def test_names_of_others_are_shown_as_they_are():
    name = "[red]x[/red]\x1b[2J.csv"
    file = {"name": name, "size": 5, "n_rows": None}
    upload = {"uploadId": "u", "fileName": name, "state": "open"}
    session = {"session_id": "s", "status": "uploading", "files": [file], "uploads": [upload]}
    shown = text_of(*session_tables(session))
    assert shown.count("[red]x[/red]\N{REPLACEMENT CHARACTER}[2J.csv") == 2
    assert "\x1b" not in shown


def test_models_are_listed_by_run_with_aliases_and_a_mark_at_what_runs_code():
    files = [{"format": "skops", "loads_code": False}, {"format": "pkl", "loads_code": True}]
    model = {"name": "m", "path": "r/m", "class": "a.Forest", "status": "ready", "size": 2_000_000, "formats": files}
    shown = text_of(*models_tables([{**model, "aliases": ["best"]}, {**model, "path": "q/m"}]))
    assert "Models of run r" in shown
    assert "Models of run q" in shown
    assert "m (best)" in shown
    assert "skops, pkl!" in shown


def test_sessions_are_listed_with_their_rows():
    session = {"session_id": "s", "status": "finalized", "created_at": "2026-01-02T03:04:05.6+00:00", "n_dat": 12_345}
    assert "12,345" in text_of(sessions_table([session]))


class Notebook:
    """A kernel, as far as showing goes."""

    def __init__(self, monkeypatch):
        self.shown = []
        monkeypatch.setattr("trainshed.display.is_notebook", lambda: True)
        monkeypatch.setattr("trainshed.notebook.Output.show", lambda _, content: self.shown.append(content))


def test_in_a_notebook_an_upload_and_a_training_are_shown_below_the_cell(monkeypatch, tmp_path, capsys):
    notebook = Notebook(monkeypatch)
    (tmp_path / "data.bin").write_bytes(b"x" * 2_500)
    with running(FakeUploadService()) as service, Client(service.url) as client:
        client.upload("new", tmp_path / "data.bin")
    assert "uploading <b>data.bin</b>" in "".join(notebook.shown)
    notebook.shown.clear()
    ready = {"name": "forest", "status": "ready", "progress": 1.0}
    runs = Runs(a_run("running"), a_run("running"), a_run("completed", ready))
    wait_for_training(runs, "s", Console(file=io.StringIO()))
    assert "running" in notebook.shown[0]
    assert "completed" in notebook.shown[-1]
    assert capsys.readouterr() == ("", "")


def test_a_run_is_shown_in_a_terminal_until_it_is_over():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    ready = {"name": "forest", "status": "ready", "progress": 1.0}
    wait_for_training(Runs(a_run("queued"), a_run("running"), a_run("completed", ready)), "s", console)
    shown = console.file.getvalue()
    assert shown.index("queued") < shown.index("running") < shown.index("completed")
    assert "forest" in shown


def test_a_client_uploads_into_a_session_that_it_creates(tmp_path, capsys):
    path = tmp_path / "data.bin"
    path.write_bytes(b"x" * 2_500)
    with running(FakeUploadService()) as service, Client(service.url) as client:
        upload = client.upload("new", path, file_name="other.bin")
        assert service.sessions == {"new"}
        assert service.uploads[upload["uploadId"]].content == path.read_bytes()
        assert upload["fileName"] == "other.bin"
        again = client.upload("new", str(path), upload_id=upload["uploadId"], file_name="other.bin")
        assert again["uploadId"] == upload["uploadId"]
    assert capsys.readouterr() == ("", "")
