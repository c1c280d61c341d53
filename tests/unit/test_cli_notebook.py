"""Progress in a notebook, as plain HTML."""

import sys
import types

import pytest

from trainshed import notebook
from trainshed.notebook import TrainingOutput, UploadOutput, is_notebook
from trainshed.upload import Progress

MIB = 1 << 20


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def shown():
    return []


def test_progress_shows_what_the_bucket_has_with_rate_and_remaining_time(clock, shown):
    show = UploadOutput("data.csv", shown.append)
    show(Progress("uploading", "u", 0, 100 * MIB))
    clock[0] += 2
    show(Progress("uploading", "u", 20 * MIB, 100 * MIB))
    assert "20.0 MiB of 100.0 MiB, 10.0 MiB/s, 0:08 left" in shown[-1]
    assert f'<progress max="{100 * MIB}" value="{20 * MIB}">' in shown[-1]


def test_what_was_stored_before_does_not_count_as_speed(clock, shown):
    show = UploadOutput("data.csv", shown.append)
    show(Progress("comparing", "u", 50 * MIB, 100 * MIB))
    clock[0] += 1
    show(Progress("uploading", "u", 50 * MIB, 100 * MIB))
    clock[0] += 1
    show(Progress("uploading", "u", 51 * MIB, 100 * MIB))
    assert "1.0 MiB/s, 0:49 left" in shown[-1]


def test_how_far_the_joined_file_was_checked_is_shown_with_a_rate_of_its_own(clock, shown):
    show = UploadOutput("data.csv", shown.append)
    show(Progress("assembling", "u", 100 * MIB, 100 * MIB))
    show(Progress("checking", "u", 100 * MIB, 100 * MIB, 20 * MIB))
    clock[0] += 2
    show(Progress("checking", "u", 100 * MIB, 100 * MIB, 60 * MIB))
    assert "60.0 MiB of 100.0 MiB, 20.0 MiB/s, 0:02 left" in shown[-1]


def test_steps_come_no_faster_than_can_be_read_but_the_last_one_always(clock, shown):
    show = UploadOutput("data.csv", shown.append)
    for stored in range(101):
        show(Progress("uploading", "u", stored, 100))
    assert len(shown) == 2
    assert 'value="100"' in shown[-1]


def test_a_file_of_0_bytes_is_whole(clock, shown):
    UploadOutput("empty", shown.append)(Progress("uploading", "u", 0, 0))
    assert 'max="1" value="1"' in shown[-1]


def test_names_cannot_bring_markup_of_their_own(clock, shown):
    UploadOutput("<script>x</script>", shown.append)(Progress("uploading", "u", 0, 1))
    run = {"target": "<b>", "status": "running", "models": [{"name": "<i>", "status": "<u>", "progress": 0.5}]}
    TrainingOutput(shown.append)(run, 3.0)
    for content in shown:
        assert not any(mark in content for mark in ("<script", "<b></", "<i>", "<u>"))


def test_a_run_shows_each_model_with_its_metrics(shown):
    metrics = {"test": {"rmse": 1.23456, "n": None}}
    models = [{"name": "forest", "status": "ready", "progress": 1.0, "metrics": metrics}]
    TrainingOutput(shown.append)({"target": "y", "status": "completed", "models": models}, 12.4)
    assert "<td>forest</td><td>ready</td>" in shown[0]
    assert "rmse 1.235" in shown[0]
    assert "12 s" in shown[0]


@pytest.mark.parametrize(
    ("shell", "expected"), [(None, False), (object(), False), (types.SimpleNamespace(kernel=1), True)]
)
def test_only_a_kernel_is_a_notebook(monkeypatch, shell, expected):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert is_notebook() is expected


def test_output_is_replaced_in_place(monkeypatch):
    calls = []

    class Handle:
        def update(self, content):
            calls.append(("update", content))

    def display(content, *, display_id):
        calls.append(("display", content))
        return Handle()

    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(
        sys.modules, "IPython.display", types.SimpleNamespace(HTML=lambda text: f"HTML {text}", display=display)
    )
    output = notebook.Output()
    output.show("one")
    output.show("two")
    assert calls == [("display", "HTML one"), ("update", "HTML two")]
