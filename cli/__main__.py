"""The `trainshed` command: `python -m cli`.

Exit codes: 0 done, 1 the service or the file says no, 2 wrong usage, 130 interrupted.
"""

import argparse
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from cli.answers import Model, ModelFile
from cli.client import Client
from cli.display import models_tables, sessions_table, upload_bar, wait_for_training
from cli.errors import DownloadError, FileChangedError, ServiceError, SettingsError, TrainshedError
from cli.settings import VARIABLES, client_from
from cli.upload import Progress, upload_file

# Of a file's formats, the first of these is the one to reload; .pkl is fetched only on request, it can run code.
_PREFERRED = ("keras", "skops", "h5")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    run: Callable[[Client, argparse.Namespace, Console], Any] = options.run
    try:
        with client_from(os.environ) as client:
            answer = run(client, options, errors)
    except SettingsError as error:
        errors.print(f"[red]{escape(str(error))}[/red]")
        return 2
    except TrainshedError as error:
        errors.print(f"[red]{escape(_sentence(error))}{escape(_way_out(error, options))}[/red]")
        return 1
    except KeyboardInterrupt:
        errors.print(escape(f"Interrupted. {_advice(options)}"))
        return 130
    if options.json:
        sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")
    else:
        options.show(answer, Console(highlight=False))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainshed",
        description="Upload data sets, train models on them, download the models.",
        epilog=VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str,
        text: str,
        run: Callable[[Client, argparse.Namespace, Console], Any],
        show: Callable[[Any, Console], None],
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--json", action="store_true", help="print the answer as JSON")
        made.set_defaults(command=name, run=run, show=show)
        return made

    upload = command("upload", "Upload a file into a session, or continue where it was left.", _upload, _show_upload)
    upload.add_argument("file", type=Path, metavar="FILE")
    upload.add_argument("--session", required=True, metavar="ID", help="created if there is none of this name")
    upload.add_argument("--upload-id", metavar="ID", help="continue this upload")
    upload.add_argument("--content-type", metavar="TYPE", help="media type of the file, for example text/csv")

    abort = command("abort", "Give an upload up and free its storage.", _abort, _show_abort)
    abort.add_argument("upload", metavar="UPLOAD")

    finalize = command("finalize", "Close a session to further uploads.", _finalize, _show_finalize)
    finalize.add_argument("session", metavar="SESSION")

    command("sessions", "List your sessions, newest first.", _sessions, _show_sessions)

    train = command("train", "Train models on a finalized session and show the progress.", _train, _show_train)
    train.add_argument("session", metavar="SESSION")
    train.add_argument("--target", required=True, metavar="COLUMN", help="what to predict")
    train.add_argument("--models", nargs="+", metavar="NAME", help="default: all that the service knows")
    train.add_argument("--test-fraction", type=float, metavar="F", help="part of the rows kept back (default 0.2)")
    train.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same models (default 42)")

    models = command("models", "List the models of a session.", _models, _show_models)
    models.add_argument("session", metavar="SESSION")

    download = command("download", "Download models of a session.", _download, _show_download)
    download.add_argument("session", metavar="SESSION")
    download.add_argument("--path", metavar="PATH", help="one model, as `models` lists it (default: all)")
    download.add_argument(
        "--format", metavar="FORMAT", help="keras, h5, skops, pkl, or all (default: keras or skops); a pkl can run code"
    )
    download.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    return parser


def _upload(client: Client, options: argparse.Namespace, console: Console) -> Any:
    path: Path = options.file

    def note(progress: Progress) -> None:
        # So that an interrupted command can say how to continue.
        options.upload_id = progress.upload_id
        show(progress)

    if options.upload_id is None:
        client.init_session(options.session)
    with upload_bar(console, path.name) as show:
        return upload_file(
            client,
            options.session,
            path,
            upload_id=options.upload_id,
            content_type=options.content_type,
            on_progress=note,
        )


def _show_upload(upload: Any, console: Console) -> None:
    rows = "" if upload.get("nRows") is None else f", rows: {upload['nRows']:,}"
    console.print(
        escape(
            f"{upload['fileName']} is stored: {upload['size']:,} bytes, chunks: {upload['totalChunks']:,}{rows}, "
            f"crc32c {upload.get('crc32c')}."
        ),
        soft_wrap=True,
    )


def _abort(client: Client, options: argparse.Namespace, _: Console) -> Any:
    return client.abort_upload(options.upload)


def _show_abort(aborted: Any, console: Console) -> None:
    console.print(f"Upload {aborted['uploadId']} is aborted; {aborted['objectsDeleted']} objects are deleted.")


def _finalize(client: Client, options: argparse.Namespace, _: Console) -> Any:
    return client.finalize_session(options.session)


def _show_finalize(session: Any, console: Console) -> None:
    console.print(escape(f"Session {session['session_id']} is finalized with {session['n_dat']:,} rows."))


def _sessions(client: Client, _: argparse.Namespace, __: Console) -> Any:
    return list(client.sessions())


def _show_sessions(sessions: Any, console: Console) -> None:
    console.print(sessions_table(sessions))


def _train(client: Client, options: argparse.Namespace, console: Console) -> Any:
    client.train(
        options.session,
        options.target,
        models=options.models,
        test_fraction=options.test_fraction,
        seed=options.seed,
    )
    return wait_for_training(client, options.session, console)


def _show_train(run: Any, console: Console) -> None:
    for model in run["models"]:
        test = (model.get("metrics") or {}).get("test")
        failure = f"{model['status']}, {model.get('detail')}"
        outcome = f"test RMSE {test['rmse']:.4g}, R² {test['r2']:.4g}" if test else failure
        console.print(escape(f"{model['name']}: {outcome}"), soft_wrap=True)


def _models(client: Client, options: argparse.Namespace, _: Console) -> Any:
    return client.list_models(options.session)["models"]


def _show_models(models: Any, console: Console) -> None:
    for table in models_tables(models):
        console.print(table)
    if not models:
        console.print("This session has no models yet.")


def _download(client: Client, options: argparse.Namespace, console: Console) -> Any:
    client.save_models(options.session)
    models = client.list_models(options.session)["models"]
    if options.path is not None:
        models = [model for model in models if model["path"] == options.path]
    # A session that was trained twice has two models of one name; then the run tells them apart.
    counts = Counter(model["name"] for model in models)
    names = {model["path"]: model["name"] if counts[model["name"]] == 1 else _file_name(model) for model in models}
    downloaded = []
    with console.status("Downloading"):
        options.to.mkdir(parents=True, exist_ok=True)
        for model in models:
            for file in _chosen_files(model, options.format):
                target = options.to / f"{names[model['path']]}.{file['format']}"
                client.download_model(
                    options.session, target, path=model["path"], framework=model["framework"], file=file
                )
                downloaded.append({"model": model["path"], "file": str(target), "size": file["size"]})
    if not downloaded:
        raise DownloadError(f"Session {options.session} has no such model to download; see `models`.")
    return downloaded


def _file_name(model: Model) -> str:
    return model["path"].replace("/", "-")


def _chosen_files(model: Model, wanted: str | None) -> list[ModelFile]:
    files = {file["format"]: file for file in model["formats"]}
    if wanted == "all":
        return list(files.values())
    names = [wanted] if wanted else [name for name in _PREFERRED if name in files][:1]
    return [files[name] for name in names if name in files]


def _show_download(downloaded: Any, console: Console) -> None:
    for file in downloaded:
        console.print(escape(f"{file['file']}: {file['size']:,} bytes"), soft_wrap=True)


def _sentence(error: TrainshedError) -> str:
    if not isinstance(error, ServiceError):
        return str(error)
    request = f" (request {error.request_id})" if error.request_id else ""
    return f"{error.detail}{request}"


def _way_out(error: TrainshedError, options: argparse.Namespace) -> str:
    """Say what to do about an error, where there is one thing to do."""
    if isinstance(error, ServiceError) and error.code == "unauthenticated":
        return " Set TRAINSHED_TOKEN, or sign in; see --help."
    in_the_way = getattr(options, "upload_id", None) if isinstance(error, FileChangedError) else None
    if isinstance(error, ServiceError) and error.code == "file_exists":
        in_the_way = error.details.get("uploadId")
    return f" To give that upload up: python -m cli abort {in_the_way}" if in_the_way else ""


def _advice(options: argparse.Namespace) -> str:
    """Say how to go on after Ctrl-C."""
    if options.command == "upload":
        words = ["python", "-m", "cli", "upload", str(options.file), "--session", options.session]
        words += ["--upload-id", options.upload_id] if options.upload_id else []
        return f"What is stored stays stored; continue with: {shlex.join(words)}"
    if options.command == "train":
        return f"Training goes on; see: {shlex.join(['python', '-m', 'cli', 'models', options.session])}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
