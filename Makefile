# Every target sets up what it needs, on a machine with Python >= 3.12, git and make.
# `make env` makes .venv exactly as uv.lock says; nothing is installed outside this folder.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

UV_VERSION := 0.13.9
UV := .uv-env/bin/uv
BIN := .venv/bin
DOCS := .venv-docs
OLDEST := .venv-oldest
PEERS := .venv-peers
# The tests that `make test-oldest` runs against the oldest JAX: what touches JAX's inner parts.
OLDEST_TESTS := $(wildcard tests/test_architecture.py tests/transforms tests/train)
# The tests that are compiled as users compile; the others go without XLA's optimizations, to save time.
OPTIMIZED_TESTS := tests/train tests/faults tests/docs tests/examples tests/laws/test_statistics.py \
  tests/distributions/test_weak_derivatives.py
# One process for each processor, of which each takes some 2 GB; at most eight.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 8 ? n : 8)))
MINUTES ?= 60
# Pyro is compared in an environment of its own. On Linux the torch of PyPI is built for CUDA, with some 5 GB of
# libraries; the index of its makers has one for CPUs, and is passed over where it cannot be reached.
# Another Python, for which a wheel is at hand: make bench-peers PEERS_PYTHON=/path/to/python
PYRO_VERSION := 1.9.1
TORCH_VERSION := 2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PEERS_PYTHON ?= $(shell scripts/find-python.sh)

export JAX_PLATFORMS ?= cpu
# Compiled once, when they are installed: some machines never write what an import compiles.
export UV_COMPILE_BYTECODE := 1
# An activated environment of the caller's must not be the one that is changed.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.PHONY: help env demo test test-oldest soak check format bench bench-peers docs lock clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

env: .venv/.stamp ## make .venv from uv.lock

demo: .venv/.stamp ## the cone posterior and the autoencoder, with pictures in examples/output/
	mkdir -p examples/output
	$(BIN)/python examples/cone.py
	$(BIN)/python examples/vae.py

test: .venv/.stamp ## all tests, and the examples in docstrings
	$(BIN)/pytest -n $(WORKERS) --dist worksteal tests $(OPTIMIZED_TESTS:%=--ignore=%)
	PPL_OPTIMIZED=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal $(OPTIMIZED_TESTS)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --doctest-modules src/ppl

test-oldest: $(OLDEST)/.stamp ## a part of the tests with the oldest JAX and libraries that are allowed
	$(OLDEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(OLDEST_TESTS)

soak: .venv/.stamp ## fresh random programs for an hour: make soak MINUTES=60
	$(BIN)/python scripts/soak.py --minutes $(MINUTES)

check: .venv/.stamp ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest -n 0 -q tests/test_architecture.py

format: .venv/.stamp ## format, and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.stamp ## every benchmark, each a table of ratios
	@missed=; for file in benchmarks/[a-z]*.py; do echo "== $$file"; \
	  $(BIN)/python "$$file" || missed="$$missed $$file"; done; \
	  if [ -n "$$missed" ]; then echo "these missed a bar or failed:$$missed"; exit 1; fi

bench-peers: $(PEERS)/.stamp ## Pyro on torch, in .venv-peers, so that `make bench` compares with it too

docs: $(DOCS)/.stamp ## the pages of docs/ as HTML in site/
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet
	@echo "site/index.html"

lock: $(UV) ## refresh uv.lock and tests/oldest.txt after a change of pyproject.toml
	$(UV) lock
	$(UV) pip compile --quiet --universal --resolution lowest-direct --python-version 3.12 \
	  --group oldest --no-header pyproject.toml -o tests/oldest.txt

clean: ## remove what make has made
	rm -rf .venv .venv-docs .venv-oldest .venv-peers .uv-env site dist examples/output .pytest_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# uv itself, pinned, so that every machine reads the lock file in the same way.
$(UV): scripts/find-python.sh Makefile
	python="$$(scripts/find-python.sh)"; rm -rf .uv-env; "$$python" -m venv .uv-env
	.uv-env/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	touch $@

.venv/.stamp: uv.lock pyproject.toml $(UV)
	$(UV) sync --quiet --locked --group bench --python "$$(scripts/find-python.sh)"
	touch $@

$(DOCS)/.stamp: uv.lock pyproject.toml $(UV)
	UV_PROJECT_ENVIRONMENT=$(DOCS) $(UV) sync --quiet --locked --only-group docs --python "$$(scripts/find-python.sh)"
	touch $@

$(OLDEST)/.stamp: tests/oldest.txt pyproject.toml $(UV)
	$(UV) venv --quiet --clear --python "$$(scripts/find-python.sh)" $(OLDEST)
	$(UV) pip sync --quiet --python $(OLDEST)/bin/python tests/oldest.txt
	$(UV) pip install --quiet --python $(OLDEST)/bin/python --no-deps -e .
	touch $@

# pip, because it takes the wheels that a machine keeps for it. torch first and alone: of the two indexes the
# second is asked for this one name only.
$(PEERS)/.stamp: Makefile
	rm -rf $(PEERS)
	"$(PEERS_PYTHON)" -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --extra-index-url $(TORCH_INDEX) torch==$(TORCH_VERSION)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check \
	  torch==$(TORCH_VERSION) pyro-ppl==$(PYRO_VERSION)
	touch $@
