# `make demo` and `make test` do all set-up themselves, and little the second time. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
BENCH := build/bench/packages
PROXY := build/bench/proxy
ENTRIES ?= 100000
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore

.PHONY: help setup demo test chaos bench-cache-quality bench-cache-speed bench-router bench-freshness bench-trends bench-growth bench-limits bench-pipeline bench-surge bench-writer bench-writer-away check lint types contracts format docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: $(VENV)/.installed ## install everything: Python packages into .venv, RabbitMQ from the distribution if missing
	@infra/setup/rabbitmq.sh

$(VENV)/.installed: infra/requirements/dev.txt pyproject.toml infra/setup/python.sh
	@PYTHON='$(PYTHON)' infra/setup/python.sh $(VENV)
	@touch $@

demo: setup ## start a stack, send it prompts, show the answers and what they cost, stop the stack
	@$(BIN)/forebay demo $(if $(PROMPTS),--prompts '$(PROMPTS)') $(if $(POLICY),--policy '$(POLICY)')

test: setup ## unit, contract, end-to-end and some chaos tests on private stacks
	@infra/setup/kubectl.sh
	@$(BIN)/pytest -q $(ARGS)

chaos: setup ## 20,000 requests while services, brokers, PostgreSQL, networks and the provider fail; ARGS='--seed 7'
	@$(BIN)/python -m tests.chaos $(ARGS)

bench-cache-quality: setup ## true duplicates the cache serves, and near misses, on the labelled pairs in DATA
	@$(BIN)/python -m tests.bench.cache_quality $(DATA)

bench-cache-speed: setup $(BENCH)/.installed ## how fast the cache answers; ENTRIES=1000000 for the longer run
	@PYTHONPATH=$(BENCH) $(BIN)/python -m tests.bench.cache_speed --entries $(ENTRIES) --data $(DATA)

bench-trends: setup ## what trends finds, how soon, and what it holds back; FULL=1 for more seeds and days
	@$(BIN)/python -m tests.bench.trends $(DATA) $(if $(FULL),--full)

bench-writer: setup ## rows a second, CPU time and write-ahead log of the writer, beside other ways to insert the same rows
	@$(BIN)/python -m tests.bench.writer

bench-writer-away: setup ## memory of persistence while PostgreSQL is away for a minute, and what is lost
	@$(BIN)/python -m tests.bench.writer_away

bench-pipeline: setup $(BENCH)/.installed $(PROXY)/.installed ## what a second of a core does: hops, accepts, the whole path, beside frameworks; QUICK=1, ONLY=hops|accepts|whole
	@$(BIN)/python -m tests.bench.pipeline $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) --packages $(BENCH) --proxy $(PROXY)

bench-growth: setup ## memory and latency as requests queue up and rows become many; QUICK=1 for three minutes of it, ONLY=queue or rows
	@$(BIN)/python -m tests.bench.growth $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)')

bench-router: setup ## what routing recovers of the stronger model's gain; HELD_OUT=… to train on DATA and measure there
	@$(BIN)/python -m tests.bench.router $(DATA) $(if $(HELD_OUT),--held-out '$(HELD_OUT)')

bench-freshness: setup ## what changes soon, on the labelled questions in DATA; HELD_OUT=folder to test on others
	@$(BIN)/python -m tests.bench.freshness $(DATA) $(if $(HELD_OUT),--held-out '$(HELD_OUT)')

bench-limits: setup $(if $(PLOT),$(BENCH)/.installed) ## how calls keep to a provider's limit; QUICK=1 for two minutes of it, PLOT=docs/limits.png to draw
	@$(BIN)/python -m tests.bench.limits $(if $(QUICK),--quick) --series build/limits.json
	@$(if $(PLOT),PYTHONPATH=$(BENCH) $(BIN)/python -m tests.bench.limit_plot build/limits.json '$(PLOT)',:)

bench-surge: setup $(BENCH)/.installed $(PROXY)/.installed ## 25 times the users in a moment, beside what people run instead; QUICK=1 for three minutes of it
	@$(BIN)/python -m tests.bench.surge $(if $(QUICK),--quick) --packages $(BENCH) --proxy $(PROXY) --series build/surge.json
	@PYTHONPATH=$(BENCH) $(BIN)/python -m tests.bench.surge_plot build/surge.json '$(or $(PLOT),build/surge.png)'

# Apart from the virtual environment: what a bench compares with must not change what the tests run with.
$(BENCH)/.installed: infra/requirements/bench.txt | setup
$(PROXY)/.installed: infra/requirements/bench-proxy.txt | setup
$(BENCH)/.installed $(PROXY)/.installed:
	@rm -rf $(@D)
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --target $(@D) -r $<
	@touch $@

check: lint types contracts ## all that guards main besides the tests

lint: setup
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

types: setup
	@$(BIN)/mypy

contracts: setup
	@$(BIN)/lint-imports

format: setup ## format the code
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

docs: setup ## write the generated documents: docs/asyncapi.json, docs/openapi.json, docs/settings.md
	@$(BIN)/python -m infra.documents

lock: setup ## resolve the dependencies anew and pin them by hash
	@infra/setup/lock.sh

clean: ## remove the virtual environment and the private stacks' data
	@for home in .forebay .forebay/demo; do [ -x $(BIN)/forebay ] && $(BIN)/forebay down --home $$home >/dev/null || true; done
	@rm -rf $(VENV) .forebay
