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
WHEELHOUSE_FLAGS ?=
KILLS ?= 1000
SEED ?=
# Accessibility is judged by axe-core (MPL-2.0), whose script this package holds; its Python code and playwright are not used.
AXE := axe-playwright-python==0.1.8
HERE := not gpu and not jetson and not nspawn and not arm64 and not images
CHECKED := phasewatt agent collector deploy benchmarks tools tests setup.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-faults test-install test-arm64 test-images test-all lint types matrix wheelhouse \
	debian-package clean

help:  ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16
	@echo "Options: PYTHON=/path/to/python3 (3.10 to 3.13), PYTEST_FLAGS='-k energy', WORKERS (tests at a time), DEMO_FLAGS, KILLS and SEED of test-faults"

demo: $(VENV)/.installed  ## measure this machine, ship it over MQTT, compare, and write report.html
	@$(BIN)/python deploy/demo.py $(DEMO_FLAGS)

test: $(VENV)/.installed  ## every test that this machine can run
	@sh tools/system_packages.sh mosquitto
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "$(HERE)" $(PYTEST_FLAGS)

test-faults: $(VENV)/.installed  ## kill broker, collector and boards over and over: is anything lost, or stored twice?
	@sh tools/system_packages.sh mosquitto
	@$(BIN)/python -m benchmarks.kill_storm --kills $(KILLS) $(if $(SEED),--seed $(SEED))

wheelhouse: $(VENV)/.installed  ## the agent's wheels for boards without a network, aarch64 and x86-64
	@$(BIN)/python tools/wheelhouse.py $(WHEELHOUSE_FLAGS)

debian-package: wheelhouse  ## the agent as dist/phasewatt-agent_VERSION_all.deb
	@$(BIN)/python tools/debian_package.py

test-install: $(VENV)/.installed  ## a Debian machine that boots: install, kill, hang, reboot, upgrade, remove; 5 to 15 min, root
	@sh tools/system_packages.sh debootstrap systemd-container
	@$(BIN)/python -m pytest tests/machine -m nspawn $(PYTEST_FLAGS)

test-arm64: $(VENV)/.installed  ## the agent on Debian arm64 under emulation; 10 to 20 min, 10 more at the first time, root
	@sh tools/system_packages.sh debootstrap qemu-user-static
	@$(BIN)/python -m pytest tests/machine -m arm64 $(PYTEST_FLAGS)

test-images: $(VENV)/.installed  ## container images of agent and collector, really built and run; 5 to 15 min, root
	@sh tools/system_packages.sh debootstrap buildah
	@$(BIN)/python -m pytest tests/machine -m images $(PYTEST_FLAGS)

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
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps $(AXE)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
