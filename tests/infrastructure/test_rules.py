"""What infra/terraform promises beyond what the provider checks: least rights, and nothing written in two places."""

import re

import pytest
import yaml

from container.app import load_manifest
from dev.home import REPOSITORY
from dev.rights import SIGNERS
from dev.start import MOST_TASK_RETRIES
from shared.adapters.cloud_tasks import DISPATCH_DEADLINE_S
from shared.publication import results_prefix
from shared.records.objects import (
    archives_prefix,
    chunks_prefix,
    conversions_prefix,
    data_sets_prefix,
    models_prefix,
    pictures_prefix,
    steps_prefix,
)
from shared.web.endpoint import BASE_PATH
from tests.infrastructure.terraform import TERRAFORM, Block, blocks, resource, resources, unquoted

MANIFEST = load_manifest()
STORAGE = yaml.safe_load((REPOSITORY / "infra/storage.yaml").read_text())
IAM = [block for block in blocks() if block.kind == "resource" and "_iam_" in block.labels[0]]
RESULTS = {"results/", "models/", "pictures/"}
GRANTS = [block for block in IAM if not block.labels[0].endswith("_custom_role")]
FUNCTION = resource("google_cloudfunctions2_function", "function")
SERVICE = FUNCTION.body["service_config"][0]
BUCKET = resource("google_storage_bucket", "bucket").body


def local(name: str) -> str:
    """Return a local value as it is written."""
    text = "".join(path.read_text() for path in TERRAFORM.glob("*.tf"))
    found = re.search(rf"^  {name} +=(.*?)^(?:  \w+ +=|}})", text, re.MULTILINE | re.DOTALL)
    assert found, name
    code = "\n".join(line for line in found[1].splitlines() if not line.lstrip().startswith("#"))
    return " ".join(code.split())


def test_every_function_of_the_manifest_is_deployed():
    assert local("functions") == 'yamldecode(file("${path.module}/../../functions/manifest.yaml"))'
    assert FUNCTION.text("for_each") == "${local.functions}"
    assert resource("google_storage_bucket_object", "bundle").text("for_each") == "${local.functions}"


def test_a_function_is_made_of_its_own_bundle_and_begins_at_its_target():
    build = FUNCTION.body["build_config"][0]
    assert build["entry_point"] == "${each.value.target}"
    source = build["source"][0]["storage_source"][0]
    assert source["object"] == "${google_storage_bucket_object.bundle[each.key].name}"
    bundle = resource("google_storage_bucket_object", "bundle")
    assert bundle.text("name") == "${local.bundles[each.key]}"
    assert bundle.text("source") == "${var.bundles}/${local.bundles[each.key]}"


def test_functions_run_on_the_python_of_the_image():
    (version,) = set(
        re.findall(r"^FROM python:([\d.]+)-", (REPOSITORY / "container/Dockerfile").read_text(), re.MULTILINE)
    )
    assert unquoted(FUNCTION.body["build_config"][0]["runtime"]) == f"python{version.replace('.', '')}"


def test_functions_have_the_memory_the_time_and_the_concurrency_of_the_manifest():
    assert SERVICE["available_memory"] == '"${each.value.memory_mib}Mi"'
    assert SERVICE["timeout_seconds"] == "${each.value.timeout_s}"
    assert SERVICE["max_instance_request_concurrency"] == "${each.value.concurrency}"


def test_an_instance_has_as_many_threads_as_it_takes_requests():
    environment = str(SERVICE["environment_variables"]).replace(" ", "")
    assert environment.endswith("{THREADS=tostring(each.value.concurrency)})}")


def test_every_function_has_an_account_of_its_own():
    account = resource("google_service_account", "function")
    assert account.text("for_each") == "${local.functions}"
    assert account.text("account_id") == "${var.name}-${each.key}"
    assert SERVICE["service_account_email"] == "${google_service_account.function[each.key].email}"


@pytest.mark.parametrize("name", MANIFEST)
def test_the_name_of_an_account_fits(name):
    # The longest prefix that variables.tf allows, against the 30 characters of an account's id.
    assert len("x" * 12 + "-" + name) <= 30


@pytest.mark.parametrize("block", GRANTS, ids=lambda block: block.address)
def test_everybody_may_call_only_the_functions_that_users_call(block):
    member = block.text("member")
    assert member != "allAuthenticatedUsers"
    if member == "allUsers":
        assert block.labels[0] == "google_cloud_run_v2_service_iam_member"
        assert block.text("role") == "roles/run.invoker"
        assert block.text("for_each") == "${local.user_functions}"


def test_the_functions_that_users_call_are_those_whose_caller_is_a_user():
    assert local("user_functions") == (
        "{ for key, function in local.functions : key => function if contains(local.user_callers, function.caller) }"
    )
    assert local("user_callers") == '["anyone", "user", "user_or_service"]'
    callers = {entry["caller"] for entry in MANIFEST.values()}
    assert callers <= {"anyone", "user", "user_or_service", "scheduler", "task"}


def test_grants_add_members_and_never_replace_those_of_others():
    assert {block.labels[0].rpartition("_iam_")[2] for block in GRANTS} == {"member"}


def test_no_account_has_a_role_on_the_project_but_the_builder_who_writes_its_logs():
    on_projects = [block for block in GRANTS if block.labels[0].startswith(("google_project", "google_organization"))]
    assert [(block.address, block.text("role")) for block in on_projects] == [
        ("google_project_iam_member.builder_logs", "roles/logging.logWriter")
    ]
    assert on_projects[0].text("member") == "${google_service_account.builder.member}"


def test_no_broad_role_is_granted():
    granted = {block.text("role") for block in GRANTS}
    assert granted == {
        "${google_project_iam_custom_role.objects[each.value.action].id}",
        "${google_project_iam_custom_role.sign.id}",
        "roles/artifactregistry.writer",
        "roles/cloudtasks.enqueuer",
        "roles/iam.serviceAccountUser",
        "roles/logging.logWriter",
        "roles/run.invoker",
        "roles/secretmanager.secretAccessor",
        "roles/storage.objectViewer",
    }


def test_who_may_have_an_account_sign_cannot_become_it():
    role = resource("google_project_iam_custom_role", "sign")
    assert role.body["permissions"] == ['"iam.serviceAccounts.signBlob"']
    grant = resource("google_service_account_iam_member", "sign")
    assert grant.text("service_account_id").startswith("${google_service_account.signer[")
    assert "iam.serviceAccountTokenCreator" not in "".join(path.read_text() for path in TERRAFORM.glob("*.tf"))


def test_signers_may_do_what_the_local_stack_lets_them_sign():
    actions = {"GET": "read", "PUT": "create"}
    found = re.findall(r'(\w+) = { bucket = "(\w+)", rights = \[(.*?)\] }', local("signers"))
    assert {name: (bucket, rights) for name, bucket, rights in found} == {
        name: (bucket, ", ".join(f'"{actions[method]}{prefix and " "}{prefix}"' for method, prefix in allowed))
        for name, (bucket, allowed) in SIGNERS.items()
    }


def test_an_action_on_objects_is_one_permission():
    assert local("object_roles") == (
        '{ create = "storage.objects.create" delete = "storage.objects.delete" '
        'list = "storage.objects.list" read = "storage.objects.get" }'
    )


@pytest.mark.parametrize("name", MANIFEST)
def test_rights_on_objects_are_bound_to_a_prefix_of_the_bucket(name):
    places = {"uploads": {"chunks/", "steps/", "datasets/"}, "artifacts": {*RESULTS, "conversions/", "archives/"}}
    for bucket, prefixes in places.items():
        for right in MANIFEST[name].get(bucket, ()):
            action, _, prefix = right.partition(" ")
            assert action in {"list", "read", "create", "delete"}
            assert prefix in prefixes or (action == "list" and not prefix)


@pytest.mark.parametrize("name", MANIFEST)
def test_names_in_rights_exist(name):
    entry = MANIFEST[name]
    assert entry.get("signs", "uploads") in SIGNERS
    if "queue" in entry:
        assert MANIFEST[entry["queue"]]["caller"] == "task"
        assert "address_setting" in MANIFEST[entry["queue"]]
    if entry.get("enqueues"):
        assert "queue" in entry


def test_only_the_scheduler_and_the_queues_reach_the_functions_that_they_call():
    ingress = local("ingress")
    for caller in ("anyone", "user", "user_or_service"):
        assert f'{caller} = local.has_front_door ? "ALLOW_INTERNAL_AND_GCLB" : "ALLOW_ALL"' in ingress
    assert SERVICE["ingress_settings"] == "${local.ingress[each.value.caller]}"
    assert 'scheduler = "ALLOW_INTERNAL_ONLY"' in ingress
    assert 'task = "ALLOW_INTERNAL_ONLY"' in ingress
    for name, account in (("scheduler", "scheduler"), ("tasks", "tasks")):
        grant = resource("google_cloud_run_v2_service_iam_member", name)
        assert grant.text("member") == f"${{google_service_account.{account}.member}}"


def test_every_queue_gives_up_where_the_local_one_does():
    retry = resource("google_cloud_tasks_queue", "queue").body["retry_config"][0]
    assert retry["max_attempts"] == 1 + MOST_TASK_RETRIES


def test_a_queue_sends_no_more_at_once_than_its_function_takes():
    limits = resource("google_cloud_tasks_queue", "queue").body["rate_limits"][0]
    assert limits["max_concurrent_dispatches"] == "${var.max_training_instances * each.value.concurrency}"


@pytest.mark.parametrize("name", [name for name, entry in MANIFEST.items() if entry["caller"] == "task"])
def test_a_task_may_take_as_long_as_its_function(name):
    assert MANIFEST[name]["timeout_s"] <= DISPATCH_DEADLINE_S


def test_the_scheduler_calls_with_a_token_for_the_function_it_calls():
    target = resource("google_cloud_scheduler_job", "job").body["http_target"][0]
    token = target["oidc_token"][0]
    assert token["service_account_email"] == "${google_service_account.scheduler.email}"
    assert token["audience"] == "${local.addresses[each.key]}"
    assert target["uri"] == '"${local.addresses[each.key]}${split(" ", each.value.route)[1]}"'
    assert target["http_method"] == '${split(" ", each.value.route)[0]}'
    assert resource("google_cloud_scheduler_job", "job").body["schedule"] == "${var.cleanup_schedule}"


def test_a_scheduled_function_has_one_route():
    for entry in MANIFEST.values():
        assert entry["caller"] != "scheduler" or isinstance(entry["route"], str)


@pytest.mark.parametrize("block", resources("google_storage_bucket"), ids=lambda block: block.address)
def test_a_bucket_is_private_and_is_not_destroyed(block: Block):
    assert block.body["uniform_bucket_level_access"] is True
    assert block.text("public_access_prevention") == "enforced"
    assert block.body["force_destroy"] is False
    assert block.body["lifecycle"][0]["prevent_destroy"] is True


def test_buckets_are_made_as_the_storage_file_says():
    bucket = resource("google_storage_bucket", "bucket")
    assert local("storage") == 'yamldecode(file("${path.module}/../storage.yaml"))'
    assert bucket.text("for_each") == "${local.storage}"
    used = set(re.findall(r"each\.value\.(\w+)", (TERRAFORM / "storage.tf").read_text()))
    assert used >= {key for entry in STORAGE.values() for key in entry}
    said = {key for entry in STORAGE.values() for key in entry["cors"]}
    assert set(re.findall(r"cors\.value\.(\w+)", (TERRAFORM / "storage.tf").read_text())) == said


def test_time_deletes_what_is_temporary_and_nothing_that_is_kept():
    # An empty prefix, or none, is every object.
    swept = [prefix for entry in STORAGE.values() for rule in entry["lifecycle"] for prefix in rule["prefixes"]]
    kept = [data_sets_prefix(""), results_prefix(""), models_prefix(""), pictures_prefix("")]
    assert not [prefix for prefix in swept if any(name.startswith(prefix) for name in kept)]
    temporary = [chunks_prefix(""), steps_prefix(""), conversions_prefix(""), archives_prefix("")]
    assert {f"{prefix}/" for prefix in swept} == set(temporary)
    assert all(rule["delete_after_days"] >= 1 for entry in STORAGE.values() for rule in entry["lifecycle"])

    rules = [part['"lifecycle_rule"'] for part in BUCKET["dynamic"] if '"lifecycle_rule"' in part]
    conditions = [rule["content"][0]["condition"][0] for rule in rules]
    (of_names,) = [condition for condition in conditions if "age" in condition]
    assert of_names["age"] == "${lifecycle_rule.value.delete_after_days}"
    assert of_names["matches_prefix"] == "${lifecycle_rule.value.prefixes}"
    # What is left deletes versions that something newer has taken the place of.
    assert [condition["with_state"] for condition in conditions if condition is not of_names] == ['"ARCHIVED"']


def test_results_that_were_deleted_can_be_had_back_and_chunks_are_gone():
    assert (STORAGE["uploads"]["soft_delete_seconds"], STORAGE["uploads"]["versioning"]) == (0, False)
    assert STORAGE["artifacts"]["soft_delete_seconds"] >= 7 * 86400
    assert STORAGE["artifacts"]["versioning"] is True
    assert BUCKET["versioning"][0]["enabled"] == "${each.value.versioning}"
    kept = BUCKET["soft_delete_policy"][0]["retention_duration_seconds"]
    assert kept.endswith(": each.value.soft_delete_seconds)}")


def test_a_page_gets_the_headers_and_methods_of_its_bucket():
    (cors,) = [part['"cors"'] for part in BUCKET["dynamic"] if '"cors"' in part]
    assert cors["for_each"].endswith("? [each.value.cors] : []}")
    (content,) = cors["content"]
    assert {name: content[name] for name in ("origin", "method", "response_header", "max_age_seconds")} == {
        "origin": "${var.allowed_origins}",
        "method": "${cors.value.methods}",
        "response_header": "${cors.value.response_headers}",
        "max_age_seconds": "${cors.value.max_age_seconds}",
    }


def test_no_secret_gets_into_the_state():
    for version in resources("google_secret_manager_secret_version"):
        assert "secret_data" not in version.body
        assert "secret_data_wo" in version.body
    secret = [block for block in blocks() if block.kind == "variable" and re.search("secret(_key)?$", block.labels[0])]
    assert len(secret) == 2
    for variable in secret:
        assert variable.body["ephemeral"] is True
        assert variable.body["sensitive"] is True


def test_a_first_deployment_takes_three_settings_and_the_two_keys_of_supabase():
    demanded = {block.labels[0] for block in blocks() if block.kind == "variable" and "default" not in block.body}
    first = (TERRAFORM / "environments/first.tfvars.example").read_text()
    assert set(re.findall(r"^(\w+) +=", first, re.MULTILINE)) == {"project", "region", "supabase_url"}
    assert demanded == {"project", "region", "supabase_url", "supabase_publishable_key"}


def test_the_console_gets_the_configuration_that_it_reads():
    (output,) = [block for block in blocks() if block.address == "console_config"]
    read = (REPOSITORY / "console/src/configuration.ts").read_text()
    members = re.search(r"export interface Configuration \{(.*?)^\}", read, re.DOTALL | re.MULTILINE)
    assert members
    known = set(re.findall(r"^  (\w+)\??:", members[1], re.MULTILINE))
    # The local stack alone has users that everybody may know.
    assert set(re.findall(r"\b(\w+)\b *=(?!=|>)", str(output.body["value"]))) == known - {"people"}


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_everything_that_is_set_or_given_out_says_what_it_is(kind):
    for block in blocks():
        if block.kind == kind:
            assert block.text("description").endswith((".", "it.")), block.address


@pytest.mark.parametrize("file", sorted(TERRAFORM.glob("environments/*.tfvars.example")), ids=lambda file: file.name)
def test_an_environment_sets_only_what_there_is(file):
    known = {block.labels[0] for block in blocks() if block.kind == "variable"}
    assert set(re.findall(r"^(\w+) +=", file.read_text(), re.MULTILINE)) <= known


def test_the_front_door_leads_to_every_route_that_users_call():
    assert "for key, function in local.user_functions" in local("routes")
    assert "for route in flatten([function.route])" in local("routes")
    assert f'path = "{BASE_PATH}$' in local("routes")


def test_an_instance_has_whole_processors_and_their_number_a_cap_and_none_waits_unless_it_is_asked_for():
    # Below one, Cloud Run sends an instance one request at a time, whatever the concurrency.
    assert SERVICE["available_cpu"] == '${each.value.memory_mib > 2048 ? "2" : "1"}'
    assert SERVICE["max_instance_count"] == (
        '${each.value.caller == "task" ? var.max_training_instances : var.max_instances}'
    )
    assert SERVICE["min_instance_count"] == "${lookup(var.min_instances, each.key, 0)}"
    (warm,) = [block for block in blocks() if block.address == "min_instances"]
    assert warm.body["default"] == {}


def test_errors_a_silent_cleanup_the_quota_of_signatures_and_the_money_are_watched():
    policies = resources("google_monitoring_alert_policy")
    assert {block.labels[1] for block in policies} == {"error_rate", "cleanup", "sign_blob_quota"}
    assert all(block.text("notification_channels") == "${local.notification_channels}" for block in policies)
    assert resource("google_billing_budget", "month")


def test_the_frontend_gets_the_address_of_every_function_that_users_call():
    (output,) = [block for block in blocks() if block.address == "function_urls"]
    assert "for key, function in local.user_functions" in str(output.body["value"])


def test_every_alert_is_explained():
    operations = (REPOSITORY / "docs/operations.md").read_text()
    for alert in resources("google_monitoring_alert_policy"):
        (heading,) = re.findall(r'operations\.md, \\"(.+)\\"', alert.body["documentation"][0]["content"])
        assert f"### {heading}\n" in operations
