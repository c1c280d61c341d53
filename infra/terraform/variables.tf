# Three settings have no default: project, region, supabase_url. The two keys of Supabase come from the environment
# (TF_VAR_supabase_publishable_key, TF_VAR_supabase_secret_key). Everything else is optional, sorted by name.

variable "project" {
  description = "Id of the Google Cloud project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "Give the project's id, for example trainshed-prod, not its name or number."
  }
}

variable "region" {
  description = "Region of functions, buckets and queues; choose the one nearest to the Supabase project."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Give a region such as europe-west1, not a zone or a multi-region."
  }
}

variable "supabase_url" {
  description = "Address of the Supabase project, for example https://abcdefgh.supabase.co."
  type        = string

  validation {
    condition     = can(regex("^https://[^/]+$", var.supabase_url))
    error_message = "Give the address with https:// and without a path or a final slash."
  }
}

variable "supabase_publishable_key" {
  description = "Supabase's publishable key (sb_publishable_...); no secret, browsers have it too."
  type        = string

  validation {
    condition     = !startswith(var.supabase_publishable_key, "sb_secret_")
    error_message = "This is the secret key; every browser would get it. Give the publishable one."
  }
}

variable "supabase_secret_key" {
  description = "Supabase's secret key (sb_secret_...); goes to Secret Manager and not into the state. Needed when its version is new."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "alert_email" {
  description = "Who is told when an alert fires; nobody if empty."
  type        = string
  default     = ""
}

variable "allowed_origins" {
  description = "Web origins whose pages may call the functions and the buckets, for example https://app.example.com."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for origin in var.allowed_origins : can(regex("^https?://[^/*]+$", origin))])
    error_message = "Each origin is a scheme and a host, without a path, a final slash or a wildcard."
  }
}

variable "billing_account" {
  description = "Billing account of the project; with it, a budget is watched. Empty: none."
  type        = string
  default     = ""
}

variable "bundles" {
  description = "Folder with the bundles that `make bundles` wrote."
  type        = string
  default     = "../../build/bundles"
}

variable "cleanup_schedule" {
  description = "When the scheduled functions are called, as cron says it, in UTC."
  type        = string
  default     = "7 * * * *"
}

variable "front_door_domain" {
  description = "Domain of the optional front door, for example train.example.com. Empty: each function has its own address only."
  type        = string
  default     = ""
}

variable "jwt_hs256_secret" {
  description = "The JWT secret of a Supabase project that still signs with HS256; goes to Secret Manager and not into the state."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "jwt_hs256_secret_version" {
  description = "Raise it to store a new jwt_hs256_secret; 0 where tokens are signed with asymmetric keys."
  type        = number
  default     = 0
}

variable "max_instances" {
  description = "Most instances of one function: the cap on cost, because budgets only warn."
  type        = number
  default     = 20
}

variable "max_training_instances" {
  description = "Most instances of a function that takes tasks: as many models are trained at once."
  type        = number
  default     = 10
}

variable "min_instances" {
  description = "Instances that stay warm, by function, for example { create-upload = 1 }."
  type        = map(number)
  default     = {}
}

variable "monthly_budget" {
  description = "Monthly budget in the billing account's currency."
  type        = number
  default     = 50
}

variable "name" {
  description = "Prefix of everything that is created, so that two deployments fit into one project."
  type        = string
  default     = "trainshed"

  validation {
    # Service accounts have 30 characters, of which the longest function takes 17.
    condition     = can(regex("^[a-z][a-z0-9-]{0,10}[a-z0-9]$", var.name))
    error_message = "At most 12 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "supabase_secret_key_version" {
  description = "Raise it to store a new supabase_secret_key: the functions are then deployed with it."
  type        = number
  default     = 1
}

variable "uploads_soft_delete_seconds" {
  description = "How long deleted chunks and data sets can be brought back; they are billed meanwhile. Overrides infra/storage.yaml."
  type        = number
  default     = null
}
