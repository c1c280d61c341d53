"""The console as it is deployed: static files on one origin, Supabase on another, and each function on its own."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from container.app import load_manifest
from dev import chromium
from dev.console import PAGE
from dev.home import REPOSITORY
from tests.browser.tab import STEP_MS, Tab

pytestmark = pytest.mark.slow

FOLDER = "/console/"
README = REPOSITORY / "console/README.md"


class Host(ThreadingHTTPServer):
    """A file server with the page in a folder, and `config.json` beside it.

    Attributes:
        configuration: What that file holds.
        policy: What is sent as the policy of the page's content.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.configuration: Mapping[str, Any] = {}
        self.policy = ""

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.server_port}"


class Answer(SimpleHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != FOLDER + "config.json":
            super().do_GET()
            return
        content = json.dumps(self.server.configuration).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", self.server.policy)
        super().end_headers()

    def translate_path(self, path: str) -> str:
        inside = path.partition("?")[0].removeprefix(FOLDER)
        return str(PAGE / (inside or "index.html"))

    def log_message(self, *_: object) -> None:
        """The test says enough."""


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        yield host
        host.shutdown()
        thread.join()


def functions_of_users(port: int) -> dict[str, str]:
    """Return an address by function, as Terraform outputs them: each an origin, with nothing before it."""
    names = [name for name, entry in load_manifest().items() if str(entry["caller"]).startswith("user")]
    return {name: f"http://{name}.localhost:{port}" for name in names}


def port_of_functions(supervisor) -> int:
    words = Path(f"/proc/{supervisor.server('api')}/cmdline").read_bytes().decode().split("\0")
    return int(words[words.index("--port") + 1])


def documented_policy(places: Mapping[str, str]) -> str:
    """Return the policy that console/README.md tells people to send, with this deployment's places."""
    found = re.search(r"Content-Security-Policy: (.+?)\n```", README.read_text(), re.DOTALL)
    assert found
    policy = " ".join(found[1].split())
    for name, origins in places.items():
        assert name in policy
        policy = policy.replace(name, origins)
    return policy


def configure(host: Host, supervisor) -> tuple[dict[str, str], set[str]]:
    """Give a host what Terraform's output console_config holds without a front door, and the policy to send.

    Returns:
        The address of each function, and the origins of everything that is no function.
    """
    settings = supervisor.settings()
    supabase, storage = settings["SUPABASE_URL"], settings["STORAGE_PUBLIC_URL"]
    urls = functions_of_users(port_of_functions(supervisor))
    host.configuration = {
        "supabaseUrl": supabase,
        "supabasePublishableKey": settings["SUPABASE_PUBLISHABLE_KEY"],
        "urls": urls,
    }
    host.policy = documented_policy(
        {
            "<supabaseUrl>": supabase,
            "<baseUrl or each of urls>": " ".join(urls.values()),
            "https://storage.googleapis.com": storage,
        }
    )
    return urls, {host.origin, supabase, storage}


@pytest.fixture
def browser() -> Iterator[Browser]:
    program = chromium.find()
    if not program:
        pytest.fail(f"This test needs Chromium; {chromium.HOW_TO_GET}", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=chromium.ARGUMENTS)
        yield browser
        browser.close()


def signed_in(browser: Browser, host: Host, settings: Mapping[str, str], *, strict: bool) -> Tab:
    """Return a tab in which alice has just signed in."""
    page = browser.new_page()
    page.set_default_timeout(STEP_MS)
    env = {"TRAINSHED_URL": host.origin + FOLDER.rstrip("/"), "STORAGE_PUBLIC_URL": settings["STORAGE_PUBLIC_URL"]}
    tab = Tab(page, env, strict=strict)
    tab.go()
    expect(tab.heading("Sign in")).to_be_visible()
    expect(tab.page.get_by_text("local stack")).to_have_count(0)
    page.get_by_label("E-mail").fill(settings["ALICE_EMAIL"])
    page.get_by_label("Password").fill(settings["ALICE_PASSWORD"])
    tab.click("Sign in")
    expect(tab.heading("Sessions")).to_be_visible()
    return tab


def test_somebody_signs_in_uploads_and_lists_where_every_part_has_its_own_origin(supervisor, host, browser, tmp_path):
    assert supervisor.start(ALLOWED_ORIGINS=host.origin) is None, supervisor.lines
    urls, others = configure(host, supervisor)
    table = tmp_path / "line.csv"
    table.write_text("x,y\n" + "".join(f"{n},{3 * n}\n" for n in range(200)))
    tab = signed_in(browser, host, supervisor.settings(), strict=True)
    expect(tab.heading("No sessions yet")).to_be_visible()

    tab.go("new")
    tab.choose(table)
    tab.click("Upload 1 file")
    expect(tab.files_in()).to_have_text(re.compile(r"^line\.csv200"))
    tab.click("Complete the data set")
    expect(tab.heading("Train models")).to_be_visible()
    tab.go()
    expect(tab.page.locator("tbody tr")).to_have_text(re.compile("^lineReady to train200"))
    tab.click("Sign out")
    expect(tab.heading("Sign in")).to_be_visible()

    assert tab.said == []
    used = {"init-session", "create-upload", "sign-chunks", "get-upload", "assemble-upload", "get-session"}
    used |= {"finalize-session", "list-sessions"}
    assert {urls[name] for name in used} | others <= tab.origins
    assert tab.origins <= {*urls.values(), *others}


def test_functions_that_shut_out_the_page_are_named_with_the_header_that_is_missing(supervisor, host, browser):
    assert supervisor.start(ALLOWED_ORIGINS="https://somebody.example") is None, supervisor.lines
    urls, _ = configure(host, supervisor)

    tab = signed_in(browser, host, supervisor.settings(), strict=False)

    alert = tab.page.get_by_role("alert")
    expect(alert).to_contain_text(
        f"{urls['list-sessions']} does not send Access-Control-Allow-Origin for {host.origin}"
    )
    expect(alert).to_contain_text("ALLOWED_ORIGINS")
