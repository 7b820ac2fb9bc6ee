# The same commands here, in CI and in the README.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
ALL := .venv-all
ALL_STAMP := $(ALL)/.setup-stamp
AUDIT := .venv-audit
AUDIT_STAMP := $(AUDIT)/.setup-stamp

# Tests and measurements start hundreds of processes; each would compile every module again, half a second.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-all setup-system run test test-all coverage lint bench soak audit sbom lock clean

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

setup-all: $(ALL_STAMP) ## Make .venv-all with every framework besides; about 3 GB

$(ALL_STAMP): requirements/all.lock requirements/torch.txt pyproject.toml
	@echo "Setting up $(ALL) with every framework, once: some minutes; later runs start at once"
	@test -x $(ALL)/bin/python || $(PYTHON) -m venv --without-pip $(ALL)
	@$(PYTHON) -m pip --python $(ALL)/bin/python install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/all.lock
	@$(PYTHON) -m pip --python $(ALL)/bin/python install --quiet --disable-pip-version-check --no-deps -r requirements/torch.txt
	@$(PYTHON) -m pip --python $(ALL)/bin/python install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup-system: ## Debian packages for benchmarks and pictures (wrk, h2load, nghttpd, chromium, poppler); run needs none, test needs none
	apt-get install --yes --no-install-recommends wrk nghttp2-client nghttp2-server chromium poppler-utils strace

run: setup ## The main job: choose, train, prove, serve and call a model, then keep serving
	@$(BIN)/servable demo

test: setup lint ## Lint, types, layers and all tests
	@$(BIN)/pytest -q -m "not soak" --numprocesses 2 --dist worksteal

coverage: setup ## The same tests, and which lines and branches they reach; takes twice as long
	@$(BIN)/pytest -q -m "not soak" --numprocesses 2 --dist worksteal --cov --cov-report term:skip-covered --cov-fail-under 90

test-all: setup-all ## The tests of every framework: PyTorch, TensorFlow, XGBoost, CatBoost, transformers ...
	@$(ALL)/bin/pytest -q -m "frameworks and not soak" --numprocesses 2 --dist loadfile

lint: setup ## ruff, mypy --strict and the layer contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## Measure against ten other servers, half an hour to an hour; writes bench/RESULTS.md
	@$(BIN)/python -m bench

soak: setup ## The tests that take too long for every change, and every property on many more examples
	@SERVABLE_TEST_EXAMPLES=10 $(BIN)/pytest -q -m "soak or hypothesis"

$(AUDIT_STAMP): requirements/audit.lock
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv --without-pip $(AUDIT)
	@$(PYTHON) -m pip --python $(AUDIT)/bin/python install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r requirements/audit.lock
	@touch $@

audit: $(AUDIT_STAMP) ## Ask PyPI what is known against the locked packages; needs the internet
	@$(AUDIT)/bin/python -m supply audit

sbom: $(AUDIT_STAMP) ## Write the software bill of materials (CycloneDX) to dist/servable.cdx.json
	@$(AUDIT)/bin/python -m supply sbom --check

# PyTorch comes from requirements/torch.txt, without the libraries for GPUs that other builds bring.
NOT_LOCKED := --no-emit-package torch --no-emit-package triton

lock: setup ## Write the lock files anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade --group test --group build --extra train --extra monitoring pyproject.toml -o requirements/test.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group test --group build --group frameworks --extra train --extra monitoring --constraint requirements/test.lock --extra postgresql $(NOT_LOCKED) pyproject.toml -o requirements/all.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade requirements/audit.in -o requirements/audit.lock

clean: ## Remove the environment and everything made by tools
	rm -rf $(VENV) $(ALL) $(AUDIT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov dist build
