import re

import pytest
from playwright.sync_api import expect

WRONG = "E-mail and password do not belong together. Try again."


def sign_in(tab, email, password):
    tab.page.get_by_label("E-mail").fill(email)
    tab.page.get_by_label("Password").fill(password)
    tab.page.get_by_role("button", name="Sign in", exact=True).click()


def test_signing_in_and_out(open_tab, local_stack):
    tab = open_tab(None)
    tab.go()

    sign_in(tab, local_stack.env["ALICE_EMAIL"], local_stack.env["ALICE_PASSWORD"])
    expect(tab.heading("Sessions")).to_be_visible()
    tab.page.reload()
    expect(tab.heading("Sessions")).to_be_visible()
    tab.click("Sign out")

    expect(tab.heading("Sign in")).to_be_visible()
    tab.page.reload()
    expect(tab.heading("Sign in")).to_be_visible()


@pytest.mark.parametrize(
    ("email", "password"), [("alice@example.com", "wrong"), ("eve@example.com", "alice-trains-models")]
)
def test_a_wrong_password_is_refused_with_a_sentence(open_tab, email, password):
    tab = open_tab(None, strict=False)
    tab.go()

    sign_in(tab, email, password)

    expect(tab.page.get_by_role("alert")).to_have_text(WRONG)
    expect(tab.page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")


def test_the_local_stack_shows_its_users_and_signs_one_in_by_a_click(open_tab, local_stack):
    tab = open_tab(None)
    tab.go()

    tab.click(re.compile(re.escape(local_stack.env["BOB_EMAIL"])))

    expect(tab.page.locator(".who")).to_have_text(local_stack.env["BOB_EMAIL"])


def test_whoever_is_not_signed_in_comes_back_to_the_page_that_was_asked_for(open_tab, local_stack):
    tab = open_tab(None)
    tab.go("new")

    sign_in(tab, local_stack.env["ALICE_EMAIL"], local_stack.env["ALICE_PASSWORD"])

    expect(tab.heading("New session")).to_be_visible()


def test_sessions_of_one_user_do_not_exist_for_another(open_tab, session_of_alice):
    session_id = session_of_alice(title="Of alice alone")
    bob = open_tab("bob", strict=False)

    bob.go()
    expect(bob.heading("Sessions")).to_be_visible()
    expect(bob.page.get_by_label("Loading the sessions")).to_have_count(0)
    expect(bob.page.get_by_text("Of alice alone")).to_have_count(0)
    bob.go_to_session(session_id)

    expect(bob.heading("There is no such session.")).to_be_visible()


def test_the_sign_in_page_needs_little_javascript(open_tab):
    """At most 120 KiB, compressed, before it can be used."""
    tab = open_tab(None)
    sizes = {}
    tab.page.on(
        "requestfinished",
        lambda request: (
            sizes.__setitem__(request.url, request.sizes()["responseBodySize"])
            if request.resource_type == "script"
            else None
        ),
    )
    tab.go()
    expect(tab.heading("Sign in")).to_be_visible()
    tab.page.wait_for_load_state("networkidle")

    assert len(sizes) >= 2
    assert 10 << 10 < sum(sizes.values()) <= 120 << 10


def test_the_theme_is_chosen_and_remembered(open_tab):
    tab = open_tab()
    tab.go()
    background = "getComputedStyle(document.documentElement).backgroundColor"
    expect(tab.heading("Sessions")).to_be_visible()
    light = tab.page.evaluate(background)

    tab.click(re.compile("Theme: as the system"))
    tab.click(re.compile("Theme: light"))
    expect(tab.button(re.compile("Theme: dark"))).to_be_visible()
    tab.page.reload()
    expect(tab.button(re.compile("Theme: dark"))).to_be_visible()

    assert tab.page.evaluate(background) != light


def test_a_deployment_without_configuration_says_what_is_missing(open_tab):
    tab = open_tab(None, strict=False)
    tab.page.route("**/config.json", lambda route: route.fulfill(json={"supabaseUrl": "https://example.com"}))
    tab.go()

    expect(tab.page.get_by_role("alert")).to_have_text("config.json lacks supabasePublishableKey.")


def test_a_policy_forbids_foreign_code_and_foreign_places(open_tab):
    tab = open_tab(None)
    with tab.page.expect_response(tab.url + "/") as answer:
        tab.go()
    policy = dict(part.strip().split(" ", 1) for part in answer.value.headers["content-security-policy"].split(";"))

    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == "'self'"
    # Checksums are computed by WebAssembly, which is no way to run foreign code.
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["connect-src"].split() == ["'self'", tab.storage]


def test_signing_out_in_one_tab_asks_in_the_other_until_it_is_answered(open_tab, local_stack):
    first = open_tab(None)
    first.go()
    sign_in(first, local_stack.env["ALICE_EMAIL"], local_stack.env["ALICE_PASSWORD"])
    expect(first.heading("Sessions")).to_be_visible()
    second = open_tab(beside=first)
    second.go("new")
    expect(second.heading("New session")).to_be_visible()

    first.click("Sign out")

    dialog = second.page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    # Chromium closes a dialog at the second one, whatever the page says to the first.
    for _ in range(3):
        second.page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Sign out instead").click()
    expect(second.heading("Sign in")).to_be_visible()


def test_a_sign_in_service_that_does_not_answer_is_said(open_tab, local_stack):
    tab = open_tab(None, strict=False)
    tab.page.route("**/auth/v1/token*", lambda route: route.abort())
    tab.go()

    sign_in(tab, local_stack.env["ALICE_EMAIL"], local_stack.env["ALICE_PASSWORD"])

    expect(tab.page.get_by_role("alert")).to_have_text(
        "The sign-in service does not answer. Check the network, then try again."
    )
    # Supabase's client says it to developers, too.
    assert all("Failed to fetch" in text for text in tab.said), tab.said
    tab.said.clear()
