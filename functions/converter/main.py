"""The function that opens models of strangers: convert_model. It has no role, no database and no bucket."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.adapters import keras_sandbox
from shared.adapters.keras_conversion import ARCHIVE_NAME, H5_NAME, MAX_FILE_BYTES
from shared.adapters.signed_files import SignedFiles
from shared.api.requests.models import ConvertModel
from shared.errors import InvalidFieldError, ObjectNotFoundError
from shared.settings import storage_origin
from shared.web.endpoint import Call, Reply, endpoint


@endpoint
def convert_model(call: Call) -> Reply:
    """POST /convert-model {source, target, report} (task queue): convert a .keras file to .h5, and report."""
    body = call.body(ConvertModel)
    source, target, report = (_member(body, name) for name in ("source", "target", "report"))
    n_bytes = source.get("bytes")
    if not isinstance(n_bytes, int) or not 0 < n_bytes <= MAX_FILE_BYTES:
        raise InvalidFieldError("source", f"bytes must be from 1 to {MAX_FILE_BYTES}")
    files = SignedFiles(storage_origin(os.environ))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            files.fetch(source["url"], folder / ARCHIVE_NAME, n_bytes)
            verdict = keras_sandbox.run(folder)
            if verdict.status == "converted":
                files.send(target["url"], target["headers"], folder / H5_NAME)
            answer = folder / "report.json"
            answer.write_text(json.dumps(asdict(verdict)))
            files.send(report["url"], report["headers"], answer)
        except ObjectNotFoundError as error:
            # The model was deleted, or the task waited longer than its addresses live: nothing to try again.
            return Reply(200, {"status": "expired", "detail": str(error)})
    return Reply(200, {"status": verdict.status, "detail": verdict.detail})


def _member(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an address of the body, with its headers."""
    value = body[name]
    if not isinstance(value, dict) or not isinstance(value.get("url"), str):
        raise InvalidFieldError(name, "must have a url")
    headers = value.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(one, str) for one in headers.values()):
        raise InvalidFieldError(name, "headers must be texts")
    return {**value, "headers": headers}
