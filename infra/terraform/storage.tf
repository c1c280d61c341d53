resource "google_storage_bucket" "bucket" {
  #checkov:skip=CKV_GCP_62:Access logs are written per request of every chunk; Cloud Audit Logs are switched on where they are wanted
  #checkov:skip=CKV_GCP_78:Versions of chunks would be billed and never read; artifacts are versioned (infra/storage.yaml)
  for_each = local.storage

  project       = var.project
  name          = "${var.project}-${var.name}-${each.key}"
  location      = var.region
  storage_class = each.value.storage_class

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = each.value.versioning
  }

  # Cloud Storage keeps deleted objects for a week unless told otherwise, and bills them.
  soft_delete_policy {
    retention_duration_seconds = (
      each.key == "uploads" && var.uploads_soft_delete_seconds != null
      ? var.uploads_soft_delete_seconds
      : each.value.soft_delete_seconds
    )
  }

  dynamic "cors" {
    for_each = length(var.allowed_origins) > 0 ? [each.value.cors] : []

    content {
      origin          = var.allowed_origins
      method          = cors.value.methods
      response_header = cors.value.response_headers
      max_age_seconds = cors.value.max_age_seconds
    }
  }

  dynamic "lifecycle_rule" {
    for_each = each.value.lifecycle

    content {
      action {
        type = "Delete"
      }
      condition {
        age            = lifecycle_rule.value.delete_after_days
        matches_prefix = lifecycle_rule.value.prefixes
      }
    }
  }

  # Old versions of a versioned bucket are billed for as long as they are kept.
  dynamic "lifecycle_rule" {
    for_each = each.value.versioning ? [each.value.soft_delete_seconds / 86400] : []

    content {
      action {
        type = "Delete"
      }
      condition {
        days_since_noncurrent_time = lifecycle_rule.value
        with_state                 = "ARCHIVED"
      }
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.service]
}

# Listing is asked of the bucket, so it cannot be bound to a prefix; it shows names, which are uuids.
resource "google_storage_bucket_iam_member" "objects" {
  for_each = local.object_grants

  bucket = google_storage_bucket.bucket[each.value.bucket].name
  role   = google_project_iam_custom_role.objects[each.value.action].id
  member = each.value.member

  dynamic "condition" {
    for_each = each.value.prefix == null ? [] : [each.value.prefix]

    content {
      title = "${each.value.action} ${condition.value}"
      expression = join("", [
        "resource.name.startsWith(\"projects/_/buckets/",
        google_storage_bucket.bucket[each.value.bucket].name,
        "/objects/${condition.value}\")",
      ])
    }
  }
}

# The functions' sources, by content: a bundle that did not change is not deployed again.
resource "google_storage_bucket" "bundles" {
  #checkov:skip=CKV_GCP_62:Only Terraform writes and only the builder reads here; what they do is in the audit and build logs
  project  = var.project
  name     = "${var.project}-${var.name}-bundles"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = true
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.service]
}

resource "google_storage_bucket_object" "bundle" {
  for_each = local.functions

  bucket = google_storage_bucket.bundles.name
  name   = local.bundles[each.key]
  source = "${var.bundles}/${local.bundles[each.key]}"

  lifecycle {
    precondition {
      condition     = local.bundles[each.key] != null
      error_message = "There is no bundle of ${each.key} in ${var.bundles}: run `make bundles` first."
    }
    # The old object stays until nothing refers to it, so that a failed deployment can be repeated.
    create_before_destroy = true
  }
}

resource "google_storage_bucket_iam_member" "builder" {
  bucket = google_storage_bucket.bundles.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.builder.member
}
