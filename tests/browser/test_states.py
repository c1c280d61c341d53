"""What each part of a session shows where there is nothing yet, and where something went wrong."""

import re

import pytest
from playwright.sync_api import expect

# What a part asks the service for, and what it shows of it in a session that was trained.
PARTS = {
    "variables": ("plot-variables", "area"),
    "training": ("train", "Regression of price"),
    "models": ("list-models-database", "2 models"),
    "results": ("evaluation-tables", "Residuals"),
}


@pytest.mark.parametrize(
    ("part", "heading", "way_on"),
    [
        ("data", "Drop the files of your data set here", None),
        ("variables", "Nothing to look at yet", "To the files"),
        ("training", "The data set is not complete", "To the files"),
        ("models", "No models yet", "To the training"),
        ("results", "No results yet", "To the training"),
    ],
)
def test_a_part_without_anything_says_what_to_do(open_tab, session_of_alice, part, heading, way_on):
    tab = open_tab()
    tab.go_to_session(session_of_alice(), part)

    expect(tab.heading(heading)).to_be_visible()
    if way_on:
        tab.page.get_by_role("link", name=way_on).click()
        next_part = tab.page.locator("nav.tabs a[aria-current=page]")
        expect(next_part).to_have_text("Data" if way_on == "To the files" else "Training")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_cannot_be_loaded_says_so_and_is_loaded_by_its_button(open_tab, trained, part):
    function, heading = PARTS[part]
    tab = open_tab(strict=False)
    broken = {"code": "internal_error", "detail": "Something is wrong.", "status": 500, "retryable": False}
    broken |= {"request_id": "4bf92f35"}
    pattern = re.compile(f"/{function}/")
    tab.page.route(pattern, lambda route: route.fulfill(status=500, json=broken))
    tab.go_to_session(trained, part)
    alert = tab.page.get_by_role("alert")
    expect(alert).to_contain_text("Something is wrong.")
    expect(alert).to_contain_text("Number: 4bf92f35")
    tab.page.unroute(pattern)

    tab.click("Try again")

    expect(tab.heading(heading).first).to_be_visible()
    expect(alert).to_have_count(0)
