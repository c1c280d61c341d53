"""What Cloud Storage refuses, the public door refuses."""

import concurrent.futures
import contextlib
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from tests.door.stack import WRITE_ONCE, crc32c, error_code, exactly, new_name


def test_a_signed_put_stores_the_object_and_answers_its_hash_and_generation(stack):
    name, body = new_name(), b"time,value\n1,2\n"
    headers = {"Content-Type": "text/csv", **WRITE_ONCE, **exactly(len(body)), "x-goog-hash": f"crc32c={crc32c(body)}"}

    answer = stack.put(name, body, headers)

    assert answer.status_code == 200
    assert answer.content == b""
    stored = stack.bucket().get_blob(name)
    assert stored.download_as_bytes() == body
    assert stored.content_type == "text/csv"
    assert answer.headers["x-goog-generation"] == str(stored.generation)
    assert f"crc32c={crc32c(body)}" in answer.headers["x-goog-hash"]
    assert answer.headers["etag"].startswith('"')


def test_an_empty_object_can_be_stored(stack):
    name = new_name()

    assert stack.put(name, b"", {**WRITE_ONCE, **exactly(0)}).status_code == 200

    assert stack.bucket().get_blob(name).size == 0


def test_names_with_spaces_and_other_scripts_are_signed_and_stored(stack):
    name = new_name() + " größe %25 日本.csv"

    assert stack.put(name, b"x").status_code == 200

    assert stack.exists(name)
    assert httpx.get(stack.sign(name, "GET")).content == b"x"


def test_a_name_that_a_folder_cannot_hold_is_refused(stack):
    answer = stack.put("chunks//escaped", b"x")

    assert (answer.status_code, error_code(answer)) == (400, "InvalidObjectName")


def test_an_expired_url_is_refused(stack):
    name = new_name()
    url = stack.sign(name, seconds=1)
    time.sleep(2)

    answer = httpx.put(url, content=b"x")

    assert (answer.status_code, error_code(answer)) == (400, "ExpiredToken")
    assert not stack.exists(name)


def test_a_url_signed_for_more_than_a_week_is_refused(stack):
    url = stack.sign(new_name()).replace("X-Goog-Expires=600", "X-Goog-Expires=604801")

    answer = httpx.put(url, content=b"x")

    assert (answer.status_code, error_code(answer)) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda url, name: url.replace(name, name[:-1] + "1"), id="another object"),
        pytest.param(lambda url, _: url.replace("X-Goog-Expires=600", "X-Goog-Expires=6000"), id="a longer life"),
        pytest.param(lambda url, _: url[:-1] + ("0" if url[-1] != "0" else "1"), id="another signature"),
        pytest.param(lambda url, _: url + "&response-content-type=text%2Fhtml", id="a further parameter"),
        pytest.param(lambda url, _: url.replace("signer%40", "other%40"), id="another account"),
    ],
)
def test_an_altered_url_is_refused(stack, alter):
    name = new_name()

    answer = httpx.put(alter(stack.sign(name), name), content=b"x")

    assert (answer.status_code, error_code(answer)) == (403, "SignatureDoesNotMatch")
    assert not stack.exists(name)


def test_a_url_for_one_host_is_refused_at_another(stack):
    url = stack.sign(new_name())

    answer = httpx.put(url, content=b"x", headers={"Host": "storage.example.com"})

    assert (answer.status_code, error_code(answer)) == (403, "SignatureDoesNotMatch")


def test_an_unsigned_request_is_refused(stack):
    name = new_name()
    url = stack.sign(name).partition("?")[0]

    answers = [httpx.request(method, url) for method in ("GET", "PUT", "DELETE")]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert error_code(answers[0]) == "AccessDenied"
    assert not stack.exists(name)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH"])
def test_a_url_signed_for_get_takes_no_other_method(stack, method):
    name = new_name()
    stack.put(name, b"kept")

    answer = httpx.request(method, stack.sign(name, "GET"), content=b"x")

    assert answer.status_code in {403, 405}
    assert stack.bucket().get_blob(name).download_as_bytes() == b"kept"


def test_a_signed_header_that_is_missing_is_refused(stack):
    name = new_name()

    answer = httpx.put(stack.sign(name, headers=WRITE_ONCE), content=b"x")

    assert (answer.status_code, error_code(answer)) == (400, "MalformedSecurityHeader")
    assert not stack.exists(name)


def test_a_signed_header_with_another_value_is_refused(stack):
    name = new_name()
    url = stack.sign(name, headers=exactly(1))

    answer = httpx.put(url, content=b"12345", headers=exactly(5))

    assert (answer.status_code, error_code(answer)) == (403, "SignatureDoesNotMatch")
    assert not stack.exists(name)


def test_an_unsigned_goog_header_is_refused(stack):
    answer = httpx.put(stack.sign(new_name()), content=b"x", headers={"x-goog-acl": "public-read"})

    assert (answer.status_code, error_code(answer)) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(("size", "code"), [(9, "EntityTooSmall"), (11, "EntityTooLarge")])
def test_a_body_of_another_length_than_signed_is_refused(stack, size, code):
    name = new_name()

    answer = stack.put(name, b"x" * size, exactly(10))

    assert (answer.status_code, error_code(answer)) == (400, code)
    assert not stack.exists(name)


def test_a_large_body_of_the_wrong_length_is_answered_and_not_cut_off(stack):
    answer = stack.put(new_name(), b"x" * 20_000_000, exactly(10))

    assert (answer.status_code, error_code(answer)) == (400, "EntityTooLarge")


def test_a_body_without_a_length_is_refused(stack):
    name = new_name()

    answer = httpx.put(stack.sign(name, headers=exactly(3)), content=iter([b"abc"]), headers=exactly(3))

    assert (answer.status_code, error_code(answer)) == (411, "MissingContentLength")
    assert not stack.exists(name)


def test_a_write_once_name_takes_one_write(stack):
    name = new_name()
    assert stack.put(name, b"first", WRITE_ONCE).status_code == 200

    second = stack.put(name, b"second", WRITE_ONCE)

    assert (second.status_code, error_code(second)) == (412, "PreconditionFailed")
    assert stack.bucket().get_blob(name).download_as_bytes() == b"first"


def test_of_several_writes_of_a_write_once_name_at_the_same_time_one_succeeds(stack):
    name = new_name()
    bodies = [bytes([digit]) * 3_000_000 for digit in range(6)]

    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: stack.put(name, body, WRITE_ONCE), bodies))

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, *[412] * (len(bodies) - 1)]
    winner = next(index for index, answer in enumerate(answers) if answer.status_code == 200)
    assert stack.bucket().get_blob(name).download_as_bytes() == bodies[winner]


def test_a_name_without_write_once_is_overwritten_with_a_new_generation(stack):
    name = new_name()

    first, second = stack.put(name, b"first"), stack.put(name, b"second")

    assert int(second.headers["x-goog-generation"]) > int(first.headers["x-goog-generation"])
    assert stack.bucket().get_blob(name).download_as_bytes() == b"second"


def test_a_write_bound_to_an_older_generation_is_refused(stack):
    name = new_name()
    generation = stack.put(name, b"first").headers["x-goog-generation"]
    stack.put(name, b"second")

    answer = stack.put(name, b"third", {"x-goog-if-generation-match": generation})

    assert (answer.status_code, error_code(answer)) == (412, "PreconditionFailed")
    assert stack.bucket().get_blob(name).download_as_bytes() == b"second"


def test_damaged_bytes_are_refused_and_leave_nothing(stack):
    name, body = new_name(), b"what was meant"
    headers = {**WRITE_ONCE, "x-goog-hash": f"crc32c={crc32c(body)}"}

    damaged = stack.put(name, b"what has come", headers)

    assert (damaged.status_code, error_code(damaged)) == (400, "BadDigest")
    assert not stack.exists(name)
    assert stack.put(name, body, headers).status_code == 200


def test_a_malformed_hash_is_refused(stack):
    answer = stack.put(new_name(), b"x", {"x-goog-hash": "crc32c=nonsense"})

    assert (answer.status_code, error_code(answer)) == (400, "InvalidDigest")


def test_an_upload_cut_off_half_way_leaves_nothing_and_can_be_sent_again_at_once(stack):
    name, size = new_name(), 4_000_000
    headers = {**WRITE_ONCE, **exactly(size)}
    address = urlsplit(stack.sign(name, headers=headers))
    lines = [f"PUT {address.path}?{address.query} HTTP/1.1", f"Host: {address.netloc}", f"Content-Length: {size}"]
    lines += [f"{header}: {value}" for header, value in headers.items()]

    with contextlib.closing(socket.create_connection((address.hostname, address.port))) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode() + b"x" * (size // 2))
        time.sleep(0.3)

    assert not stack.exists(name)
    assert stack.put(name, b"y" * size, headers).status_code == 200
    assert stack.bucket().get_blob(name).size == size


def test_a_signed_get_answers_ranges_and_the_headers_that_were_signed(stack):
    name = new_name()
    stack.put(name, b"0123456789", {"Content-Type": "text/csv"})
    disposition = 'attachment; filename="data set.csv"'
    url = stack.sign(name, "GET", response_disposition=disposition, response_type="application/octet-stream")

    answer = httpx.get(url, headers={"Range": "bytes=2-4"})

    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["content-disposition"] == disposition
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-goog-generation"]


def test_a_signed_head_describes_the_object(stack):
    name = new_name()
    stack.put(name, b"0123456789", {"Content-Type": "text/csv"})

    answer = httpx.head(stack.sign(name, "HEAD"))

    assert answer.status_code == 200
    assert answer.headers["content-length"] == "10"
    assert answer.headers["content-type"] == "text/csv"
    assert f"crc32c={crc32c(b'0123456789')}" in answer.headers["x-goog-hash"]


def test_a_signed_delete_deletes(stack):
    name = new_name()
    stack.put(name, b"x")

    assert httpx.delete(stack.sign(name, "DELETE")).status_code == 204

    assert not stack.exists(name)


def test_reading_an_object_that_does_not_exist_is_not_found(stack):
    answer = httpx.get(stack.sign(new_name(), "GET"))

    assert (answer.status_code, error_code(answer)) == (404, "NoSuchKey")


@pytest.mark.parametrize("path", ["", "/", "/storage/v1/b", "/upload/storage/v1/b/x/o?uploadType=media&name=y"])
def test_the_public_door_has_no_other_way_in(stack, path):
    url = stack.settings["STORAGE_PUBLIC_URL"] + path

    statuses = {httpx.request(method, url).status_code for method in ("GET", "POST", "PUT", "DELETE")}

    assert statuses <= {403, 405}


def test_headers_of_the_gateway_cannot_be_forged(stack):
    name = new_name()
    url = stack.sign(name).partition("?")[0]
    forged = {"X-Door": "internal", "X-Door-Uri": "/storage/v1/b", "X-Client-Uri": url, "X-Upstream-Status": "200"}

    assert httpx.put(url, content=b"x", headers=forged).status_code == 403
    assert httpx.get(url, headers=forged).status_code == 403
    assert not stack.exists(name)
