locals {
  # <function>-<hash of its content>.zip, as dev/bundles.py names it; null where there is none.
  bundles = {
    for key, function in local.functions : key => one([
      for file in fileset(var.bundles, "*.zip") : file if can(regex("^${key}-[0-9a-f]{16}\\.zip$", file))
    ])
  }

  # What a function reads from its environment (shared/settings.py), and nothing more: groups of settings by the
  # manifest's `settings`, and what a caller or a signer calls for.
  environment = {
    for key, function in local.functions : key => merge(
      {
        GOOGLE_CLOUD_PROJECT = var.project
      },
      function.caller != "anyone" ? {
        SUPABASE_URL = var.supabase_url
      } : {},
      contains(local.database_functions, key) ? {
        SUPABASE_PUBLISHABLE_KEY = var.supabase_publishable_key
      } : {},
      contains(local.user_callers, function.caller) ? {
        ALLOWED_ORIGINS = join(",", var.allowed_origins)
      } : {},
      function.caller == "scheduler" ? {
        OIDC_AUDIENCE   = local.addresses[key]
        SCHEDULER_EMAIL = google_service_account.scheduler.email
      } : {},
      function.caller == "task" ? {
        OIDC_AUDIENCE = local.addresses[key]
        TASKS_EMAIL   = google_service_account.tasks.email
      } : {},
      contains(try(function.settings, []), "buckets") ? {
        ARTIFACTS_BUCKET = google_storage_bucket.bucket["artifacts"].name
        UPLOADS_BUCKET   = google_storage_bucket.bucket["uploads"].name
      } : {},
      can(function.signs) ? {
        SIGNER_EMAIL = google_service_account.signer[function.signs].email
      } : {},
      can(function.queue) ? {
        OIDC_AUDIENCE = local.addresses[function.queue]
        TASKS_EMAIL   = google_service_account.tasks.email
        TASKS_QUEUE   = google_cloud_tasks_queue.queue[function.queue].id
        # Its name says whose address it is.
        (local.functions[function.queue].address_setting) = local.addresses[function.queue]
      } : {},
    )
  }

  # Secrets by function: the key of the database, and what the tokens of users are checked with in legacy projects.
  secrets = {
    for key, function in local.functions : key => merge(
      contains(local.database_functions, key) ? {
        SUPABASE_SERVICE_KEY = google_secret_manager_secret_version.supabase_secret_key
      } : {},
      contains(local.hs256_functions, key) ? {
        JWT_HS256_SECRET = google_secret_manager_secret_version.jwt_hs256_secret[0]
      } : {},
    )
  }
}

# Not google_cloud_run_v2_service: that resource does not build what it is given
# (docs/decisions, "Functions are deployed as Cloud Functions").
resource "google_cloudfunctions2_function" "function" {
  for_each = local.functions

  project     = var.project
  location    = var.region
  name        = "${var.name}-${each.key}"
  description = "Trainshed: ${join(", ", flatten([each.value.route]))}"

  build_config {
    runtime           = "python312"
    entry_point       = each.value.target
    service_account   = google_service_account.builder.id
    docker_repository = google_artifact_registry_repository.images.id

    source {
      storage_source {
        bucket = google_storage_bucket.bundles.name
        object = google_storage_bucket_object.bundle[each.key].name
      }
    }
  }

  service_config {
    available_memory = "${each.value.memory_mib}Mi"
    # Below a whole CPU an instance takes one request at a time; large memory comes with more of them.
    available_cpu                    = each.value.memory_mib > 2048 ? "2" : "1"
    timeout_seconds                  = each.value.timeout_s
    max_instance_request_concurrency = each.value.concurrency
    min_instance_count               = lookup(var.min_instances, each.key, 0)
    max_instance_count               = each.value.caller == "task" ? var.max_training_instances : var.max_instances
    ingress_settings                 = local.ingress[each.value.caller]
    service_account_email            = google_service_account.function[each.key].email
    all_traffic_on_latest_revision   = true

    # As many threads as requests: with fewer, requests wait inside an instance that Cloud Run holds to be free.
    environment_variables = merge(local.environment[each.key], { THREADS = tostring(each.value.concurrency) })

    dynamic "secret_environment_variables" {
      for_each = local.secrets[each.key]

      content {
        key        = secret_environment_variables.key
        project_id = var.project
        secret     = secret_environment_variables.value.secret
        version    = secret_environment_variables.value.version
      }
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.builder,
    google_project_iam_member.builder_logs,
    google_secret_manager_secret_iam_member.supabase_secret_key,
    google_secret_manager_secret_iam_member.jwt_hs256_secret,
    google_storage_bucket_iam_member.builder,
  ]
}

locals {
  ingress = {
    anyone          = local.has_front_door ? "ALLOW_INTERNAL_AND_GCLB" : "ALLOW_ALL"
    user            = local.has_front_door ? "ALLOW_INTERNAL_AND_GCLB" : "ALLOW_ALL"
    user_or_service = local.has_front_door ? "ALLOW_INTERNAL_AND_GCLB" : "ALLOW_ALL"
    # Scheduler and task queues of the same project count as internal.
    scheduler = "ALLOW_INTERNAL_ONLY"
    task      = "ALLOW_INTERNAL_ONLY"
  }
}

resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84:Images hold public packages and our code and no data; Google's own keys encrypt them
  project       = var.project
  location      = var.region
  repository_id = var.name
  description   = "Images that Cloud Build makes of the functions"
  format        = "DOCKER"

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"

    condition {
      older_than = "2592000s" # 30 days
    }
  }

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"

    most_recent_versions {
      keep_count = 3
    }
  }

  depends_on = [google_project_service.service]
}

resource "google_artifact_registry_repository_iam_member" "builder" {
  project    = var.project
  location   = var.region
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder.member
}

# A browser's preflight carries no token, so the platform must let everybody through to functions that users call; the
# function itself verifies the user's token (shared/web/auth.py).
resource "google_cloud_run_v2_service_iam_member" "user" {
  for_each = local.user_functions

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = "allUsers"

  lifecycle {
    # A function that is made anew has lost its members.
    replace_triggered_by = [google_cloudfunctions2_function.function[each.key].id]
  }
}

resource "google_cloud_run_v2_service_iam_member" "scheduler" {
  for_each = local.scheduled_functions

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.scheduler.member

  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.function[each.key].id]
  }
}

resource "google_cloud_run_v2_service_iam_member" "tasks" {
  for_each = local.task_functions

  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = google_service_account.tasks.member

  lifecycle {
    replace_triggered_by = [google_cloudfunctions2_function.function[each.key].id]
  }
}

# The functions name each other by addresses worked out beforehand; this warns where Cloud Run gives another one.
check "addresses" {
  data "google_cloud_run_v2_service" "scheduled" {
    project  = var.project
    location = var.region
    name     = google_cloudfunctions2_function.function[keys(local.scheduled_functions)[0]].name
  }

  assert {
    condition     = contains(data.google_cloud_run_v2_service.scheduled.urls, local.addresses[keys(local.scheduled_functions)[0]])
    error_message = "Cloud Run gave other addresses than expected (locals.tf): scheduler and task queue cannot reach the functions."
  }
}
