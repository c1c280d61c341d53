"""One JSON object per line on standard output, in the form Cloud Logging reads.

https://cloud.google.com/run/docs/samples/cloudrun-manual-logging
Errors carry the type that Error Reporting collects:
https://docs.cloud.google.com/error-reporting/docs/formatting-error-messages
Tokens, keys and signed URLs are never passed here.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_REPORTED_ERROR = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"
_NONE: Mapping[str, Any] = {}
_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=_NONE)


@contextmanager
def lines_about(**fields: Any) -> Iterator[None]:
    """Add fields to every line that is written meanwhile in this thread."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def write_log(severity: str, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
    """Write one line.

    Args:
        severity: INFO, WARNING or ERROR.
        event: Dotted name, for example request.done.
        error: Its stack is added.
        fields: Further members; None values are left out. `trace` and `span_id` go where the platform looks for them.
    """
    entry: dict[str, Any] = {"severity": severity, "message": event}
    entry |= {name: value for name, value in (*_about.get().items(), *fields.items()) if value is not None}
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    trace, span_id = entry.pop("trace", None), entry.pop("span_id", None)
    if trace and project:
        entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}"
    if span_id:
        entry["logging.googleapis.com/spanId"] = span_id
    if error is not None:
        entry["stack_trace"] = "".join(traceback.format_exception(error))
        entry["@type"] = _REPORTED_ERROR
        entry["serviceContext"] = {
            "service": os.environ.get("K_SERVICE", "local"),
            "version": os.environ.get("K_REVISION", "local"),
        }
        request = {"method": entry.get("method"), "url": entry.get("path"), "responseStatusCode": entry.get("status")}
        entry["context"] = {"httpRequest": request, "user": entry.get("user_id")}
    # One write for each line, so that lines of other threads do not get in between.
    sys.stdout.write(json.dumps(entry, default=str) + "\n")
    sys.stdout.flush()
