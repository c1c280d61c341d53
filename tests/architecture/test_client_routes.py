"""The clients name their routes themselves: they must be those of the manifest."""

import re
from pathlib import Path

import yaml

from shared.web import endpoint
from trainshed.routes import BASE_PATH, ROUTES

REPOSITORY = Path(__file__).parents[2]


MANIFEST = yaml.safe_load((REPOSITORY / "functions/manifest.yaml").read_text())


def test_the_typescript_client_calls_the_routes_of_the_manifest():
    for name, method, path, _ in typescript_routes():
        assert f"{method} {path}" in listed(name), name


def test_the_typescript_client_waits_as_long_as_a_function_may_take():
    for name, _, _, timeout_s in typescript_routes():
        assert int(timeout_s) == MANIFEST[name]["timeout_s"], name


def test_the_typescript_client_knows_every_function_that_users_call_but_the_old_one_and_that_of_trainers():
    users = {name for name, entry in MANIFEST.items() if entry["caller"].startswith("user")}
    assert users - {"upload-chunk", "publish"} == {name for name, *_ in typescript_routes()}


def test_the_python_client_calls_the_routes_of_the_manifest():
    for name, route in ROUTES.items():
        assert f"{route.method} {route.path}" in listed(name), name


def test_the_python_client_waits_as_long_as_a_function_may_take():
    for name, route in ROUTES.items():
        assert route.timeout_s == MANIFEST[name]["timeout_s"], name


def test_the_python_client_knows_every_function_that_users_call_but_the_old_one():
    users = {name for name, entry in MANIFEST.items() if entry["caller"].startswith("user")}
    assert users - {"upload-chunk"} == ROUTES.keys()


def test_the_clients_put_the_same_before_the_routes_of_a_front_door():
    assert BASE_PATH == endpoint.BASE_PATH
    assert f"${{base}}{BASE_PATH}`" in (REPOSITORY / "client/src/http.ts").read_text()


def typescript_routes():
    source = (REPOSITORY / "client/src/routes.ts").read_text()
    return re.findall(r'"?([a-z-]+)"?: \{ method: "(\w+)", path: "([^"]+)", timeoutS: (\d+) \}', source)


def listed(name):
    route = MANIFEST[name]["route"]
    return [route] if isinstance(route, str) else route
