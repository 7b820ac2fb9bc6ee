# The same commands here, in CI and in the README.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp

.DEFAULT_GOAL := help
.PHONY: help setup setup-system run test lint bench soak lock clean

help: ## Show these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## Make .venv with everything that run and test need; does nothing when nothing changed

# The lock is complete, so nothing is resolved: a resolver may prefer a release that is newer than the lock.
# Debian's python3 comes without ensurepip, so the environment is made without pip and filled from outside.
$(STAMP): requirements/test.lock pyproject.toml
	@echo "Setting up $(VENV), once: about a minute; later runs start at once"
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/test.lock
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup-system: ## Debian packages for benchmarks and pictures (wrk, h2load, chromium, poppler); run needs none, test needs none
	apt-get install --yes --no-install-recommends wrk nghttp2-client chromium poppler-utils

run: setup ## The main job: choose, train, prove, serve and call a model, then keep serving
	@$(BIN)/servable demo

test: setup lint ## Lint, types, layers and all tests with coverage
	@$(BIN)/pytest -q -m "not soak" --numprocesses 2 --dist worksteal --cov --cov-report term:skip-covered --cov-fail-under 90

lint: setup ## ruff, mypy --strict and the layer contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## Measure against ten other servers, half an hour; writes bench/RESULTS.md
	@$(BIN)/python -m bench

soak: setup ## The tests that take too long for every change, and every property on many more examples
	@SERVABLE_TEST_EXAMPLES=10 $(BIN)/pytest -q -m "soak or hypothesis"

lock: setup ## Write the lock files anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade --group test --group build --extra train pyproject.toml -o requirements/test.lock

clean: ## Remove the environment and everything made by tools
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov dist build
