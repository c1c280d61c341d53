"""The commands of docs/api.md run as they stand, in order, in one shell."""

import re
import subprocess
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs/api.md").read_text()
BLOCK = re.compile(r"^```sh ?([a-z0-9=-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOCAL = "http://localhost:8080"
# Stands in for curl: an answer of another status than its block expects ends the script.
CURL = """
curl() {
  case "$expected" in
    success) command curl --fail "$@" ;;
    *) test "$(command curl -o /dev/null -w '%{http_code}' "$@")" = "$expected" ;;
  esac
}
"""


def script(url):
    lines = ["set -eu", CURL]
    for option, block in BLOCK.findall(TEXT):
        if option == "no-test":
            continue
        expected = option.removeprefix("expect=") or "success"
        lines += [f"expected='{expected}'", block.replace(LOCAL, url)]
    return "\n".join(lines)


def test_every_example_of_the_api_page_works(service_url, tmp_path):
    done = subprocess.run(
        ["bash", "-c", script(service_url)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
    assert done.stdout.count('{"success": true') >= 20
    assert done.stderr == ""


def test_there_are_examples():
    assert len(BLOCK.findall(TEXT)) > 20
