"""What the client says of an origin that does not allow a page, in a real Chromium: only browsers withhold answers."""

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from playwright.sync_api import Page

from dev import npm
from tests.programs import run

SENT = ("x-goog-content-length-range", "x-goog-hash", "x-goog-if-generation-match")
BUCKET = """async ([url, headers]) => {
  const { bucketFault } = await import("/cors.js");
  return await bucketFault(fetch, url, "PUT", headers);
}"""
FUNCTIONS = """async ([url, headers]) => {
  const { functionsFault } = await import("/cors.js");
  return await functionsFault(fetch, url, headers);
}"""


class Elsewhere(BaseHTTPRequestHandler):
    """Refuses everything, and lets a page see it as far as `allowed` says.

    Attributes:
        asked: The addresses of all requests.
    """

    allowed: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def answer(self) -> None:
        self.asked.append(self.path)
        self.send_response(200 if self.command == "OPTIONS" else 403)
        # An answer from before somebody mended the rule says nothing about the rule.
        self.send_header("Cache-Control", "max-age=3600")
        for name, value in self.allowed.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_OPTIONS(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Modules(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    run("npm", "run", "--silent", "build", "-w", "client")
    yield from serve(partial(Modules, directory=str(npm.REPOSITORY / "client/dist")))


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    yield from serve(Elsewhere)


@pytest.fixture(scope="module")
def page(chromium, origin) -> Iterator[Page]:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{origin}/index.js")
    yield page
    context.close()


@pytest.fixture
def allow(origin, monkeypatch) -> Callable[..., None]:
    """Let the other origin allow this page all that is sent, but for what is named."""

    def allow(*, without: str = "") -> None:
        lists = {"Methods": ("GET", "PUT"), "Headers": (*SENT, "Authorization", "Content-Type")}
        headers = {
            f"Access-Control-Allow-{kind}": ", ".join(one for one in listed if one != without)
            for kind, listed in lists.items()
        }
        monkeypatch.setattr(
            Elsewhere, "allowed", {} if without == "origin" else headers | {"Access-Control-Allow-Origin": origin}
        )

    return allow


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("origin", "does not send Access-Control-Allow-Origin"),
        ("PUT", "does not list PUT in Access-Control-Allow-Methods"),
        *((header, f"does not list {header} in Access-Control-Allow-Headers") for header in SENT),
    ],
)
def test_what_a_bucket_lacks_is_named(page, origin, elsewhere, allow, missing, said):
    allow(without=missing)

    fault = page.evaluate(BUCKET, [f"{elsewhere}/chunks/u/0?X-Goog-Signature=s", SENT])

    assert fault.startswith(f"{elsewhere} {said} for {origin}: add it to the bucket's CORS rule")


def test_a_bucket_is_asked_without_the_signature(page, elsewhere, allow):
    allow(without="x-goog-hash")
    Elsewhere.asked.clear()

    assert page.evaluate(BUCKET, [f"{elsewhere}/chunks/u/0?X-Goog-Signature=s", SENT])

    assert set(Elsewhere.asked) == {"/chunks/u/0"}


def test_a_rule_that_is_mended_is_no_fault_any_more(page, elsewhere, allow):
    for fault, arguments in (
        (BUCKET, [f"{elsewhere}/chunks/u/1", SENT]),
        (FUNCTIONS, [f"{elsewhere}/init-session", ["Authorization"]]),
    ):
        allow(without="origin")
        assert page.evaluate(fault, arguments)
        allow()
        assert page.evaluate(fault, arguments) is None


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("origin", "does not send Access-Control-Allow-Origin"),
        ("Authorization", "does not list Authorization in Access-Control-Allow-Headers"),
        ("Content-Type", "does not list Content-Type in Access-Control-Allow-Headers"),
    ],
)
def test_what_functions_lack_is_named(page, origin, elsewhere, allow, missing, said):
    allow(without=missing)

    fault = page.evaluate(FUNCTIONS, [f"{elsewhere}/init-session", ["Authorization", "Content-Type"]])

    assert fault.startswith(f"{elsewhere} {said} for {origin}: ")


def test_who_allows_everything_or_does_not_answer_lacks_nothing(page, elsewhere, allow):
    allow()

    assert page.evaluate(BUCKET, [f"{elsewhere}/chunks/u/0", SENT]) is None
    assert page.evaluate(FUNCTIONS, [f"{elsewhere}/init-session", ["Authorization"]]) is None
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert page.evaluate(BUCKET, [f"http://127.0.0.1:{port}/chunks/u/0", SENT]) is None
