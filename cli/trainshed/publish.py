"""Publishes what a team's own training job made: models, scalers, tables, charts, by the contract of docs/results.md.

    from trainshed import Client
    from trainshed.publish import Publisher

    with Client(url, token) as client, Publisher(client, "boiler", run="2026-07-01") as run:
        run.add_model("forest", ["forest.skops", "forest.onnx"], metrics={"test": {"rmse": 1.5}})

Files are written as they are added, the manifest when the block ends without an error. A job that was killed and runs
again under the same name of its run sends only what is missing. Nothing is ever overwritten: an object's name holds
its checksum, and every write is create-only.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trainshed.answers import Model
from trainshed.charts import PICTURE, ChartError, read_chart
from trainshed.client import Client
from trainshed.described import plain, scaler_numbers, type_of, versions
from trainshed.errors import PublishError, ServiceError
from trainshed.publication import (
    FORMATS,
    LARGEST_MANIFEST_BYTES,
    MANIFEST_NAME,
    FormError,
    check_manifest,
    evaluation_table,
    file_entry,
    manifest,
    manifest_bytes,
    model_entry,
    run_prefix,
    unfinished_model_entry,
)
from trainshed.result_tables import ResultTableError, check_table
from trainshed.run_files import Destination, LocalFile, OwnRights, SignedRequests

# Enough to tell apart whatever one run publishes; the whole checksum stands in the manifest.
_DIGITS_IN_NAME = 16
# Makes a run's id of a session and a name.
_RUNS = uuid.UUID("0f5f6c1e-0a53-5d0e-9a44-6f2f9d1c7b30")


class Publisher:
    """One run that is being published. Not for several threads.

    Args:
        client: Signed in as the owner of the session.
        session_id: An existing session.
        run: A name for the run, the same when the job is repeated: then it continues. Without one, every Publisher is
            a run of its own.
        bucket: Name of the artifacts bucket, to write with the job's own rights (`pip install trainshed[storage]`)
            instead of signed addresses.
        about: What the manifest says of how the run came about: request, seed, data_set, ... A `target` in `request`
            lets the service compare the models of several runs.

    Raises:
        ServiceError: The session is none of this user's.
    """

    def __init__(
        self,
        client: Client,
        session_id: str,
        run: str | None = None,
        *,
        bucket: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = client
        self._session_id = session_id
        self._session_uuid = client.get_session(session_id)["id"]
        self.run_id = str(uuid.uuid5(_RUNS, f"{self._session_uuid}/{run}") if run is not None else uuid.uuid4())
        self._destination: Destination = (
            SignedRequests(client, session_id, self.run_id)
            if bucket is None
            else OwnRights(bucket, run_prefix(self._session_uuid, self.run_id))
        )
        self._about = dict(about or {})
        self._models: dict[str, dict[str, Any]] = {}
        self._scalers: dict[str, dict[str, Any]] = {}
        self._tables: dict[str, dict[str, Any]] = {}
        self._charts: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        """Return the publisher itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish, unless the block failed; then what was written waits for the next try."""
        if kind is None:
            self.finish()

    def add_model(
        self,
        name: str,
        files: str | Path | Sequence[str | Path],
        *,
        metrics: Mapping[str, Mapping[str, float]] | None = None,
        class_name: str | None = None,
        framework: str | None = None,
        environment: Mapping[str, str] | None = None,
        **description: Any,
    ) -> None:
        """Write the files of a trained model.

        Args:
            name: 1 to 128 of `A-Z a-z 0-9 . _ -`.
            files: One or several, of different formats; the ending says which (.keras, .h5, .skops, .pkl, ...).
            metrics: By split ("train", "test") and name; they become the table `evaluation`.
            class_name: For people, for example sklearn.ensemble.RandomForestRegressor.
            framework: keras or sklearn; by default that of the first file's format.
            environment: Versions by package; by default those of the libraries that this process has imported.
            description: signature, params, features, split, check, findings, as docs/results.md lists them.

        Raises:
            PublishError: A file is none of a known format, or cannot be written.
        """
        paths = [Path(files)] if isinstance(files, str | Path) else [Path(path) for path in files]
        if not paths:
            raise PublishError(f"Model {name} has no file.")
        forms = [_form_of(path) for path in paths]
        if len(set(forms)) != len(forms):
            raise PublishError(f"Model {name} has two files of one format.")
        self._check_new(name, self._models, "model")
        framework = framework or FORMATS[forms[0]].framework
        found = [(form, LocalFile.of(path)) for form, path in zip(forms, paths, strict=True)]
        for form, local in found:
            _check_beginning(form, local.path)
        described = {"environment": dict(environment) if environment is not None else versions()} | description
        # Checked as it will be published, before a byte is sent.
        objects = {form: self._object_name(name, local, form) for form, local in found}
        entries = [
            file_entry(form, objects[form], size_bytes=local.size_bytes, sha256=local.sha256, crc32c=local.crc32c)
            for form, local in found
        ]
        entry = model_entry(name, framework, class_name, entries, plain(metrics or {}), **plain(described))
        self._check(models=[entry])
        for form, local in found:
            generation = self._destination.write(self._name(name, local, form), local, FORMATS[form].media_type)
            next(file for file in entry["files"] if file["format"] == form)["generation"] = generation
        self._models[name] = entry

    def add_failed_model(self, name: str, framework: str, reason: str) -> None:
        """Note a model that there is not, with the reason."""
        self._check_new(name, self._models, "model")
        entry = unfinished_model_entry(name, framework, "failed", reason)
        self._check(models=[entry])
        self._models[name] = entry

    def add_scaler(
        self,
        name: str,
        fitted: Any = None,
        *,
        feature_names: Sequence[str],
        model: str | None = None,
        role: str = "inputs",
        applied_by: str = "caller",
        **described: Any,
    ) -> None:
        """Add a change of units, as numbers and formulas.

        Args:
            fitted: A StandardScaler, MinMaxScaler, RobustScaler or MaxAbsScaler of scikit-learn; or None, and `type`,
                `params`, `formula` and `inverse` are given.
            feature_names: In the order of the numbers.
            model: Whose inputs or outputs it scales.
            role: inputs or target.
            applied_by: "model" where the model's file contains the scaling, "caller" where it does not.

        Raises:
            PublishError: It is no scaler that can be described.
        """
        self._check_new(name, self._scalers, "scaler")
        numbers = scaler_numbers(fitted) if fitted is not None else {}
        entry = plain(
            {
                "name": name,
                "model": model,
                "role": role,
                "feature_names": list(feature_names),
                "applied_by": applied_by,
                **numbers,
                **described,
            }
        )
        missing = [member for member in ("type", "params", "formula", "inverse") if member not in entry]
        if missing:
            raise PublishError(f"Scaler {name} lacks {', '.join(missing)}.")
        self._check(scalers=[entry])
        self._scalers[name] = entry

    def add_table(
        self, name: str, rows: Any, *, title: str | None = None, units: Mapping[str, str] | None = None
    ) -> None:
        """Add a table.

        Args:
            rows: A pandas DataFrame, or a sequence of objects by column name. NaN counts as missing.
            units: By column name.

        Raises:
            PublishError: It is no table.
        """
        self._check_new(name, self._tables, "table")
        listed = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
        records = [plain(record) for record in listed]
        names = list(dict.fromkeys(column for record in records for column in record))
        columns = [
            {"name": column, "type": type_of([record.get(column) for record in records])}
            | ({"unit": units[column]} if units and column in units else {})
            for column in names
        ]
        entry = {"name": name, "title": title or name, "columns": columns, "rows": records}
        try:
            check_table(entry)
        except ResultTableError as error:
            raise PublishError(f"{error}.") from error
        self._check(tables=[entry])
        self._tables[name] = entry

    def add_chart(self, name: str, kind: str, data: Any, *, model: str | None = None, **encodings: Any) -> None:
        """Add a chart; the service draws it.

        Args:
            name: `<model>.<chart>`, the same from run to run.
            kind: line, scatter, residual, bar, histogram, heatmap or confusion.
            data: A DataFrame, or columns of equal length by name.
            encodings: title, x, y, series, color, as docs/results.md lists them; a text names the column alone.

        Raises:
            PublishError: It cannot be drawn.
        """
        self._check_new(name, self._charts, "chart")
        columns = data.to_dict("list") if hasattr(data, "to_dict") else data
        shown = {
            channel: {"field": value} if isinstance(value, str) and channel != "title" else value
            for channel, value in encodings.items()
        }
        entry = plain({"name": name, "kind": kind, "model": model, **shown, "data": columns})
        self._take_chart(entry)

    def add_picture(self, name: str, path: str | Path, *, title: str | None = None, model: str | None = None) -> None:
        """Add a PNG picture, for what no kind of chart can show.

        Raises:
            PublishError: It is no PNG, or cannot be written.
        """
        self._check_new(name, self._charts, "chart")
        local = LocalFile.of(Path(path))
        width, height = _png_size(local.path)
        entry = {
            "name": name,
            "kind": PICTURE,
            "title": title or name,
            "model": model,
            "object": self._object_name("pictures", local, "png"),
            "media_type": "image/png",
            "width": width,
            "height": height,
            "bytes": local.size_bytes,
            "sha256": local.sha256,
        }
        self._take_chart(entry)
        self._destination.write(self._name("pictures", local, "png"), local, "image/png")

    def finish(self) -> list[Model]:
        """Write the manifest and have the service check the run against it; repeating it changes nothing.

        Returns:
            The models of the run as the service lists them.

        Raises:
            PublishError: Another run of this name was published with other results.
            ServiceError: The service refuses the run (`manifest_invalid`), and says which object is why.
        """
        document = self._document()
        self._check_document(document)
        self._destination.write(MANIFEST_NAME, _bytes_of(document), "application/json")
        try:
            self._client.save_models(self._session_id)
        except ServiceError as error:
            # Of several runs the service refuses each on its own, and may tell of another one.
            if error.code != "manifest_invalid" or error.details.get("manifest") in {None, self._manifest_name}:
                raise
        models = self._client.list_models(self._session_id)["models"]
        return [model for model in models if model["path"].startswith(f"{self.run_id}/")]

    def _document(self) -> dict[str, Any]:
        tables = dict(self._tables)
        measured = {name: entry["metrics"] for name, entry in self._models.items() if entry.get("metrics")}
        if measured and "evaluation" not in tables:
            tables["evaluation"] = evaluation_table("Evaluation", measured)
        return manifest(
            self._session_uuid,
            self.run_id,
            list(self._models.values()),
            scalers=list(self._scalers.values()),
            tables=list(tables.values()),
            charts=list(self._charts.values()),
            **{"environment": versions(), **plain(self._about)},
        )

    @property
    def _manifest_name(self) -> str:
        return f"{run_prefix(self._session_uuid, self.run_id)}{MANIFEST_NAME}"

    def _check(self, **parts: Sequence[Mapping[str, Any]]) -> None:
        """Look at a part as the service will, as a manifest that holds nothing else."""
        self._check_document(manifest(self._session_uuid, self.run_id, **{"models": [], **parts}))

    def _check_document(self, document: Mapping[str, Any]) -> None:
        content = _bytes_of(document)
        try:
            check_manifest(document, self._session_uuid, self._manifest_name)
        except FormError as error:
            raise PublishError(f"{error}.") from error
        if len(content) > LARGEST_MANIFEST_BYTES:
            raise PublishError("Scalers, tables and charts may have 16 MiB together.")

    def _take_chart(self, entry: dict[str, Any]) -> None:
        try:
            read_chart(entry)
        except ChartError as error:
            raise PublishError(f"{error}.") from error
        self._check(charts=[entry])
        self._charts[entry["name"]] = entry

    def _check_new(self, name: str, known: Mapping[str, Any], what: str) -> None:
        if name in known:
            raise PublishError(f"There is a {what} {name} in this run already.")

    def _name(self, folder: str, local: LocalFile, form: str) -> str:
        return f"{folder}/{local.sha256[:_DIGITS_IN_NAME]}.{form}"

    def _object_name(self, folder: str, local: LocalFile, form: str) -> str:
        return f"{run_prefix(self._session_uuid, self.run_id)}{self._name(folder, local, form)}"


def _form_of(path: Path) -> str:
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise PublishError(f"{path.name} is of no known format; models end in one of {known}.")
    return form


def _check_beginning(form: str, path: Path) -> None:
    begins = FORMATS[form].begins
    with path.open("rb") as file:
        if file.read(len(begins)) != begins:
            raise PublishError(f"{path.name} is no {form} file.")


def _png_size(path: Path) -> tuple[int, int]:
    """Return width and height. Source: https://www.w3.org/TR/png-3/#11IHDR."""
    with path.open("rb") as file:
        begin = file.read(24)
    if len(begin) < 24 or not begin.startswith(b"\x89PNG\r\n\x1a\n"):
        raise PublishError(f"{path.name} is no PNG file.")
    return int.from_bytes(begin[16:20], "big"), int.from_bytes(begin[20:24], "big")


def _bytes_of(document: Mapping[str, Any]) -> bytes:
    try:
        return manifest_bytes(document)
    except (TypeError, ValueError) as error:
        raise PublishError(f"The results hold what JSON has not: {error}.") from error
