# Recipes for people and for CI. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TESTS  ?= tests
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup up check test lint format types bench docs lock clean

help: ## list the recipes
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with everything in it

# uv installs in a tenth of pip's time; it is itself installed by hash. Bytecode is compiled at once,
# because each process start would otherwise pay for it where PYTHONDONTWRITEBYTECODE is set.
$(STAMP): requirements.lock requirements-bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Marquee needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

up: setup ## set up, run the pipeline on the first start, serve
	@exec $(BIN)/marquee up

check: lint ## lint, types and the fast tests, in about two minutes
	$(BIN)/pytest -q -n $(WORKERS) -m "not slow and not realdata and not browser" $(TESTS)

test: lint ## everything: lint, types and all tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(TESTS)

lint: setup ## format check, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## run every benchmark and print its figures
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: setup ## regenerate the generated pages
	$(BIN)/python -m marquee.cli docs --write docs

lock: setup ## resolve the lock files anew
	rm -f requirements.lock requirements-bootstrap.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras --no-header --no-annotate pyproject.toml -o requirements.lock
	echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - -o requirements-bootstrap.lock

clean: ## remove what the recipes made (not MARQUEE_HOME)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
