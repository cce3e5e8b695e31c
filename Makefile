# The two commands: `make demo` to see it, `make test` to believe it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := -m pip --disable-pip-version-check -qq install
ARGS ?=

.PHONY: help install demo test check lint types contracts format coverage bench chaos fuzz lock clean

help:
	@echo 'make demo      one process, a demo provider, and lines to paste'
	@echo 'make test      every test; ARGS="tests/core -k claim" narrows it'
	@echo 'make check     ruff, mypy, import contracts'
	@echo 'make format    let ruff mend what it can'
	@echo 'make coverage  branch coverage; core and sim must reach 100 %, each from its own tests'
	@echo 'make bench     measure, with the peers beside it in the same run'
	@echo 'make chaos     break real processes for an hour, and hold what callers heard against the ledger'
	@echo 'make fuzz      bytes nobody has thought of, a minute for each reader of them; ARGS="--seconds 600 wire"'
	@echo 'make lock      pin the newest versions in the constraints files'
	@echo 'make clean     remove what the targets above made'

# The stamp lies inside the environment: remove the one and the other is gone too.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "homing needs Python 3.11 or newer; say make PYTHON=/path/to/python3.11")'
	@echo 'installing into .venv'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python $(PIP) --require-hashes -r constraints.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv-bench/.installed: pyproject.toml bench/constraints.txt
	@echo 'installing into .venv-bench'
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python $(PIP) --require-hashes -r bench/constraints.txt
	@touch $@

.venv-fuzz/.installed: pyproject.toml fuzz/constraints.txt
	@echo 'installing into .venv-fuzz'
	@$(PYTHON) -m venv .venv-fuzz
	@.venv-fuzz/bin/python $(PIP) --require-hashes -r fuzz/constraints.txt
	@touch $@

install: .venv/.installed

demo: .venv/.installed
	@$(BIN)/homing demo $(ARGS)

test: .venv/.installed
	@$(BIN)/python -m pytest -n 3 $(ARGS)

# `make -k check` goes on after the first that complains.
check: lint types contracts

lint: .venv/.installed
	$(BIN)/ruff check --output-format concise
	$(BIN)/ruff format --check

types: .venv/.installed
	$(BIN)/mypy

contracts: .venv/.installed
	$(BIN)/lint-imports --no-logo

format: .venv/.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The whole first, for the report; then core and sim, each held to 100 % by its own tests alone.
coverage: .venv/.installed
	@$(BIN)/python -m pytest -n 2 --cov=homing --cov-branch --cov-report=term:skip-covered --cov-report=html
	@$(BIN)/python -m pytest -n 2 tests/core --cov=homing.core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100
	@$(BIN)/python -m pytest -n 2 tests/sim --cov=homing.sim --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

bench: .venv/.installed .venv-bench/.installed
	@$(BIN)/python -m bench $(ARGS)

# libfaketime (to move wall clocks) and root (for network namespaces) are used where they are there.
chaos: .venv/.installed
	@$(BIN)/python -m chaos $(ARGS)

fuzz: .venv-fuzz/.installed
	@PYTHONPATH=src .venv-fuzz/bin/python -m fuzz $(ARGS)

# Universal: one file for every Python from 3.11 on. No header, so that the file says what to install and not whence.
LOCK := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
lock:
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python $(PIP) uv
	@$(LOCK) pyproject.toml --group dev --output-file constraints.txt
	@$(LOCK) --group bench --output-file bench/constraints.txt
	@$(LOCK) pyproject.toml --group fuzz --output-file fuzz/constraints.txt
	@rm -rf .venv-lock

clean:
	rm -rf .venv .venv-bench .venv-fuzz .venv-lock .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
	find src tests -name __pycache__ -prune -exec rm -rf {} +
