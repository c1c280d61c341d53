# One queue per function that takes tasks.
resource "google_cloud_tasks_queue" "queue" {
  for_each = local.task_functions

  project  = var.project
  location = var.region
  name     = "${var.name}-${each.key}"

  rate_limits {
    # More would only wait in front of full instances.
    max_concurrent_dispatches = var.max_training_instances * each.value.concurrency
    max_dispatches_per_second = 5
  }

  retry_config {
    # The first attempt and 10 retries, as the local stack has it (dev/start.py).
    max_attempts  = 11
    min_backoff   = "10s"
    max_backoff   = "300s"
    max_doublings = 5
  }

  stackdriver_logging_config {
    sampling_ratio = 1
  }

  depends_on = [google_project_service.service]
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = local.enqueuing_functions

  project  = var.project
  location = var.region
  name     = google_cloud_tasks_queue.queue[each.value.queue].name
  role     = "roles/cloudtasks.enqueuer"
  member   = google_service_account.function[each.key].member
}

# Who queues a task says as whom it is delivered, which takes the right to act as that account.
resource "google_service_account_iam_member" "act_as_tasks" {
  for_each = local.enqueuing_functions

  service_account_id = google_service_account.tasks.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.function[each.key].member
}
