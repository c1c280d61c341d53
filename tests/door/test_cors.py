"""Browsers are answered by the rules of infra/storage.yaml, which Terraform gives to the real buckets."""

import httpx
import pytest

from tests.door.stack import WRITE_ONCE, exactly, new_name

EVIL = "https://evil.example"


def ask(stack, name, *, origin, method="PUT", headers=""):
    url = f"{stack.settings['STORAGE_PUBLIC_URL']}/{stack.settings['UPLOADS_BUCKET']}/{name}?X-Goog-Signature=any"
    wanted = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return httpx.options(url, headers=wanted)


def cors_headers(answer):
    return {name for name in answer.headers if name.startswith("access-control-")}


def test_a_preflight_of_the_console_is_allowed_with_the_headers_a_chunk_needs(stack):
    origin = stack.settings["TRAINSHED_URL"]
    wanted = "content-type,x-goog-content-length-range,x-goog-hash,x-goog-if-generation-match"

    answer = ask(stack, new_name(), origin=origin, headers=wanted)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "PUT" in answer.headers["access-control-allow-methods"]
    allowed = {header.strip().lower() for header in answer.headers["access-control-allow-headers"].split(",")}
    assert set(wanted.split(",")) <= allowed
    assert int(answer.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize(
    "wrong", [{"origin": EVIL}, {"method": "DELETE"}, {"method": "POST"}, {"headers": "x-goog-acl"}]
)
def test_a_preflight_of_anything_else_is_not_allowed(stack, wrong):
    answer = ask(stack, new_name(), **{"origin": stack.settings["TRAINSHED_URL"], **wrong})

    assert cors_headers(answer) == set()


def test_a_script_of_the_console_may_read_the_hash_and_generation(stack):
    name, origin = new_name(), stack.settings["TRAINSHED_URL"]
    headers = {**WRITE_ONCE, **exactly(1)}
    url = stack.sign(name, headers=headers)

    stored = httpx.put(url, content=b"x", headers={**headers, "Origin": origin})
    refused = httpx.put(url, content=b"x", headers={**headers, "Origin": origin})
    read = httpx.get(stack.sign(name, "GET"), headers={"Origin": origin})

    assert [answer.status_code for answer in (stored, refused, read)] == [200, 412, 200]
    for answer in (stored, refused, read):
        assert answer.headers.get_list("access-control-allow-origin") == [origin]
        exposed = answer.headers["access-control-expose-headers"].lower().split(",")
        assert {"etag", "x-goog-generation", "x-goog-hash"} <= set(exposed)


def test_a_script_of_another_origin_may_read_nothing(stack):
    name = new_name()

    stored = httpx.put(stack.sign(name), content=b"x", headers={"Origin": EVIL})
    read = httpx.get(stack.sign(name, "GET"), headers={"Origin": EVIL})

    assert (stored.status_code, read.status_code) == (200, 200)
    assert cors_headers(stored) == cors_headers(read) == set()
