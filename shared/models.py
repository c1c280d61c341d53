"""The rules of trained models: listing, checking what a trainer published, and handing out files.

The service never opens a model. Documents of the old backend, with pickles inside (`training_results.results`), are not
read yet: `ModelService.save` is where their models will be extracted.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from shared.errors import (
    InvalidFieldError,
    ManifestInvalidError,
    ModelNotFoundError,
    ModelUnavailableError,
    ObjectNotFoundError,
)
from shared.fields import is_uuid, read_existing_session_id
from shared.ports import ObjectStore, TrainingRepository, UrlSigner
from shared.records import (
    MANIFEST_SCHEMA,
    Caller,
    ModelFile,
    ModelStatus,
    Run,
    RunStatus,
    SignedUrl,
    StoredObject,
    TrainedModel,
    manifest_name,
    results_prefix,
    run_prefix,
)

# Framework of each format, and how its files begin. Every pickle of protocol 2 and later begins with \x80.
FORMATS: Mapping[str, tuple[str, bytes]] = {
    "keras": ("keras", b"PK\x03\x04"),
    "h5": ("keras", b"\x89HDF\r\n\x1a\n"),
    "skops": ("sklearn", b"PK\x03\x04"),
    "pkl": ("sklearn", b"\x80"),
}
DEFAULT_FORMATS: Mapping[str, str] = {"keras": "h5", "sklearn": "skops"}
DEFAULT_FRAMEWORK = "keras"
LARGEST_MANIFEST_BYTES = 16 << 20
_STATUSES = ("completed", "failed")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}")


class ModelService:
    """What callers may do with trained models."""

    def __init__(self, runs: TrainingRepository, store: ObjectStore, signer: UrlSigner | None = None) -> None:
        self._runs = runs
        self._store = store
        self._signer = signer

    def of_session(self, caller: Caller, session_id: str) -> list[TrainedModel]:
        """Return the models of a session in every state, those of the newest run first.

        Raises:
            SessionNotFoundError: The caller has none of this name.
        """
        _, runs = self._runs.of_session(caller, read_existing_session_id(session_id))
        return [model for run in runs for model in run.models]

    def save(self, caller: Caller, session_id: str) -> list[TrainedModel]:
        """Check what was published and not checked yet, and return the models that are saved. Repeatable.

        Manifests of other trainers, below the session's prefix and seen by no run, are taken in first to last.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            ManifestInvalidError: A manifest of another trainer does not fit its files; it is not taken in.
        """
        name = read_existing_session_id(session_id)
        session_uuid, runs = self._runs.of_session(caller, name)
        for run in runs:
            if run.status is RunStatus.COMPLETED:
                self.save_run(run)
        known = {manifest_name(session_uuid, run.id) for run in runs}
        for stored in self._store.list(results_prefix(session_uuid)):
            is_manifest = stored.name.endswith("/manifest.json") and stored.name.count("/") == 3
            if is_manifest and stored.name not in known:
                self._take_in(caller.user_id, session_uuid, stored)
        return [model for model in self.of_session(caller, name) if model.status is ModelStatus.READY]

    def save_run(self, run: Run) -> Run:
        """Read the files of a run's pending models; each becomes ready, or refused with the reason.

        The run must have its manifest: without it, nothing that a trainer wrote is a result.
        """
        prefix = run_prefix(run.session_uuid, run.id)
        verdicts = {
            model.id: next((fault for file in model.files if (fault := self._fault(prefix, file))), None)
            for model in run.models
            if model.status is ModelStatus.PENDING
        }
        return self._runs.mark(run.id, verdicts) if verdicts else run

    def download(
        self, caller: Caller, session_id: str, *, path: str | None, framework: str | None, form: str | None
    ) -> SignedUrl:
        """Sign a download of one file of a saved model.

        Args:
            path: Of the model; without it the first saved model of the framework, newest run first.
            framework: keras or sklearn; without it and a path, the framework of the format, or keras.
            form: keras, h5, skops or pkl; without it h5 for Keras and skops for scikit-learn.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            ModelNotFoundError: It has no such model.
            ModelUnavailableError: It has, but not saved or not in this format (details: available, status).
            InvalidFieldError: An unknown framework or format.
        """
        if framework is not None and framework not in DEFAULT_FORMATS:
            raise InvalidFieldError("type", f"must be one of {', '.join(DEFAULT_FORMATS)}")
        if form is not None and form not in FORMATS:
            raise InvalidFieldError("format", f"must be one of {', '.join(FORMATS)}")
        models = self.of_session(caller, session_id)
        if path is not None:
            models = [model for model in models if model.path == path and framework in {None, model.framework}]
        else:
            wanted = framework or (FORMATS[form][0] if form else DEFAULT_FRAMEWORK)
            models = [model for model in models if model.framework == wanted]
        if not models:
            raise ModelNotFoundError
        model = next((model for model in models if model.status is ModelStatus.READY), models[0])
        available = [file.format for file in model.files] if model.status is ModelStatus.READY else []
        chosen = form or DEFAULT_FORMATS[model.framework]
        file = next((file for file in model.files if file.format == chosen), None)
        if not available or file is None:
            raise ModelUnavailableError(
                f"The model is {model.status} and there is no {chosen} file of it."
                if not available
                else f"There is no {chosen} file of this model.",
                available=available,
                status=model.status,
                path=model.path,
            )
        return self._sign(model, file)

    def _sign(self, model: TrainedModel, file: ModelFile) -> SignedUrl:
        if self._signer is None:
            raise ValueError("this service was built without a signer")
        # The name is made of a model's name, which is plain ASCII, and the run's id.
        file_name = f"{model.name}-{model.run_id[:8]}.{file.format}"
        return self._signer.sign(
            "GET",
            file.object_name,
            query={"response-content-disposition": f'attachment; filename="{file_name}"'},
        )

    def _take_in(self, owner: str, session_uuid: str, stored: StoredObject) -> None:
        document, content = self._read_manifest(session_uuid, stored)
        prefix = run_prefix(session_uuid, document["run_id"])
        for model in document["models"]:
            for file in model["files"]:
                fault = self._fault(prefix, _model_file(file))
                if fault:
                    raise ManifestInvalidError(fault, manifest=stored.name, object=file["object"])
        reference = {
            "object": stored.name,
            "generation": stored.generation,
            "bytes": stored.size_bytes,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        # What is recorded was checked a moment ago, so nothing is left to find out about it.
        run = self._runs.record(owner, session_uuid, reference, document)
        pending = {model.id: None for model in run.models if model.status is ModelStatus.PENDING}
        if pending:
            self._runs.mark(run.id, pending)

    def _read_manifest(self, session_uuid: str, stored: StoredObject) -> tuple[dict[str, Any], bytes]:
        def refuse(text: str) -> ManifestInvalidError:
            return ManifestInvalidError(f"{stored.name}: {text}", manifest=stored.name)

        if stored.size_bytes > LARGEST_MANIFEST_BYTES:
            raise refuse("a manifest may have 16 MiB")
        content = b"".join(self._store.read(stored.name, generation=stored.generation))
        try:
            document = json.loads(content, parse_constant=_refuse_constant)
            _check_manifest(document, session_uuid, stored.name)
        except (ValueError, RecursionError) as error:
            raise refuse("is not JSON") from error
        except _FormError as error:
            raise refuse(str(error)) from error
        for model in document["models"]:
            model["files"] = model.get("files", [])
            for file in model["files"]:
                # Whatever its writer says: opening a pickle runs code.
                file["loads_code"] = file["format"] == "pkl"
        # The fingerprint of another trainer's data is in its manifest; the row keeps that of our own uploads.
        return {"request": {}, **document, "data_set": []}, content

    def _fault(self, prefix: str, file: ModelFile) -> str | None:
        """Read a file and return what is wrong with it, or None."""
        if not file.object_name.startswith(prefix) or "/../" in file.object_name:
            return f"{file.object_name} does not lie below {prefix}"
        _, magic = FORMATS[file.format]
        sha256 = hashlib.sha256()
        n_bytes = 0
        head = b""
        try:
            for piece in self._store.read(file.object_name, generation=file.generation):
                sha256.update(piece)
                n_bytes += len(piece)
                head = head or piece[: len(magic)]
        except ObjectNotFoundError:
            return f"{file.object_name} is missing"
        if n_bytes != file.size_bytes:
            return f"{file.object_name} has {n_bytes} bytes instead of {file.size_bytes}"
        if sha256.hexdigest() != file.sha256:
            return f"{file.object_name} has another sha256 than its manifest says"
        if not head.startswith(magic):
            return f"{file.object_name} is no {file.format} file"
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _model_file(file: Mapping[str, Any]) -> ModelFile:
    return ModelFile(
        format=file["format"],
        object_name=file["object"],
        generation=file.get("generation"),
        size_bytes=file["bytes"],
        sha256=file["sha256"],
        media_type=file["media_type"],
        loads_code=file["loads_code"],
    )


class _FormError(Exception):
    """Another trainer's manifest has not the form that docs/results.md asks for."""


def _demand(condition: bool, text: str) -> None:
    if not condition:
        raise _FormError(text)


def _check_manifest(document: Any, session_uuid: str, object_name: str) -> None:
    _demand(isinstance(document, dict), "must be an object")
    # Postgres keeps no NUL in text.
    _demand("\\u0000" not in json.dumps(document), "must not contain NUL characters")
    _demand(document.get("schema_version") == MANIFEST_SCHEMA, f"schema_version must be {MANIFEST_SCHEMA}")
    run_id = str(document.get("run_id"))
    is_in_place = is_uuid(run_id) and manifest_name(session_uuid, run_id) == object_name
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
    _demand(model.get("framework") in tuple(DEFAULT_FORMATS), f"framework of {name} must be keras or sklearn")
    _demand(model.get("status") in _STATUSES, f"status of {name} must be one of {', '.join(_STATUSES)}")
    _demand(isinstance(model.get("class") or "", str), f"class of {name} must be a text")
    _demand(isinstance(model.get("detail") or "", str), f"detail of {name} must be a text")
    _demand(isinstance(model.get("metrics", {}), dict), f"metrics of {name} must be an object")
    files = model.get("files", [])
    _demand(_are_objects(files), f"files of {name} must be a list of objects")
    _demand(bool(files) or model["status"] == "failed", f"{name} is completed and has no files")
    for file in files:
        _check_file(file, str(name), str(model["framework"]))


def _check_file(file: Mapping[str, Any], name: str, framework: str) -> None:
    formats = [form for form, (used_by, _) in FORMATS.items() if used_by == framework]
    form = file.get("format")
    _demand(form in formats, f"the format of a file of {name} must be one of {', '.join(formats)}")
    _demand(isinstance(file.get("object"), str), f"object of {name}'s {form} must be an object name")
    _demand(_is_count(file.get("bytes")), f"bytes of {name}'s {form} must be a size")
    _demand(bool(_SHA256.fullmatch(str(file.get("sha256")))), f"sha256 of {name}'s {form} must be 64 hex digits")
    _demand(bool(_MEDIA_TYPE.fullmatch(str(file.get("media_type")))), f"media_type of {name}'s {form} is none")
    _demand(_is_count(file.get("generation", 0)), f"generation of {name}'s {form} must be a number")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def total_bytes(models: Iterable[TrainedModel]) -> int:
    """Return the size of all files of some models [bytes]."""
    return sum(file.size_bytes for model in models for file in model.files)
