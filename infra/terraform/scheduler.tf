resource "google_cloud_scheduler_job" "job" {
  for_each = local.scheduled_functions

  project     = var.project
  region      = var.region
  name        = "${var.name}-${each.key}"
  description = "Calls the function ${each.key}"
  schedule    = var.cleanup_schedule
  time_zone   = "Etc/UTC"
  # The function ends before: functions/manifest.yaml.
  attempt_deadline = "${each.value.timeout_s + 30}s"

  retry_config {
    retry_count          = 3
    min_backoff_duration = "30s"
    max_backoff_duration = "300s"
  }

  http_target {
    http_method = split(" ", each.value.route)[0]
    uri         = "${local.addresses[each.key]}${split(" ", each.value.route)[1]}"
    body        = base64encode("{}")
    headers     = { "Content-Type" = "application/json" }

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = local.addresses[each.key]
    }
  }

  depends_on = [google_cloudfunctions2_function.function]
}
