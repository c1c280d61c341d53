"""The TypeScript client names its routes itself: they must be those of the manifest."""

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]


def test_the_typescript_client_calls_the_routes_of_the_manifest():
    manifest = yaml.safe_load((REPOSITORY / "functions/manifest.yaml").read_text())
    source = (REPOSITORY / "client/src/routes.ts").read_text()
    routes = re.findall(r'"?([a-z-]+)"?: \{ method: "(\w+)", path: "([^"]+)" \}', source)
    assert len(routes) >= 20
    for name, method, path in routes:
        listed = manifest[name]["route"]
        assert f"{method} {path}" in ([listed] if isinstance(listed, str) else listed), name
