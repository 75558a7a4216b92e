# Callboard's commands for people; `make help` lists them.
#
# Everything runs from .venv, which the first `make run` or `make test` creates from the hash-pinned
# requirements-dev.txt. pip keeps the configuration of the machine: mirrors and certificates are its business.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.packages
READY := $(VENV)/.ready
UV := $(BIN)/uv
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# The first interpreter that answers with 3.11 or newer; a version manager's shim may exist and still refuse.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$name"; break; }; \
	done)

# Discovered, so that a new family's file is locked without an edit here.
REQUIREMENTS_IN := $(sort $(patsubst ./%,%,$(shell find . -name 'requirements*.in' -not -path './.*' -not -path './bench/*')))
# What is only measured is locked by itself: a peer must not hold back what Callboard runs on.
BENCH_IN := $(wildcard bench/requirements*.in)

# Where tests and linters look. Directories appear as the project grows.
SOURCES := $(wildcard shared services bench tests deploy/dev)

.PHONY: help
help:  ## List these commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Rebuilt in place, never from scratch: a running `make run` keeps its files while another shell updates.
$(PACKAGES): requirements-dev.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "Callboard needs Python 3.11 or newer; python3.13, python3.12, python3.11 and python3 are missing or older." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Callboard needs Python 3.11 or newer; $(PYTHON) is not." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
		echo "On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@rm -f $@
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "Preparing $(VENV) with $(PYTHON); a minute or two, once."; \
		"$(PYTHON)" -m venv --clear $(VENV); fi
	@# Bytecode is left to the first import: compiling every package takes longer than installing it.
	@$(PIP) install --no-compile --require-hashes -r requirements-dev.txt
	@touch $@

# The checkout itself, editable; setuptools comes from the lock, so this asks no index.
$(READY): $(PACKAGES) pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

.PHONY: run
run: $(READY)  ## Start Callboard: queue server (unless REDIS_URL or REDIS_HOST is set), API and worker.
	@exec $(BIN)/python -m deploy.dev.run

# A server that is missing skips its tests on a laptop and fails them when CI is set. Extra arguments: ARGS='-k name'.
.PHONY: test
test: $(READY)  ## Run the tests, but for those that kill processes (ARGS='-k name' narrows them).
	@$(BIN)/pytest -m "not faults and not shapes and not deploy" $(ARGS)

.PHONY: test-faults
test-faults: $(READY)  ## Run the tests that kill, freeze and cut off real processes (minutes).
	@$(BIN)/pytest -m faults --timeout 1800 $(ARGS)

.PHONY: test-shapes
test-shapes: $(READY)  ## Run the tests on a cluster, behind Sentinels and on older servers (minutes).
	@$(BIN)/pytest -m shapes $(ARGS)

.PHONY: lint
lint: $(READY)  ## Check style, types and the import rules.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy $(SOURCES)

.PHONY: format
format: $(READY)  ## Format the code and mend what ruff can mend.
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

# The peers have environments of their own: tests and `make run` need none of them. Only what measures them installs them.
BENCH_VENV := .venv-bench
BULLMQ := bench/peers/bullmq
PEERS := $(BENCH_VENV)/main/.ready $(BENCH_VENV)/arq/.ready $(BENCH_VENV)/.bullmq

$(BENCH_VENV)/main/.ready: bench/requirements.txt
$(BENCH_VENV)/arq/.ready: bench/requirements-arq.txt
$(BENCH_VENV)/%/.ready: | $(PACKAGES)
	@echo "Preparing $(@D) for make bench; once."
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip --quiet --disable-pip-version-check install --no-compile --require-hashes -r $<
	@touch $@

# A machine without npm measures the others, and bench says so. Not npm ci: it wants the optional packages of every other
# platform in the lock, which npm itself leaves out of one without addresses.
$(BENCH_VENV)/.bullmq: $(BULLMQ)/package-lock.json
	@if command -v npm >/dev/null; then \
		npm install --prefix $(BULLMQ) --no-save --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error && \
		mkdir -p $(@D) && touch $@; fi

.PHONY: bench
bench: $(READY) $(if $(filter queues scale imports,$(ARGS)),,$(PEERS))  ## Measure Callboard beside its peers and pandas (minutes).
	@$(BIN)/python -m bench $(ARGS)

# Locking must work while a requirements file is out of step, so it depends on uv alone.
$(UV):
	@$(MAKE) --no-print-directory $(PACKAGES)

.PHONY: lock
lock: $(UV)  ## Rebuild every requirements*.txt from its .in (UPGRADE=1 also takes newer releases).
	@echo "constraints.txt"; \
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-annotate \
		--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
		$(REQUIREMENTS_IN) --output-file constraints.txt
	@for source in $(REQUIREMENTS_IN); do \
		echo "$${source%.in}.txt"; \
		$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
			--constraints constraints.txt "$$source" --output-file "$${source%.in}.txt" || exit 1; \
	done
	@for source in $(BENCH_IN); do \
		echo "$${source%.in}.txt"; \
		$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes $(if $(UPGRADE),--upgrade) \
			--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
			"$$source" --output-file "$${source%.in}.txt" || exit 1; \
	done

.PHONY: clean
clean:  ## Remove the environment and all caches, but not .data.
	@rm -rf $(VENV) $(BENCH_VENV) $(BULLMQ)/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
