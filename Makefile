# Two targets are all the set-up there is: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
LOCALCLUSTER := PYTHONPATH=kind $(PYTHON) -m localcluster
PLATFORM ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
UV_VERSION := 0.13.8

.PHONY: help demo demo-down test test-unit test-component test-cluster proofs test-e2e check format lock crds reference \
        cluster-up cluster-down cluster-status images compiled render-helper tools bench bench-proxy bench-render \
        bench-limits bench-operator bench-scale soak soak-proxy soak-ledger clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready ## From nothing to a tenant's first answer: cluster, platform, Tenant, OpenAI SDK
	@$(LOCALCLUSTER) demo

demo-down: ## Remove the demo: cluster, engine, state
	@$(LOCALCLUSTER) down --name demo

test: $(VENV)/ready render-helper ## Every test: pure, component, API server, kind
	@$(RUN)/python -m pytest $(PYTEST_ARGS)

test-unit: $(VENV)/ready render-helper ## Only the pure tests (seconds)
	@$(RUN)/python -m pytest tests/unit $(PYTEST_ARGS)

test-component: $(VENV)/ready ## Only the service on real sockets with the OpenAI SDK
	@$(RUN)/python -m pytest tests/component $(PYTEST_ARGS)

test-cluster: $(VENV)/ready render-helper ## Only what needs an API server and controllers, no nodes
	@$(RUN)/python -m pytest tests/cluster $(PYTEST_ARGS)

proofs: $(VENV)/ready render-helper ## Every crash point and larger samples, where tests take a few (10 minutes)
	@$(RUN)/python -m pytest --exhaustive $(addprefix tests/cluster/test_,crash_points.py partial_states.py any_change.py faults.py) $(PYTEST_ARGS)

test-e2e: $(VENV)/ready ## Only what needs real nodes and pods (kind)
	@$(RUN)/python -m pytest tests/e2e $(PYTEST_ARGS)

check: $(VENV)/ready ## Formatting, lint, types, import contracts, generated files, charts
	@$(LOCALCLUSTER) check

format: $(VENV)/ready ## Format the code
	@$(RUN)/ruff format .
	@$(RUN)/ruff check --fix --quiet .

lock: $(VENV)/ready ## Write the locks anew (hashes, no index lines)
	@$(RUN)/python -m pip install --quiet uv==$(UV_VERSION)
	@$(RUN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' pyproject.toml -o requirements.lock
	@$(RUN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

crds: $(VENV)/ready ## Generate crds/ from the typed models
	@$(RUN)/python -m tenantry_operator.api.crd

reference: $(VENV)/ready ## Generate docs/reference and the dashboards from the code
	@PYTHONPATH=docs $(RUN)/python -m generator

cluster-up: ## Bring up a bare kind cluster (three nodes)
	@$(LOCALCLUSTER) up --name demo

cluster-down: ## Remove every cluster, engine and state of this checkout
	@$(LOCALCLUSTER) down --all

cluster-status: ## Say what runs, and where
	@$(LOCALCLUSTER) status

images: $(VENV)/ready ## Build the images (PLATFORM=linux/arm64 checks another architecture)
	@$(LOCALCLUSTER) images $(if $(PLATFORM),--platform $(PLATFORM))

compiled: $(VENV)/ready ## Compile the service for this machine, as the image does, and print where it is
	@$(LOCALCLUSTER) compiled

render-helper: ## Build the chart renderer for this machine
	@$(LOCALCLUSTER) render-helper

tools: ## Build kind, helm, kubectl and kwok, and print where they are
	@$(LOCALCLUSTER) tools

bench: bench-proxy bench-limits bench-render bench-operator bench-scale ## Every benchmark; each ends with one line of JSON

bench-proxy: $(VENV)/ready ## The service against a direct connection
	@$(RUN)/python -m tests.bench.proxy

bench-limits: $(VENV)/ready ## Limits in Redis against limits in memory, and whether they leak (BENCH_ARGS=--help)
	@$(RUN)/python -m tests.bench.limits $(BENCH_ARGS)

bench-render: $(VENV)/ready render-helper ## Rendering a tenant's chart
	@$(RUN)/python -m tests.bench.render

bench-operator: $(VENV)/ready render-helper ## The operator with 1,000 tenants against a bare client (BENCH_ARGS=--help)
	@$(RUN)/python -m tests.bench.operator $(BENCH_ARGS)

bench-scale: $(VENV)/ready render-helper ## Cold starts and load on kind, 1,000 sleeping tenants (BENCH_ARGS=--help)
	@$(RUN)/python -m tests.bench.scale $(BENCH_ARGS)

soak-ledger: $(VENV)/ready ## Services, stores and the ledger killed 500 times under load: every request billed once (BENCH_ARGS=--help)
	@$(RUN)/python -m tests.bench.ledger.soak $(BENCH_ARGS)

soak: $(VENV)/ready render-helper ## Ten minutes after convergence: not a single write
	@$(RUN)/python -m tests.bench.operator --tenants 50 --no-bare --samples 0 --quiet 600 $(BENCH_ARGS)

soak-proxy: $(VENV)/ready ## Fifteen minutes of mixed load with faults on the service: nothing is left (BENCH_ARGS=--help)
	@$(RUN)/python -m tests.bench.soak $(BENCH_ARGS)

.PHONY: soak-spot
soak-spot: $(VENV)/ready ## A hundred interruptions of Spot nodes under load (INTERRUPTIONS, NOTICE, EVERY, NODES, LONGEST, RATE, STREAMS)
	@PYTHONPATH=kind $(RUN)/python -m tests.bench.spot

clean: cluster-down ## Also remove the virtual environment and build results
	@rm -rf $(VENV) dist

$(VENV)/ready: requirements-dev.lock pyproject.toml
	@$(LOCALCLUSTER) venv
