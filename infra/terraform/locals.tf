locals {
  # The one list of functions, and the one description of the buckets.
  functions = yamldecode(file("${path.module}/../../functions/manifest.yaml"))
  storage   = yamldecode(file("${path.module}/../storage.yaml"))

  user_callers = ["anyone", "user", "user_or_service"]

  # Users call these; the platform's invoker check is off for them, and the function checks the user's token itself.
  user_functions      = { for key, function in local.functions : key => function if contains(local.user_callers, function.caller) }
  scheduled_functions = { for key, function in local.functions : key => function if function.caller == "scheduler" }
  task_functions      = { for key, function in local.functions : key => function if function.caller == "task" }

  # These get keys: of the database, and where a legacy project needs it, of users' tokens.
  database_functions = [for key, function in local.functions : key if try(function.database, true)]
  hs256_functions    = [for key, function in local.functions : key if local.has_hs256_secret && startswith(function.caller, "user")]

  # These may put tasks into the queue that their settings name.
  enqueuing_functions = { for key, function in local.functions : key => function if try(function.enqueues, false) }

  # Cloud Run's own address of a service, known before the service exists: functions may name each other in their
  # settings. https://docs.cloud.google.com/run/docs/triggering/https-request#deterministic
  addresses = {
    for key, function in local.functions :
    key => "https://${var.name}-${key}-${data.google_project.project.number}.${var.region}.run.app"
  }

  # What a signed address allows is what its signer may do: one signer per use (dev/rights.py has the same ones).
  signers = {
    artifacts   = { bucket = "artifacts", rights = ["read"] }
    conversions = { bucket = "artifacts", rights = ["read", "create conversions/"] }
    results     = { bucket = "artifacts", rights = ["create results/"] }
    uploads     = { bucket = "uploads", rights = ["create chunks/"] }
  }

  # Who may do what to objects, as the manifest and the signers say it: { bucket, rights, member } by account and bucket.
  holders = merge(concat(
    [for key, function in local.functions : {
      for bucket in keys(local.storage) : "${key}/${bucket}" => {
        bucket = bucket
        rights = try(function[bucket], [])
        member = google_service_account.function[key].member
      }
    }],
    [for key, signer in local.signers : {
      "sign-${key}/${signer.bucket}" = {
        bucket = signer.bucket
        rights = signer.rights
        member = google_service_account.signer[key].member
      }
    }],
  )...)

  # One grant per account, bucket, action and prefix: { "abort-upload/uploads/delete chunks/" = {...} }.
  object_grants = merge([
    for key, holder in local.holders : {
      for right in holder.rights : "${key}/${right}" => {
        bucket = holder.bucket
        action = split(" ", right)[0]
        prefix = try(split(" ", right)[1], null)
        member = holder.member
      }
    }
  ]...)

  object_roles = {
    create = "storage.objects.create"
    delete = "storage.objects.delete"
    list   = "storage.objects.list"
    read   = "storage.objects.get"
  }

  has_hs256_secret = var.jwt_hs256_secret_version > 0
  has_front_door   = var.front_door_domain != ""
}

data "google_project" "project" {
  project_id = var.project
}
