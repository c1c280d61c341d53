"""What every page must be: readable for everybody, in both themes, at every width, whatever people call things."""

import re
from itertools import pairwise

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
    answer_with(tab, "visualizations", {"session_id": "x", "count": 1, "visualizations": [chart]})
    tab.go_to_session(session_of_alice(), "results")

    drawn = tab.page.locator("figure svg[role=img]")
    expect(drawn).to_be_visible()
    expect(drawn.locator("text[text-anchor=middle]").filter(has_text=re.compile(r"^\d"))).to_have_text(["0", "1", "2"])


@pytest.mark.parametrize("kind", ["line", "scatter", "residual", "bar", "histogram", "heatmap", "confusion", "unheard"])
def test_charts_of_any_trainer_are_drawn_and_never_run(open_tab, session_of_alice, kind):
    chart = hostile_chart(kind)
    tab = open_tab()
    answer_with(tab, "visualizations", {"session_id": "x", "count": 1, "visualizations": [chart]})
    tab.go_to_session(session_of_alice(), "results")

    expect(tab.page.locator("figcaption")).to_have_text(HOSTILE)
    if kind == "unheard":
        tab.see("This page cannot draw charts of the kind “unheard”.")
    else:
        expect(tab.page.locator("figure svg[role=img]")).to_be_visible()
    assert tab.page.locator("figure img, figure script").count() == 0


def test_names_beside_many_bars_do_not_stand_in_each_other(open_tab, session_of_alice):
    """As the importances of hundreds of features have them."""
    names = [f"feature_number_{n}" for n in range(400)]
    data = {"x": names, "y": list(range(400))}
    chart = hostile_chart("bar") | {"title": "Importance", "x": {"field": "x"}, "y": {"field": "y"}, "data": data}
    del chart["series"], chart["color"]
    tab = open_tab()
    answer_with(tab, "visualizations", {"session_id": "x", "count": 1, "visualizations": [chart]})
    tab.go_to_session(session_of_alice(), "results")

    drawn = tab.page.locator("figure svg[role=img]")
    expect(drawn).to_be_visible()
    boxes = sorted(
        [label.bounding_box() for label in drawn.locator("text").filter(has_text="feature_").all()],
        key=lambda box: box["y"],
    )
    assert len(boxes) > 100
    # A hair is left for how letters are rounded.
    assert [one for one, below in pairwise(boxes) if one["y"] + one["height"] * 0.8 > below["y"]] == []
    assert drawn.locator("rect").count() == 400


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


def answer_with(tab, path, data):
    """Let the service answer with this."""
    tab.page.route(re.compile(f"/{path}/"), lambda route: route.fulfill(json={"success": True, "data": data}))


def refuse_search(tab):
    tab.go()
    tab.page.get_by_role("searchbox").fill("no such thing at all")
    expect(tab.heading("Nothing found")).to_be_visible()


def see_no_session(tab):
    tab.go_to_session("no-such-session-" + "x" * 60)
    expect(tab.heading("There is no such session.")).to_be_visible()


def see_broken_list(tab):
    broken = {"code": "internal_error", "detail": "Something is wrong. " * 3, "status": 500, "retryable": False}
    pattern = re.compile("list-sessions")
    tab.page.route(pattern, lambda route: route.fulfill(status=500, json=broken))
    tab.go()
    expect(tab.page.get_by_role("alert")).to_be_visible()
    tab.page.unroute(pattern)


def see_files(tab, session_id, name):
    """A session of a long name with a file that is in, one that failed, first rows, and an unfinished upload."""
    tab.go_to_session(session_id)
    table = (
        ",".join(f"a_long_name_of_a_column_{n}" for n in range(12))
        + "\n"
        + (",".join("12345" for _ in range(12)) + "\n") * 20
    )
    files = [(name, table.encode()), ("e" + name, b"")]
    tab.page.locator("[data-choose=files]").set_input_files(
        [{"name": name, "mimeType": "text/csv", "buffer": content} for name, content in files]
    )
    expect(tab.files_in()).to_have_count(1)
    expect(tab.page.get_by_role("region", name="First rows", exact=True)).to_be_visible()
    expect(tab.page.locator("[data-file]").get_by_role("alert")).to_be_visible()


def see_training(tab, session_id, run):
    run["status"] = "running"
    run["stalled"] = True
    curve = {"step": [1, 2], "train": [0.5, 0.25], "validation": [0.6, 0.3]}
    run["models"][0] |= {"status": "training", "progress": 0.4, "remaining_s": 90, "curve": curve, "metrics": {}}
    run["models"][1] |= {"status": "failed", "detail": "The table has no rows that could be used. " * 3}
    answer_with(tab, "train", run)
    tab.go_to_session(session_id, "training")
    expect(tab.page.get_by_role("img").first).to_be_visible()


def see_models(tab, session_id, models):
    models["models"][0] |= {
        "status": "refused",
        "status_detail": "It does not say what it is.",
        "findings": ["A Lambda layer"],
    }
    models["models"][1] |= {"class": "a.very.long.name.of.a.class." * 8, "name": "a_very_long_name_" * 8}
    models["unread_documents"] = 2
    answer_with(tab, "list-models-database", models)
    tab.go_to_session(session_id, "models")
    expect(tab.heading("2 models")).to_be_visible()
    tab.page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")


def see_scores(tab, session_id, tables):
    """More measures than a phone has room for, as classes have."""
    (table, *_) = tables
    more = [row | {"metric": f"{row['metric']}_of_class_{n}"} for row in table["rows"] for n in range(6)]
    answer_with(tab, "evaluation-tables", {"evaluation_tables": [table | {"rows": table["rows"] + more}]})
    tab.go_to_session(session_id, "results")
    expect(tab.page.locator("table.scores td.best").first).to_be_visible()
    expect(tab.page.locator("svg[role=img]").first).to_be_visible()


def see_question(tab, session_id):
    tab.page.unroute_all()
    tab.go_to_session(session_id)
    tab.click("Delete")
    expect(tab.page.get_by_role("dialog")).to_be_visible()


@pytest.mark.parametrize(("dark", "width"), [(False, 360), (True, 360), (True, 1280)], ids=["light", "dark", "wide"])
def test_what_is_seen_seldom_can_be_read_and_has_room(open_tab, trained, alice, session_of_alice, dark, width):
    tab = open_tab(dark=dark, width=width, strict=False)
    title = "A long title, or_one_without_any_room_to_break_it_into_lines_" * 3
    empty = session_of_alice(title=title)
    states = {
        "search": lambda: refuse_search(tab),
        "no session": lambda: see_no_session(tab),
        "broken list": lambda: see_broken_list(tab),
        "files": lambda: see_files(tab, empty, "long_name_of_a_file_" * 8 + ".csv"),
        "training": lambda: see_training(tab, trained, alice.get_training(trained)),
        "models": lambda: see_models(tab, trained, alice.list_models(trained)),
        "scores": lambda: see_scores(tab, trained, alice.evaluation_tables(trained)),
        "list": lambda: (tab.go(), expect(tab.page.get_by_role("link", name=title)).to_be_visible()),
        "question": lambda: see_question(tab, empty),
    }
    wide, unreadable = [], {}
    for name, see in states.items():
        see()
        if not tab.cannot_scroll_sideways():
            wide.append(name)
        found = Axe().run(tab.page)
        if found.violations_count:
            unreadable[name] = found.generate_report()

    assert wide == []
    assert unreadable == {}
    # A file that failed here is no loss.
    tab.page.on("dialog", lambda dialog: dialog.accept())


def test_names_of_models_and_values_are_shown_and_never_run(open_tab, trained, alice):
    """In every place where the console writes what a trainer or a file says."""
    tab = open_tab(strict=False)
    models, run = alice.list_models(trained), alice.get_training(trained)
    tables = alice.evaluation_tables(trained)
    variables = alice.plot_variables(trained)
    hostile = {"name": HOSTILE, "class": HOSTILE, "status_detail": HOSTILE, "path": HOSTILE, "features": [HOSTILE]}
    models["models"][0] |= hostile | {"findings": [HOSTILE], "aliases": [HOSTILE], "requirements": [HOSTILE]}
    run |= {"target": HOSTILE, "detail": HOSTILE, "timeColumn": HOSTILE}
    run["models"][0] |= {"name": HOSTILE, "detail": HOSTILE}
    tables[0]["title"] = HOSTILE
    for row in tables[0]["rows"][:3]:
        row |= {"model": HOSTILE, "metric": HOSTILE}
    for column in variables["files"][0]["columns"]:
        column["name"] += HOSTILE
        for value in column.get("commonest") or ():
            value["value"] += HOSTILE
    answers = {"list-models-database": models, "train": run, "plot-variables": variables}
    answers["evaluation-tables"] = {"evaluation_tables": tables}
    for path, data in answers.items():
        answer_with(tab, path, data)

    for part in ("variables", "training", "models", "results"):
        tab.go_to_session(trained, part)
        expect(tab.page.locator("main").get_by_text(HOSTILE).first).to_be_visible()
        tab.page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
        assert tab.page.locator("main img, main script").count() == 0, part
    tab.go_to_session(trained, "training")
    tab.click("Train again")
    expect(tab.page.get_by_label("Column to predict")).to_be_visible()
    assert tab.page.locator("main img, main script").count() == 0
