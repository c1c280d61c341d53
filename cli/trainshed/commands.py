"""What the commands do: each calls the client and returns what --json prints; a second function shows it to people."""

import getpass
import hashlib
import shlex
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from trainshed.answers import Model, ModelFile, Upload
from trainshed.checks import Check, run_checks
from trainshed.client import Client
from trainshed.credentials import log_in, log_out, session_file
from trainshed.deployment import Deployment, check_address, read_deployment
from trainshed.display import models_tables, session_tables, sessions_table, upload_bar, wait_for_training
from trainshed.errors import ChecksFailedError, DownloadError, SettingsError, SignInError, UploadError
from trainshed.plots import draw_chart, draw_column, sparkline
from trainshed.settings import DEFAULT_URL, client_from, settings_from
from trainshed.upload import Progress, upload_file

# Of a file's formats, the first of these is the one to reload; .pkl is fetched only on request, it can run code.
_PREFERRED = ("keras", "skops", "h5")
_PICTURES = {".png": "png", ".svg": "svg", ".json": "vega-lite"}


@dataclass(frozen=True)
class Context:
    """What a command works with.

    Attributes:
        console: Standard error, for progress and questions.
    """

    options: Namespace
    console: Console
    environment: Mapping[str, str]

    def client(self) -> Client:
        """Return a client for the service and the user of the settings."""
        return client_from(self.environment)


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        run: Does it and returns what --json prints.
        show: Returns what people see of that.
    """

    run: Callable[[Context], Any]
    show: Callable[[Any], Sequence[RenderableType]]


def _login(context: Context) -> Any:
    options, environment = context.options, context.environment
    deployment = _deployment(context)
    email = options.email or environment.get("TRAINSHED_EMAIL") or _asked("E-mail: ", input)
    if options.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = environment.get("TRAINSHED_PASSWORD") or _asked("Password: ", getpass.getpass)
    path = session_file(environment)
    try:
        session = log_in(path, deployment, email, password)
    except SignInError as error:
        if deployment.publishable_key or "API key" not in str(error):
            raise
        raise SettingsError(f"{error} Give the project's key: --publishable-key") from error
    return {"url": session.url or None, "urls": dict(session.urls), "email": session.email, "file": str(path)}


def _deployment(context: Context) -> Deployment:
    """Return where to sign in: by options, or else by the environment."""
    options, environment = context.options, context.environment
    said = options.url or options.supabase_url or options.publishable_key
    if options.config and said:
        raise SettingsError("--config says all that --url, --supabase-url and --publishable-key say: give it alone.")
    if config := options.config or (not said and environment.get("TRAINSHED_CONFIG")):
        return read_deployment(config)
    url = (options.url or environment.get("TRAINSHED_URL") or DEFAULT_URL).rstrip("/")
    supabase_url = (options.supabase_url or environment.get("SUPABASE_URL") or url).rstrip("/")
    check_address(url, "--url")
    check_address(supabase_url, "--supabase-url")
    return Deployment(url, supabase_url, options.publishable_key or environment.get("SUPABASE_PUBLISHABLE_KEY", ""))


def _asked(question: str, ask: Callable[[str], str]) -> str:
    if not sys.stdin.isatty():
        raise SettingsError("There is no terminal to ask at; give --email and --password-stdin.")
    try:
        return ask(question)
    except EOFError as error:
        raise SettingsError("Nobody answers; give --email and --password-stdin.") from error


def _show_login(answer: Any) -> list[str]:
    where = answer["url"] or f"{len(answer['urls'])} functions, each at its own address,"
    return [escape(f"Signed in at {where} as {answer['email']}.")]


def _logout(context: Context) -> Any:
    session = log_out(session_file(context.environment))
    return {"url": session.url or None, "email": session.email} if session else {"url": None, "email": None}


def _show_logout(answer: Any) -> list[str]:
    return [escape(f"Signed out {answer['email']}." if answer["email"] else "Nobody was signed in.")]


def _upload(context: Context) -> Any:
    options = context.options
    files = _files_of(options.files)
    if options.upload_id and len(files) > 1:
        raise SettingsError("--upload-id continues one upload; give one file.")
    if not options.session and not options.upload_id:
        raise SettingsError("Give --session, or --upload-id to continue an upload.")
    # So that an interrupted command can say how to continue.
    context.options.current = (files[0][0], options.upload_id)
    with context.client() as client:
        session_id = options.session or client.get_upload(options.upload_id)["sessionId"]
        options.session = session_id
        if options.upload_id is None:
            client.init_session(session_id)
        uploads = [_upload_one(context, client, session_id, path, name) for path, name in files]
        session = client.finalize_session(session_id) if options.finalize else None
    is_one = len(uploads) == 1 and not options.finalize and not options.files[0].is_dir()
    return uploads[0] if is_one else {"session_id": session_id, "uploads": uploads, "session": session}


def _files_of(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return the files with the names that they get, before a byte is sent.

    Raises:
        UploadError: A folder holds none, or two files would get one name.
    """
    found: list[tuple[Path, str]] = []
    for path in paths:
        if str(path) == "-":
            raise SettingsError("An upload needs its size before its first byte: write standard input to a file first.")
        if not path.is_dir():
            found.append((path, path.name))
            continue
        below = sorted(one for one in path.rglob("*") if one.is_file() and not _is_hidden(one.relative_to(path)))
        if not below:
            raise UploadError(f"{path} holds no files.")
        found += [(one, "_".join(one.relative_to(path).parts)) for one in below]
    twice = [name for name, times in Counter(name for _, name in found).items() if times > 1]
    if twice:
        raise UploadError(f"Two files would be called {twice[0]} in the session; upload them into two sessions.")
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _upload_one(context: Context, client: Client, session_id: str, path: Path, name: str) -> Upload:
    options = context.options
    options.current = (path, options.upload_id)

    def note(progress: Progress) -> None:
        options.current = (path, progress.upload_id)
        show(progress)

    with upload_bar(context.console, name) as show:
        return upload_file(
            client,
            session_id,
            path,
            upload_id=options.upload_id,
            file_name=name,
            content_type=options.content_type,
            on_progress=note,
        )


def _show_upload(answer: Any) -> list[str]:
    uploads = answer.get("uploads", [answer])
    lines = []
    for upload in uploads:
        rows = "" if upload.get("nRows") is None else f", rows: {upload['nRows']:,}"
        lines.append(
            f"{upload['fileName']} is stored: {upload['size']:,} bytes, chunks: {upload['totalChunks']:,}{rows}, "
            f"crc32c {upload.get('crc32c')}."
        )
    return [escape(line) for line in lines] + (_show_finalize(answer["session"]) if answer.get("session") else [])


def _abort(context: Context) -> Any:
    with context.client() as client:
        return client.abort_upload(context.options.upload)


def _show_abort(aborted: Any) -> list[str]:
    return [f"Upload {aborted['uploadId']} is aborted; {aborted['objectsDeleted']} objects are deleted."]


def _finalize(context: Context) -> Any:
    with context.client() as client:
        return client.finalize_session(context.options.session)


def _show_finalize(session: Any) -> list[str]:
    return [escape(f"Session {session['session_id']} is finalized with {session['n_dat']:,} rows.")]


def _sessions(context: Context) -> Any:
    with context.client() as client:
        if context.options.session:
            return client.get_session(context.options.session)
        return list(islice(client.sessions(search=context.options.search), context.options.limit))


def _show_sessions(answer: Any) -> list[RenderableType]:
    if not isinstance(answer, list):
        return [*session_tables(answer)]
    return [sessions_table(answer)] if answer else ["No sessions found. Begin one with: trainshed upload"]


def _delete(context: Context) -> Any:
    session_id = context.options.session
    with context.client() as client:
        session = client.get_session(session_id)
        if not context.options.yes:
            question = f"Delete {session_id} with {session['total_files']} files and all results? [y/N] "
            if not sys.stdin.isatty():
                raise SettingsError("There is no terminal to ask at; give --yes.")
            context.console.print(escape(question), end="")
            if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
                raise SettingsError("Nothing is deleted.")
        return client.delete_session(session_id)


def _show_delete(deleted: Any) -> list[str]:
    return [escape(f"Session {deleted['session_id']} is deleted, with {deleted['files_deleted']} objects.")]


def _train(context: Context) -> Any:
    options = context.options
    with context.client() as client:
        run = client.train(
            options.session,
            options.target,
            task=options.task,
            models=options.models,
            test_fraction=options.test_fraction,
            seed=options.seed,
            time_column=options.time_column,
            horizon=options.horizon,
            window=options.window,
        )
        return run if options.no_wait else wait_for_training(client, options.session, context.console)


def _show_train(run: Any) -> list[str]:
    lines = []
    for model in run["models"]:
        test = (model.get("metrics") or {}).get("test") or {}
        numbers = [f"{name} {value:.4g}" for name, value in test.items() if isinstance(value, int | float)]
        detail = f", {model['detail']}" if model.get("detail") else ""
        lines.append(f"{model['name']}: {'test ' + ', '.join(numbers) if numbers else model['status'] + detail}")
    return [escape(line) for line in lines]


def _cancel(context: Context) -> Any:
    with context.client() as client:
        return client.cancel_training(context.options.session)


def _models(context: Context) -> Any:
    with context.client() as client:
        return client.list_models(context.options.session)["models"]


def _show_models(models: Any) -> list[RenderableType]:
    return [*models_tables(models)] or ["This session has no models yet. Train some with: trainshed train"]


def _download(context: Context) -> Any:
    options = context.options
    downloaded = []
    with context.client() as client, _busy(context.console, "Downloading"):
        client.save_models(options.session)
        if options.archive:
            target = options.to / f"{options.session}.zip"
            _may_write(target, None, force=options.force)
            client.download_archive(options.session, target)
            return [{"model": None, "file": str(target), "size": target.stat().st_size}]
        models = client.list_models(options.session)["models"]
        if options.path is not None:
            models = [model for model in models if model["path"] == options.path]
        if options.best:
            models = [model for model in models if "best" in (model.get("aliases") or ())]
        # A session that was trained twice has two models of one name; then the run tells them apart.
        counts = Counter(model["name"] for model in models)
        names = {model["path"]: model["name"] if counts[model["name"]] == 1 else _file_name(model) for model in models}
        chosen = [(model, form, file) for model in models for form, file in _chosen_files(model, options.format)]
        targets = [options.to / f"{names[model['path']]}.{form}" for model, form, _ in chosen]
        # Before the first byte: nobody wants half of the models and an error.
        wanted = [_may_write(to, file, force=options.force) for to, (_, _, file) in zip(targets, chosen, strict=True)]
        for target, is_wanted, (model, form, file) in zip(targets, wanted, chosen, strict=True):
            if is_wanted:
                client.download_model(
                    options.session,
                    target,
                    path=model["path"],
                    framework=model["framework"],
                    file=file,
                    model_format=form,
                )
            downloaded.append({"model": model["path"], "file": str(target), "size": target.stat().st_size})
    if not downloaded:
        raise DownloadError(f"Session {options.session} has no such model to download; see: trainshed models")
    return downloaded


def _busy(console: Console, text: str) -> AbstractContextManager[object]:
    return console.status(text) if console.is_terminal else nullcontext()


def _may_write(target: Path, file: ModelFile | None, *, force: bool) -> bool:
    """Make the folder; say whether the file is still to be fetched, and is not there already.

    Raises:
        DownloadError: Another file is there, and nobody has said that it may be replaced; or no folder can be made.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"Cannot make the folder {target.parent}: {error.strerror}.") from error
    if not target.exists():
        return True
    if file is not None and _has_content(target, file["sha256"]):
        return False
    if not force:
        raise DownloadError(f"{target} is there already, and is another file. To replace it: --force")
    return True


def _has_content(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as there:
            return hashlib.file_digest(there, "sha256").hexdigest() == sha256
    except OSError as error:
        raise DownloadError(f"Cannot read {path}: {error.strerror}.") from error


def _file_name(model: Model) -> str:
    return model["path"].replace("/", "-")


def _chosen_files(model: Model, wanted: str | None) -> list[tuple[str, ModelFile | None]]:
    """Return formats with their files; without a file where the service makes it when it is asked for."""
    files = {file["format"]: file for file in model["formats"]}
    if wanted == "all":
        return [*files.items()]
    if wanted == "h5" and model["framework"] == "keras":
        return [("h5", files.get("h5"))]
    safe = [name for name, file in files.items() if not file["loads_code"]]
    names = [wanted] if wanted else [*(name for name in _PREFERRED if name in safe), *safe][:1]
    return [(name, files[name]) for name in names if name in files]


def _show_download(downloaded: Any) -> list[str]:
    return [escape(f"{file['file']}: {file['size']:,} bytes") for file in downloaded]


def _plot(context: Context) -> Any:
    options = context.options
    if options.to and not options.chart:
        raise SettingsError("--to writes a chart; say which with --chart.")
    with context.client() as client:
        if not options.chart:
            plotted = client.plot_variables(options.session, columns=options.column)
            charts = [] if options.column else client.visualizations(options.session)
            return {"files": plotted["files"], "charts": [chart["name"] for chart in charts], "column": options.column}
        if options.to:
            form = _PICTURES.get(options.to.suffix.lower())
            if form is None:
                raise SettingsError(f"--to writes {', '.join(_PICTURES)} files.")
            client.draw_chart(options.session, options.chart, options.to, picture_format=form, theme=options.theme)
            return {"chart": options.chart, "file": str(options.to)}
        charts = client.visualizations(options.session)
    found = next((chart for chart in charts if chart["name"] == options.chart), None)
    if found is None:
        known = ", ".join(chart["name"] for chart in charts) or "none"
        raise DownloadError(f"Session {options.session} has no chart {options.chart}; it has: {known}")
    return found


def _show_plot(answer: Any) -> list[RenderableType]:
    # In a pipe, as wide as a terminal mostly is.
    width = Console().width
    if "file" in answer:
        return [escape(f"{answer['file']} is written.")]
    if "files" not in answer:
        return [escape(str(answer.get("title") or answer["name"])), escape(draw_chart(answer, width))]
    shown: list[RenderableType] = []
    for file in answer["files"]:
        if answer["column"]:
            for column in file["columns"]:
                shown += [escape(f"{file['name']}: {column['name']}"), escape(draw_column(column, width))]
        else:
            shown.append(_columns_table(file))
    if not answer["files"]:
        shown.append("This session has no tables.")
    if answer["charts"]:
        shown.append(escape("Charts: " + ", ".join(answer["charts"])))
    return shown


def _columns_table(file: Any) -> Table:
    table = Table(title=escape(f"{file['name']}: {file['n_rows']:,} rows"), title_justify="left")
    table.add_column("column", overflow="fold")
    table.add_column("type", overflow="fold")
    for name in ("missing", "mean", "min", "max"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("how often", overflow="fold")
    for column in file["columns"]:
        numbers = (column.get("mean"), column.get("min"), column.get("max"))
        shown = ["" if number is None else f"{number:,.5g}" for number in numbers]
        counts = (column.get("histogram") or {}).get("count") or []
        table.add_row(escape(column["name"]), column["type"], f"{column['missing']:,}", *shown, sparkline(counts))
    return table


def _doctor(context: Context) -> Any:
    settings = settings_from(context.environment)
    checks = []
    with _busy(context.console, "Checking"):
        checks = [asdict(check) for check in run_checks(settings)]
    if any(check["is_ok"] is False for check in checks):
        raise ChecksFailedError(checks)
    return checks


def show_doctor(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line per check, and the way to mend what is wrong below it."""
    lines = []
    for one in (Check(**check) for check in checks):
        mark = {True: "[green]ok  [/green]", False: "[red]FAIL[/red]", None: "-   "}[one.is_ok]
        lines.append(f"{mark} {one.name:<10} {escape(one.found)}")
        if one.fix:
            lines.append(f"{'':16}-> {escape(one.fix)}")
    return lines


def _completion(context: Context) -> Any:
    from argcomplete.shell_integration import shellcode  # noqa: PLC0415 - every other command would wait for it

    return shellcode(["trainshed"], shell=context.options.shell)


def _show_completion(code: Any) -> list[str]:
    return [escape(code)]


COMMANDS: Mapping[str, Command] = {
    "login": Command(_login, _show_login),
    "logout": Command(_logout, _show_logout),
    "upload": Command(_upload, _show_upload),
    "abort": Command(_abort, _show_abort),
    "finalize": Command(_finalize, _show_finalize),
    "sessions": Command(_sessions, _show_sessions),
    "delete": Command(_delete, _show_delete),
    "train": Command(_train, _show_train),
    "cancel": Command(_cancel, _show_train),
    "models": Command(_models, _show_models),
    "download": Command(_download, _show_download),
    "plot": Command(_plot, _show_plot),
    "doctor": Command(_doctor, show_doctor),
    "completion": Command(_completion, _show_completion),
}


def advice(options: Namespace) -> str:
    """Say how to go on after Ctrl-C."""
    if options.command == "upload" and getattr(options, "current", None):
        path, upload_id = options.current
        words = ["trainshed", "upload", *map(str, options.files)]
        words += ["--session", options.session] if options.session else []
        words += (
            ["--upload-id", upload_id] if upload_id and len(options.files) == 1 and path == options.files[0] else []
        )
        return f"What is stored stays stored; continue with: {shlex.join(words)}"
    if options.command == "train":
        return f"Training goes on; see: {shlex.join(['trainshed', 'models', options.session])}"
    return ""
