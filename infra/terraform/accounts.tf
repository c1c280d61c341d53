# One account per function, and none of them has a role on the project: what a function may do is granted on the bucket,
# the queue, the secret and the signer that it uses (functions/manifest.yaml), and nowhere else.
resource "google_service_account" "function" {
  for_each = local.functions

  project      = var.project
  account_id   = "${var.name}-${each.key}"
  display_name = "Trainshed function ${each.key}"

  depends_on = [google_project_service.service]
}

# Signs addresses of objects. A function may have it sign, and cannot become it: signBlob gives no access token.
resource "google_service_account" "signer" {
  for_each = local.signers

  project      = var.project
  account_id   = "${var.name}-sign-${each.key}"
  display_name = "Trainshed signer: ${join(", ", each.value.rights)} in ${each.value.bucket}"

  depends_on = [google_project_service.service]
}

resource "google_service_account" "scheduler" {
  project      = var.project
  account_id   = "${var.name}-scheduler"
  display_name = "Trainshed scheduler: calls the scheduled functions"

  depends_on = [google_project_service.service]
}

resource "google_service_account" "tasks" {
  project      = var.project
  account_id   = "${var.name}-tasks"
  display_name = "Trainshed task queues: call the functions that take tasks"

  depends_on = [google_project_service.service]
}

resource "google_service_account" "builder" {
  project      = var.project
  account_id   = "${var.name}-builder"
  display_name = "Trainshed builder: builds the functions' images"

  depends_on = [google_project_service.service]
}

# Only definitions; they are granted on single resources below.
resource "google_project_iam_custom_role" "sign" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_sign"
  title       = "Trainshed: sign as an account"
  description = "Sign bytes as the account, without getting its access tokens."
  permissions = ["iam.serviceAccounts.signBlob"]

  depends_on = [google_project_service.service]
}

resource "google_project_iam_custom_role" "objects" {
  for_each = local.object_roles

  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_objects_${each.key}"
  title       = "Trainshed: ${each.key} objects"
  description = "One action on objects; no predefined role has it alone."
  permissions = [each.value]

  depends_on = [google_project_service.service]
}

resource "google_service_account_iam_member" "sign" {
  for_each = { for key, function in local.functions : key => function if can(function.signs) }

  service_account_id = google_service_account.signer[each.value.signs].name
  role               = google_project_iam_custom_role.sign.id
  member             = google_service_account.function[each.key].member
}

# Without logs a failed build cannot be understood, and logs are written to the project: the one role on it.
resource "google_project_iam_member" "builder_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.builder.member
}
