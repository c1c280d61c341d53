# `make help` lists the targets. Everything installs itself on first use.
# Settings: PORT (8080), TRAINSHED_HOME (.trainshed), ALLOWED_ORIGINS (other pages that may call), PYTHON (python3).

.DEFAULT_GOAL := help
.SILENT:
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh

PYTHON ?= python3
RUN := .venv/bin/python

# A login shell always has a USER; only one given to make counts.
WHO := $(if $(filter command line,$(origin USER)),$(USER),alice)

# For tools that talk even when all is well.
LOG := .venv/check.log

.PHONY: help installed tools start demo doctor token run screenshots reset bundles cost release openapi check test requirements

help: ## Show this list
	awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

start: installed ## Run the whole stack in the foreground; Ctrl-C ends it
	exec $(RUN) -m dev.start

demo: installed ## Send real data through the running stack, and get models back
	exec $(RUN) -m dev.demo

doctor: installed ## Check a deployment's storage, or the running local stack's; JSON=1
	exec $(RUN) -m operations.doctor $(if $(JSON),--json)

token: installed ## Print an access token; USER=alice, bob, service, scheduler or tasks
	exec $(RUN) -m dev.issue_token '$(WHO)'

run: installed ## Serve one function alone beside the running stack; F=init-session PORT=9001
	exec $(RUN) -m dev.run '$(F)' '$(PORT)'

screenshots: installed ## Render the console's main screens into docs/images, beside the running stack
	exec $(RUN) -m dev.screenshots

reset: installed ## Delete the data of the stack
	exec $(RUN) -m dev.reset

bundles: installed ## Write one deployable zip per function below build/bundles
	exec $(RUN) -m dev.bundles

cost: installed ## Say what a deployment costs; ARGS="--stored-gib 100 --front-door"
	exec $(RUN) -m operations.cost $(ARGS)

release: tools ## Tag a release with its bundles and its part of the changelog; VERSION=0.2.0, DRY_RUN=1
	exec $(RUN) -m dev.release '$(VERSION)' $(if $(DRY_RUN),--dry-run)

openapi: installed ## Write the description of the API to docs/openapi.yaml
	exec $(RUN) -m dev.openapi

check: tools ## Check style, types, imports and SQL
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/mypy --no-error-summary
	.venv/bin/lint-imports --no-logo > $(LOG) 2>&1 || { cat $(LOG); exit 1; }
	.venv/bin/sqlfluff lint --disable-progress-bar infra/supabase dev > $(LOG) 2>&1 || { cat $(LOG); exit 1; }
	$(RUN) -m dev.npm run --silent check > $(LOG) 2>&1 || { cat $(LOG); exit 1; }
	echo "Style, types, imports and SQL are in order."

test: check ## Run every check and every test, on a stack of their own
	$(RUN) -m dev.npm run --silent test
	exec $(RUN) -m dev.test

requirements: installed ## Compile the dependency groups of pyproject.toml into requirements/
	exec $(RUN) -m dev.compile_requirements

tools: installed
	$(PYTHON) -m dev.install --checks

installed:
	command -v $(PYTHON) > /dev/null || { echo "Trainshed needs Python 3.11, 3.12 or 3.13; there is no $(PYTHON) on PATH."; exit 1; }
	$(PYTHON) -m dev.install
