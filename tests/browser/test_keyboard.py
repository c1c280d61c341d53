"""Everything that can be clicked is reached by Tab, seen when it is, and not hidden by what floats above the page."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_looks import PAGES, show

# All that takes part, in the order of the page; of radio buttons, the one that is chosen stands for its group.
COLLECT = """
window.controls = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
  .filter((control) => !control.disabled && !control.hidden && control.checkVisibility())
  .filter((control) => control.type !== "radio" || control.checked);
controls.length
"""
# Nothing moves while it is looked at: which control has the focus, how thick its ring is, what hides its middle.
LOOK = """
(() => {
  const control = document.activeElement;
  const style = getComputedStyle(control);
  const box = control.getBoundingClientRect();
  const [x, y] = [box.x + Math.min(box.width / 2, 20), box.y + Math.min(box.height / 2, 20)];
  const above = document.elementFromPoint(x, y);
  const around = above?.closest("label")?.control ?? above;
  const isSeen = control.contains(around) || around?.contains(control);
  return {
    n: controls.indexOf(control),
    name: control.ariaLabel || control.textContent.trim().slice(0, 60) || control.id,
    ring: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    isHidden: !isSeen,
  };
})()
"""


def walk(tab, key):
    """Press a key until it has led through all controls; return what was seen at each."""
    n = tab.page.evaluate(COLLECT)
    seen = {}
    # A few more: the browser's own controls come in between.
    for _ in range(n + 5):
        tab.page.keyboard.press(key)
        look = tab.page.evaluate(LOOK)
        if look["n"] >= 0:
            seen[look["n"]] = look
    names = tab.page.evaluate("controls.map((control) => control.outerHTML.slice(0, 120))")
    missed = [name for at, name in enumerate(names) if at not in seen]
    assert missed == [], missed
    return seen.values()


@pytest.mark.parametrize("page", [*PAGES, "again"])
def test_everything_is_reached_by_tab_and_seen(open_tab, trained, page):
    tab = open_tab()
    show(tab, trained, "training" if page == "again" else page)
    if page == "again":
        tab.click("Train again")
        expect(tab.page.get_by_label("Column to predict")).to_have_value("price")
    if page == "models":
        tab.page.locator("summary").first.click()
    tab.page.evaluate("document.activeElement.blur()")

    for key in ("Tab", "Shift+Tab"):
        looks = walk(tab, key)
        assert {look["name"]: look["ring"] for look in looks if look["ring"] < 2} == {}
        assert [look["name"] for look in looks if look["isHidden"]] == []


def test_the_first_step_skips_to_the_content(open_tab, trained):
    tab = open_tab()
    show(tab, trained, "models")

    tab.page.keyboard.press("Tab")
    expect(tab.page.get_by_text("Skip to content")).to_be_focused()
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.press("Tab")

    expect(tab.page.locator("main :focus")).to_have_count(1)


def test_a_dialog_holds_the_focus_and_gives_it_back(open_tab, session_of_alice):
    tab = open_tab()
    tab.go_to_session(session_of_alice())
    tab.click("Delete")
    expect(tab.page.get_by_role("dialog")).to_be_visible()
    focused = set()

    for _ in range(6):
        tab.page.keyboard.press("Tab")
        # In between it is with the browser's own controls.
        focused.add(
            tab.page.evaluate("document.activeElement === document.body ? null : document.activeElement.textContent")
        )
    tab.page.keyboard.press("Escape")

    assert focused - {None} == {"Keep it", "Delete session"}
    expect(tab.button("Delete")).to_be_focused()


def test_a_person_signs_in_by_keyboard_alone(open_tab, local_stack):
    tab = open_tab(None)
    tab.go()
    expect(tab.heading("Sign in")).to_be_visible()
    for text in (local_stack.env["ALICE_EMAIL"], local_stack.env["ALICE_PASSWORD"]):
        tab.page.keyboard.press("Tab")
        tab.page.keyboard.type(text)

    tab.page.keyboard.press("Enter")

    expect(tab.heading("Sessions")).to_be_visible()
