# Optional: one domain for all functions, with the paths of the local stack (/api/training/...). Without it each function
# has its own address, and clients take the map of the output `function_urls`.
locals {
  front_door = local.has_front_door ? toset(["front-door"]) : toset([])

  # One rule per method and path. A preflight goes where the request after it will go.
  routes = flatten([
    for key, function in local.user_functions : [
      for route in flatten([function.route]) : {
        function = key
        method   = split(" ", route)[0]
        path     = "/api/training${replace(split(" ", route)[1], "/\\{[^}]+\\}/", "*")}"
      }
    ]
  ])
}

resource "google_compute_region_network_endpoint_group" "function" {
  for_each = { for key, function in local.user_functions : key => function if local.has_front_door }

  project               = var.project
  region                = var.region
  name                  = "${var.name}-${each.key}"
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = google_cloudfunctions2_function.function[each.key].name
  }
}

resource "google_compute_backend_service" "function" {
  for_each = google_compute_region_network_endpoint_group.function

  project               = var.project
  name                  = "${var.name}-${each.key}"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"

  backend {
    group = each.value.id
  }

  log_config {
    enable      = true
    sample_rate = 0.1
  }
}

resource "google_compute_url_map" "front_door" {
  for_each = local.front_door

  project = var.project
  name    = "${var.name}-${each.key}"
  # Answers an unknown path as every function does: 404 as problem details.
  default_service = google_compute_backend_service.function["init-session"].id

  host_rule {
    hosts        = [var.front_door_domain]
    path_matcher = "functions"
  }

  path_matcher {
    name            = "functions"
    default_service = google_compute_backend_service.function["init-session"].id

    dynamic "route_rules" {
      for_each = local.routes

      content {
        priority = route_rules.key + 1
        service  = google_compute_backend_service.function[route_rules.value.function].id

        dynamic "match_rules" {
          for_each = route_rules.value.method == "GET" ? ["GET", "HEAD"] : [route_rules.value.method]

          content {
            path_template_match = route_rules.value.path

            header_matches {
              header_name = ":method"
              exact_match = match_rules.value
            }
          }
        }

        match_rules {
          path_template_match = route_rules.value.path

          header_matches {
            header_name = ":method"
            exact_match = "OPTIONS"
          }

          header_matches {
            header_name = "access-control-request-method"
            exact_match = route_rules.value.method
          }
        }
      }
    }
  }
}

resource "google_compute_global_address" "front_door" {
  for_each = local.front_door

  project = var.project
  name    = "${var.name}-${each.key}"
}

resource "google_compute_managed_ssl_certificate" "front_door" {
  for_each = local.front_door

  project = var.project
  # A certificate cannot change its domain, and one in use cannot be deleted.
  name = "${var.name}-${substr(sha256(var.front_door_domain), 0, 8)}"

  managed {
    domains = [var.front_door_domain]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_ssl_policy" "front_door" {
  for_each = local.front_door

  project         = var.project
  name            = "${var.name}-${each.key}"
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"
}

resource "google_compute_target_https_proxy" "front_door" {
  for_each = local.front_door

  project          = var.project
  name             = "${var.name}-${each.key}"
  url_map          = google_compute_url_map.front_door[each.key].id
  ssl_certificates = [google_compute_managed_ssl_certificate.front_door[each.key].id]
  ssl_policy       = google_compute_ssl_policy.front_door[each.key].id
}

resource "google_compute_global_forwarding_rule" "front_door" {
  for_each = local.front_door

  project               = var.project
  name                  = "${var.name}-${each.key}"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.front_door[each.key].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.front_door[each.key].id
}
