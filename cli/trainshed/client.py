"""Calls of the Trainshed API, typed, with timeouts and bounded retries.

A call is repeated on its own only where a second one changes nothing, or where the service itself says that it may be.
"""

import csv
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast, runtime_checkable

import httpx

from trainshed.answers import (
    AbortedUpload,
    DeletedSession,
    FinalizedSession,
    ModelFile,
    ModelList,
    NewSession,
    NewUpload,
    PlotVariables,
    PublishedFile,
    Run,
    SavedModels,
    Session,
    SessionDetails,
    SessionPage,
    SignedChunk,
    Upload,
    UploadProgress,
)
from trainshed.errors import DownloadError, ServiceError, UnreachableError
from trainshed.retry import TRANSIENT_STATUSES, Backoff, pause, retry_after_s
from trainshed.routes import ROUTES, Place, origin, url_of
from trainshed.version import VERSION

_DOWNLOAD_PIECE_BYTES = 1 << 20
# For the way there and back, after the longest that a function may take to answer [s].
_WAY_S = 10.0
# What the service makes on request is there after minutes, or has failed [s].
_LONGEST_MAKING_S = 1800.0

TokenSource = str | Callable[[], str] | None


@runtime_checkable
class Renewable(Protocol):
    """A token source that can replace a token before its time."""

    def renew(self) -> None:
        """Have the next call return another token."""


class Client:
    """The API of one deployment, as one user. Safe to use from several threads; close it, or use it in `with`.

    Args:
        base_url: Address of the front door, for example http://localhost:8080; or, where there is none, the address of
            each function by its name, as `terraform output -json function_urls` gives them.
        token: An access token, or a function that returns a valid one whenever it is called; None sends none. If it
            has a method `renew()`, that is called when the service does not take its token, once for each request.
        backoff: Waits between tries.
        transport: How requests travel; for tests.
    """

    def __init__(
        self,
        base_url: Place,
        token: TokenSource = None,
        *,
        backoff: Backoff | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._token = token
        self._place = base_url
        self._renewal = threading.Lock()
        self.backoff = backoff or Backoff()
        timeout = httpx.Timeout(60.0, connect=10.0, pool=None)
        # Reading the certificates takes longer than a request; both connections trust the same.
        trusted = httpx.create_ssl_context()
        agent = {"User-Agent": f"trainshed/{VERSION}"}
        self._api = httpx.Client(timeout=timeout, transport=transport, verify=trusted, headers=agent)
        # The bucket gets no access token: its URLs are signed, and it is another server.
        limits = httpx.Limits(max_connections=64)
        self._bucket = httpx.Client(timeout=timeout, transport=transport, verify=trusted, limits=limits)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._api.close()
        self._bucket.close()

    # Sessions

    def init_session(self, session_id: str, metadata: Mapping[str, Any] | None = None) -> NewSession:
        """Create a session, or return the one of this name."""
        body: dict[str, Any] = {"sessionId": session_id}
        if metadata is not None:
            body["metadata"] = dict(metadata)
        return cast("NewSession", self._call("init-session", json=body, repeatable=True))

    def list_sessions(self, *, limit: int = 50, page_token: str = "", search: str = "") -> SessionPage:
        """Return one page of the user's sessions, newest first; with `search`, of those whose id or title has it."""
        given = {"limit": str(limit), "page_token": page_token, "search": search}
        parameters = {name: value for name, value in given.items() if value}
        return cast("SessionPage", self._call("list-sessions", params=parameters, repeatable=True))

    def sessions(self, *, search: str = "") -> Iterator[Session]:
        """Yield all sessions of the user, newest first, page by page; with `search`, those whose id or title has it."""
        page_token = ""
        while True:
            page = self.list_sessions(page_token=page_token, search=search)
            yield from page["sessions"]
            page_token = page["next_page_token"]
            if not page_token:
                return

    def get_session(self, session_id: str) -> SessionDetails:
        """Return a session with its files and uploads."""
        return cast("SessionDetails", self._call("get-session", session_id=session_id, repeatable=True))

    def delete_session(self, session_id: str) -> DeletedSession:
        """Remove a session with everything in it. A second call is a ServiceError with status 404."""
        return cast("DeletedSession", self._call("delete-session", session_id=session_id))

    def finalize_session(self, session_id: str) -> FinalizedSession:
        """Close a session to further uploads and count its rows."""
        body = {"sessionId": session_id}
        return cast("FinalizedSession", self._call("finalize-session", json=body, repeatable=True))

    # Uploads

    def create_upload(
        self,
        session_id: str,
        file_name: str,
        size: int,
        *,
        content_type: str | None = None,
        sha256: str | None = None,
        chunk_size: int | None = None,
        presign: int | None = None,
    ) -> NewUpload:
        """Start an upload, or return the equal one that is open.

        Args:
            size: Exact size of the file [bytes].
            sha256: Of the whole file, lower-case hex; the service compares it after assembling.
            chunk_size: A wish; the service chooses [bytes].
            presign: How many of the first chunks to sign at once, without checksums; as many as one call signs where
                it is None.
        """
        body: dict[str, Any] = {"sessionId": session_id, "fileName": file_name, "size": size}
        optional = {"contentType": content_type, "sha256": sha256, "chunkSize": chunk_size, "presign": presign}
        body |= {name: value for name, value in optional.items() if value is not None}
        return cast("NewUpload", self._call("create-upload", json=body, repeatable=True))

    def sign_chunks(self, upload_id: str, crc32c_by_index: Mapping[int, str]) -> list[SignedChunk]:
        """Return signed PUT requests, in the order given.

        Args:
            crc32c_by_index: 1 to 128 chunks with their crc32c in base64, big-endian.
        """
        body = {"chunks": [{"index": index, "crc32c": crc32c} for index, crc32c in crc32c_by_index.items()]}
        data = self._call("sign-chunks", upload_id=upload_id, json=body, repeatable=True)
        return cast("list[SignedChunk]", data["chunks"])

    def get_upload(self, upload_id: str) -> UploadProgress:
        """Return an upload and the chunks that the bucket holds."""
        return cast("UploadProgress", self._call("get-upload", upload_id=upload_id, repeatable=True))

    def assemble_upload(
        self, upload_id: str, *, stop: threading.Event | None = None, deadline_s: float = 1800.0
    ) -> Upload:
        """Make one object of the chunks; waits while another call works on it.

        Raises:
            ServiceError: Chunks are missing (`chunks_missing`), the bytes are not what was declared
                (`checksum_mismatch`), or the file is not the table it claims to be (`data_set_invalid`).
            UnreachableError: It was still being assembled when the time was up.
        """
        waited_s = 0.0
        while waited_s <= deadline_s:
            answer = self._send("assemble-upload", upload_id=upload_id, repeatable=True)
            if answer.status_code != httpx.codes.ACCEPTED:
                return cast("Upload", _data(answer))
            asked_s = retry_after_s(answer.headers.get("Retry-After"))
            wait_s = 1.0 if asked_s is None else max(asked_s, 0.1)
            pause(wait_s, stop)
            if stop is not None and stop.is_set():
                break
            waited_s += wait_s
        raise UnreachableError(f"Upload {upload_id} is still being assembled; ask again later.")

    def upload(
        self,
        session_id: str,
        path: str | Path,
        *,
        upload_id: str | None = None,
        file_name: str | None = None,
        content_type: str | None = None,
    ) -> Upload:
        """Upload a file into a session, which is created if there is none, and show the progress.

        The progress goes below the cell of a notebook, or to the terminal. Interrupted in any way and called again
        with the same arguments, it sends only what is missing. `trainshed.upload_file` is the same without the display.

        Args:
            upload_id: Continue this upload; else the session's open upload of this file name, or a new one.
            file_name: Its name in the session; by default its name here.
            content_type: Of the file, for example text/csv.

        Raises:
            FileChangedError: The upload was started with another file.
            ServiceError: The service refuses the upload or the assembled file.
            UploadError: The file cannot be read, or the bucket refuses it.
        """
        from trainshed.display import progress_console, upload_bar  # noqa: PLC0415 - it imports this module
        from trainshed.upload import upload_file  # noqa: PLC0415 - it imports this module

        path = Path(path)
        if upload_id is None:
            self.init_session(session_id)
        with upload_bar(progress_console(), file_name or path.name) as show:
            return upload_file(
                self,
                session_id,
                path,
                upload_id=upload_id,
                file_name=file_name,
                content_type=content_type,
                on_progress=show,
            )

    def abort_upload(self, upload_id: str) -> AbortedUpload:
        """Give an upload up and free its storage."""
        return cast("AbortedUpload", self._call("abort-upload", upload_id=upload_id, repeatable=True))

    # Training and results

    def train(
        self,
        session_id: str,
        target: str,
        *,
        task: str | None = None,
        models: Sequence[str] | None = None,
        test_fraction: float | None = None,
        seed: int | None = None,
        time_column: str | None = None,
        horizon: int | None = None,
        window: int | None = None,
    ) -> Run:
        """Start a training run on a finalized session.

        Args:
            target: Name of the column to predict.
            task: regression, classification or time_series; the target's values decide where it is None.
            models: Which to train; all that the service knows where it is None.
            test_fraction: Part of the rows kept back for the evaluation, between 0 and 1.
            time_column: Of a time series: what orders the rows.
            horizon: Of a time series: how many steps ahead are predicted.
            window: Of a time series: how many steps back a model sees.
        """
        optional = {
            "task": task,
            "timeColumn": time_column,
            "horizon": horizon,
            "window": window,
            "models": None if models is None else list(models),
            "testFraction": test_fraction,
            "seed": seed,
        }
        body: dict[str, Any] = {"target": target}
        body |= {name: value for name, value in optional.items() if value is not None}
        return cast("Run", self._call("train", session_id=session_id, json=body))

    def get_training(self, session_id: str) -> Run:
        """Return the latest run of a session with the progress of each model."""
        return cast("Run", self._call("get-training", session_id=session_id, repeatable=True))

    def wait_for_training(self, session_id: str) -> Run:
        """Show the newest run of a session, below the cell of a notebook or in the terminal, until it is over.

        Raises:
            TrainingFailedError: It ended without a single model, or was cancelled.
        """
        from trainshed.display import progress_console, wait_for_training  # noqa: PLC0415 - it imports this module

        return wait_for_training(self, session_id, progress_console())

    def cancel_training(self, session_id: str) -> Run:
        """Cancel the run in progress; what is finished stays."""
        return cast("Run", self._call("cancel-training", session_id=session_id, repeatable=True))

    def save_models(self, session_id: str) -> SavedModels:
        """Check and record the published models, so that they can be downloaded."""
        return cast("SavedModels", self._call("save-model", session_id=session_id, repeatable=True))

    def list_models(self, session_id: str) -> ModelList:
        """Return the models of a session."""
        return cast("ModelList", self._call("list-models", session_id=session_id, repeatable=True))

    def sign_files(self, session_id: str, run_id: str, files: Sequence[Mapping[str, Any]]) -> list[PublishedFile]:
        """Return, for files of a run that is being published, what the bucket holds or a request that writes it once.

        Args:
            run_id: A uuid; trainshed/publish.py makes it of the run's name.
            files: 1 to 100 of {"name", "size", "crc32c"}.
        """
        body = {"runId": run_id, "files": [dict(file) for file in files]}
        data = self._call("publish", session_id=session_id, json=body, repeatable=True)
        return cast("list[PublishedFile]", data["files"])

    def plot_variables(
        self, session_id: str, *, points: int | None = None, columns: Sequence[str] | None = None
    ) -> PlotVariables:
        """Return facts and a thinned-out series per column of the session's data sets.

        Args:
            points: Of each series.
            columns: Only these.
        """
        parameters = {} if points is None else {"points": str(points)}
        if columns is not None:
            parameters["columns"] = _csv_line(columns)
        data = self._call("plot-variables", session_id=session_id, params=parameters, repeatable=True)
        return cast("PlotVariables", data)

    def visualizations(self, session_id: str) -> list[dict[str, Any]]:
        """Return the charts of a session."""
        data = self._call("visualizations", session_id=session_id, repeatable=True)
        return cast("list[dict[str, Any]]", data["visualizations"])

    def scalers(self, session_id: str) -> list[dict[str, Any]]:
        """Return the scalers of a session: parameters and formula, both directions."""
        data = self._call("scalers", session_id=session_id, repeatable=True)
        return cast("list[dict[str, Any]]", data["scalers"])

    def evaluation_tables(self, session_id: str) -> list[dict[str, Any]]:
        """Return the evaluation tables of a session."""
        data = self._call("evaluation-tables", session_id=session_id, repeatable=True)
        return cast("list[dict[str, Any]]", data["evaluation_tables"])

    def draw_chart(
        self, session_id: str, name: str, to: Path, *, picture_format: str = "png", theme: str = "light"
    ) -> Path:
        """Write one chart of a session to `to` as a picture, drawn by the service.

        Args:
            name: As `visualizations` gives it.
            picture_format: png, svg, or vega-lite.
            theme: light or dark.

        Raises:
            DownloadError: A stored picture cannot be had, or the file not be written.
        """
        parameters = {"name": name, "format": picture_format, "theme": theme}
        answer = self._send("visualizations", session_id=session_id, params=parameters, repeatable=True)
        part = to.with_name(f"{to.name}.part")
        try:
            if answer.is_redirect:
                self._fetch(answer.headers["Location"], part)
            else:
                part.write_bytes(answer.content)
            part.replace(to)
        except OSError as error:
            raise DownloadError(f"Cannot write {to}: {error.strerror}.") from error
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return to

    def evaluation_csv(self, session_id: str, name: str = "evaluation") -> str:
        """Return one evaluation table of a session as CSV."""
        parameters = {"name": name, "format": "csv"}
        return self._send(
            "evaluation-tables", session_id=session_id, params=parameters, repeatable=True
        ).content.decode()

    def download_model(
        self,
        session_id: str,
        to: Path,
        *,
        path: str | None = None,
        framework: str | None = None,
        file: ModelFile | None = None,
        model_format: str | None = None,
    ) -> Path:
        """Write one file of a model to `to`; the file appears under that name only when it is complete.

        Args:
            path: Which model, as `list_models` gives it; the first of its framework where it is None.
            framework: keras or sklearn.
            file: The file as `list_models` describes it: its format is asked for, size and sha256 are checked.
            model_format: keras, h5, skops or pkl, where `file` is None.

        Raises:
            DownloadError: The bytes are not those that were promised, or the file cannot be written.
        """
        wanted = {"type": framework, "path": path, "format": file["format"] if file else model_format}
        parameters = {name: value for name, value in wanted.items() if value is not None}
        return self._download("download-model", session_id, parameters, to, file)

    def download_archive(self, session_id: str, to: Path) -> Path:
        """Write everything of a session to `to`, as one zip that checks itself; waits while the service builds it.

        Raises:
            DownloadError: The file cannot be written, or the bucket refuses it.
            UnreachableError: It was still being built when the time was up.
        """
        return self._download("download-archive", session_id, {}, to)

    def _download(
        self, name: str, session_id: str, parameters: Mapping[str, str], to: Path, file: ModelFile | None = None
    ) -> Path:
        url = self._location(name, session_id, parameters)
        part = to.with_name(f"{to.name}.part")
        try:
            size, sha256 = self._fetch(url, part)
            if file is not None and (size != file["size"] or sha256 != file["sha256"]):
                raise DownloadError(
                    f"{to.name} has {size} bytes and sha256 {sha256}, "
                    f"but {file['size']} bytes and {file['sha256']} were promised."
                )
            part.replace(to)
        except OSError as error:
            raise DownloadError(f"Cannot write {to}: {error.strerror}.") from error
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return to

    def _location(self, name: str, session_id: str, parameters: Mapping[str, str]) -> str:
        """Return where a file lies; waits while the service makes it."""
        waited_s = 0.0
        while waited_s <= _LONGEST_MAKING_S:
            answer = self._send(name, session_id=session_id, params=parameters, repeatable=True)
            if answer.is_redirect and "Location" in answer.headers:
                return str(answer.headers["Location"])
            if answer.status_code != httpx.codes.ACCEPTED:
                raise UnreachableError(f"The service answered {answer.status_code} without a place to download from.")
            wait_s = max(retry_after_s(answer.headers.get("Retry-After")) or 1.0, 0.1)
            pause(wait_s)
            waited_s += wait_s
        raise UnreachableError("The service is still making this file; ask again later.")

    def _fetch(self, url: str, to: Path) -> tuple[int, str]:
        """Download to a file, from the start again where the connection breaks; return its size and sha256."""
        failures = 0
        while True:
            try:
                return self._fetch_once(url, to)
            except httpx.HTTPError as error:
                failures += 1
                if failures >= self.backoff.attempts:
                    raise UnreachableError(f"The download of {to.stem} broke off ({_reason(error)}).") from error
                headers = error.response.headers if isinstance(error, httpx.HTTPStatusError) else {}
                pause(self.backoff.wait_s(failures, retry_after_s(headers.get("Retry-After"))))

    def _fetch_once(self, url: str, to: Path) -> tuple[int, str]:
        digest = hashlib.sha256()
        size = 0
        with self._bucket.stream("GET", url) as answer, to.open("wb") as target:
            if answer.status_code in TRANSIENT_STATUSES:
                reason = f"the bucket answers {answer.status_code}"
                raise httpx.HTTPStatusError(reason, request=answer.request, response=answer)
            if answer.status_code != httpx.codes.OK:
                raise DownloadError(f"The bucket answered {answer.status_code} to the download of {to.stem}.")
            for piece in answer.iter_bytes(_DOWNLOAD_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        return size, digest.hexdigest()

    def put_chunk(self, chunk: SignedChunk, content: Iterable[bytes]) -> httpx.Response:
        """Send one chunk to the bucket, once; what its answer means is the uploader's business (trainshed/upload.py).

        Raises:
            httpx.HTTPError: No answer came.
        """
        headers = {**chunk["headers"], "Content-Length": str(chunk["size"])}
        return self._bucket.request(chunk["method"], chunk["url"], headers=headers, content=content)

    # One call

    def _call(self, name: str, **options: Any) -> dict[str, Any]:
        return _data(self._send(name, **options))

    def _send(
        self,
        name: str,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        repeatable: bool = False,
        **ids: str,
    ) -> httpx.Response:
        """Send a request to a function until it is answered, within the bounds of `backoff`.

        Args:
            repeatable: A second call changes nothing, so one whose answer was lost may be sent again.
            ids: What the variables of the function's route stand for.
        """
        method, _, timeout_s = ROUTES[name]
        url = url_of(self._place, name, **ids)
        failures = 0
        is_renewed = False
        while True:
            failure: ServiceError | UnreachableError
            authorization = self._authorization()
            try:
                answer = self._api.request(
                    method,
                    url,
                    json=json,
                    params=params,
                    headers=authorization,
                    timeout=httpx.Timeout(timeout_s + _WAY_S, connect=_WAY_S, pool=None),
                )
            except httpx.HTTPError as error:
                failure = UnreachableError(f"{origin(url)} does not answer ({_reason(error)}).")
                failure.__cause__ = error
                # A connection that was never made has carried no request.
                again = repeatable or isinstance(error, httpx.ConnectError)
            else:
                if answer.is_success or answer.is_redirect:
                    return answer
                failure = _service_error(answer)
                # A token can end before its time: a clock that is wrong, a sign-in that was ended elsewhere.
                if failure.code == "unauthenticated" and isinstance(self._token, Renewable) and not is_renewed:
                    with self._renewal:
                        # Another thread, which met the same refusal, may have renewed it meanwhile.
                        if self._authorization() == authorization:
                            self._token.renew()
                    is_renewed = True
                    continue
                # The service marks its own errors; a gateway's error page bears no mark.
                is_passing = failure.code.startswith("http_") and answer.status_code in TRANSIENT_STATUSES
                again = failure.retryable or (repeatable and is_passing)
            failures += 1
            if not again or failures >= self.backoff.attempts:
                raise failure
            asked_s = failure.retry_after_s if isinstance(failure, ServiceError) else None
            pause(self.backoff.wait_s(failures, asked_s))

    def _authorization(self) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        return {"Authorization": f"Bearer {token}"} if token else {}


def _csv_line(values: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def _data(answer: httpx.Response) -> dict[str, Any]:
    try:
        data = answer.json()["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"The answer to {answer.request.url.path} is not one of this service.") from error
    if not isinstance(data, dict):
        raise UnreachableError(f"The answer to {answer.request.url.path} is not one of this service.")
    return data


def _service_error(answer: httpx.Response) -> ServiceError:
    """Read problem details; an error page of something in between becomes the code http_<status>."""
    status = answer.status_code
    wait_s = retry_after_s(answer.headers.get("Retry-After"))
    request_id = answer.headers.get("X-Request-Id", "")
    try:
        document = answer.json()
        code, detail = str(document["code"]), str(document["detail"])
    except (ValueError, KeyError, TypeError):
        text = f"{answer.request.url.path} answered {status} {answer.reason_phrase}."
        return ServiceError(status, f"http_{status}", text, request_id=request_id, retry_after_s=wait_s)
    details = document.get("details")
    return ServiceError(
        status,
        code,
        detail,
        details=details if isinstance(details, dict) else {},
        retryable=document.get("retryable") is True,
        request_id=str(document.get("request_id") or request_id),
        retry_after_s=wait_s,
    )
