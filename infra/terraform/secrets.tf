resource "google_secret_manager_secret" "supabase_secret_key" {
  project   = var.project
  secret_id = "${var.name}-supabase-secret-key"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.service]
}

# Write-only: Terraform sends the value and forgets it. The functions name this version, so that a new one is a new
# deployment that can be rolled back.
resource "google_secret_manager_secret_version" "supabase_secret_key" {
  secret                 = google_secret_manager_secret.supabase_secret_key.id
  secret_data_wo         = var.supabase_secret_key
  secret_data_wo_version = var.supabase_secret_key_version

  lifecycle {
    # The functions use the old version until they are deployed with the new one.
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "supabase_secret_key" {
  for_each = toset(local.database_functions)

  project   = var.project
  secret_id = google_secret_manager_secret.supabase_secret_key.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.key].member
}

resource "google_secret_manager_secret" "jwt_hs256_secret" {
  count = local.has_hs256_secret ? 1 : 0

  project   = var.project
  secret_id = "${var.name}-jwt-hs256-secret"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.service]
}

resource "google_secret_manager_secret_version" "jwt_hs256_secret" {
  count = local.has_hs256_secret ? 1 : 0

  secret                 = google_secret_manager_secret.jwt_hs256_secret[0].id
  secret_data_wo         = var.jwt_hs256_secret
  secret_data_wo_version = var.jwt_hs256_secret_version

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "jwt_hs256_secret" {
  for_each = toset(local.hs256_functions)

  project   = var.project
  secret_id = google_secret_manager_secret.jwt_hs256_secret[0].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.key].member
}
