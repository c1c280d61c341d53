import re

import pytest
from playwright.sync_api import expect

from dev.keys import User
from trainshed.client import Client
from trainshed.upload import upload_file

# A dash, as it is set between numbers.
NOT_COUNTED = "\u2013"


@pytest.fixture
def newcomer(people, local_stack):
    """A user without sessions, and the service as her programs see it."""
    caller = people.add()
    user = User("newcomer", caller.user_id, f"{caller.user_id}@test.example", "")
    with Client(local_stack.env["TRAINSHED_URL"], lambda: caller.token) as client:
        yield user, client


def rows(tab):
    return tab.page.locator("tbody tr")


def test_without_sessions_the_page_says_what_to_do(open_tab, newcomer):
    tab = open_tab(newcomer[0])
    tab.go()

    expect(tab.heading("No sessions yet")).to_be_visible()
    tab.page.get_by_role("link", name="New session").first.click()
    expect(tab.heading("Drop the files of your data set here")).to_be_visible()


def test_many_sessions_come_by_pages_and_are_searched_through(open_tab, newcomer):
    user, client = newcomer
    for n in range(55):
        client.init_session(f"run-{n:03d}", {"title": f"Boiler {n}"} if n % 2 else {})
    tab = open_tab(user)
    tab.go()
    expect(rows(tab)).to_have_count(50)
    expect(rows(tab).first).to_contain_text("run-054")

    asked = []
    tab.page.on("request", lambda request: asked.append(request.url) if "search=" in request.url else None)
    tab.page.get_by_role("searchbox").fill("boiler 1")
    expect(rows(tab)).to_have_count(6)
    tab.see("6 found")
    # Among them one of the oldest, which had not been loaded.
    expect(rows(tab).last).to_contain_text("run-001")
    assert len(asked) == 1
    tab.page.get_by_role("searchbox").fill("no such thing")
    expect(tab.heading("Nothing found")).to_be_visible()
    tab.page.get_by_role("searchbox").fill("")

    expect(rows(tab)).to_have_count(50)
    tab.click("Show older")
    expect(rows(tab)).to_have_count(55)
    tab.see("55 in all")


def test_each_session_is_listed_with_its_state_and_its_rows(open_tab, newcomer, small_file):
    user, client = newcomer
    client.init_session("one-empty")
    for name in ("two-uploading", "three-complete"):
        client.init_session(name)
        upload_file(client, name, small_file, content_type="text/csv")
    client.finalize_session("three-complete")
    tab = open_tab(user)
    tab.go()

    expect(rows(tab)).to_have_count(3)
    cells = [row.locator("td").all_inner_texts()[:3] for row in rows(tab).all()]
    assert cells == [
        ["three-complete", "Ready to train", "300"],
        ["two-uploading", "Uploading", NOT_COUNTED],
        ["one-empty", "Empty", NOT_COUNTED],
    ]


def test_each_state_of_a_session_has_its_word(open_tab, trained, alice):
    (session,) = alice.list_sessions(search=trained)["sessions"]
    tab = open_tab()
    tab.go()
    tab.page.get_by_role("searchbox").fill(trained)
    expect(rows(tab)).to_have_count(1)
    expect(rows(tab).locator("td").nth(1)).to_have_text("Trained")
    expect(rows(tab).locator(".state")).to_have_attribute("data-tone", "good")
    words = {
        "initialized": "Empty",
        "uploading": "Uploading",
        "finalized": "Ready to train",
        "training": "Training",
        "trained": "Trained",
        "failed": "Failed",
    }
    listed = [session | {"id": str(n), "session_id": status, "status": status} for n, status in enumerate(words)]
    for each in listed:
        each["metadata"] = {}
    answer = {"success": True, "data": {"sessions": listed, "next_page_token": ""}}
    tab.page.route(re.compile("/list-sessions"), lambda route: route.fulfill(json=answer))

    tab.page.get_by_role("searchbox").fill("")

    expect(rows(tab).locator("td.name")).to_have_text(list(words))
    expect(rows(tab).locator(".state")).to_have_text(list(words.values()))
    tones = [state.get_attribute("data-tone") for state in rows(tab).locator(".state").all()]
    assert tones == [None, "busy", None, "busy", "good", "bad"]


def test_a_session_of_somebody_else_is_said_not_to_be_there(open_tab, session_of_alice):
    session_id = session_of_alice(title="Only for alice")
    tab = open_tab("bob", strict=False)
    tab.go_to_session(session_id)

    expect(tab.heading("There is no such session.")).to_be_visible()
    tab.see("It may have been deleted, or it belongs to somebody else.")
    expect(tab.page.get_by_text("Only for alice")).to_have_count(0)
    expect(tab.page.get_by_role("link", name="To the sessions")).to_be_visible()


def test_a_call_that_is_forbidden_is_said_in_a_sentence(open_tab, session_of_alice):
    session_id = session_of_alice()
    tab = open_tab(strict=False)
    refused = {"code": "forbidden", "detail": "You may not see this.", "status": 403, "retryable": False}
    address = re.compile(f"/session/{session_id}$")
    tab.page.route(address, lambda route: route.fulfill(status=403, json=refused))
    tab.go_to_session(session_id)
    expect(tab.heading("You may not see this.")).to_be_visible()
    tab.see("Sign in as somebody who may, or ask whoever runs this deployment.")
    expect(tab.page.get_by_role("link", name="To the sessions")).to_be_visible()

    # That of something between the page and the service.
    tab.page.unroute(address)
    tab.page.route(address, lambda route: route.fulfill(status=403, body="<h1>Forbidden</h1>"))
    tab.page.reload()

    expect(tab.heading(f"{tab.url} answered 403 with something that is not Trainshed's.")).to_be_visible()
    tab.see("Something on the way refuses it")


def test_a_session_is_deleted_only_after_a_question(open_tab, session_of_alice, alice):
    session_id = session_of_alice(title="To be deleted")
    tab = open_tab()
    tab.go_to_session(session_id)
    dialog = tab.page.get_by_role("dialog", name="Delete this session?")

    tab.click("Delete")
    expect(dialog).to_contain_text("“To be deleted”")
    tab.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(tab.button("Delete")).to_be_focused()
    tab.click("Delete")
    tab.click("Delete session")

    expect(tab.heading("Sessions")).to_be_visible()
    tab.see("“To be deleted” is deleted.")
    assert session_id not in {session["session_id"] for session in alice.list_sessions()["sessions"]}
    alice.init_session(session_id)


def test_nothing_is_asked_of_a_session_that_is_being_deleted(open_tab, session_of_alice, alice):
    session_id = session_of_alice()
    tab = open_tab()
    tab.go_to_session(session_id)
    tab.click("Delete")
    under_way, asked = [], []

    def hold(route):
        under_way.append(route)

    tab.page.route("**/delete", hold)
    tab.page.on("request", lambda request: asked.append(request.url) if session_id in request.url else None)

    with tab.page.expect_request("**/delete"):
        tab.click("Delete session")
    # Longer than the page's pause between two looks at a session.
    tab.page.wait_for_timeout(6000)
    under_way[0].continue_()
    expect(tab.heading("Sessions")).to_be_visible()

    # A look at it may have been under way when the deletion began.
    calls = [url.rsplit("/", 1)[-1] for url in asked]
    assert calls[calls.index("delete") :] == ["delete"]
    alice.init_session(session_id)


def test_a_session_that_could_not_be_deleted_is_looked_at_again(open_tab, session_of_alice):
    session_id = session_of_alice()
    tab = open_tab(strict=False)
    tab.go_to_session(session_id)
    tab.click("Delete")
    refused = {"code": "invalid_request", "detail": "Not today.", "status": 400, "retryable": False}
    tab.page.route("**/delete", lambda route: route.fulfill(status=400, json=refused))

    with tab.page.expect_response(f"**/session/{session_id}"):
        tab.click("Delete session")

    expect(tab.page.get_by_role("alert")).to_contain_text("Not today.")


@pytest.mark.parametrize("address", ["nowhere", "sessions/%", "sessions/a/b/c", "sessions/a/nothing"])
def test_an_address_of_nothing_says_so(open_tab, address):
    tab = open_tab()
    tab.go(address)

    expect(tab.heading("There is no such page")).to_be_visible()


def test_a_server_that_does_not_answer_is_said_and_tried_again(open_tab, session_of_alice):
    session_of_alice(title="Still there")
    tab = open_tab(strict=False)
    broken = {"code": "internal_error", "detail": "Something is wrong.", "status": 500, "retryable": False}
    tab.page.route(re.compile("list-sessions"), lambda route: route.fulfill(status=500, json=broken))
    tab.go()
    expect(tab.page.get_by_role("alert")).to_contain_text("Something is wrong.")
    tab.page.unroute_all()

    tab.click("Try again")

    tab.see("Still there")
    expect(tab.page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize(
    ("address", "shown"), [("a%2Fb", "a/b"), ("..", ".."), ("%2E", "."), ("..%2Flist-sessions", "../list-sessions")]
)
def test_an_id_that_no_session_can_have_is_said_to_be_none(open_tab, address, shown):
    tab = open_tab()
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url) if "/api/" in request.url else None)
    tab.go(f"sessions/{address}")

    expect(tab.heading("There is no such session.")).to_be_visible()
    tab.see(f"asks for “{shown}”, and no session can have that id")
    assert asked == []
    tab.page.get_by_role("link", name="To the sessions").click()
    expect(tab.heading("Sessions")).to_be_visible()


@pytest.mark.parametrize("way", ["the button", "Escape"])
def test_a_question_that_is_dismissed_deletes_nothing(open_tab, session_of_alice, alice, way):
    session_id = session_of_alice()
    tab = open_tab()
    tab.go_to_session(session_id)
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url) if request.method != "GET" else None)
    tab.click("Delete")
    # A key that is pressed before is not the dialog's.
    expect(tab.page.get_by_role("dialog")).to_be_visible()

    if way == "Escape":
        tab.page.keyboard.press("Escape")
    else:
        tab.click("Keep it")
    expect(tab.page.get_by_role("dialog")).to_have_count(0)
    # What is asked of the service by then would have been asked.
    with tab.page.expect_response(f"**/session/{session_id}"):
        tab.page.get_by_role("link", name="Variables").click()

    assert asked == []
    assert alice.get_session(session_id)["session_id"] == session_id


def test_a_deletion_whose_answer_is_lost_is_said_to_be_done(open_tab, session_of_alice, alice):
    session_id = session_of_alice(title="To be deleted")
    tab = open_tab(strict=False)
    tab.go_to_session(session_id)
    lost = []

    def lose_the_first(route):
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().status)
        route.abort()

    tab.page.route("**/delete", lose_the_first)
    tab.click("Delete")
    tab.click("Delete session")

    tab.see("“To be deleted” is deleted.")
    expect(tab.heading("Sessions")).to_be_visible()
    assert lost == [200]
    alice.init_session(session_id)


def test_a_deletion_under_way_keeps_its_question(open_tab, session_of_alice):
    session_id = session_of_alice()
    tab = open_tab(strict=False)
    tab.go_to_session(session_id)
    tab.click("Delete")
    held = []

    def hold(route):
        held.append(route)

    tab.page.route("**/delete", hold)
    with tab.page.expect_request("**/delete"):
        tab.click("Delete session")

    tab.page.keyboard.press("Escape")
    refused = {"code": "invalid_request", "detail": "Not today.", "status": 400, "retryable": False}
    held[0].fulfill(status=400, json=refused)

    expect(tab.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("Not today.")


def test_a_session_that_is_deleted_elsewhere_is_said_to_be_gone(open_tab, session_of_alice, alice):
    session_id = session_of_alice(title="Short-lived")
    tab = open_tab(strict=False)
    tab.go_to_session(session_id)
    expect(tab.heading("Short-lived")).to_be_visible()

    alice.delete_session(session_id)

    expect(tab.heading("There is no such session.")).to_be_visible()
    tab.page.get_by_role("link", name="To the sessions").click()
    expect(tab.heading("Sessions")).to_be_visible()
    alice.init_session(session_id)


@pytest.mark.parametrize(("part", "is_seen_before"), [("data", True), ("training", True), ("training", False)], ids=str)
def test_a_page_is_followed_again_after_the_service_has_failed(open_tab, trained, alice, part, is_seen_before):
    """By itself: nobody presses a button at a page that they have left open."""
    tab = open_tab(strict=False)
    session, run = (
        alice.get_session(trained) | {"status": "training"},
        alice.get_training(trained) | {"status": "running"},
    )
    session["metadata"] = {"title": "Before"}
    run["models"][0] |= {"status": "training", "detail": "Before"}
    is_broken = []
    broken = {"code": "internal_error", "detail": "Something is wrong.", "status": 500, "retryable": False}

    def answer(value):
        def fulfil(route):
            if is_broken:
                route.fulfill(status=500, json=broken)
            else:
                route.fulfill(json={"success": True, "data": value})

        return fulfil

    tab.page.route(re.compile(f"/session/{trained}$"), answer(session))
    tab.page.route(re.compile(f"/train/{trained}$"), answer(run))
    if not is_seen_before:
        # The session itself is there.
        tab.go_to_session(trained)
        expect(tab.heading("Before")).to_be_visible()
        is_broken.append(True)
        tab.page.get_by_role("link", name="Training").click()
    else:
        tab.go_to_session(trained, part)
    place = tab.page.locator("h1" if part == "data" else ".model-run").filter
    shown = place(has_text="Before")
    if is_seen_before:
        expect(shown).to_be_visible()
        is_broken.append(True)
    expect(tab.page.get_by_role("alert")).to_contain_text("Something is wrong.")
    expect(shown).to_have_count(int(is_seen_before))
    session["metadata"]["title"] = run["models"][0]["detail"] = "Afterwards"
    is_broken.clear()

    expect(place(has_text="Afterwards")).to_be_visible()
    expect(tab.page.get_by_role("alert")).to_have_count(0)


def test_the_list_follows_what_becomes_of_a_session(open_tab, newcomer, small_file):
    user, client = newcomer
    client.init_session("line")
    upload_file(client, "line", small_file, content_type="text/csv")
    tab = open_tab(user)
    tab.go()
    expect(rows(tab)).to_contain_text(["Uploading"])

    client.finalize_session("line")

    expect(rows(tab)).to_contain_text(["Ready to train"])


def test_an_answer_to_an_older_search_is_dropped(open_tab, newcomer):
    user, client = newcomer
    for name in ("boiler", "pump"):
        client.init_session(name)
    tab = open_tab(user)
    tab.go()
    expect(rows(tab)).to_have_count(2)
    held = []

    def hold(route):
        held.append(route)

    tab.page.route(re.compile("search=boiler"), hold)
    with tab.page.expect_request(re.compile("search=boiler")):
        tab.page.get_by_role("searchbox").fill("boiler")
    tab.page.get_by_role("searchbox").fill("pump")
    expect(rows(tab)).to_have_text([re.compile("^pump")])

    with tab.page.expect_response(re.compile("search=boiler")):
        held[0].continue_()
    tab.page.get_by_role("searchbox").press("End")

    tab.see("1 found")
    expect(rows(tab)).to_have_text([re.compile("^pump")])
