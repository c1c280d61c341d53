output "artifacts_bucket" {
  description = "Bucket of results and models, for `make doctor` and for a team's own trainer."
  value       = google_storage_bucket.bucket["artifacts"].name
}

output "console_config" {
  description = "The console's config.json: where this deployment's servers are; `trainshed login --config` takes it too."
  value = merge(
    {
      supabaseUrl            = var.supabase_url
      supabasePublishableKey = var.supabase_publishable_key
    },
    local.has_front_door ? { baseUrl = "https://${var.front_door_domain}" } : {},
    local.has_front_door ? {} : {
      urls = { for key, function in local.user_functions : key => google_cloudfunctions2_function.function[key].service_config[0].uri }
    },
  )
}

output "front_door" {
  description = "Address to point the front door's domain at, and the base address of all functions behind it."
  value = {
    for key, address in google_compute_global_address.front_door : key => {
      ip_address = address.address
      url        = "https://${var.front_door_domain}"
    }
  }
}

output "function_urls" {
  description = "Address of each function that users call, by name: `urls` of the TypeScript client, and what the Python client takes."
  value = {
    for key, function in local.user_functions : key => google_cloudfunctions2_function.function[key].service_config[0].uri
  }
}

output "doctor_environment" {
  description = "Settings under which `make doctor` checks this deployment."
  value = {
    ALLOWED_ORIGINS  = join(",", var.allowed_origins)
    ARTIFACTS_BUCKET = google_storage_bucket.bucket["artifacts"].name
    SIGNER_EMAIL     = google_service_account.signer["uploads"].email
    UPLOADS_BUCKET   = google_storage_bucket.bucket["uploads"].name
  }
}

output "uploads_bucket" {
  description = "Bucket of chunks and data sets."
  value       = google_storage_bucket.bucket["uploads"].name
}
