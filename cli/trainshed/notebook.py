"""Progress in a Jupyter notebook: plain HTML that is replaced in place. Needs no widgets and no extension."""

import html
import sys
import time
from collections.abc import Callable
from typing import Any

from trainshed.answers import Run
from trainshed.upload import Progress

_SHOW_EVERY_S = 0.2
_GIB, _MIB = 1 << 30, 1 << 20


def is_notebook() -> bool:
    """Say whether this process is the kernel of a notebook."""
    # Whoever runs in a kernel has imported IPython; nobody else pays for the import.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class Output:
    """One place below a cell, whose content is replaced."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, content: str) -> None:
        """Show HTML in that place."""
        from IPython.display import HTML, display  # type: ignore[import-not-found]  # noqa: PLC0415 - the kernel has it

        if self._handle is None:
            self._handle = display(HTML(content), display_id=True)
        else:
            self._handle.update(HTML(content))


class UploadOutput:
    """Shows an upload: bytes that the bucket has or that were checked, rate, time left. Call it with each step."""

    def __init__(self, name: str, show: Callable[[str], None] | None = None) -> None:
        self._name = name
        self._show = show or Output().show
        self._phase = ""
        self._shown_at = 0.0
        self._begun_at = 0.0
        self._begun_bytes = 0

    def __call__(self, progress: Progress) -> None:
        """Show a step, but not more often than can be read."""
        now = time.monotonic()
        if progress.phase != self._phase:
            # What was stored before does not count as speed.
            self._phase, self._begun_at, self._begun_bytes = progress.phase, now, progress.done_bytes
        elif now - self._shown_at < _SHOW_EVERY_S and progress.done_bytes < progress.size_bytes:
            return
        self._shown_at = now
        sent, seconds = progress.done_bytes - self._begun_bytes, now - self._begun_at
        rate = sent / seconds if seconds > 0 and progress.phase in {"uploading", "checking"} else 0.0
        left_s = (progress.size_bytes - progress.done_bytes) / rate if rate else None
        self._show(_upload_html(self._name, progress, rate, left_s))


class TrainingOutput:
    """Shows a run: each model with its progress and its metrics."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._show = show or Output().show

    def __call__(self, run: Run, seconds: float) -> None:
        """Show the present state."""
        rows = "".join(
            f"<tr><td>{html.escape(model['name'])}</td><td>{html.escape(model['status'])}</td>"
            f'<td><progress max="1" value="{model["progress"]:.3f}"></progress></td>'
            f"<td>{html.escape(_metrics(model.get('metrics')))}</td></tr>"
            for model in run["models"]
        )
        target = html.escape(str(run["target"]))
        caption = f"Training for {target}: {html.escape(run['status'])}, {seconds:.0f} s"
        head = "<tr><th>model</th><th>status</th><th>progress</th><th>held-out rows</th></tr>"
        self._show(f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{rows}</tbody></table>")


def _upload_html(name: str, progress: Progress, rate: float, left_s: float | None) -> str:
    size = max(progress.size_bytes, 1)
    stored = progress.done_bytes if progress.size_bytes else 1
    facts = [f"{_bytes(progress.done_bytes)} of {_bytes(progress.size_bytes)}"]
    facts += [f"{_bytes(rate)}/s"] if rate else []
    facts += [f"{_time(left_s)} left"] if left_s else []
    return (
        f"<div>{html.escape(progress.phase)} <b>{html.escape(name)}</b> "
        f'<progress max="{size}" value="{stored}"></progress> {", ".join(facts)}</div>'
    )


def _metrics(metrics: Any) -> str:
    test = (metrics or {}).get("test") or {}
    return ", ".join(f"{name} {value:.4g}" for name, value in test.items() if isinstance(value, int | float))


def _bytes(size: float) -> str:
    if size >= _GIB:
        return f"{size / _GIB:.2f} GiB"
    return f"{size / _MIB:.1f} MiB" if size >= _MIB else f"{size / 1024:.1f} KiB"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
