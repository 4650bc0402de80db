# One vocabulary for people, hooks and CI. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements/headrace.lock requirements/data.lock
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1

.PHONY: help up down env test test-fast check format golden compile images bench bench-serving bench-features bench-soak bench-rollout lock cluster cluster-down clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: env ## Put the example model in service on this machine
	@headrace up

down: ## Stop everything that `make up` started
	@if [ -x $(BIN)/headrace ]; then headrace down; else echo "nothing to stop: there is no environment yet" >&2; fi

env: $(VENV)/installed ## Make the environment from the locks

$(VENV)/uv: requirements/uv.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Headrace needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) can't make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock \
	  || { echo "uv could not be installed: is a package index reachable? pip's own settings (PIP_INDEX_URL, pip.conf) say which one is used" >&2; exit 4; }
	@touch $@

$(VENV)/installed: $(VENV)/uv $(LOCKS) pyproject.toml
	@echo "installing the environment from the locks (once; about a minute)" >&2
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode $(LOCKS) \
	  || { echo "the environment could not be installed: see above; run the same command again once that is mended" >&2; exit 4; }
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

test: env ## Prove it: every test, the whole loop included
	@python -m pytest

test-fast: env ## The tests that take seconds
	@python -m pytest tests/unit tests/golden

check: env ## Format, lint, types, layers, golden files
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@python -m pipelines.compile --check

format: env ## Format the code
	@ruff check --fix-only --quiet .
	@ruff format .

compile: env ## Write the compiled pipelines (also: golden)
	@python -m pipelines.compile

golden: compile ## Regenerate every golden file (Helm is built from source once, which needs Go)
	@python -m tests.golden.charts

images: ## Build the images with docker
	@for name in serving components infra/images/mlflow; do \
	  docker build --file "$$name/Dockerfile" --build-arg REVISION="$$(git describe --always --abbrev=40 --exclude='*' --dirty)" \
	    --tag "headrace/$$(basename "$$name"):$$(git describe --always --dirty)" .; done

bench: env ## Measure the loop and write docs/benchmarks/loop.md
	@python -m benchmarks.loop

bench-serving: env ## Measure the model service beside its peers and write docs/benchmarks/serving.md
	@python -m benchmarks.serving

bench-features: env ## Measure features by key beside Feast's own reading and write docs/benchmarks/features.md
	@python -m benchmarks.features

bench-soak: env ## Load the service with all kinds of traffic and faults and write docs/benchmarks/soak.md
	@python -m benchmarks.soak

bench-rollout: env ## Roll out good and bad versions under load and write docs/benchmarks/rollout.md
	@python -m benchmarks.rollout

cluster: env ## Have a Kubernetes node of our own on this machine (Linux, root); prints its kubeconfig
	@python -m tests.cluster.node up

cluster-down: ## Remove that node and every trace of it
	@if [ -x $(BIN)/python ]; then python -m tests.cluster.node down; else echo "nothing to remove: there is no environment yet" >&2; fi

lock: env ## Resolve the dependencies anew
	@for name in headrace data uv serving components mlflow; do ./requirements/lock "$$name"; done

clean: down ## Stop everything and forget the environment and all local state
	@rm -rf $(VENV) .headrace
