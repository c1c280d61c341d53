"""The example page of the Uppy plugin, as the local stack serves it."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.programs import run

# The second of two chunks, or of four.
HELD = 1
# Golden Retriever keeps files up to 10 MiB.
KEPT_BYTES = 9 << 20
LARGE_BYTES = 28 << 20


@pytest.fixture(scope="module", autouse=True)
def built():
    run("npm", "run", "--silent", "build", "-w", "client", "-w", "client/uppy")
    run("npm", "run", "--silent", "example", "-w", "client/uppy")


@pytest.fixture
def new_file(tmp_path) -> Callable[[int], Path]:
    """Make a table of a size in which every chunk differs."""

    def make(size: int) -> Path:
        path = tmp_path / "readings.csv"
        rows = b"n,x\n" + b"".join(b"%012d,%014d\n" % (n, n * 7919) for n in range(size // 28))
        path.write_bytes(rows[:size])
        return path

    return make


def open_example(tab, session_id: str) -> None:
    tab.page.goto(f"{tab.url}/examples/uppy/?session={session_id}")
    expect(dashboard(tab.page)).to_be_visible()


def dashboard(page: Page) -> Locator:
    return page.get_by_role("button", name="browse files").first


def choose(page: Page, path: Path) -> None:
    page.locator("input.uppy-Dashboard-input[type=file]:not([webkitdirectory])").first.set_input_files(str(path))


def upload_button(page: Page) -> Locator:
    return page.locator(".uppy-StatusBar-actionBtn--upload")


def begin(tab, client, session_id: str, path: Path) -> None:
    """Send a file until the bucket has every chunk but one, which stays under way."""
    open_example(tab, session_id)
    tab.page.route(re.compile(re.escape(tab.storage) + rf".*/0*{HELD}\?"), lambda _: None)
    choose(tab.page, path)
    upload_button(tab.page).click()
    wait_for_all_but_the_held(client, session_id)


def expect_complete(page: Page) -> None:
    expect(page.locator(".uppy-StatusBar.is-complete")).to_be_visible()


def upload_of(client, session_id: str) -> dict:
    """Wait until a session has an upload, and return what the bucket holds of it."""
    while not (uploads := client.get_session(session_id)["uploads"]):
        time.sleep(0.2)
    return client.get_upload(uploads[0]["uploadId"])


def wait_for_all_but_the_held(client, session_id: str) -> None:
    while upload_of(client, session_id)["missing"] != [HELD]:
        time.sleep(0.2)


def chunks_sent(page: Page) -> list[int]:
    """Return a list that gets the index of each chunk that is sent from now on."""
    sent: list[int] = []

    def note(request) -> None:
        if request.method == "PUT":
            sent.append(int(urlsplit(request.url).path.rpartition("/")[2]))

    page.on("request", note)
    return sent


def test_the_dashboard_uploads_pauses_and_resumes(open_tab, alice, session_of_alice, new_file):
    tab = open_tab(None)
    session_id, path = session_of_alice(), new_file(LARGE_BYTES)

    begin(tab, alice, session_id, path)
    tab.page.get_by_role("button", name="Pause", exact=True).click()
    expect(tab.page.locator(".uppy-StatusBar")).to_contain_text("Paused")
    tab.page.unroute_all()
    sent = chunks_sent(tab.page)
    tab.page.get_by_role("button", name="Resume", exact=True).click()

    expect_complete(tab.page)
    upload = upload_of(alice, session_id)
    assert (upload["state"], upload["fileName"], upload["size"]) == ("assembled", path.name, path.stat().st_size)
    assert sent == [HELD]


def test_a_failed_upload_is_retried_and_goes_on_where_it_was(open_tab, alice, session_of_alice, new_file):
    tab = open_tab(None, strict=False)
    session_id, path = session_of_alice(), new_file(LARGE_BYTES)
    refusal = "<?xml version='1.0'?><Error><Code>InvalidArgument</Code></Error>"

    def refuse(route) -> None:
        wait_for_all_but_the_held(alice, session_id)
        headers = {"Access-Control-Allow-Origin": tab.url, "Content-Type": "application/xml"}
        route.fulfill(status=400, headers=headers, body=refusal)

    open_example(tab, session_id)
    tab.page.route(re.compile(re.escape(tab.storage) + rf".*/0*{HELD}\?"), refuse)
    choose(tab.page, path)
    upload_button(tab.page).click()
    expect(tab.page.locator(".uppy-StatusBar")).to_contain_text("Upload failed")
    tab.page.unroute_all()
    # Uppy's word for it, which is what it should be.
    (told,) = tab.said
    assert f"The bucket refuses chunk {HELD}" in told
    tab.said.clear()
    sent = chunks_sent(tab.page)

    tab.page.get_by_role("button", name="Retry upload").first.click()

    expect_complete(tab.page)
    assert sent == [HELD]
    assert upload_of(alice, session_id)["state"] == "assembled"


def test_after_a_reload_golden_retriever_sends_what_is_missing(open_tab, alice, session_of_alice, new_file):
    tab = open_tab(None, strict=False)
    session_id, path = session_of_alice(), new_file(KEPT_BYTES)
    begin(tab, alice, session_id, path)

    tab.page.reload()
    tab.page.unroute_all()
    expect(tab.page.get_by_text("Session restored")).to_be_visible()
    sent = chunks_sent(tab.page)
    upload_button(tab.page).click()

    expect_complete(tab.page)
    upload = upload_of(alice, session_id)
    assert (upload["state"], upload["size"]) == ("assembled", path.stat().st_size)
    assert sent == [HELD]


def test_after_a_reload_a_file_that_golden_retriever_cannot_keep_is_chosen_again(
    open_tab, alice, session_of_alice, new_file
):
    tab = open_tab(None, strict=False)
    session_id, path = session_of_alice(), new_file(LARGE_BYTES)
    begin(tab, alice, session_id, path)

    tab.page.reload()
    tab.page.unroute_all()
    expect(tab.page.get_by_text("Session restored")).to_be_visible()
    # Without its bytes there is nothing to send.
    expect(upload_button(tab.page)).to_be_disabled()
    sent = chunks_sent(tab.page)
    tab.page.get_by_role("button", name="Re-select").click()
    choose(tab.page, path)
    expect(upload_button(tab.page)).to_be_enabled()
    upload_button(tab.page).click()

    expect_complete(tab.page)
    upload = upload_of(alice, session_id)
    assert (upload["state"], upload["size"]) == ("assembled", path.stat().st_size)
    assert sent == [HELD]
