"""gunicorn's settings inside the container: those that functions-framework runs with, from the same variables."""

import os

bind = f"0.0.0.0:{os.environ.get('PORT', '8080')}"
workers = int(os.environ.get("WORKERS", "1"))
threads = int(os.environ.get("THREADS", "8"))
# The platform ends requests that take too long.
timeout = 0
# A worker that shuts down lets its requests end for as long; Knative and Kubernetes wait 30 s before they kill.
graceful_timeout = 25
limit_request_line = 0
control_socket_disable = True
