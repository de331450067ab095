# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
BIN := .venv/bin
# Neighbours in one process, as far as that goes: they share what their module or session makes.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal
# Compiled tests are kept, where a container says no: every process would compile them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-all mutants gpu-check check format rooms hooks clean

help:  ## what each word does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/ready  ## make the virtual environment and install everything, pinned

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.12, for instance")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## the demo study: train through Ray, track in MLflow, write the report
	$(BIN)/fuselab run demo
	$(BIN)/fuselab report demo --strict --require-learned

test: setup  ## quick tests
	$(PYTEST)

test-all: setup  ## quick and slow tests
	$(PYTEST) -m 'slow or not slow'

mutants: setup  ## change the core modules one small thing at a time; do the tests see it? (hours; MUTANTS='harness.statistics.*' for a part)
	$(BIN)/mutmut run --max-children 2 $(MUTANTS)
	$(BIN)/mutmut results

gpu-check: setup  ## what only a GPU can show, in one table (under 8 minutes; needs a GPU)
	$(BIN)/python benchmarks/gpu.py

check: setup  ## format, lint, types, room rules, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: setup  ## put the sources in format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

rooms: setup  ## draw docs/rooms.svg from the imports, write the map of CONTRIBUTING.md
	$(BIN)/python docs/rooms.py
	$(BIN)/python docs/map.py

hooks: setup  ## run `make check` before every commit
	printf '#!/bin/sh\nexec make check\n' > "$$(git rev-parse --git-path hooks)/pre-commit"
	chmod +x "$$(git rev-parse --git-path hooks)/pre-commit"

clean:  ## remove the environment and caches; outputs/ stays (see `fuselab clean`)
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
