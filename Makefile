# Everything one does with Steersman. `make` alone lists it.

# The first Python of at least 3.11 on PATH, unless given: make PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# Which build of PyTorch to install: cpu, or cuda.
TORCH ?= cpu

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Written last by the generator.
STUBS := steersman/v1/__init__.py

.DEFAULT_GOAL := help
.PHONY: help setup up down status logs demo test test-long train-check bench faults loadtest loadtest-compare format docs clean

help: ## List what can be made
	@echo "Steersman: train, serve and evaluate reinforcement-learning policies."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "Whatever needs an installation makes it first. Settings: docs/settings.md."

setup: $(STUBS) ## Make the virtual environment, install, generate the stubs

up: setup ## Start the local stack and wait until it answers
	@$(BIN)/python -m deploy.local up

down: setup ## Stop the local stack
	@$(BIN)/python -m deploy.local down

status: setup ## Show the state of the local stack
	@$(BIN)/python -m deploy.local status

logs: setup ## Follow the logs of the local stack, or of one program: make logs PROGRAM=gateway
	@$(BIN)/python -m deploy.local logs --follow $(PROGRAM)

demo: setup ## Train CartPole, deploy the policy, evaluate what is served
	@$(BIN)/python -m deploy.demo

# Tests wait more than they compute, so that more than one for each core pay.
TEST_WORKERS ?= 2
test: setup ## Run every check: lint, format, types, protos, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint protos
	$(BIN)/pytest -n $(TEST_WORKERS) -m "not long"

test-long: setup ## Run the tests that take minutes each: runs that are stopped, killed and resumed, clients of others
	$(BIN)/pytest -n $(TEST_WORKERS) -m long

train-check: setup ## Train every algorithm with its defaults and tell what it has learnt; half an hour
	@$(BIN)/python -m deploy.train_check

SECTION ?= serve
bench: setup ## Measure against a bare server and Ray Serve; ten minutes of an otherwise idle machine
	$(BIN)/python -m bench --section $(SECTION)

faults: setup ## Kill, hang and break parts of a stack under load, and count what clients notice; ten minutes
	$(BIN)/python -m faults

SCENARIO ?= autoscaling
DURATION ?= 600
loadtest: setup ## Load a stack with Locust and judge it: SCENARIO=autoscaling, chaos, soak or knee; five minutes
	$(BIN)/python -m loadtest run --scenario $(SCENARIO) --duration $(DURATION)

loadtest-compare: setup ## The same load on Ray Serve's own gRPC ingress, side by side; seven minutes
	$(BIN)/python -m loadtest run --scenario compare

format: setup ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Generate docs/settings.md and docs/supported.md
	$(BIN)/python -m deploy.settings_table
	$(BIN)/python -m tests.integration.services.trainer.supported_table

clean: ## Stop the local stack and delete all that was made, the virtual environment included
	@if [ -e $(INSTALLED) ]; then $(BIN)/python -m deploy.local clean; fi
	rm -rf $(VENV) var steersman/v1 steersman/inference .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: expected Python 3.11 or newer on PATH" >&2; exit 1; }
	@echo "Making the virtual environment with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): pyproject.toml constraints.txt deploy/install.py | $(VENV)/bin/python
	@echo "Installing (some minutes the first time) ..."
	@$(BIN)/python deploy/install.py --torch=$(TORCH)
	@touch $@

$(STUBS): $(INSTALLED) protos/generate.py $(wildcard protos/steersman/v1/*.proto protos/steersman/*/v1/*.proto)
	@$(BIN)/python protos/generate.py
