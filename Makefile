# s5wm: `make race` trains a policy and shows its flight, `make test` runs the tests; both set up .venv first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup race test test-fast faults deploy-results lint format types docs bench learn lock clean
MAKEFLAGS += --no-print-directory

VENV ?= .venv
EXTRA ?=
PYTHON ?=
BIN := $(VENV)/bin

# What `make race` does; interrupted, the same command goes on where it stopped.
RACE ?= $(BIN)/s5wm race --run runs/race
# Benchmarks of `make bench`.
BENCH ?= $(BIN)/s5wm bench env --json
# Measured part of `make faults`; the committed figures: FAULTS_OUT=results/faults/cpu.json.
FAULTS_OUT ?= runs/faults.json
FAULTS ?= $(BIN)/python benchmarks/faults.py --out $(FAULTS_OUT)
# Two workers: each compiles on a core of its own.
PYTEST ?= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options: EXTRA=cuda (CUDA GPU), PYTHON=python3.12, VENV=.venv"

setup: ## create or update .venv (minutes the first time, nothing to do later)
	@VENV="$(VENV)" EXTRA="$(EXTRA)" PYTHON="$(PYTHON)" tools/setup.sh

race: setup ## train S5WM on the Split-S, evaluate it, draw the flight
	@$(RACE)

test: setup ## the test suite (minutes)
	@$(PYTEST)

test-fast: setup ## the test suite without its slow tests
	@$(PYTEST) -m "not slow and not learning and not gpu and not faults"

faults: setup ## break runs in every way known: kills, flipped bits, full disks, wrong inputs, a soak (40 minutes)
	@$(PYTEST) -m "not learning and not gpu" tests/faults tests/unit/training tests/unit/test_config_errors.py tests/unit/test_structure.py
	@$(PYTEST) -m faults tests/laws tests/unit --ignore tests/unit/training
	@$(FAULTS)

lint: setup ## ruff, import direction, spelling
	@$(BIN)/ruff format --check --output-format concise .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports >/dev/null || $(BIN)/lint-imports
	@$(BIN)/codespell

format: setup ## format the code and repair what ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: setup ## strict type check of src
	@$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: setup ## build the documentation into site/ and check its links
	@$(BIN)/zensical build --clean --strict
	@$(BIN)/python tools/check_site.py site

bench: setup ## time the environment on this machine
	@$(BENCH)

deploy-results: setup ## export, fly and time the shipped policies; each simulator by its own extra, and Betaflight
	@$(BIN)/python benchmarks/transfer.py
	@SCIPY_ARRAY_API=1 $(BIN)/python benchmarks/transfer.py --targets crazyflow
	@$(BIN)/python benchmarks/student.py
	@$(BIN)/python benchmarks/deploy.py
	@$(BIN)/python benchmarks/robustness.py
	@$(BIN)/python benchmarks/punctual.py
	@$(BIN)/python benchmarks/tables.py

learn: setup ## tests that train agents to a threshold (long)
	@$(BIN)/python -m pytest -m learning

lock: setup ## renew requirements.lock for every supported Python
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --extra dev --extra docs --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock

clean: ## remove caches and build outputs (keeps .venv and runs)
	@rm -rf build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
