"""What every page must be: readable for everybody, in both themes, at every width, whatever people call things."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

PHONE = 360
# Full HD, and four times as many pixels at a scale of 150 %.
WIDE = (1920, 2560)
# Of a line that the eye comes back from: https://www.w3.org/WAI/WCAG21/Understanding/visual-presentation.html asks for
# 80 at the highest level; narrow letters let a few more in.
MOST_LETTERS = 100
LONGEST_LINE = """
[...document.querySelectorAll("main *")].flatMap((element) => [...element.childNodes])
  .filter((node) => node.nodeType === Node.TEXT_NODE && node.textContent.length > 40)
  .map((node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
    return [node.textContent.length / Math.max(1, lines.size), node.textContent];
  })
  .sort(([a], [b]) => b - a)[0] ?? [0, ""]
"""
HOSTILE = "<img src=x onerror=\"console.error('run')\"><script>console.error('run')</script>\"'>"
NAME = "<img src=x onerror=alert(1)>'.csv"
PAGES = {
    "sessions": ("Sessions", ""),
    "new": ("New session", "new"),
    "data": ("Files", "data"),
    "variables": ("area", "variables"),
    "training": ("Linear regression", "training"),
    "models": ("Linear regression", "models"),
    "results": ("Residuals", "results"),
}


def show(tab, session_id, page):
    """Go to a page and wait until all of it is there."""
    heading, address = PAGES[page]
    if address in {"", "new"}:
        tab.go(address)
    else:
        tab.go_to_session(session_id, address)
    expect(tab.heading(heading).first).to_be_visible()
    if page in {"variables", "results"}:
        expect(tab.page.locator("svg[role=img]").first).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_on_any_page(open_tab, trained, dark):
    tab = open_tab(dark=dark)
    found = {}
    for page in PAGES:
        show(tab, trained, page)
        found[page] = Axe().run(tab.page)
        if tab.page.locator("details").count():
            tab.page.locator("summary").first.click()
            found[f"{page}, opened"] = Axe().run(tab.page)
    nobody = open_tab(None, dark=dark)
    nobody.go()
    expect(nobody.heading("Sign in")).to_be_visible()
    found["sign-in"] = Axe().run(nobody.page)

    assert {page: result.generate_report() for page, result in found.items() if result.violations_count} == {}
    assert tab.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark


@pytest.mark.parametrize("width", [PHONE, 768, *WIDE])
def test_no_page_scrolls_sideways(open_tab, trained, width):
    tab = open_tab(width=width)
    wide = []
    for page in PAGES:
        show(tab, trained, page)
        if not tab.cannot_scroll_sideways():
            wide.append(page)

    assert wide == []


@pytest.mark.parametrize("width", WIDE)
def test_a_wide_screen_is_used_and_its_lines_can_be_read(open_tab, trained, alice, width):
    """What is longest in practice: a reason of the service, and the inputs of a model."""
    models = alice.list_models(trained)
    features = [f"column_{n}" for n in range(60)]
    models["models"][0] |= {"features": features, "status_detail": "The table has no rows that could be used. " * 12}
    tab = open_tab(width=width)
    listed = {"success": True, "data": models}
    tab.page.route(re.compile("/list-models-database/"), lambda route: route.fulfill(json=listed))
    used, longest = {}, {}
    for page in PAGES:
        show(tab, trained, page)
        tab.page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
        used[page] = tab.page.locator("main").bounding_box()["width"] / width
        longest[page] = tab.page.evaluate(LONGEST_LINE)

    assert min(used.values()) >= 0.7, used
    assert {page: line for page, line in longest.items() if line[0] > MOST_LETTERS} == {}
    # These would be the longest if nothing held them.
    assert longest["models"][0] > 60, longest


def test_a_wide_screen_has_more_pictures_beside_each_other(open_tab, trained):
    def in_first_row(width, page, picture):
        tab = open_tab(width=width)
        show(tab, trained, page)
        tops = [round(box["y"]) for each in tab.page.locator(picture).all() if (box := each.bounding_box())]
        return tops.count(tops[0])

    assert in_first_row(1280, "variables", "article.variable") == 3
    assert in_first_row(1920, "variables", "article.variable") == 4
    # Two models: what was predicted, and the residuals.
    assert in_first_row(1280, "results", "figure.chart") == 2
    assert in_first_row(1920, "results", "figure.chart") == 4


def test_dialogs_are_readable_for_everybody(open_tab, session_of_alice):
    tab = open_tab()
    tab.go_to_session(session_of_alice())
    tab.click("Delete")
    expect(tab.page.get_by_role("dialog")).to_be_visible()

    found = Axe().run(tab.page)

    assert found.violations_count == 0, found.generate_report()


def test_what_people_write_is_shown_and_never_run(open_tab, session_of_alice):
    session_id = session_of_alice(title=HOSTILE, note={"<b>": HOSTILE})
    tab = open_tab()
    tab.page.on("dialog", lambda dialog: tab.said.append(dialog.message))
    tab.go()
    expect(tab.page.get_by_role("link", name=HOSTILE)).to_be_visible()
    tab.go_to_session(session_id)
    expect(tab.heading(HOSTILE)).to_be_visible()
    header = '"' + HOSTILE.replace('"', '""') + '",b\n'

    tab.page.locator("[data-choose=files]").set_input_files(
        {"name": NAME, "mimeType": "text/csv", "buffer": (header + "1,<i>x</i>\n" * 20).encode()}
    )

    expect(tab.files_in()).to_have_count(1)
    expect(tab.page.get_by_role("columnheader").filter(has_text=HOSTILE)).to_be_visible()
    tab.go_to_session(session_id, "variables")
    expect(tab.heading(HOSTILE).nth(1)).to_be_visible()
    assert tab.page.locator("main img, main script, main i:not([style])").count() == 0


def hostile_chart(kind):
    rows = range(12)
    is_grid = kind in {"heatmap", "confusion"}
    names = [f"{HOSTILE}{n % 3}" for n in rows]
    return {
        "id": "1",
        "name": "m.c",
        "model": "m",
        "kind": kind,
        "title": HOSTILE,
        "x": {"field": "x", "to": "to", "title": HOSTILE},
        "y": {"field": "s"} if is_grid else {"field": "y", "unit": HOSTILE},
        "series": {"field": "s"},
        "color": {"field": "y"},
        "data": {
            "x": names if is_grid or kind == "bar" else list(rows),
            "to": [n + 1 for n in rows],
            "y": [None, *rows[1:]],
            "s": [HOSTILE if n % 2 else "b" for n in rows],
        },
    }


def test_an_id_in_the_address_is_shown_and_never_run(open_tab):
    tab = open_tab(strict=False)
    tab.page.on("dialog", lambda dialog: tab.said.append(dialog.message))
    tab.go_to_session("<img src=x onerror=alert(1)>\"'")

    expect(tab.heading("There is no such session.")).to_be_visible()
    assert tab.page.locator("main img, main script").count() == 0


def test_a_curve_of_one_point_has_steps_without_fractions(open_tab, session_of_alice):
    chart = {
        "id": "1",
        "name": "dense_network.history",
        "model": "dense_network",
        "kind": "line",
        "title": "Loss",
        "x": {"field": "epoch"},
        "y": {"field": "loss"},
        "data": {"epoch": [1], "loss": [0.25]},
    }
    tab = open_tab()
    answer = {"success": True, "data": {"session_id": "x", "count": 1, "visualizations": [chart]}}
    tab.page.route(re.compile("/visualizations/"), lambda route: route.fulfill(json=answer))
    tab.go_to_session(session_of_alice(), "results")

    drawn = tab.page.locator("figure svg[role=img]")
    expect(drawn).to_be_visible()
    expect(drawn.locator("text[text-anchor=middle]").filter(has_text=re.compile(r"^\d"))).to_have_text(["0", "1", "2"])


@pytest.mark.parametrize("kind", ["line", "scatter", "residual", "bar", "histogram", "heatmap", "confusion", "unheard"])
def test_charts_of_any_trainer_are_drawn_and_never_run(open_tab, session_of_alice, kind):
    chart = hostile_chart(kind)
    tab = open_tab()
    answer = {"success": True, "data": {"session_id": "x", "count": 1, "visualizations": [chart]}}
    tab.page.route(re.compile("/visualizations/"), lambda route: route.fulfill(json=answer))
    tab.go_to_session(session_of_alice(), "results")

    expect(tab.page.locator("figcaption")).to_have_text(HOSTILE)
    if kind == "unheard":
        tab.see("This page cannot draw charts of the kind “unheard”.")
    else:
        expect(tab.page.locator("figure svg[role=img]")).to_be_visible()
    assert tab.page.locator("figure img, figure script").count() == 0


def test_skeletons_stand_where_the_page_will_be(open_tab, trained):
    """No layout shift that a person would notice (https://web.dev/articles/cls: at most 0.1 is good)."""
    tab = open_tab(
        script="window.shift = 0; new PerformanceObserver((list) => { for (const entry of list.getEntries())"
        " if (!entry.hadRecentInput) shift += entry.value }).observe({ type: 'layout-shift', buffered: true })"
    )
    tab.go_to_session(trained, "models")
    expect(tab.heading("Linear regression").first).to_be_visible()
    tab.page.wait_for_load_state("networkidle")

    assert tab.page.evaluate("shift") < 0.1
