# What each alert means, and what to do: docs/operations.md.
locals {
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
  services              = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = starts_with(\"${var.name}-\")"
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_email == "" ? [] : [var.alert_email])

  project      = var.project
  display_name = "Trainshed alerts"
  type         = "email"
  labels       = { email_address = each.value }

  depends_on = [google_project_service.service]
}

resource "google_monitoring_alert_policy" "error_rate" {
  project      = var.project
  display_name = "${var.name}: more than 5 % of a function's answers are server errors"
  combiner     = "OR"

  conditions {
    display_name = "5xx answers / all answers of one function over 10 minutes"

    condition_threshold {
      filter             = "metric.type = \"run.googleapis.com/request_count\" AND metric.labels.response_code_class = \"5xx\" AND ${local.services}"
      denominator_filter = "metric.type = \"run.googleapis.com/request_count\" AND ${local.services}"
      comparison         = "COMPARISON_GT"
      threshold_value    = 0.05
      duration           = "0s"

      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.label.service_name"]
      }

      denominator_aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.label.service_name"]
      }
    }
  }

  notification_channels = local.notification_channels

  documentation {
    mime_type = "text/markdown"
    content   = "See docs/operations.md, \"A function answers with server errors\"."
  }

  depends_on = [google_project_service.service]
}

resource "google_monitoring_alert_policy" "cleanup" {
  for_each = local.scheduled_functions

  project      = var.project
  display_name = "${var.name}: ${each.key} has not run"
  combiner     = "OR"

  conditions {
    display_name = "No successful call for 6 hours"

    condition_absent {
      filter   = "metric.type = \"run.googleapis.com/request_count\" AND metric.labels.response_code_class = \"2xx\" AND resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${google_cloudfunctions2_function.function[each.key].name}\""
      duration = "21600s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  notification_channels = local.notification_channels

  documentation {
    mime_type = "text/markdown"
    content   = "See docs/operations.md, \"Cleanup has not run\"."
  }
}

resource "google_monitoring_alert_policy" "sign_blob_quota" {
  project      = var.project
  display_name = "${var.name}: the quota of signatures is used up"
  combiner     = "OR"

  conditions {
    display_name = "Calls to the credentials API refused for quota"

    condition_threshold {
      filter          = "metric.type = \"serviceruntime.googleapis.com/quota/exceeded\" AND resource.type = \"consumer_quota\" AND resource.labels.service = \"iamcredentials.googleapis.com\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_COUNT_TRUE"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  notification_channels = local.notification_channels

  documentation {
    mime_type = "text/markdown"
    content   = "See docs/operations.md, \"The quota of signatures is used up\"."
  }

  depends_on = [google_project_service.service]
}

resource "google_billing_budget" "month" {
  for_each = toset(var.billing_account == "" ? [] : [var.billing_account])
  provider = google.billed

  billing_account = each.value
  display_name    = "${var.name} in ${var.project}"

  budget_filter {
    projects = ["projects/${data.google_project.project.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }

  threshold_rules {
    threshold_percent = 0.5
  }
  threshold_rules {
    threshold_percent = 1.0
  }
  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = local.notification_channels
  }
}
