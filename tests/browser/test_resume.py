"""300 MiB, and everything that goes wrong on the way."""

import re
import shutil
from collections.abc import Callable
from contextlib import suppress

import pytest
from playwright.sync_api import Error, Route, expect

from tests.browser.tab import LONGEST_TASK_MS

ROWS = re.compile(r"^large\.csv[\d,]+315 MB")
# Of 38 chunks of 8 MiB.
LAST_CHUNK = re.compile(r"/0*37\?")
REFRESH = re.compile("/auth/v1/token.*refresh_token")
SERVICE = re.compile("/api/training/")
SOME_IN = re.compile(r"[1-9][\d.]* MB of 315 MB in")


@pytest.fixture
def session_id(session_of_alice) -> str:
    return session_of_alice()


def hold_last_chunk(tab) -> Callable[[], None]:
    """Let an upload not end, however slow this machine looks at it, until what is returned is called."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    tab.page.route(LAST_CHUNK, hold)

    def let_go() -> None:
        tab.page.unroute(LAST_CHUNK)
        for route in held:
            # Of a request that was given up meanwhile there is nothing to let go.
            with suppress(Error):
                route.continue_()

    return let_go


def begin(tab, session_id, large_file) -> Callable[[], None]:
    """Send the large file until some of it is in; return what lets it come to its end."""
    let_go = hold_last_chunk(tab)
    tab.slow_uploads(megabytes_per_second=40)
    tab.go_to_session(session_id)
    tab.choose(large_file)
    expect(tab.file("large.csv")).to_contain_text(SOME_IN)
    return let_go


def expect_in(tab) -> None:
    expect(tab.files_in()).to_have_text(ROWS)
    expect(tab.files_in()).to_have_count(1)


def is_put(request) -> bool:
    return request.method == "PUT"


def test_a_cut_network_is_waited_for(open_tab, session_id, large_file):
    tab = open_tab(strict=False)
    tab.go_to_session(session_id)
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()
    row = tab.file("large.csv")
    let_go = hold_last_chunk(tab)

    with tab.tracing() as tasks:
        tab.choose(large_file)
        expect(row).to_contain_text(SOME_IN)
        tab.page.context.set_offline(True)
        expect(row).to_contain_text("No network")
        tab.page.context.set_offline(False)
        let_go()
        expect_in(tab)

    # Hashing and sending happen elsewhere than where the page is drawn.
    assert max(tasks) <= LONGEST_TASK_MS


def test_a_closed_tab_is_continued_in_another(open_tab, session_id, large_file):
    first = open_tab(strict=False)
    begin(first, session_id, large_file)
    first.page.close()
    second = open_tab(beside=first, strict=False)
    puts = []
    second.page.on("request", lambda request: puts.append(request.url) if is_put(request) else None)
    second.go_to_session(session_id)
    unfinished = second.page.locator("[data-unfinished='large.csv']")
    expect(unfinished).to_contain_text(SOME_IN)

    second.choose(large_file)

    expect_in(second)
    expect(unfinished).to_have_count(0)
    assert 0 < len(puts) < 38


def test_first_rows_and_pace_are_shown_while_the_file_is_on_its_way(open_tab, session_id, large_file):
    tab = open_tab()
    let_go = begin(tab, session_id, large_file)
    row = tab.file("large.csv")

    first_rows = tab.page.get_by_role("region", name="First rows", exact=True)
    expect(first_rows.get_by_role("columnheader")).to_have_text(["ninteger", "xinteger", "yinteger"])
    expect(first_rows.locator("tbody tr").first).to_contain_text("000000000000")
    expect(row).to_contain_text(re.compile(r"\d [kMG]B/s · .+ left"))
    expect(row).to_have_attribute("data-state", "uploading")
    shown = int(row.get_by_role("progressbar").get_attribute("aria-valuenow"))
    assert 0 < shown < 100
    let_go()
    expect_in(tab)


def test_another_file_of_the_same_name_does_not_continue_it(open_tab, session_id, large_file, tmp_path):
    first = open_tab(strict=False)
    begin(first, session_id, large_file)
    first.page.close()
    other = tmp_path / "large.csv"
    content = bytearray(large_file.read_bytes())
    content[:: 1 << 20] = b"9" * len(content[:: 1 << 20])
    other.write_bytes(content)
    # Another browser, which remembers nothing of it.
    second = open_tab(strict=False)
    second.go_to_session(session_id)
    expect(second.page.locator("[data-unfinished='large.csv']")).to_be_visible()

    second.choose(other)

    expect(second.file("large.csv").get_by_role("alert")).to_contain_text("Choose the original file to continue")


@pytest.mark.parametrize("accident", ["changed", "deleted"])
def test_a_file_that_is_lost_while_it_is_sent_is_said_to_be_and_goes_on_when_it_is_back(
    open_tab, session_id, large_file, tmp_path, accident
):
    tab = open_tab(strict=False)
    lost = tmp_path / "large.csv"
    shutil.copyfile(large_file, lost)
    let_go = begin(tab, session_id, lost)
    row = tab.file("large.csv")

    if accident == "deleted":
        lost.unlink()
    else:
        with lost.open("r+b") as file:
            file.write(b"m")
    expect(row.get_by_role("alert")).to_contain_text("changed, moved or deleted while it was uploaded. Choose it again")
    let_go()
    tab.choose(large_file)

    expect_in(tab)
    expect(tab.page.get_by_role("alert")).to_have_count(0)


def test_expired_addresses_are_signed_again(open_tab, session_id, large_file):
    tab = open_tab(strict=False)
    expired = "<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>Invalid argument.</Message></Error>"
    refused, signed = [], []

    def expire(route):
        refused.append(route.request.url)
        headers = {"Access-Control-Allow-Origin": tab.url, "Content-Type": "application/xml"}
        route.fulfill(status=400, headers=headers, body=expired)

    # The first four of any method; a preflight that is refused is asked again as well.
    tab.page.route(re.compile(re.escape(tab.storage)), expire, times=4)
    tab.page.on("request", lambda request: signed.append(request.url) if request.url.endswith("/chunks") else None)
    tab.go_to_session(session_id)

    tab.choose(large_file)

    expect_in(tab)
    assert len(refused) == 4
    assert signed


def test_two_tabs_with_one_file_end_in_one_object(open_tab, session_id, large_file):
    first = open_tab(strict=False)
    second = open_tab(beside=first, strict=False)
    second.go_to_session(session_id)
    let_go = begin(first, session_id, large_file)

    second.choose(large_file)
    let_go()

    expect_in(first)
    expect_in(second)
    expect(second.page.get_by_role("alert")).to_have_count(0)


def test_an_expired_sign_in_is_renewed_in_mid_upload(open_tab, local_stack, session_id, large_file):
    tab = open_tab(strict=False)
    let_go = begin(tab, session_id, large_file)
    gone = {"code": "refresh_token_not_found", "message": "Invalid Refresh Token: Refresh Token Not Found"}
    tab.page.route(REFRESH, lambda route: route.fulfill(status=400, json=gone))
    problem = {"code": "unauthenticated", "detail": "The token has expired.", "status": 401, "retryable": False}
    tab.page.route(SERVICE, lambda route: route.fulfill(status=401, json=problem))
    # What the upload itself asks for next, addresses of the chunks that have none yet, is what has to wait.
    with tab.page.expect_response(lambda answer: answer.status == 401 and "/uploads/" in answer.url):
        let_go()
    dialog = tab.page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    tab.page.unroute(REFRESH)
    tab.page.unroute(SERVICE)

    dialog.get_by_label("E-mail").fill(local_stack.env["ALICE_EMAIL"])
    dialog.get_by_label("Password").fill(local_stack.env["ALICE_PASSWORD"])
    dialog.get_by_role("button", name="Sign in", exact=True).click()

    expect(dialog).to_have_count(0)
    expect_in(tab)
