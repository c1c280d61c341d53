"""The commands of docs/operations.md and docs/keys.md name what there is, and run as far as they need no cloud."""

import json
import re
import subprocess
import tomllib

import pytest

from container.app import load_manifest
from dev.home import REPOSITORY
from tests.infrastructure.terraform import TERRAFORM, blocks

PAGES = {name: (REPOSITORY / f"docs/{name}.md").read_text() for name in ("operations", "keys")}
BLOCKS = [
    (f"{page}-{n}", block)
    for page, text in PAGES.items()
    for n, block in enumerate(re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE))
]
COMMANDS = "\n".join(block for _, block in BLOCKS)
TEXT = "\n".join(PAGES.values())


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in BLOCKS])
def test_a_block_is_a_program_of_the_shell(block):
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_targets_of_make_exist():
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", TEXT)) | set(re.findall(r"^ *make ([a-z]+)", COMMANDS, re.MULTILINE))
    assert named
    assert named <= targets


def test_outputs_and_environments_and_folders_of_terraform_exist():
    outputs = {block.labels[0] for block in blocks() if block.kind == "output"}
    asked = set(re.findall(r"output -json (\w+)", TEXT))
    assert asked == {"console_config", "doctor_environment", "function_urls"}
    assert asked <= outputs
    files = set(re.findall(r"-var-file=(\S+)", COMMANDS))
    assert files
    for file in files:
        assert (TERRAFORM / f"{file}.example").is_file()
    assert set(re.findall(r"-chdir=(\S+)", COMMANDS)) == {"infra/terraform"}


def test_settings_that_the_pages_name_are_variables():
    variables = {block.labels[0] for block in blocks() if block.kind == "variable"}
    assert set(re.findall(r"TF_VAR_(\w+)", TEXT)) <= variables
    named = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)*_(?:version|seconds|instances|email|origins))\b", TEXT))
    assert named
    assert named <= variables


def test_a_version_of_a_key_is_never_given_for_one_apply_alone():
    """The next one without it would take it back."""
    assert not re.search(r"-var[ =]['\"]?\w", COMMANDS)


def test_what_is_deployed_is_called_by_its_name():
    accounts = {"sign-uploads", "scheduler"}
    named = set(re.findall(r"\btrainshed-([a-z-]+[a-z])", TEXT)) - {"artifacts"}
    assert named
    assert named <= {*load_manifest(), *accounts}


@pytest.mark.parametrize("origins", ["", "https://a.example.com,https://b.example.com"])
def test_the_doctor_gets_the_settings_of_the_output(tmp_path, origins):
    (command,) = re.findall(r"^ *(env .*) make doctor$", COMMANDS, re.MULTILINE)
    (output,) = [block for block in blocks() if block.address == "doctor_environment"]
    settings = dict.fromkeys(re.findall(r"\b([A-Z_]{5,}) =", str(output.body["value"])), "x") | {
        "ALLOWED_ORIGINS": origins
    }
    (tmp_path / "doctor.json").write_text(json.dumps(settings))
    done = subprocess.run(["bash", "-c", f"{command} env"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert settings.items() <= dict(line.partition("=")[::2] for line in done.stdout.splitlines()).items()


def test_the_supabase_cli_finds_its_files():
    config = tomllib.loads((REPOSITORY / "infra/supabase/config.toml").read_text())
    assert config["api"]["schemas"] == ["public"]
    for path in config["db"]["seed"]["sql_paths"]:
        assert (REPOSITORY / "infra/supabase" / path).is_file()
    assert list((REPOSITORY / "infra/supabase/migrations").glob("*.sql"))
