"""What the alerts watch: the numbers that their titles name, and conditions that can come true."""

import re
from typing import Any

from tests.infrastructure.terraform import blocks, resource, resources, unquoted


def alert(name: str) -> tuple[str, str, dict[str, Any]]:
    """Return an alert's title, the one of its condition, and the condition."""
    policy = resource("google_monitoring_alert_policy", name)
    (entry,) = policy.body["conditions"]
    ((condition,),) = [value for key, value in entry.items() if key.startswith("condition_")]
    return policy.text("display_name"), unquoted(entry["display_name"]), condition


def terms(condition: dict[str, Any], name: str = "filter") -> set[str]:
    """Return what a filter demands."""
    return set(unquoted(condition[name]).replace('\\"', '"').split(" AND "))


def number_of(text: str) -> int:
    (number,) = re.findall(r"\d+(?= )", text)
    return int(number)


def test_the_alert_about_errors_compares_a_functions_server_errors_with_all_that_it_answered():
    title, words, condition = alert("error_rate")
    errors, answers = terms(condition), terms(condition, "denominator_filter")
    assert errors - answers == {'metric.labels.response_code_class = "5xx"'}
    assert answers - errors == set()
    assert {'metric.type = "run.googleapis.com/request_count"', "${local.services}"} <= answers
    assert condition["threshold_value"] * 100 == number_of(title)
    assert condition["aggregations"] == condition["denominator_aggregations"]
    (aggregation,) = condition["aggregations"]
    assert unquoted(aggregation["alignment_period"]) == f"{60 * number_of(words)}s"
    assert aggregation["group_by_fields"] == ['"resource.label.service_name"']


def test_the_alert_about_cleanup_misses_its_successful_calls_for_longer_than_the_schedule_pauses():
    _, words, condition = alert("cleanup")
    assert 'metric.labels.response_code_class = "2xx"' in terms(condition)
    name = "${google_cloudfunctions2_function.function[each.key].name}"
    assert f'resource.labels.service_name = "{name}"' in terms(condition)
    assert unquoted(condition["duration"]) == f"{3600 * number_of(words)}s"
    (schedule,) = [block for block in blocks() if block.address == "cleanup_schedule"]
    # Each hour: some calls may fail before somebody is woken.
    assert re.fullmatch(r"\d+ \* \* \* \*", schedule.text("default"))
    assert number_of(words) > 1


def test_the_alert_about_signatures_counts_refusals_of_the_service_that_signs():
    _, _, condition = alert("sign_blob_quota")
    assert terms(condition) >= {
        'metric.type = "serviceruntime.googleapis.com/quota/exceeded"',
        'resource.labels.service = "iamcredentials.googleapis.com"',
    }
    assert condition["threshold_value"] == 0


def test_alerts_sound_when_something_is_greater_and_not_when_it_is_less():
    for policy in resources("google_monitoring_alert_policy"):
        _, _, condition = alert(policy.labels[1])
        assert unquoted(condition.get("comparison", "COMPARISON_GT")) == "COMPARISON_GT"


def test_the_budget_tells_of_half_of_it_all_of_it_and_what_will_be_more():
    budget = resource("google_billing_budget", "month").body
    rules = [
        (rule["threshold_percent"], unquoted(rule.get("spend_basis", "CURRENT_SPEND")))
        for rule in budget["threshold_rules"]
    ]
    # 1.0 is all of it: https://registry.terraform.io/providers/hashicorp/google/latest/docs/resources/billing_budget
    assert rules == [(0.5, "CURRENT_SPEND"), (1.0, "CURRENT_SPEND"), (1.0, "FORECASTED_SPEND")]
    assert budget["all_updates_rule"][0]["monitoring_notification_channels"] == "${local.notification_channels}"
    assert budget["amount"][0]["specified_amount"][0]["units"] == "${tostring(var.monthly_budget)}"
