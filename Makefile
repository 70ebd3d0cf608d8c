# Everything here builds what it needs by itself: an environment of its own in .venv, from Python
# 3.11 or later, and nothing outside this folder. PYTHON=python3.13 with any target names the Python,
# which then has an environment beside that one, in .build/venv-3.13.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run demo test test-failed test-interpreters faults check lint generate check-generated bench properties clean

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Node trusts only the certificates that it brings along; give it the machine's too, as pip and go
# have them.
CERTIFICATES := $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt \
	/etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))
ifneq ($(CERTIFICATES),)
export NODE_EXTRA_CA_CERTS ?= $(CERTIFICATES)
endif

ifdef PYTHON
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ifeq ($(VERSION),)
$(error PYTHON=$(PYTHON) is no Python that runs here)
endif
VENV := .build/venv-$(VERSION)
CANDIDATES := $(PYTHON)
else
VENV := .venv
# A Python that can build an environment; the first of these that is 3.11 or later.
CANDIDATES := $(addprefix python3.,11 12 13 14 15 16 17 18 19) python3 python
endif
BIN := $(VENV)/bin
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
FACTS := pyproject.toml constraints.txt

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Serve; from the sandbox, unless REPLICATE_API_TOKEN is set
	@exec $(BIN)/mediagate serve

demo: $(VENV)/.run ## Take a tour against a running server, or one of its own
	@exec $(BIN)/mediagate demo

# Each file stays on one worker: what it starts for its tests is started once. Tests wait more than
# they compute: with a worker for each core, the cores were busy 60 % of the time.
WORKERS ?= $(or $(shell nproc 2>/dev/null | awk '{print int($$1 * 3 / 2)}'),auto)
test: $(VENV)/.dev ## Run the tests; TESTS='tests/contract -k enum' for some of them, WORKERS=0 in one process
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

test-failed: $(VENV)/.dev ## Run what failed last again, each test alone and three times
	$(BIN)/python scripts/rerun_failed_tests.py

test-interpreters: $(VENV)/.dev ## Run the quick tests on each other Python on this machine
	$(BIN)/python scripts/check_interpreters.py

faults: $(VENV)/.dev ## Kill it, pause it, take its power: what is not green yet; GROUP=crashes, FRESH=1, STATUS=1, TESTS='-k kill'
ifdef TESTS
	$(BIN)/python -m pytest -m faults_full tests $(TESTS)
else
	@$(BIN)/python -m tests.faults.groups $(GROUP) $(if $(FRESH),--fresh) $(if $(STATUS),--status)
endif

properties: $(VENV)/.dev ## Search the properties that tests state with many examples at random; TESTS=tests/ledger for some
	$(BIN)/python -m pytest -n $(WORKERS) -m hypothesis --hypothesis-profile=random $(TESTS)

check: lint test ## Everything that must hold before a change goes in

lint: $(VENV)/.dev ## All of check but the tests
	$(BIN)/python scripts/generate.py --check
	$(BIN)/python scripts/generate_sync_client.py --check
	$(BIN)/python scripts/lint_protos.py
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

generate: $(VENV)/.dev ## Write the stubs of every language from protos/, and the blocking client from the asyncio one
	$(BIN)/python scripts/generate.py
	$(BIN)/python scripts/generate_sync_client.py

check-generated: $(VENV)/.dev ## Compare what is generated with its sources
	$(BIN)/python scripts/generate.py --check
	$(BIN)/python scripts/generate_sync_client.py --check

# Folders, revisions, settings and numbers of the bench, as its options take them.
WITH = $(if $($(1)),$(2) '$($(1))')
bench: $(VENV)/.run ## Measure speed; AGAINST=folder-or-revision compares; QUICK=1 for a part
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(call WITH,SETTINGS,--settings) \
		$(call WITH,AGAINST,--against) $(call WITH,AGAINST_SETTINGS,--against-settings) \
		$(call WITH,AGAINST_PYTHON,--against-python) $(call WITH,ROUNDS,--rounds) \
		$(call WITH,SEED,--seed) $(call WITH,STORE,--store) $(if $(ROWS),--rows $(ROWS)) \
		$(if $(FAIL_IF_WORSE),--fail-if-worse)

clean: ## Remove what was built; data and outputs stay
	rm -rf $(VENV) .build dist

$(VENV)/.made:
	@for python in $(CANDIDATES); do \
		if "$$python" -c '$(SUITABLE)' 2>/dev/null; then \
			echo "Building the environment in $(VENV) with $$python."; \
			"$$python" -m venv $(VENV) && touch $@; \
			exit; \
		fi; \
	done; \
	echo "Python 3.11 or later, with its venv module, is needed: $(CANDIDATES)." >&2; \
	exit 1

$(VENV)/.run: $(VENV)/.made $(FACTS)
	@echo "Installing what serving needs; once, about a minute."
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[server,sandbox,cli]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made $(FACTS)
	@echo "Installing what tests and checks need; once, about a minute."
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[server,sandbox,cli,dev]'
	@touch $@ $(VENV)/.run
