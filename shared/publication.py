"""What a manifest is made of (docs/results.md): formats, names, entries, and the document as bytes.

Whoever publishes builds manifests here: the reference trainer, and a team's own job through the package `trainshed`,
whose module of this name is this file (docs/decisions/0010-one-form-of-manifests.md). So nothing is imported that the
package has not: the standard library alone.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

# Version of the manifest that a trainer writes; a change that old readers misread gets another number.
MANIFEST_SCHEMA = 1
MANIFEST_NAME = "manifest.json"
LARGEST_MANIFEST_BYTES = 16 << 20
# A single PUT can carry as much: https://cloud.google.com/storage/quotas says 5 TiB, but a cut connection begins anew.
LARGEST_FILE_BYTES = 5 << 30
# All of it is read back when the run is taken in, within the 300 s of save-model.
LARGEST_RUN_BYTES = 20 << 30
MOST_FILES = 1000
_PIECE_BYTES = 1 << 20
# Sizes and generations are numbers of 64 bits.
_LARGEST_COUNT = 2**63 - 1
_STATUSES = ("completed", "failed")
_MODEL_STATUSES = (*_STATUSES, "cancelled")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}")


@dataclass(frozen=True)
class ModelFormat:
    """One file format of models.

    Attributes:
        framework: keras or sklearn.
        begins: The first bytes of every such file.
        media_type: Where its writer says nothing else.
        loads_code: Opening it can run code that its writer chose.
    """

    framework: str
    begins: bytes
    media_type: str
    loads_code: bool = False


FORMATS: Mapping[str, ModelFormat] = {
    "keras": ModelFormat("keras", b"PK\x03\x04", "application/zip"),
    "h5": ModelFormat("keras", b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    "skops": ModelFormat("sklearn", b"PK\x03\x04", "application/zip"),
    # Protobuf: every writer puts the version of the format first.
    "onnx": ModelFormat("sklearn", b"\x08", "application/octet-stream"),
    # Every pickle of protocol 2 and later begins so.
    "pkl": ModelFormat("sklearn", b"\x80", "application/octet-stream", loads_code=True),
}
FRAMEWORKS = tuple(dict.fromkeys(form.framework for form in FORMATS.values()))


def results_prefix(session_uuid: str) -> str:
    """Return the prefix of a session's training results in the artifacts bucket."""
    return f"results/{session_uuid}/"


def run_prefix(session_uuid: str, run_id: str) -> str:
    """Return the prefix of one run's results in the artifacts bucket."""
    return f"{results_prefix(session_uuid)}{run_id}/"


def model_prefix(session_uuid: str, run_id: str, name: str) -> str:
    """Return the prefix of one model's files; each attempt at training it has a folder below."""
    return f"{run_prefix(session_uuid, run_id)}{name}/"


def manifest_name(session_uuid: str, run_id: str) -> str:
    """Return the object name of a run's manifest: written last and once."""
    return f"{run_prefix(session_uuid, run_id)}{MANIFEST_NAME}"


def sha256_of(content: BinaryIO) -> str:
    """Return the SHA-256 of a file from its beginning, in lower-case hex; the file stands at its end afterwards."""
    content.seek(0)
    digest = hashlib.sha256()
    while piece := content.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def file_entry(form: str, object_name: str, *, size_bytes: int, sha256: str, **known: Any) -> dict[str, Any]:
    """Describe one file of a model.

    Args:
        form: A key of FORMATS.
        known: generation, crc32c, media_type, as far as the writer knows them.
    """
    return {
        "role": "model",
        "format": form,
        "object": object_name,
        "bytes": size_bytes,
        "sha256": sha256,
        "media_type": FORMATS[form].media_type,
        "loads_code": FORMATS[form].loads_code,
        **known,
    }


def model_entry(
    name: str,
    framework: str,
    class_name: str | None,
    files: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Mapping[str, float]],
    **description: Any,
) -> dict[str, Any]:
    """Describe a trained model.

    Args:
        metrics: By split ("train", "test") and name.
        description: signature, params, features, split, check, environment, ..., as docs/results.md lists them.
    """
    return {
        "name": name,
        "class": class_name,
        "framework": framework,
        "status": "completed",
        "detail": None,
        "files": [dict(file) for file in files],
        "metrics": {split: dict(values) for split, values in metrics.items()},
        **description,
    }


def unfinished_model_entry(
    name: str, framework: str, status: str, detail: str | None, **description: Any
) -> dict[str, Any]:
    """Describe a model that there is not, with the reason; the status is failed or cancelled."""
    return {"name": name, "framework": framework, "status": status, "detail": detail, **description}


def manifest(
    session_uuid: str,
    run_id: str,
    models: Sequence[Mapping[str, Any]],
    *,
    scalers: Sequence[Mapping[str, Any]] = (),
    tables: Sequence[Mapping[str, Any]] = (),
    charts: Sequence[Mapping[str, Any]] = (),
    **about: Any,
) -> dict[str, Any]:
    """Describe a whole run.

    Args:
        models: Entries as `model_entry` and `unfinished_model_entry` make them; without any, the run is completed.
        about: request, seed, data_set, environment, created_at, ...: how the run came about.
    """
    completed = [model for model in models if model["status"] == "completed"]
    return {
        "schema_version": MANIFEST_SCHEMA,
        "run_id": run_id,
        "session_uuid": session_uuid,
        "status": "completed" if completed or not models else "failed",
        **about,
        "models": list(models),
        "scalers": list(scalers),
        "tables": list(tables),
        "charts": list(charts),
        "metrics": {model["name"]: model["metrics"] for model in completed},
    }


def manifest_bytes(document: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is written: the same document gives the same bytes.

    Raises:
        ValueError: It holds NaN or an infinity, which JSON has not.
        TypeError: It holds something else that JSON has not, for example a numpy array.
    """
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def evaluation_table(
    title: str, metrics: Mapping[str, Mapping[str, Mapping[str, float]]], *, unit: str | None = None
) -> dict[str, Any]:
    """Return the table of a run's metrics: one row per model, split and metric.

    Args:
        metrics: By model, split and name.
        unit: Of the values, in words.
    """
    return {
        "name": "evaluation",
        "title": title,
        "columns": [
            {"name": "model", "type": "text"},
            {"name": "split", "type": "text"},
            {"name": "metric", "type": "text"},
            {"name": "value", "type": "number"} | ({"unit": unit} if unit else {}),
        ],
        "rows": [
            {"model": model, "split": split, "metric": metric, "value": value}
            for model, splits in metrics.items()
            # "train" before "test".
            for split, values in sorted(splits.items(), reverse=True)
            for metric, value in sorted(values.items())
        ],
    }


class FormError(ValueError):
    """A manifest has not the form that docs/results.md asks for; the text says where."""


def _demand(condition: bool, text: str) -> None:
    if not condition:
        raise FormError(text)


def check_manifest(document: Any, session_uuid: str, object_name: str) -> None:
    """Look at every part of a manifest that the service relies on.

    Args:
        object_name: Where it lies in the artifacts bucket.

    Raises:
        FormError: It has not the form.
    """
    _demand(isinstance(document, dict), "must be an object")
    try:
        content = manifest_bytes(document)
    except UnicodeEncodeError as error:
        raise FormError("must not contain half of a surrogate pair, which is no character") from error
    except ValueError as error:
        raise FormError("has a number beyond 1.8e308, or one that JSON has not") from error
    # Postgres keeps no NUL in text.
    _demand(b"\\u0000" not in content, "must not contain NUL characters")
    _demand(document.get("schema_version") == MANIFEST_SCHEMA, f"schema_version must be {MANIFEST_SCHEMA}")
    run_id = str(document.get("run_id"))
    is_in_place = bool(_UUID.fullmatch(run_id)) and manifest_name(session_uuid, run_id) == object_name
    _demand(is_in_place, "run_id must be the uuid that its folder is named after")
    _demand(document.get("session_uuid") == session_uuid, "session_uuid is that of another session")
    _demand(document.get("status") in _STATUSES, f"status must be one of {', '.join(_STATUSES)}")
    _demand(isinstance(document.get("request", {}), dict), "request must be an object")
    for name in ("scalers", "charts", "tables", "models"):
        _demand(_are_objects(document.get(name)), f"{name} must be a list of objects")
    for model in document["models"]:
        _check_model(model)
    names = {model["name"] for model in document["models"]}
    _demand(len(names) == len(document["models"]), "models must have different names")


def _check_model(model: Mapping[str, Any]) -> None:
    name = model.get("name")
    is_name = isinstance(name, str) and bool(_MODEL_NAME.fullmatch(name))
    _demand(is_name, "a model's name must be 1 to 128 of the characters A-Z a-z 0-9 . _ -")
    _demand(model.get("framework") in ("keras", "sklearn"), f"framework of {name} must be keras or sklearn")
    is_status = model.get("status") in _MODEL_STATUSES
    _demand(is_status, f"status of {name} must be one of {', '.join(_MODEL_STATUSES)}")
    _demand(isinstance(model.get("class") or "", str), f"class of {name} must be a text")
    _demand(isinstance(model.get("detail") or "", str), f"detail of {name} must be a text")
    _demand(isinstance(model.get("metrics", {}), dict), f"metrics of {name} must be an object")
    files = model.get("files", [])
    _demand(_are_objects(files), f"files of {name} must be a list of objects")
    _demand(bool(files) or model["status"] != "completed", f"{name} is completed and has no files")
    for file in files:
        _check_file(file, str(name), str(model["framework"]))


def _check_file(file: Mapping[str, Any], name: str, framework: str) -> None:
    formats = [name for name, form in FORMATS.items() if form.framework == framework]
    form = file.get("format")
    _demand(form in formats, f"the format of a file of {name} must be one of {', '.join(formats)}")
    _demand(isinstance(file.get("object"), str), f"object of {name}'s {form} must be an object name")
    _demand(_is_count(file.get("bytes")), f"bytes of {name}'s {form} must be a size")
    _demand(bool(_SHA256.fullmatch(str(file.get("sha256")))), f"sha256 of {name}'s {form} must be 64 hex digits")
    _demand(bool(_MEDIA_TYPE.fullmatch(str(file.get("media_type")))), f"media_type of {name}'s {form} is none")
    _demand(_is_count(file.get("generation", 0)), f"generation of {name}'s {form} must be a number")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_COUNT


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
