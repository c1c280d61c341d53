# `make help` lists the targets. Everything installs itself on first use.
# Settings: PORT (8080), TRAINSHED_HOME (.trainshed), PYTHON (python3).

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

.PHONY: help installed start demo doctor token run reset check test requirements

help: ## Show this list
	awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

start: installed ## Run the whole stack in the foreground; Ctrl-C ends it
	exec $(RUN) -m dev.start

demo: installed ## Send real data through the running stack, and get models back
	exec $(RUN) -m cli.demo

doctor: installed ## Check a deployment's storage, or the running local stack's; JSON=1
	exec $(RUN) -m cli.doctor $(if $(JSON),--json)

token: installed ## Print an access token; USER=alice, bob, service, scheduler or tasks
	exec $(RUN) -m dev.issue_token '$(WHO)'

run: installed ## Serve one function alone beside the running stack; F=init-session PORT=9001
	exec $(RUN) -m dev.run '$(F)' '$(PORT)'

reset: installed ## Delete the data of the stack
	exec $(RUN) -m dev.reset

check: installed ## Check style, types, imports and SQL
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/mypy --no-error-summary
	.venv/bin/lint-imports --no-logo > $(LOG) 2>&1 || { cat $(LOG); exit 1; }
	.venv/bin/sqlfluff lint --disable-progress-bar infra/supabase dev > $(LOG) 2>&1 || { cat $(LOG); exit 1; }
	echo "Style, types, imports and SQL are in order."

test: check ## Run every check and every test, on a stack of their own
	exec $(RUN) -m dev.test

requirements: installed ## Compile the dependency groups of pyproject.toml into requirements/
	exec $(RUN) -m dev.compile_requirements

installed:
	command -v $(PYTHON) > /dev/null || { echo "Trainshed needs Python 3.11, 3.12 or 3.13; there is no $(PYTHON) on PATH."; exit 1; }
	$(PYTHON) -m dev.install
