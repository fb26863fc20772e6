# Recipes for people and for CI. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TORCH  := .venv-torch
TORCH_STAMP := $(TORCH)/.installed
PEERS  := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
SERVING_PEERS := .venv-serving-peers
SERVING_PEERS_STAMP := $(SERVING_PEERS)/.installed
SWIFT  := .venv-swift
SWIFT_STAMP := $(SWIFT)/.installed
AIRFLOW := .venv-airflow
AIRFLOW_STAMP := $(AIRFLOW)/.installed
FEAST  := .venv-feast
FEAST_STAMP := $(FEAST)/.installed
LINT   := .venv-lint
LINT_STAMP := $(LINT)/.installed
# What is shipped; the other locks are of tests and comparisons.
AUDITED := requirements.lock requirements-api.lock requirements-worker.lock requirements-airflow.lock requirements-feast.lock
NODE_STAMP := $(VENV)/.node
MODULES := web/node_modules/.package-lock.json
CHECKS := deploy/checks/node_modules/.package-lock.json
SITE   := src/marquee/api/site_files/index.html
SITE_SOURCES := $(shell find web/src web/public web/index.html web/vite.config.ts web/tsconfig*.json -type f ! -name '*.test.*' 2>/dev/null)
SCHEMA := web/src/client/schema.d.ts
# Node may be of .venv: see the recipe of the stamp.
NPM    := cd web && PATH="$(CURDIR)/$(BIN):$$PATH" npm
TESTS  ?= tests
# More than the two processors of CI: a third of its time a test waits for a server. Threads of BLAS and OpenMP
# would only wait for one another there, in loops: with one each, tests of models take four fifths of the time.
WORKERS ?= 3
test test-unit test-integration test-browser: export OMP_NUM_THREADS ?= 1
# Real servers on a busy machine: up to three failures are tried once more with nothing beside them, at the
# end and by name, and stand if they fail again. More than that is no matter of chance.
FAILED := .pytest_cache/v/cache/lastfailed
once_more = { test $$? = 1 && test "$$(grep -c '": true' $(FAILED))" -le 3 && echo "== Once more, alone:" && cat $(FAILED) && \
	  $(BIN)/pytest -v --last-failed --last-failed-no-failures none $(1); }

.DEFAULT_GOAL := help
.PHONY: help setup setup-torch setup-peers setup-serving-peers setup-swift setup-airflow setup-feast setup-lint up airflow observe web web-dev client check test test-unit test-integration test-browser test-docker soak lint lint-delivery check-locks audit wheel sbom format bench bench-web tables docs dashboards screenshots lock clean

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
	    echo "let PIP_EXTRA_INDEX_URL name an index that has it. Elsewhere: pip install -e '.[torch]'."; exit 1; }
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

setup-swift: $(SWIFT_STAMP) ## make .venv-swift: OpenStack Swift, the S3 service of the tests

$(SWIFT_STAMP): $(STAMP) requirements-swift.lock
	@test -x $(SWIFT)/bin/python || $(PYTHON) -m venv $(SWIFT)
	$(BIN)/uv pip install --quiet --python $(SWIFT)/bin/python --require-hashes --no-deps --compile-bytecode -r requirements-swift.lock
	@touch $@

setup-airflow: $(AIRFLOW_STAMP) ## make .venv-airflow: Airflow, which needs an older FastAPI than Marquee

$(AIRFLOW_STAMP): $(STAMP) requirements-airflow.lock
	@test -x $(AIRFLOW)/bin/python || $(PYTHON) -m venv $(AIRFLOW)
	$(BIN)/uv pip install --quiet --python $(AIRFLOW)/bin/python --require-hashes --no-deps --compile-bytecode -r requirements-airflow.lock
	@touch $@

setup-feast: $(FEAST_STAMP) ## make .venv-feast: everything and Feast, which needs an older pandas

$(FEAST_STAMP): $(STAMP) requirements-feast.lock
	@test -x $(FEAST)/bin/python || $(PYTHON) -m venv $(FEAST)
	$(BIN)/uv pip install --quiet --python $(FEAST)/bin/python --require-hashes --compile-bytecode -r requirements-feast.lock
	$(BIN)/uv pip install --quiet --python $(FEAST)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

setup-lint: $(LINT_STAMP) ## make .venv-lint: what the delivery is checked with

$(LINT_STAMP): $(STAMP) requirements-lint.lock
	@test -x $(LINT)/bin/python || $(PYTHON) -m venv $(LINT)
	$(BIN)/uv pip install --quiet --python $(LINT)/bin/python --require-hashes --no-deps --compile-bytecode -r requirements-lint.lock
	@touch $@

# The machine's Node where that is new enough, else one of PyPI's in .venv.
$(NODE_STAMP): $(STAMP) requirements-node.lock
	@{ node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 20 || (+a === 20 && +b >= 19) ? 0 : 1)' && npm --version; } >/dev/null 2>&1 || \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-node.lock || \
	  { echo "The site needs Node.js 20.19 or newer with npm, and PyPI offers none for this machine: install it from"; \
	    echo "https://nodejs.org. To start Marquee without its site: $(BIN)/marquee up"; exit 1; }
	@touch $@

$(MODULES): web/package.json web/package-lock.json | $(NODE_STAMP)
	@$(NPM) ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(SITE): $(SITE_SOURCES) $(MODULES)
	@$(NPM) run --silent build
	@touch $@

# Grafana's own grammar and types, which deploy/ is checked with.
$(CHECKS): deploy/checks/package.json deploy/checks/package-lock.json | $(NODE_STAMP)
	@cd deploy/checks && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

up: setup web ## set up, build the site, run the pipeline on the first start, serve
	@exec $(BIN)/marquee up

observe: setup ## watch what `make up` started: Prometheus, Alertmanager and exporters, of the machine
	@exec $(BIN)/marquee ops up

airflow: setup setup-airflow ## start Airflow on the pipelines of `make up`, or of the server that MARQUEE_API_URL names
	@exec $(AIRFLOW)/bin/python deploy/airflow/run_airflow.py --marquee $(BIN)/python

web: $(SITE) ## build the site, where its sources are newer

web-dev: $(MODULES) ## serve the site from its sources, with the API of MARQUEE_API_URL or of `make up`
	@$(NPM) run dev

client: $(MODULES) ## make the site's API client from the OpenAPI document
	@$(BIN)/marquee docs --openapi $(VENV)/openapi.json
	@$(NPM) run --silent client -- ../$(VENV)/openapi.json

check: lint test-unit ## lint, types and the tests that need no database or server

test: lint web $(CHECKS) ## everything: lint, types and all tests, but those of containers
	$(NPM) test
	@rm -f $(FAILED)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not docker" $(TESTS) || $(call once_more,-m "not docker" $(TESTS))

test-unit: setup setup-lint $(MODULES) $(CHECKS) ## the tests that need no database or server
	$(NPM) test
	$(BIN)/pytest -q -n auto -m "not slow and not realdata and not browser and not integration and not docker" $(TESTS)

test-integration: setup setup-lint web $(CHECKS) ## the tests that need a database or server, but no browser or rating sets
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "(slow or integration) and not realdata and not browser and not docker" $(TESTS)

test-browser: setup web ## the tests of the site in Chromium
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "browser and not realdata and not docker" $(TESTS)

test-docker: setup web setup-lint ## build the images and run the stack in a Docker engine of its own; needs root, Docker, debootstrap
	@rm -f $(FAILED)
	$(BIN)/pytest -m docker --timeout=1800 $(TESTS)/docker || $(call once_more,-m docker --timeout=1800 $(TESTS)/docker)

soak: setup ## the long form of the tests of durability, swaps, overload, experiments and the contract of the API
	MARQUEE_SOAK=1 $(BIN)/pytest -m soak --timeout=3600 $(TESTS)

lint: setup $(MODULES) lint-delivery ## format check, lint, types, import contracts, what delivers, and whether the API client is stale
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(NPM) run --silent lint
	$(NPM) run --silent typecheck
	@$(BIN)/marquee docs --openapi $(VENV)/openapi.json
	@$(NPM) run --silent client -- ../$(VENV)/openapi.json ../$(VENV)/schema.d.ts >/dev/null
	@cmp -s $(VENV)/schema.d.ts $(SCHEMA) || { echo "$(SCHEMA) is stale. Run: make client"; exit 1; }

lint-delivery: setup-lint $(CHECKS) ## workflows, scripts, images, compose files, Terraform, secrets
	@PATH="$(PATH):$(CURDIR)/$(BIN)" $(LINT)/bin/python deploy/checks/lint_delivery.py

check-locks: setup ## whether the lock files fit what is declared
	$(BIN)/python deploy/ci/locks.py check

audit: setup-lint $(MODULES) ## known vulnerabilities of what is shipped, asked of a public service
	@for lock in $(AUDITED); do echo "== $$lock"; \
	  $(LINT)/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r $$lock || failed=1; done; test -z "$$failed"
	$(NPM) audit --omit=dev --audit-level=high

wheel: setup web ## build the wheel, with the site in it, into dist/
	rm -rf dist && $(BIN)/python -m hatchling build -t wheel -d dist

sbom: setup-lint ## write what is in the wheel and what it needs to dist/marquee.cdx.json, as CycloneDX
	@mkdir -p dist
	$(LINT)/bin/cyclonedx-py requirements --sv 1.6 --output-reproducible -o dist/marquee.cdx.json requirements-worker.lock

format: setup $(MODULES) ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(NPM) run --silent format

bench: setup ## run every benchmark and print its figures
	@for script in $(filter-out benchmarks/evaluation.py benchmarks/diversity.py benchmarks/web.py,$(wildcard benchmarks/[a-z]*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench-web: setup web ## measure the site in Chromium: size, first paint, from a click to the changed row
	$(BIN)/python benchmarks/web.py

tables: setup ## evaluate every recommender on the real ratings and rewrite the tables of the documentation
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evaluation.py --models all --write docs

docs: setup ## regenerate the generated pages
	$(BIN)/python -m marquee.cli docs --write docs

dashboards: setup ## make Grafana's dashboards and Promtail's configuration from their sources
	$(BIN)/python deploy/grafana/source/make.py
	$(BIN)/python deploy/promtail/make_promtail.py

screenshots: setup setup-airflow web ## take the pictures of docs/images from the running system
	$(BIN)/python docs/make_screenshots.py
	$(BIN)/python docs/make_airflow_screenshots.py

lock: setup ## resolve the lock files anew, with the newest versions
	$(BIN)/python deploy/ci/locks.py upgrade

clean: ## remove what the recipes made (not MARQUEE_HOME)
	rm -rf $(VENV) $(TORCH) $(PEERS) $(SERVING_PEERS) $(SWIFT) $(AIRFLOW) $(FEAST) $(LINT) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf web/node_modules deploy/checks/node_modules $(dir $(SITE))
