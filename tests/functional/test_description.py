"""The description of the API as it is served, and the health of every function."""

import re

import pytest
import yaml

from dev.openapi import DOCUMENT
from shared.web.manifest import functions
from tests.functional.conftest import done, refused


def test_the_description_is_served_to_anyone(api):
    answer = api.get("/openapi.json")

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == yaml.safe_load(DOCUMENT.read_text())


def test_the_page_loads_nothing_from_anywhere(api):
    answer = api.get("/docs")

    assert (answer.status_code, answer.content_type) == (200, "text/html")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert not re.search(r"<script|<img|<link|@import|url\(|src=", answer.text)
    for path in yaml.safe_load(DOCUMENT.read_text())["paths"]:
        assert f"<code>{path}</code>" in answer.text


def test_links_of_the_page_lead_somewhere(api):
    text = api.get("/docs").text
    places = set(re.findall(r'id="([^"]+)"', text))

    assert set(re.findall(r'href="#([^"]+)"', text)) <= places


def test_what_has_not_changed_is_not_sent_again(api):
    tag = api.get("/openapi.json").headers["ETag"]

    assert api.get("/openapi.json", headers={"If-None-Match": tag}).status_code == 304
    assert api.get("/docs", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("name", functions())
def test_every_function_says_that_it_takes_requests_without_a_token(api, name):
    client = api.app(functions()[name]).test_client()

    assert done(client.get("/_health")) == {"status": "ok", "function": name, "revision": "local"}
    refused(client.post("/_health"), 405, "method_not_allowed")
