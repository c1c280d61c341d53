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
from typing import Any

_REPORTED_ERROR = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"


def write_log(severity: str, event: str, *, error: BaseException | None = None, **fields: Any) -> None:
    """Write one line.

    Args:
        severity: INFO, WARNING or ERROR.
        event: Dotted name, for example request.done.
        error: Its stack is added.
        fields: Further members; None values are left out.
    """
    entry: dict[str, Any] = {"severity": severity, "message": event}
    entry |= {name: value for name, value in fields.items() if value is not None}
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    trace = entry.pop("trace", None)
    if trace and project:
        entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}"
    if error is not None:
        entry["stack_trace"] = "".join(traceback.format_exception(error))
        entry["@type"] = _REPORTED_ERROR
        entry["serviceContext"] = {
            "service": os.environ.get("K_SERVICE", "local"),
            "version": os.environ.get("K_REVISION", "local"),
        }
    sys.stdout.write(json.dumps(entry, default=str) + "\n")
    sys.stdout.flush()
