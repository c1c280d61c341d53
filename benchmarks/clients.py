"""The clients against bare tools and their peers: `python -m benchmarks.clients [row...]`, with the stack running.

Rows: browser, link, uppy, tus, python. All of them without an argument.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from playwright.sync_api import Page, Playwright, sync_playwright

from benchmarks.measuring import MIB, Figure, hand_out_memory, median_of_pairs, running_stack, seconds, show, table_file
from benchmarks.uploads import Bench, put_all
from dev import chromium as chromium_program
from dev import npm
from dev.console import PAGE as PAGES
from shared.chunks import LEAST_CHUNK_BYTES
from tests.browser.tab import LONGEST_TASK_MS, Tab
from tests.local_stack import LocalStack, People
from trainshed.answers import NewUpload
from trainshed.upload import Progress, upload_file

FILE_BYTES = 512 * MIB
N_PAIRS = 3
# 1 Gbit/s: more than nearly everybody's way to a bucket.
LINK_BYTES_PER_S = 125_000_000
PAGE = "benchmark"
MODULES = npm.REPOSITORY / "client/dist"
PEERS = npm.REPOSITORY / "benchmarks/peers"
CHROMIUM_ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_DOCUMENT = '<!doctype html><input type="file"><script type="module" src="main.js"></script>'
_SCRIPT = """
import "./peers.js";
import { createClient } from "./client.js";
window.createClient = createClient;
"""
_BY_CLIENT = """async ([token, sessionId, fileName]) => {
  const client = createClient({ baseUrl: location.origin }, { getToken: () => token });
  const file = document.querySelector("input").files[0];
  const begun = performance.now();
  const task = client.uploads.start(file, { sessionId, fileName });
  let stored = null;
  task.on("state", (state) => { if (state === "assembling") stored ??= performance.now(); });
  await task.done;
  return (stored - begun) / 1000;
}"""
_BY_PEER = """async ([upload, ...options]) => {
  const begun = performance.now();
  await window[upload](document.querySelector("input").files[0], ...options);
  return (performance.now() - begun) / 1000;
}"""


class Benchmark:
    """A file of 512 MiB, and every way to send it; each returns how long it took until all bytes were stored [s]."""

    def __init__(self, bench: Bench, path: Path, folder: Path, playwright: Playwright, peers_url: str) -> None:
        self.stack = bench.stack
        self._bench = bench
        self._path = path
        self._folder = folder
        self._playwright = playwright
        self._peers_url = peers_url
        self._chunks: list[Path] = []
        # Of curl, so that it finds the bucket behind the link.
        self._way: list[str] = []
        self._page: Page

    @contextmanager
    def opened(self, *, link_bytes_per_s: int | None = None) -> Iterator[None]:
        """Open the page, with the bucket behind a link of this speed or beside it."""
        if link_bytes_per_s is None:
            with _page(self._playwright, self._bench.stack, self._path) as self._page:
                yield
            return
        bucket = urlsplit(self._bench.stack.env["STORAGE_PUBLIC_URL"])
        with _link(bucket.port or 80, link_bytes_per_s) as port:
            self._way = [f'connect-to = "{bucket.netloc}:127.0.0.1:{port}"']
            rule = f"--host-resolver-rules=MAP {bucket.netloc} 127.0.0.1:{port}"
            with _page(self._playwright, self._bench.stack, self._path, rule) as self._page:
                yield
            self._way = []

    def longest_task_ms(self) -> float:
        """Return the longest task of the page's thread while the client sends the file, in the thread's own time."""
        with Tab(self._page, self._bench.stack.env, strict=False).tracing() as tasks:
            self.by_client()
        return max(tasks)

    def by_client(self) -> float:
        session = self._bench.session()
        taken: float = self._page.evaluate(_BY_CLIENT, [self._bench.user.token, session, self._path.name])
        self._bench.delete(session)
        return taken

    def by_uppy(self) -> float:
        def send(created: NewUpload) -> float:
            signing = f"{self._bench.stack.env['TRAINSHED_URL']}/api/training/uploads/{created['uploadId']}/chunks"
            return self._by_uppy(created, None, {"url": signing, "token": self._bench.user.token})

        return self._with_signed_chunks(send)

    def by_uppy_with_signed_chunks(self) -> float:
        return self._with_signed_chunks(lambda created: self._by_uppy(created, created["chunks"], None))

    def by_bare_requests(self) -> float:
        def send(created: NewUpload) -> float:
            options = [created["chunkSize"], created["chunks"], created["concurrency"]]
            taken: float = self._page.evaluate(_BY_PEER, ["uploadBare", *options])
            return taken

        return self._with_signed_chunks(send)

    def _by_uppy(self, created: NewUpload, chunks: object, signing: object) -> float:
        options = [created["chunkSize"], f"{self._peers_url}/s3", chunks, signing]
        taken: float = self._page.evaluate(_BY_PEER, ["uploadByUppy", *options])
        return taken

    def by_tus_to_bucket(self) -> float:
        taken = self._by_tus("tus-bucket")
        self._bench.delete_below("tus-")
        return taken

    def by_tus_to_folder(self) -> float:
        taken = self._by_tus("tus-folder")
        for stored in (self._folder / "tus").iterdir():
            stored.unlink()
        return taken

    def _by_tus(self, store: str) -> float:
        taken: float = self._page.evaluate(_BY_PEER, ["uploadByTus", f"{self._peers_url}/{store}"])
        return taken

    def by_curl(self) -> float:
        return self._with_signed_chunks(self._curl)

    def by_python(self) -> float:
        session = self._bench.session()
        stored: list[float] = []

        def note(progress: Progress) -> None:
            if progress.phase == "assembling":
                stored.append(perf_counter())

        begun = perf_counter()
        upload_file(self._bench.client, session, self._path, on_progress=note)
        self._bench.delete(session)
        return stored[0] - begun

    def by_plain_puts(self) -> float:
        prefix = f"chunks/{uuid.uuid4()}/"
        taken = put_all(self._bench, self._path, prefix)
        self._bench.delete_below(prefix)
        return taken

    def _with_signed_chunks(self, send: Callable[[NewUpload], float]) -> float:
        session = self._bench.session()
        created = self._bench.client.create_upload(session, self._path.name, self._path.stat().st_size)
        if created["chunkSize"] != LEAST_CHUNK_BYTES or len(created["chunks"]) != created["totalChunks"]:
            sys.exit("The service cuts the file otherwise than this benchmark does.")
        taken = send(created)
        self._bench.delete(session)
        return taken

    def _curl(self, created: NewUpload) -> float:
        requests = self._folder / "curl.config"
        # curl sends whole files only.
        self._chunks = self._chunks or _cut(self._path, self._folder)
        requests.write_text(
            "\nnext\n".join(
                "\n".join(
                    [
                        f'url = "{signed["url"]}"',
                        f'upload-file = "{chunk}"',
                        *(f'header = "{name}: {value}"' for name, value in signed["headers"].items()),
                        'output = "/dev/null"',
                        # Each request begins without the options of the one before.
                        *self._way,
                        "fail",
                    ]
                )
                for signed, chunk in zip(created["chunks"], self._chunks, strict=True)
            )
        )
        options = ["--parallel", "--parallel-immediate", "--parallel-max", str(created["concurrency"])]
        command = ["curl", "--no-progress-meter", *options, "--config", str(requests)]
        return seconds(lambda: subprocess.run(command, check=True))


def browser(benchmark: Benchmark) -> list[Figure]:
    """The TypeScript client in Chromium; against curl, and the longest task of the page's thread meanwhile."""
    ours = "512 MiB through client/ in Chromium, until the bucket has it"
    bare = "bare requests of Chromium for signed URLs and nothing else"
    curl = "curl --parallel of signed URLs"
    figures = [
        _against(benchmark, ours, benchmark.by_client, curl, benchmark.by_curl, 0.7),
        # How much of the first is the browser's and how much the client's.
        _against(benchmark, bare, benchmark.by_bare_requests, curl, benchmark.by_curl, None),
        _against(benchmark, ours, benchmark.by_client, bare, benchmark.by_bare_requests, None),
    ]
    longest_ms = benchmark.longest_task_ms()
    what = "longest task of the page's thread meanwhile, in another run"
    return [
        *figures,
        Figure(what, f"{longest_ms:.0f} ms", "", "", f"{LONGEST_TASK_MS} ms", longest_ms <= LONGEST_TASK_MS),
    ]


def link(benchmark: Benchmark) -> list[Figure]:
    """The TypeScript client in Chromium against curl, both over a link as fast as users have one, not over loopback."""
    what = "512 MiB through client/ in Chromium over 1 Gbit/s, until the bucket has it"
    return [
        _against(benchmark, what, benchmark.by_client, "curl --parallel over the same link", benchmark.by_curl, 0.7)
    ]


def uppy(benchmark: Benchmark) -> list[Figure]:
    """The TypeScript client in Chromium; against Uppy's own uploader into the same bucket."""
    what = "512 MiB through client/ in Chromium"
    peer = "Uppy's aws-s3, the same chunks"
    return [
        _against(
            benchmark,
            what,
            benchmark.by_client,
            f"{peer}, each signed by the same function when Uppy asks",
            benchmark.by_uppy,
            1,
        ),
        # Nobody can sign a file's parts before it is chosen: what signing costs Uppy, nothing that has to be reached.
        _against(
            benchmark, what, benchmark.by_client, f"{peer}, signed before", benchmark.by_uppy_with_signed_chunks, None
        ),
    ]


def tus(benchmark: Benchmark) -> list[Figure]:
    """The TypeScript client in Chromium; against tus-js-client and tus-node-server, into the bucket and a folder."""
    what = "512 MiB through client/ in Chromium"
    to = "tus-js-client to tus-node-server"
    return [
        _against(benchmark, what, benchmark.by_client, f"{to}, into the bucket", benchmark.by_tus_to_bucket, 1),
        # No bucket, no second hop: what it is to be compared with, but nothing that has to be reached.
        _against(benchmark, what, benchmark.by_client, f"{to}, into a folder", benchmark.by_tus_to_folder, None),
    ]


def python(benchmark: Benchmark) -> list[Figure]:
    """The Python client; against the same chunks by PUT alone."""
    peer = "parallel PUT of the same chunks"
    what = "512 MiB by the Python client, until the bucket has it"
    return [_against(benchmark, what, benchmark.by_python, peer, benchmark.by_plain_puts, 0.85)]


def _against(
    benchmark: Benchmark,
    what: str,
    ours: Callable[[], float],
    peer: str,
    theirs: Callable[[], float],
    limit: float | None,
) -> Figure:
    def alike(measure: Callable[[], float]) -> Callable[[], float]:
        def measured() -> float:
            # For the chunks, and for what is made of them.
            hand_out_memory(benchmark.stack, 3 * FILE_BYTES)
            return measure()

        return measured

    ours_s, theirs_s, ratio = median_of_pairs(N_PAIRS, alike(ours), alike(theirs))
    size = FILE_BYTES / MIB
    measured, compared = f"{size / ours_s:.0f} MiB/s", f"{peer}: {size / theirs_s:.0f} MiB/s"
    result = f"{1 / ratio:.2f}"
    if limit is None:
        return Figure(what, measured, compared, result, "", reached=None)
    return Figure(what, measured, compared, result, f"{limit:.2f}", 1 / ratio >= limit)


ROWS: dict[str, Callable[[Benchmark], list[Figure]]] = {
    "browser": browser,
    "link": link,
    "uppy": uppy,
    "tus": tus,
    "python": python,
}


def main() -> None:
    """Measure the rows named as arguments, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", nargs="*", choices=[*ROWS, []])
    wanted = parser.parse_args().row or list(ROWS)
    stack = running_stack()
    _install_peers()
    with (
        People(stack) as people,
        tempfile.TemporaryDirectory(prefix="trainshed-bench-") as name,
        table_file(Path(name), FILE_BYTES) as (path, _),
        _peers_server(stack, Path(name) / "tus") as peers_url,
        sync_playwright() as playwright,
    ):
        benchmark = Benchmark(Bench(stack, people.add()), path, Path(name), playwright, peers_url)
        for row in wanted:
            with benchmark.opened(link_bytes_per_s=LINK_BYTES_PER_S if row == "link" else None):
                show(f"Clients: {row}", ROWS[row](benchmark))


def _install_peers() -> None:
    command, environment = npm.command()
    install = [*command, "ci", "--ignore-scripts", "--silent", "--no-fund", "--no-audit"]
    subprocess.run(install, cwd=PEERS, env=environment, check=True)


@contextmanager
def _peers_server(stack: LocalStack, folder: Path) -> Iterator[str]:
    """Run what the peers send to; yield its address. Its way to the bucket is the shortest: past the door."""
    _, environment = npm.command()
    # Node's library would leave the path of the JSON API out.
    environment = {name: value for name, value in environment.items() if name != "STORAGE_EMULATOR_HOST"}
    command = ["node", "server.js", str(folder), stack.env["UPLOADS_BUCKET"], stack.env["STORAGE_EMULATOR_HOST"]]
    server = subprocess.Popen(command, cwd=PEERS, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def _link(port: int, bytes_per_s: int) -> Iterator[int]:
    """Run a link to a port of this machine; yield its own."""
    command = [sys.executable, "-m", "benchmarks.link", str(port), str(bytes_per_s)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        yield int(server.stdout.readline())
    finally:
        server.terminate()
        server.wait()


@contextmanager
def _page(playwright: Playwright, stack: LocalStack, path: Path, *arguments: str) -> Iterator[Page]:
    """Open a page with the client, the peers and the file, on the stack's own origin: the bucket knows no other."""
    served = PAGES / PAGE
    shutil.copytree(MODULES, served, dirs_exist_ok=True)
    (served / "index.html").write_text(_DOCUMENT)
    (served / "main.js").write_text(_SCRIPT)
    bundle = ["exec", "--", "rolldown", "benchmarks/peers/page.js", "--file", str(served / "peers.js")]
    command, environment = npm.command()
    try:
        options = ["--format", "esm", "--platform", "browser", "--log-level", "silent"]
        subprocess.run(
            [*command, *bundle, *options], cwd=npm.REPOSITORY, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        options = [*CHROMIUM_ARGUMENTS, *arguments]
        chromium = playwright.chromium.launch(executable_path=chromium_program.find(), args=options)
        # The peers' server is no origin that the page's policy knows.
        page = chromium.new_page(bypass_csp=True)
        page.set_default_timeout(600_000)
        page.goto(f"{stack.env['TRAINSHED_URL']}/{PAGE}/index.html")
        page.wait_for_function("() => Boolean(window.createClient)")
        page.set_input_files("input", path)
        yield page
        chromium.close()
    finally:
        shutil.rmtree(served)


def _cut(path: Path, folder: Path) -> list[Path]:
    """Write the chunks as files."""
    chunks: list[Path] = []
    with path.open("rb") as file:
        while piece := file.read(LEAST_CHUNK_BYTES):
            chunks.append(folder / f"chunk-{len(chunks):05d}")
            chunks[-1].write_bytes(piece)
    return chunks


if __name__ == "__main__":
    main()
