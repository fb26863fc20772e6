# Recipes for people and for CI. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TORCH  := .venv-torch
TORCH_STAMP := $(TORCH)/.installed
TORCH_VERSION := 2.13.0
PEERS  := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
SERVING_PEERS := .venv-serving-peers
SERVING_PEERS_STAMP := $(SERVING_PEERS)/.installed
TESTS  ?= tests
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup setup-torch setup-peers setup-serving-peers up check test soak lint format bench tables docs lock clean

help: ## list the recipes
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-19s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with everything in it

# uv installs in a tenth of pip's time; it is itself installed by hash. Bytecode is compiled at once,
# because each process start would otherwise pay for it where PYTHONDONTWRITEBYTECODE is set.
$(STAMP): requirements.lock requirements-bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Marquee needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) >/dev/null || \
	  { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src
	@touch $@

setup-torch: $(TORCH_STAMP) ## make .venv-torch: everything and a CPU build of PyTorch

# pip, not uv, since it is pip's settings that say where CPU builds lie on machines without the network.
$(TORCH_STAMP): $(STAMP) requirements-torch.lock
	@test -x $(TORCH)/bin/python || $(PYTHON) -m venv $(TORCH)
	$(BIN)/uv pip install --quiet --python $(TORCH)/bin/python --require-hashes --compile-bytecode -r requirements.lock
	@$(TORCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-torch.lock || \
	  { echo "pip reaches no CPU build of PyTorch for Linux x86-64 and Python 3.11, which is what is locked:"; \
	    echo "let PIP_EXTRA_INDEX_URL name an index that has it. Elsewhere: pip install 'marquee[torch]'."; exit 1; }
	$(BIN)/uv pip install --quiet --python $(TORCH)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

setup-peers: $(PEERS_STAMP) ## make .venv-peers: other recommender libraries, to compare with

$(PEERS_STAMP): $(STAMP) requirements-peers.lock
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --require-hashes --no-deps -r requirements-peers.lock
	@touch $@

setup-serving-peers: $(SERVING_PEERS_STAMP) ## make .venv-serving-peers: other model servers, to compare with

$(SERVING_PEERS_STAMP): $(STAMP) requirements-serving-peers.lock
	@test -x $(SERVING_PEERS)/bin/python || $(PYTHON) -m venv $(SERVING_PEERS)
	$(BIN)/uv pip install --quiet --python $(SERVING_PEERS)/bin/python --require-hashes --no-deps --compile-bytecode -r requirements-serving-peers.lock
	@touch $@

up: setup ## set up, run the pipeline on the first start, serve
	@exec $(BIN)/marquee up

check: lint ## lint, types and the fast tests, in about two minutes
	$(BIN)/pytest -q -n $(WORKERS) -m "not slow and not realdata and not browser" $(TESTS)

test: lint ## everything: lint, types and all tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(TESTS)

soak: setup ## the long form of the tests of durability, swaps, overload, experiments and the contract of the API
	MARQUEE_SOAK=1 $(BIN)/pytest -m soak --timeout=3600 $(TESTS)

lint: setup ## format check, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## run every benchmark and print its figures
	@for script in $(filter-out benchmarks/evaluation.py benchmarks/diversity.py,$(wildcard benchmarks/[a-z]*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script || exit 1; done

tables: setup ## evaluate every recommender on the real ratings and rewrite the tables of the documentation
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evaluation.py --models all --write docs

docs: setup ## regenerate the generated pages
	$(BIN)/python -m marquee.cli docs --write docs

lock: setup ## resolve the lock files anew
	rm -f requirements.lock requirements-bootstrap.lock requirements-torch.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra train --extra dev --no-header --no-annotate pyproject.toml -o requirements.lock
	echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - -o requirements-bootstrap.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-deps --no-header --no-annotate -c requirements.lock requirements-torch.in -o requirements-torch.lock
	@# Of torch itself only the CPU build that pip finds here: beside PyPI's hashes pip would prefer the CUDA build.
	rm -rf .torch-build && $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .torch-build torch==$(TORCH_VERSION)
	printf 'torch==%s \\\n    --hash=sha256:%s\n' $(TORCH_VERSION) $$(sha256sum .torch-build/torch-*.whl | cut -d' ' -f1) >> requirements-torch.lock
	rm -rf .torch-build

clean: ## remove what the recipes made (not MARQUEE_HOME)
	rm -rf $(VENV) $(TORCH) $(PEERS) $(SERVING_PEERS) .pytest_cache .mypy_cache .ruff_cache .hypothesis
