import json
import re
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from dev.keys import User, user_by
from tests.browser.tab import LONGEST_TASK_MS
from trainshed.upload import upload_file


def start_upload(tab, *files: Path, name: str | None = None) -> None:
    """Choose files on the page of a new session, and send them."""
    tab.go("new")
    tab.choose(*files)
    if name:
        tab.page.get_by_label("Name of the session").fill(name)
    tab.click(re.compile("^Upload "))


def send_but_hold_assembly(tab, *files: Path) -> list[Route]:
    """Choose files, and return the request to assemble the first of them, which waits."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    tab.page.route(re.compile("/assemble$"), hold)
    with tab.page.expect_request(re.compile("/assemble$")):
        tab.choose(*files)
    return held


def id_in_address(tab) -> str:
    tab.page.wait_for_url(re.compile("#/sessions/"))
    return tab.page.url.rpartition("/")[2]


def test_a_new_session_by_choosing_files_shows_first_rows_and_counts(open_tab, session_of_alice, small_file, tmp_path):
    other = tmp_path / "other.tsv"
    other.write_text("name\tweight\n" + "Ann\t61.5\nBo\t\n" * 20)
    tab = open_tab()

    start_upload(tab, small_file, other, name="A line, and weights")
    session_of_alice(id_in_address(tab))

    expect(tab.heading("A line, and weights")).to_be_visible()
    expect(tab.files_in()).to_have_count(2)
    expect(tab.files_in().filter(has_text="line.csv")).to_contain_text("300")
    expect(tab.files_in().filter(has_text="other.tsv")).to_contain_text("40")
    first_rows = tab.page.get_by_role("region", name="First rows", exact=True)
    expect(first_rows.get_by_role("columnheader")).to_have_text(["xinteger", "yinteger", "kindtext"])
    expect(first_rows.locator("tbody tr").nth(1)).to_have_text("14b")
    tab.click("Complete the data set")
    expect(tab.heading("Train models")).to_be_visible()


def test_dropped_files_begin_a_session_wherever_they_are_dropped(open_tab, session_of_alice):
    tab = open_tab()
    tab.go()
    expect(tab.heading("Sessions")).to_be_visible()
    transfer = tab.page.evaluate_handle(
        "() => { const transfer = new DataTransfer();"
        " for (const name of ['.DS_Store', 'dropped.csv', 'Thumbs.db', 'desktop.ini'])"
        " transfer.items.add(new File(['a,b\\n1,2\\n'], name)); return transfer }"
    )

    tab.page.locator("main > div").first.dispatch_event("drop", {"dataTransfer": transfer})

    expect(tab.heading("New session")).to_be_visible()
    # What a system puts beside a person's files is left out.
    tab.click("Upload 1 file")
    session_of_alice(id_in_address(tab))
    expect(tab.files_in()).to_have_text(re.compile(r"^dropped\.csv18"))


def drag(tab, place, *paths):
    """Drop files and folders by the browser's own dragging, as they come from a desktop."""
    box = place.bounding_box()
    devtools = tab.page.context.new_cdp_session(tab.page)
    dragged = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        at = {"type": kind, "x": box["x"] + 5, "y": box["y"] + 5}
        devtools.send("Input.dispatchDragEvent", at | {"data": dragged})


@pytest.mark.parametrize(
    ("address", "heading"),
    [("", "Sessions"), ("new", "Drop the files of your data set here"), (None, "Drop the files of your data set here")],
    ids=["on the list", "in a new session", "in a session"],
)
def test_a_drop_of_no_file_of_a_person_leads_nowhere_and_says_why(
    open_tab, session_of_alice, small_file, tmp_path, address, heading
):
    (tmp_path / "empty/within").mkdir(parents=True)
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("Thumbs.db", ".DS_Store"):
        (notes / name).write_text("not the person's")
    (notes / "within").mkdir()
    (notes / "within/.DS_Store").write_text("not the person's")
    tab = open_tab()
    if address is None:
        tab.go_to_session(session_of_alice())
    else:
        tab.go(address)
    place = tab.heading(heading)
    expect(place).to_be_visible()
    before = tab.page.url
    alert = tab.page.get_by_role("alert")

    drag(tab, place, notes)
    expect(alert).to_contain_text("Nothing in it can be uploaded.")
    expect(alert).to_contain_text("It holds only files that the system keeps for itself (.DS_Store, Thumbs.db).")
    drag(tab, place, tmp_path / "empty")
    expect(alert).to_contain_text("It holds no files. Bring the files of your data set")
    assert tab.page.url == before
    expect(place).to_be_visible()

    drag(tab, place, notes, small_file)
    tab.see("line.csv")
    expect(alert).to_have_count(0)


@pytest.mark.parametrize("address", ["", "new"])
def test_what_the_browser_cannot_read_of_a_drop_is_named(open_tab, session_of_alice, small_file, tmp_path, address):
    session_of_alice()
    (tmp_path / "gone.csv").write_text("a,b\n1,2\n")
    tab = open_tab(
        script="const { webkitGetAsEntry: before } = DataTransferItem.prototype;"
        " DataTransferItem.prototype.webkitGetAsEntry = function () { const entry = before.call(this);"
        " const fail = (_, failed) => failed(new DOMException('It is gone.', 'NotFoundError'));"
        " if (entry.name === 'gone.csv') entry.file = fail;"
        " return entry }"
    )
    tab.go(address)
    place = tab.heading("Sessions" if address == "" else "Drop the files of your data set here")
    expect(place).to_be_visible()
    before = tab.page.url

    drag(tab, place, small_file, tmp_path / "gone.csv")

    alert = tab.page.get_by_role("alert")
    expect(alert).to_contain_text("Nothing in it can be uploaded.")
    expect(alert).to_contain_text("The browser cannot read “gone.csv”: It is gone.")
    assert tab.page.url == before


def test_why_nothing_of_a_drop_is_taken_is_in_view_from_the_end_of_the_list(open_tab, session_of_alice, tmp_path):
    (tmp_path / "empty").mkdir()
    for _ in range(8):
        session_of_alice()
    tab = open_tab()
    tab.page.set_viewport_size({"width": 1280, "height": 320})
    tab.go()
    last = tab.page.locator("tbody tr").last
    last.scroll_into_view_if_needed()
    expect(tab.heading("Sessions")).not_to_be_in_viewport()

    drag(tab, last, tmp_path / "empty")

    expect(tab.page.get_by_role("alert")).to_be_in_viewport(ratio=1)


def test_files_of_a_new_session_are_taken_once_and_left_out_again(open_tab, session_of_alice, small_file, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("a,b\n" + "1,2\n" * 40)
    tab = open_tab(strict=False)
    tab.go("new")
    tab.choose(small_file, other)
    tab.choose(small_file)
    expect(tab.heading("2 files")).to_be_visible()
    tab.click("Leave out other.csv")
    broken = {"code": "internal_error", "detail": "Something is wrong.", "status": 500, "retryable": False}
    tab.page.route("**/init-session", lambda route: route.fulfill(status=500, json=broken))

    tab.click("Upload 1 file")

    expect(tab.page.get_by_role("alert")).to_contain_text("Something is wrong.")
    tab.page.unroute_all()
    tab.click("Upload 1 file")
    session_of_alice(id_in_address(tab))
    expect(tab.files_in()).to_have_text([re.compile(r"^line\.csv300")])


def test_leaving_the_page_while_files_are_sent_is_asked_about(open_tab, session_of_alice, small_file):
    tab = open_tab()
    tab.go_to_session(session_of_alice())
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()
    held = send_but_hold_assembly(tab, small_file)
    leave = "dispatchEvent(new Event('beforeunload', { cancelable: true }))"

    assert tab.page.evaluate(leave) is False
    held[0].continue_()
    expect(tab.files_in()).to_have_count(1)
    expect(tab.page.locator("[data-file]")).to_have_count(0)
    assert tab.page.evaluate(leave) is True


def test_a_folder_is_dropped_with_all_that_is_in_it(open_tab, session_of_alice, tmp_path):
    folder = tmp_path / "readings"
    (folder / "2025/june").mkdir(parents=True)
    (folder / "a.csv").write_text("a,b\n1,2\n")
    (folder / "2025/june/b.csv").write_text("a,b\n3,4\n")
    (folder / "2025/.DS_Store").write_text("not the person's")
    single = tmp_path / "single.csv"
    single.write_text("a,b\n5,6\n")
    tab = open_tab()
    tab.go_to_session(session_of_alice())
    zone = tab.heading("Drop the files of your data set here")
    expect(zone).to_be_visible()

    drag(tab, zone, folder, single)

    names = tab.files_in().locator("td.name")
    expect(names).to_have_count(3)
    assert sorted(names.all_inner_texts()) == ["readings - 2025 - june - b.csv", "readings - a.csv", "single.csv"]


def test_all_uploads_are_paused_and_resumed_by_one_button(open_tab, session_of_alice, large_file, tmp_path):
    second = tmp_path / "second.csv"
    second.symlink_to(large_file)
    tab = open_tab()
    tab.slow_uploads(megabytes_per_second=10)
    tab.go_to_session(session_of_alice())
    tab.choose(large_file, second)
    rows = tab.page.locator("[data-file]")
    expect(tab.page.get_by_text(re.compile(r"^[1-9][\d.]* MB of 629 MB · [\d.]+ [kM]B/s · .+ left$"))).to_be_visible()

    tab.click("Pause all")
    for n in range(2):
        expect(rows.nth(n)).to_have_attribute("data-state", "paused")
    expect(tab.button("Pause all")).to_have_count(0)
    tab.click("Resume all")
    for n in range(2):
        expect(rows.nth(n)).to_have_attribute("data-state", re.compile("uploading|hashing"))
    expect(tab.button("Resume all")).to_have_count(0)

    tab.click("Cancel all")
    expect(rows).to_have_count(0)


def test_two_sessions_of_one_name_stay_apart(open_tab, session_of_alice, small_file):
    tab = open_tab()
    first = session_of_alice()

    start_upload(tab, small_file, name=first)
    second = session_of_alice(id_in_address(tab))

    assert second == f"{first}-2"
    expect(tab.files_in()).to_have_count(1)


def test_an_upload_is_paused_resumed_and_cancelled(open_tab, session_of_alice, large_file):
    tab = open_tab()
    session_id = session_of_alice()
    tab.slow_uploads(megabytes_per_second=10)
    tab.go_to_session(session_id)
    tab.choose(large_file)
    row = tab.file("large.csv")
    expect(row).to_contain_text(re.compile(r"[1-9][\d.]* MB of 315 MB in"))

    tab.click("Pause large.csv")
    expect(row).to_contain_text("Paused")
    tab.click("Resume large.csv")
    expect(row).to_have_attribute("data-state", re.compile("uploading|hashing"))
    # The line goes at once, the upload with the answer.
    with tab.page.expect_response(re.compile("/abort$")):
        tab.click("Cancel large.csv")

    expect(row).to_have_count(0)
    expect(tab.page.locator("[data-unfinished]")).to_have_count(0)
    tab.page.reload()
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()


def test_an_upload_is_drawn_as_being_put_together_until_it_is(open_tab, session_of_alice, small_file, tmp_path):
    """All bytes in is not yet in: nothing is said to be done, or to be so far, that is not known."""
    other = tmp_path / "other.csv"
    other.write_text("a,b\n" + "1,2\n" * 40)
    tab = open_tab()
    session_id = session_of_alice()
    tab.go_to_session(session_id)
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()
    held, released = [], []

    def hold(route):
        if released:
            route.continue_()
        else:
            held.append(route)

    tab.page.route(re.compile("/assemble$"), hold)

    tab.choose(small_file, other)

    row, bar = tab.file("line.csv"), tab.page.get_by_role("progressbar", name="line.csv")
    expect(row).to_have_attribute("data-state", "assembling")
    expect(tab.file("other.csv")).to_have_attribute("data-state", "assembling")
    expect(row).to_contain_text("Everything sent, putting it together")
    assert bar.get_attribute("aria-valuenow") is None
    # What moves says that it is worked on.
    assert bar.evaluate("bar => getComputedStyle(bar, '::after').animationName") == "slide"
    tab.see("0 of 2 files in")
    expect(tab.button("Cancel line.csv")).to_have_count(0)
    expect(tab.button("Complete the data set")).to_have_count(0)
    # Another tab sees it as well.
    beside = open_tab(beside=tab)
    beside.go_to_session(session_id)
    expect(beside.page.locator("[data-unfinished='line.csv']")).to_contain_text("of")

    # Somebody is at it already: asked again until it is done.
    busy = {"success": True, "data": {"state": "assembling"}}
    with tab.page.expect_request(re.compile("/assemble$")):
        held.pop(0).fulfill(status=202, headers={"Retry-After": "0"}, json=busy)
    expect(row).to_have_attribute("data-state", "assembling")
    expect(tab.file("other.csv")).to_have_attribute("data-state", "assembling")
    released.append(True)
    for route in held:
        route.continue_()

    expect(tab.files_in()).to_have_count(2)
    expect(tab.page.locator("[data-file]")).to_have_count(0)
    expect(tab.button("Complete the data set")).to_be_enabled()


def test_first_rows_are_those_of_the_table_that_is_chosen_and_go_with_it(
    open_tab, session_of_alice, small_file, tmp_path
):
    other = tmp_path / "other.tsv"
    other.write_text("name\tweight\n" + "Ann\t61.5\n" * 20)
    # Chromium says of itself that an answer was an error.
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()
    broken = {"code": "data_set_invalid", "detail": "Line 3 is broken.", "status": 422, "retryable": False}
    tab.page.route(re.compile("/assemble$"), lambda route: route.fulfill(status=422, json=broken))
    tab.choose(small_file, other)
    first_rows = tab.page.get_by_role("region", name="First rows", exact=True)
    file = first_rows.get_by_role("combobox", name="File")
    expect(file.get_by_role("option")).to_have_text(["line.csv", "other.tsv"])
    expect(first_rows.get_by_role("columnheader")).to_have_text(["xinteger", "yinteger", "kindtext"])

    file.select_option("other.tsv")

    expect(first_rows.get_by_role("columnheader")).to_have_text(["nametext", "weightnumber"])
    expect(first_rows.locator("tbody tr").first).to_have_text("Ann61.5")
    tab.click("Put other.tsv away")
    expect(first_rows.get_by_role("columnheader")).to_have_text(["xinteger", "yinteger", "kindtext"])
    expect(file).to_have_count(0)


def test_columns_of_what_another_tab_sends_are_shown_as_soon_as_they_are_known(open_tab, session_of_alice, small_file):
    session_id = session_of_alice()
    tab = open_tab()
    tab.go_to_session(session_id)
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()
    chunks, assemblies = [], []

    def hold_chunk(route):
        if route.request.method == "PUT":
            chunks.append(route)
        else:
            route.continue_()

    def hold_assembly(route):
        assemblies.append(route)

    tab.page.route(re.compile(re.escape(tab.storage)), hold_chunk)
    tab.page.route(re.compile("/assemble$"), hold_assembly)
    with tab.page.expect_request(lambda request: request.method == "PUT"):
        tab.choose(small_file)
    beside = open_tab(beside=tab)
    beside.go_to_session(session_id)
    expect(beside.page.locator("[data-unfinished='line.csv']")).to_contain_text("0 bytes of")
    columns = beside.page.get_by_role("region", name="Columns", exact=True)
    expect(columns).to_have_count(0)

    with tab.page.expect_request(re.compile("/assemble$")):
        chunks[0].continue_()

    expect(columns.get_by_role("heading")).to_have_text("Columns of line.csv")
    expect(columns.get_by_role("columnheader")).to_have_text(["xinteger", "yinteger", "kindtext"])
    expect(columns).to_contain_text("3 columns · UTF-8 · commas")
    assemblies[0].continue_()
    expect(tab.files_in()).to_have_count(1)


def test_the_place_to_drop_files_is_lit_while_they_are_dragged_over_it(open_tab, session_of_alice, small_file):
    tab = open_tab()
    tab.go_to_session(session_of_alice())
    zone = tab.page.locator(".drop")
    expect(zone).to_be_visible()
    box = zone.bounding_box()
    dark = zone.evaluate("zone => getComputedStyle(zone).backgroundColor")
    devtools = tab.page.context.new_cdp_session(tab.page)
    dragged = {"items": [], "files": [str(small_file)], "dragOperationsMask": 1}

    def drag(kind, x, y):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": dragged})

    def expect_lit(is_lit):
        expect(zone).to_have_attribute("data-over", str(is_lit).lower())

    for kind in ("dragEnter", "dragOver"):
        drag(kind, box["x"] + 5, box["y"] + 5)
    expect_lit(True)
    expect(zone).not_to_have_css("background-color", dark)
    # What stands in it is a part of it.
    heading = zone.get_by_role("heading").bounding_box()
    for _ in range(2):
        drag("dragOver", heading["x"] + 5, heading["y"] + 5)
    expect_lit(True)
    for _ in range(2):
        drag("dragOver", box["x"] + 5, box["y"] - 40)
    expect_lit(False)
    for kind in ("dragOver", "dragOver", "drop"):
        drag(kind, box["x"] + 5, box["y"] + 5)

    expect(tab.files_in()).to_have_count(1)
    expect_lit(False)


def test_how_far_an_assembly_is_shows_in_every_tab(open_tab, session_of_alice, alice, local_stack, small_file):
    session_id = session_of_alice()
    tab = open_tab()
    tab.go_to_session(session_id)
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()
    held = send_but_hold_assembly(tab, small_file)
    row = tab.file("line.csv")
    expect(row).to_have_attribute("data-state", "assembling")
    (upload,) = alice.get_session(session_id)["uploads"]
    lease = (user_by(name="alice").id, upload["uploadId"], str(uuid.uuid4()))
    # Another call is at it, and has read a quarter.
    local_stack.rows("select public.claim_assembly_v1(%s, %s, %s, 60)", *lease)
    local_stack.rows("select public.report_verified_v1(%s, %s, %s, %s)", *lease, upload["size"] // 4)
    held[0].continue_()
    tab.page.unroute_all()

    beside = open_tab(beside=tab)
    beside.go_to_session(session_id)
    for page, text in (
        (row, "Everything sent, checking it: "),
        (beside.page.locator("[data-unfinished]"), "checking it: "),
    ):
        expect(page).to_contain_text(text)
        expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    local_stack.rows("select public.release_assembly_v1(%s, %s, %s)", *lease)

    expect(tab.files_in()).to_have_count(1)
    expect(beside.files_in()).to_have_count(1)


def test_what_another_tab_is_putting_together_is_drawn_so_until_it_is_in(open_tab, session_of_alice, alice, small_file):
    session_id = session_of_alice()
    upload_file(alice, session_id, small_file, content_type="text/csv")
    whole = alice.get_session(session_id)
    upload = alice.get_upload(whole["uploads"][0]["uploadId"])
    under_way = whole | {"files": [], "total_files": 0, "uploads": [whole["uploads"][0] | {"state": "assembling"}]}
    tab = open_tab()
    answer = {"success": True, "data": under_way}
    tab.page.route(re.compile(f"/session/{session_id}$"), lambda route: route.fulfill(json=answer))
    progress = {"success": True, "data": upload | {"state": "assembling"}}
    tab.page.route(re.compile("/uploads/[0-9a-f-]+$"), lambda route: route.fulfill(json=progress))
    tab.go_to_session(session_id)

    row = tab.page.locator("[data-unfinished='line.csv']")
    expect(row).to_contain_text("Being put together")
    assert row.get_by_role("progressbar").get_attribute("aria-valuenow") is None
    expect(tab.button("Discard")).to_have_count(0)
    tab.page.unroute_all()

    expect(tab.files_in()).to_have_text(re.compile(r"^line\.csv300"))
    expect(row).to_have_count(0)


def test_an_empty_file_is_refused_and_the_others_go_in(open_tab, session_of_alice, small_file, tmp_path):
    empty = tmp_path / "empty.csv"
    empty.touch()
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())

    tab.choose(empty, small_file)

    expect(tab.files_in()).to_have_count(1)
    expect(tab.file("empty.csv").get_by_role("alert")).to_contain_text("empty")
    complete = tab.button("Complete the data set")
    tab.see("put away or discard what failed")
    expect(complete).to_be_disabled()
    tab.click("Put empty.csv away")
    expect(tab.file("empty.csv")).to_have_count(0)
    complete.click()
    expect(tab.heading("Train models")).to_be_visible()


def test_a_file_that_failed_is_discarded_after_a_reload_too(open_tab, session_of_alice, small_file, tmp_path):
    empty = tmp_path / "empty.csv"
    empty.touch()
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())
    tab.choose(empty, small_file)
    expect(tab.file("empty.csv").get_by_role("alert")).to_contain_text("empty")
    expect(tab.files_in()).to_have_count(1)
    tab.page.reload()
    left = tab.page.locator("[data-unfinished='empty.csv']")
    expect(left).to_contain_text("empty")
    expect(tab.button("Complete the data set")).to_be_disabled()

    tab.click("Discard")

    expect(left).to_have_count(0)
    tab.click("Complete the data set")
    expect(tab.heading("Train models")).to_be_visible()


def test_a_failed_file_is_over_when_a_mended_one_is_in(open_tab, session_of_alice, tmp_path):
    file = tmp_path / "table.csv"
    file.touch()
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())
    tab.choose(file)
    expect(tab.file("table.csv").get_by_role("alert")).to_contain_text("empty")
    file.write_text("a,b\n1,2\n")

    tab.choose(file)

    expect(tab.files_in()).to_have_count(1)
    expect(tab.page.locator("[data-unfinished]")).to_have_count(0)
    tab.click("Complete the data set")
    expect(tab.heading("Train models")).to_be_visible()


def test_a_file_over_the_limit_is_refused_before_a_byte_is_sent(open_tab, session_of_alice, small_file):
    huge = "Object.defineProperty(File.prototype, 'size', { get: () => 5 * 2 ** 40 + 1 })"
    tab = open_tab(script=huge)
    tab.go_to_session(session_of_alice())
    sent = []
    tab.page.on("request", lambda request: sent.append(request.url) if request.method in {"PUT", "POST"} else None)

    tab.choose(small_file)

    expect(tab.file("line.csv").get_by_role("alert")).to_contain_text("5 TiB")
    assert sent == []


def test_a_table_that_cannot_be_read_is_told_from_its_first_chunk(open_tab, session_of_alice, tmp_path):
    broken = tmp_path / "broken.csv"
    broken.write_text('a,b\n1,"never closed\n' + "2,3\n" * 50)
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())

    tab.choose(broken)

    expect(tab.page.get_by_role("alert").first).to_contain_text(re.compile("quot|line", re.IGNORECASE))


@pytest.mark.parametrize(
    "name",
    [
        "🚂 Züge.csv",
        "a'b\"c.csv",
        "100%2F%20.csv",
        "x" * 251 + ".csv",
        "🚂" * 251 + ".csv",
        "<img src=x onerror=alert(1)>.csv",
    ],
)
def test_names_of_files_come_back_as_they_were(open_tab, session_of_alice, name):
    tab = open_tab()
    tab.go_to_session(session_of_alice())

    tab.page.locator("[data-choose=files]").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}
    )

    expect(tab.files_in().locator("td").first).to_have_text(name)


def test_a_name_of_256_characters_is_refused_with_what_to_do(open_tab, session_of_alice):
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())
    name = "x" * 252 + ".csv"

    tab.page.locator("[data-choose=files]").set_input_files({"name": name, "mimeType": "text/csv", "buffer": b"a\n1\n"})

    expect(tab.file(name).get_by_role("alert")).to_contain_text(re.compile("1 to 255 characters.*Rename the file"))


def test_a_folder_of_two_thousand_files_does_not_stop_the_page(open_tab, session_of_alice, tmp_path):
    folder = tmp_path / "readings"
    for part in range(20):
        (folder / f"{part:02d}").mkdir(parents=True)
        for n in range(100):
            (folder / f"{part:02d}" / f"{n:03d}.csv").write_text(f"a,b\n{part},{n}\n")
    # What is cancelled on its way fails, which Chromium says of itself.
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()

    with tab.tracing() as tasks:
        tab.choose_folder(folder)
        # Fewer with each that is in.
        tab.see(re.compile(r"^and 1,\d\d\d more files$"))
        expect(tab.page.get_by_text(re.compile(r"^([3-9]\d|\d{3}) of 2,000 files in$"))).to_be_visible()
        tab.click("Cancel all")
        expect(tab.button("Cancel all")).to_have_count(0)

    expect(tab.files_in().first).to_contain_text("readings - 00 - 0")
    assert max(tasks) <= LONGEST_TASK_MS


def test_answers_that_pass_are_waited_for(open_tab, session_of_alice, small_file):
    """A 429 and a 503, each once, on the way to a function and on the way to the bucket."""
    tab = open_tab(strict=False)
    seen = {"429": 0, "503": 0}

    def refuse_first(status):
        def answer(route):
            # The bucket's preflight goes to it as it is.
            if seen[status] or route.request.method == "OPTIONS":
                route.continue_()
                return
            seen[status] += 1
            route.fulfill(
                status=int(status), headers={"Retry-After": "0", "Access-Control-Allow-Origin": tab.url}, body="busy"
            )

        return answer

    tab.go_to_session(session_of_alice())
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()
    tab.page.route(re.compile("/api/training/uploads$"), refuse_first("429"))
    tab.page.route(re.compile(re.escape(tab.storage)), refuse_first("503"))

    tab.choose(small_file)

    expect(tab.files_in()).to_have_count(1)
    assert seen == {"429": 1, "503": 1}


def test_a_bucket_that_shuts_out_the_page_is_said_with_the_header_that_is_missing(
    open_tab, session_of_alice, small_file
):
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())
    # Without any, Playwright would add the right one.
    others = {"Access-Control-Allow-Origin": "https://somebody.example"}

    def refuse(route):
        route.fulfill(status=200, headers=others, body="")

    tab.page.route(re.compile(re.escape(tab.storage)), refuse)

    tab.choose(small_file)

    alert = tab.file("line.csv").get_by_role("alert")
    expect(alert).to_contain_text(f"{tab.storage} does not send Access-Control-Allow-Origin for {tab.url}")
    # Chromium says it to developers, too.
    assert all("blocked by CORS policy" in text for text in tab.said), tab.said
    tab.said.clear()


def test_a_full_quota_is_said_with_what_to_do(open_tab, people, small_file):
    user = as_user(people.add(bytes_stored_limit=10))
    tab = open_tab(user, strict=False)

    start_upload(tab, small_file)

    row = tab.file("line.csv")
    expect(row.get_by_role("alert")).to_contain_text("Delete sessions that you no longer need")


def test_without_a_subscription_the_page_says_whom_to_ask(open_tab, people, small_file):
    tab = open_tab(as_user(people.add(is_subscribed=False)), strict=False)

    start_upload(tab, small_file)

    expect(tab.file("line.csv").get_by_role("alert")).to_contain_text("subscription")


def test_a_failed_upload_is_tried_again_by_its_button(open_tab, session_of_alice, small_file):
    tab = open_tab(strict=False)
    tab.go_to_session(session_of_alice())
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()
    problem = {"code": "data_set_invalid", "detail": "Line 3 is broken.", "status": 422, "retryable": False}
    tab.page.route(
        re.compile("/api/training/uploads$"),
        lambda route: route.fulfill(status=422, content_type="application/problem+json", body=json.dumps(problem)),
    )
    tab.choose(small_file)
    expect(tab.file("line.csv").get_by_role("alert")).to_contain_text("Line 3 is broken. Mend the file")
    tab.page.unroute_all()

    tab.click("Try line.csv again")

    expect(tab.files_in()).to_have_count(1)


def as_user(caller) -> User:
    return User("test", caller.user_id, f"{caller.user_id}@test.example", "")
