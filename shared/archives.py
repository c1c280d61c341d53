"""The rules of archives: everything of a session as one zip, made once for each content.

What an archive holds is a plan: small files as text, and the names of objects. The plan is written into the bucket
first, named by its own checksum, so equal content is one archive, and who builds it needs nothing but the plan. It is
built as a stream from objects to object; there is no archive before the last byte is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from shared.archived import check as check_program
from shared.archived import encoding as encoding_module
from shared.archived import load as load_program
from shared.errors import ObjectExistsError, ObjectNotFoundError, SessionBusyError
from shared.fields import read_existing_session_id
from shared.pictures import KIND as PICTURE
from shared.pictures import is_own_picture
from shared.records.callers import Caller
from shared.records.objects import SignedUrl, archives_prefix
from shared.records.results import ResultItem, ResultKind
from shared.records.training import ModelFile, ModelStatus, Run, TrainedModel
from shared.result_tables import ResultTableError, table_csv
from shared.skew import requirements_of

if TYPE_CHECKING:
    # Only type checkers need the protocols, and every cold start would pay for them.
    from shared.ports import JobQueue, ObjectStore, TrainingRepository, UrlSigner

# Counted up by whoever changes what archives hold, so that no old one is handed out.
FORM: Final = 2
# [bytes] of files up to which an archive is built while the caller waits: about two seconds.
BUILT_AT_ONCE_BYTES: Final = 32 << 20
RETRY_AFTER_S: Final = 5
# A build that brought nothing in this time may be queued again; longer than build-archive may take.
PATIENCE_S: Final = 1800
_PIECE_BYTES: Final = 1 << 20
_LONGEST_NAME: Final = 100
_NAME_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")
# The earliest time that a zip archive can say: the same content gives the same bytes.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


class ArchiveService:
    """Hands archives out, and builds them."""

    def __init__(
        self, runs: TrainingRepository, store: ObjectStore, signer: UrlSigner, jobs: JobQueue, builder: ArchiveBuilder
    ) -> None:
        self._runs = runs
        self._store = store
        self._signer = signer
        self._jobs = jobs
        self._builder = builder

    def download(self, caller: Caller, session_id: str, now_s: float) -> SignedUrl | None:
        """Sign the download of a session's archive; None while it is being built. Repeatable, also at the same time.

        Args:
            now_s: Seconds since 1970.

        Raises:
            SessionNotFoundError: The caller has none of this name.
            SessionBusyError: It changes right now.
            QueueUnavailableError: Building it could not be queued.
        """
        name = read_existing_session_id(session_id)
        session_uuid, runs = self._runs.of_session(caller, name)
        results = {kind: self._runs.results(caller, name, kind, of_all_runs=True) for kind in ResultKind}
        members = list(_members(name, session_uuid, runs, results))
        plan = json.dumps({"form": FORM, "members": members}, sort_keys=True, ensure_ascii=False).encode(
            errors="replace"
        )
        key = hashlib.sha256(plan).hexdigest()[:32]
        prefix = f"{archives_prefix(session_uuid)}{key}"
        if not self._is_there(f"{prefix}.zip"):
            # Another call, or this one before, may have wanted the same.
            with contextlib.suppress(ObjectExistsError):
                self._store.write(f"{prefix}.json", plan, "application/json")
            if sum(one.get("bytes", 0) for one in members) > BUILT_AT_ONCE_BYTES:
                self._jobs.enqueue(f"archive-{key}-{int(now_s // PATIENCE_S)}", {"plan": f"{prefix}.json"})
                return None
            self._builder.build(f"{prefix}.json")
        file_name = f"{_plain(name)}-{key[:8]}.zip"
        return self._signer.sign(
            "GET",
            f"{prefix}.zip",
            query={"response-content-disposition": f'attachment; filename="{file_name}"'},
        )

    def _is_there(self, name: str) -> bool:
        try:
            self._store.stat(name)
        except ObjectNotFoundError:
            return False
        return True


class ArchiveBuilder:
    """Builds what a plan says."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def build(self, plan_name: str) -> bool:
        """Write the archive of a plan, unless it is there; say whether it is now.

        Killed at any point and repeated, or called twice at once, it ends in one archive.

        Raises:
            SessionBusyError: An object of the plan is gone or another one: the session has changed.
        """
        name = f"{plan_name.removesuffix('.json')}.zip"
        try:
            plan = json.loads(b"".join(self._store.read(plan_name)))
        except ObjectNotFoundError:
            # The session was deleted meanwhile.
            return False
        try:
            self._store.stat(name)
        except ObjectNotFoundError:
            try:
                with self._store.writing(name, "application/zip") as file:
                    self._write(plan["members"], file)
            except ObjectExistsError:
                # Another call was faster, with the same bytes.
                return True
            except ObjectNotFoundError as error:
                raise SessionBusyError("The session has changed; ask again.", retry_after_s=1) from error
        return self._keep(plan_name, name)

    def _keep(self, plan_name: str, name: str) -> bool:
        """Leave nothing behind of a session that was deleted while its archive was built."""
        try:
            self._store.stat(plan_name)
        except ObjectNotFoundError:
            self._store.delete([self._store.stat(name)])
            return False
        return True

    def _write(self, members: Sequence[Mapping[str, Any]], file: BinaryIO) -> None:
        with zipfile.ZipFile(_Stream(file), "w") as archive:  # type: ignore[call-overload]  # needs no more than write
            for member in members:
                entry = zipfile.ZipInfo(member["name"], _TIME)
                entry.create_system = 3  # Unix, wherever it is built
                entry.external_attr = 0o100644 << 16
                if "text" in member:
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, member["text"])
                    continue
                entry.file_size = member["bytes"]
                digest = hashlib.sha256()
                with archive.open(entry, "w", force_zip64=True) as target:
                    for piece in self._store.read(member["object"], generation=member["generation"]):
                        digest.update(piece)
                        target.write(piece)
                if digest.hexdigest() != member["sha256"]:
                    raise SessionBusyError(f"{member['name']} is not what it was when it was saved.", retry_after_s=1)


@dataclass(frozen=True)
class _Stream:
    """A file that can only be written: zipfile then writes sizes and checksums behind what they are of."""

    file: BinaryIO

    def write(self, content: bytes) -> int:
        return self.file.write(content)

    def flush(self) -> None:
        """Nothing waits here."""


def _members(
    session_id: str, session_uuid: str, runs: Sequence[Run], results: Mapping[ResultKind, Sequence[ResultItem]]
) -> Iterator[dict[str, Any]]:
    """Yield the files of an archive: {name, text} or {name, object, generation, bytes, sha256}."""
    found = [
        *_of_models(runs),
        *_of_items("scalers", session_uuid, results[ResultKind.SCALERS]),
        *_of_items("tables", session_uuid, results[ResultKind.EVALUATION_TABLES]),
        *_of_items("charts", session_uuid, results[ResultKind.VISUALIZATIONS]),
        {"name": "encoding.py", "text": _source(encoding_module.__file__)},
        {"name": "load.py", "text": _source(load_program.__file__)},
        {"name": "check.py", "text": _source(check_program.__file__)},
    ]
    found.append({"name": "README.md", "text": _readme(session_id, runs, found)})
    sums = "".join(f"{one.get('sha256') or _sha256(one['text'])}  {one['name']}\n" for one in found)
    yield from found
    yield {"name": "SHA256SUMS", "text": sums}


def _of_models(runs: Iterable[Run]) -> Iterator[dict[str, Any]]:
    taken: set[str] = set()
    for run in runs:
        for model in run.models:
            if model.status is not ModelStatus.READY:
                continue
            folder = _unique(f"models/{_plain(model.name)}-{run.id[:8]}", "", taken)
            for file in model.files:
                yield {
                    "name": f"{folder}/model.{file.format}",
                    "object": file.object_name,
                    "generation": file.generation,
                    "bytes": file.size_bytes,
                    "sha256": file.sha256,
                }
            yield {"name": f"{folder}/model.json", "text": _json(_record(model, run))}
            lines = requirements_of(model)
            if lines:
                yield {"name": f"{folder}/requirements.txt", "text": "".join(f"{line}\n" for line in lines)}


def _record(model: TrainedModel, run: Run) -> dict[str, Any]:
    return {
        **model.published,
        "name": model.name,
        "path": model.path,
        "run_id": run.id,
        "origin": model.origin,
        "class": model.class_name,
        "framework": model.framework,
        "version": model.version,
        "metrics": model.metrics,
        "files": [_file(file) for file in model.files],
        "lineage": {
            "request": run.request,
            "data_set": [
                {"file_name": one.file_name, "sha256": one.sha256, "crc32c": one.crc32c} for one in run.data_set
            ],
        },
        "created_at": model.created_at.isoformat(),
    }


def _file(file: ModelFile) -> dict[str, Any]:
    return {
        "name": f"model.{file.format}",
        "bytes": file.size_bytes,
        "sha256": file.sha256,
        "loads_code": file.loads_code,
    }


def _of_items(kind: str, session_uuid: str, items: Sequence[ResultItem]) -> Iterator[dict[str, Any]]:
    taken: set[str] = set()
    for item in items:
        content = item.content
        stem = f"{kind}/{item.run_id[:8]}/{_plain(str(content.get('name') or kind))}"
        name = _unique(stem, ".json", taken)
        yield {"name": f"{name}.json", "text": _json({**content, "run_id": item.run_id})}
        if kind == "tables":
            try:
                text = table_csv(content).decode()
            except ResultTableError:
                # A table that is none is still there as it was published.
                continue
            yield {"name": f"{name}.csv", "text": text}
        if content.get("kind") == PICTURE:
            yield from _of_picture(f"{name}.png", session_uuid, item)


def _of_picture(name: str, session_uuid: str, item: ResultItem) -> Iterator[dict[str, Any]]:
    """Yield a stored picture. What it is was read when it was taken in; rows of older versions may not say it."""
    found = {key: item.content.get(key) for key in ("object", "generation", "bytes", "sha256")}
    if None not in found.values() and is_own_picture(str(found["object"]), session_uuid, item.run_id):
        yield {"name": name, **found}


def _readme(session_id: str, runs: Sequence[Run], members: Sequence[Mapping[str, Any]]) -> str:
    models = [model for run in runs for model in run.models if model.status is ModelStatus.READY]
    pickles = [one["name"] for one in members if one["name"].endswith(".pkl")]
    lines = [
        f"# {_plain(session_id)}",
        "",
        f"{len(models)} models with their scalers, tables and charts.",
        "",
        "    pip install -r models/<model>/requirements.txt",
        "    python check.py",
        "",
        "`check.py` compares every file with SHA256SUMS, opens the models and compares what they predict for a few",
        "rows with what they predicted when they were trained. `load.py` opens one: `load('models/<model>')`.",
        "",
        "| folder | what |",
        "|---|---|",
        "| models/ | one folder each: its files, what it takes, gives and was made from (`model.json`), requirements |",
        "| scalers/ | numbers, with `formula` and `inverse` for any language |",
        "| tables/ | as JSON with types and units, and as CSV |",
        "| charts/ | as data; stored pictures as PNG |",
        "",
        "In a formula `x` is a value of a feature, and the other names are that feature's entries of `params`; only",
        "`feature_range` is the same for all, and `clip(x, low, high)` keeps x between two bounds. In JavaScript:",
        "`new Function('x', 'mean', 'scale', 'return ' + formula)`.",
    ]
    if pickles:
        lines += [
            "",
            "**Opening a .pkl file runs code that its writer chose.** Do so only if you trust the writer; nothing here",
            "does unless you say `--run-pickles`:",
            "",
            *(f"- {name}" for name in pickles),
        ]
    return "\n".join(lines) + "\n"


def _source(path: str | None) -> str:
    return Path(str(path)).read_text()


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _plain(name: str) -> str:
    """Return a name as a part of a path that leads nowhere else."""
    return _NAME_CHARACTERS.sub("_", name).strip("._-")[:_LONGEST_NAME] or "unnamed"


def _unique(stem: str, suffix: str, taken: set[str]) -> str:
    name, number = stem, 1
    # Some file systems know no difference of case.
    while f"{name}{suffix}".lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(f"{name}{suffix}".lower())
    return name
