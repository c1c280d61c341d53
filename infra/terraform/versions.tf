terraform {
  # Write-only arguments keep the Supabase key out of the state: Terraform 1.11, OpenTofu 1.11.
  required_version = ">= 1.11.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.0.0, < 9.0.0"
    }
  }

  # The state's bucket is named when initializing: terraform init -backend-config="bucket=..."
  backend "gcs" {
    prefix = "trainshed"
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

# Budgets are asked for at an API that wants to know which project pays for the question.
provider "google" {
  alias                 = "billed"
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true
}
