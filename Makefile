# phasewatt's commands, for a person and for CI alike. `make` lists them.
# The first `demo` or `test` installs the pinned set into .venv; later ones reuse it.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PYTEST_FLAGS ?=
WORKERS ?= 3
MATRIX_FLAGS ?=
DEMO_FLAGS ?=
KILLS ?= 1000
SEED ?=
CHECKED := phasewatt agent collector deploy benchmarks tools tests setup.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-faults test-all lint types matrix clean

help:  ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
	@echo "Options: PYTHON=/path/to/python3 (3.10 to 3.13), PYTEST_FLAGS='-k energy', WORKERS (tests at a time), DEMO_FLAGS, KILLS and SEED of test-faults"

demo: $(VENV)/.installed  ## measure this machine, ship it over MQTT, compare, and write report.html
	@$(BIN)/python deploy/demo.py $(DEMO_FLAGS)

test: $(VENV)/.installed  ## every test that this machine can run
	@sh tools/system_packages.sh mosquitto
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not gpu and not jetson" $(PYTEST_FLAGS)

test-faults: $(VENV)/.installed  ## kill broker, collector and boards over and over: is anything lost, or stored twice?
	@sh tools/system_packages.sh mosquitto
	@$(BIN)/python -m benchmarks.kill_storm --kills $(KILLS) $(if $(SEED),--seed $(SEED))

test-all: lint types test matrix  ## lint, types, tests, and the built wheel on every Python that is here

lint: $(VENV)/.installed  ## style and formatting
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check --quiet $(CHECKED) || { echo "lint: run $(BIN)/ruff format"; exit 1; }

types: $(VENV)/.installed  ## strict typing
	@$(BIN)/mypy

matrix: $(VENV)/.installed  ## the built wheel, tested on every Python from 3.10 to 3.13 that is here
	@sh tools/system_packages.sh mosquitto
	@$(BIN)/python tools/matrix.py $(MATRIX_FLAGS)

clean:  ## remove what these commands made, environments included
	rm -rf $(VENV) $(VENV)-3.* build dist *.egg-info demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: requirements.txt setup.py phasewatt/__init__.py
	@python=$$(PYTHON="$(PYTHON)" sh tools/find_python.sh) && \
		echo "phasewatt: installing the pinned set into $(VENV) with $$python; once, some minutes" && \
		"$$python" -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
