"""Every function gets the settings that its code reads, and nothing more.

What a function reads follows from its main.py: the services that its target builds, and the readers of
shared/settings.py that they call. Every endpoint reads a caller's settings besides.
"""

import ast
import functools
import inspect
import re

import pytest

from container.app import load_manifest
from dev.home import REPOSITORY
from shared import settings
from tests.infrastructure.terraform import TERRAFORM

MANIFEST = load_manifest()
READERS = {
    "allowed_origins",
    "auth_settings",
    "buckets",
    "queue_settings",
    "storage_origin",
    "storage_settings",
    "supabase_settings",
}
BY_EVERY_ENDPOINT = {"auth_settings", "allowed_origins"}
# Where the deployment needs something else than the default, which is meant for Google Cloud and Supabase as hosted.
# SIGNER_KEY_FILE and CLOUD_TASKS_EMULATOR_HOST are the local stack's alone.
DEFAULTS_HOLD = {
    "CLOUD_TASKS_EMULATOR_HOST",
    "JWT_AUDIENCE",
    "JWT_ISSUER",
    "JWT_JWKS_URL",
    "OIDC_ISSUER",
    "OIDC_JWKS_URL",
    "SIGNED_URL_SECONDS",
    "SIGNER_KEY_FILE",
    "STORAGE_PUBLIC_URL",
}
BROWSERS = {"anyone", "user", "user_or_service"}
SECRETS = {"JWT_HS256_SECRET", "SUPABASE_SERVICE_KEY"}
# Read where it is written: the log's project, the server's threads.
BY_THE_PLATFORM = {"GOOGLE_CLOUD_PROJECT", "THREADS"}
# Read where they are needed, not in shared/settings.py. Of these the deployment gives the project, and the key to who
# has a database (the product's backend shows it too); Cloud Run gives K_..., the local stack the emulator's address,
# and who wants traces OTEL_... (docs/observability.md).
READ_ELSEWHERE = {
    "GOOGLE_CLOUD_PROJECT",
    "K_REVISION",
    "K_SERVICE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_SERVICE_NAME",
    "STORAGE_EMULATOR_HOST",
    "SUPABASE_SERVICE_KEY",
}


@functools.cache
def calls(source: str) -> dict[str, set[str]]:
    """Return for each function of a main.py the names that it calls."""
    tree = ast.parse((REPOSITORY / "functions" / source / "main.py").read_text())
    return {
        node.name: {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def readers(name: str) -> set[str]:
    """Return the readers of settings that a function reaches."""
    known = calls(MANIFEST[name]["source"])
    reached, waiting = set(), {MANIFEST[name]["target"]}
    while waiting:
        reached |= waiting
        waiting = {called for one in waiting for called in known.get(one, ())} - reached
    # Where anyone may call, nobody's token is looked at.
    by_its_endpoint = {"allowed_origins"} if MANIFEST[name]["caller"] == "anyone" else BY_EVERY_ENDPOINT
    return (reached & READERS) | by_its_endpoint


def variables(reader: str) -> set[str]:
    """Return the environment variables that a reader reads."""
    return set(re.findall(r'"([A-Z][A-Z0-9_]+)"', inspect.getsource(getattr(settings, reader))))


def demanded(name: str) -> set[str]:
    """Return the settings that a deployment must give a function."""
    entry = MANIFEST[name]
    found = {variable for reader in readers(name) for variable in variables(reader)} - DEFAULTS_HOLD
    if "queue_settings" in readers(name):
        # Its main.py may name another setting than the default for where its tasks go.
        source = (REPOSITORY / "functions" / entry["source"] / "main.py").read_text()
        (found_name,) = re.findall(r'queue_settings\(os\.environ(?:, "([A-Z_]+)")?\)', source)
        found = (found - {"TASKS_TARGET_URL"}) | {found_name or "TASKS_TARGET_URL"}
    # auth_settings reads what all kinds of callers need; a function has one kind.
    if not entry["caller"].startswith("user"):
        found -= {"JWT_HS256_SECRET"}
    if entry["caller"] not in BROWSERS:
        found -= {"ALLOWED_ORIGINS"}
    if entry["caller"] != "scheduler":
        found -= {"SCHEDULER_EMAIL"}
    if "queue_settings" not in readers(name):
        found -= {"TASKS_EMAIL", "OIDC_AUDIENCE"}
        found |= {"scheduler": {"OIDC_AUDIENCE"}, "task": {"OIDC_AUDIENCE", "TASKS_EMAIL"}}.get(entry["caller"], set())
    return found


def given(name: str) -> set[str]:
    """Return the settings that Terraform gives a function, by the conditions in functions.tf."""
    entry = MANIFEST[name]
    holds = {
        "": True,
        'function.caller != "anyone"': entry["caller"] != "anyone",
        "contains(local.database_functions, key)": entry.get("database", True),
        "contains(local.hs256_functions, key)": entry["caller"].startswith("user"),
        "contains(local.user_callers, function.caller)": entry["caller"] in BROWSERS,
        'function.caller == "scheduler"': entry["caller"] == "scheduler",
        'function.caller == "task"': entry["caller"] == "task",
        'contains(try(function.settings, []), "buckets")': "buckets" in entry.get("settings", ()),
        "can(function.signs)": "signs" in entry,
        "can(function.queue)": "queue" in entry,
    }
    text = (TERRAFORM / "functions.tf").read_text()
    parts = re.findall(r"^      (?:([^\n]+?) \? )?\{\n(.*?)^      \}", text, re.DOTALL | re.MULTILINE)
    assert {condition for condition, _ in parts} == set(holds)
    set_here = "".join(part for condition, part in parts if holds[condition])
    found = set(re.findall(r"^\s+([A-Z0-9_]+) += ", set_here, re.MULTILINE))
    if "queue" in entry:
        assert "(local.functions[function.queue].address_setting) = local.addresses[function.queue]" in set_here
        found.add(MANIFEST[entry["queue"]]["address_setting"])
    return found


@pytest.mark.parametrize("name", MANIFEST)
def test_a_function_gets_the_settings_that_its_code_reads_and_nothing_more(name):
    assert given(name) - BY_THE_PLATFORM == demanded(name)


def test_secrets_come_from_secret_manager_and_nothing_else_does():
    text = (TERRAFORM / "functions.tf").read_text()
    from_there = re.findall(r"([A-Z0-9_]+) = google_secret_manager_secret_version\.", text)
    assert set(from_there) == SECRETS
    assert len(re.findall("|".join(SECRETS), text)) == len(SECRETS)


def test_what_opens_files_of_strangers_has_no_key_and_no_right():
    assert not {"SUPABASE_SERVICE_KEY", "JWT_HS256_SECRET", "SIGNER_EMAIL"} & given("convert-model")
    assert not {"uploads", "artifacts", "signs", "queue"} & MANIFEST["convert-model"].keys()


def test_a_reader_that_nobody_names_here_is_found():
    functions = {name: value for name, value in vars(settings).items() if inspect.isfunction(value)}
    assert {name for name, value in functions.items() if "environ" in inspect.signature(value).parameters} == READERS


def test_nothing_is_read_past_the_readers():
    files = [path for folder in ("functions", "shared") for path in (REPOSITORY / folder).rglob("*.py")]
    read = re.compile(r"(?:os\.environ(?:\.get\(|\[)|getenv\()\s*\"([^\"]+)\"")
    found = {name for path in files if path.name != "settings.py" for name in read.findall(path.read_text())}
    assert found == READ_ELSEWHERE
