# The two commands to know are `make demo` and `make test`; `make help` lists the rest.

PYTHON ?= python3
DEMO := .venv
TEST := .venv-test
PIP_QUIET := --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint types unit format reference schema clean python

help: ## Say what there is to make
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: $(DEMO)/installed ## Run the cache experiment in an environment of its own (no torch)
	$(DEMO)/bin/python -m infertuner.simulate scenarios/cache.yaml

test: lint types unit ## Run everything CI runs: lint, format, spelling, types, tests, notebooks

lint: $(TEST)/installed
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/ruff check .
	$(TEST)/bin/codespell README.md CHANGELOG.md CONTRIBUTING.md docs infertuner tests scenarios calibration/README.md results/README.md

types: $(TEST)/installed
	$(TEST)/bin/mypy

unit: $(TEST)/installed
	$(TEST)/bin/python -m pytest -n 2 --dist worksteal

format: $(TEST)/installed ## Rewrite the code in the project's format
	$(TEST)/bin/ruff format .
	$(TEST)/bin/ruff check --fix .

reference: $(DEMO)/installed ## Run every experiment into results/*/*-reference (half an hour)
	for run in \
	  gpu_scaling/published-gpu-scaling=published/gpu_scaling \
	  gpu_scaling/gpu-scaling=gpu_scaling \
	  gpu_scaling/gpu-scaling-1024=gpu_scaling_1024 \
	  batch_analysis/published-batching=published/batching \
	  batch_analysis/published-batching-one-law=published/batching_one_law \
	  batch_analysis/batching=batching \
	  batch_analysis/batching-frontier=batching_frontier \
	  cache_experiments/published-cache=published/cache \
	  cache_experiments/cache=cache \
	  cache_experiments/cache-two-level-at-scale=cache_two_level_at_scale \
	  cache_tiers/cache-block-trace=cache_block_trace \
	  cache_tiers/cache-serving=cache_serving \
	  cache_tiers/cache-controllers=cache_controllers; do \
	  $(DEMO)/bin/python -m infertuner.simulate scenarios/$${run#*=}.yaml \
	    --out .reference/$${run%=*}-reference --overwrite || exit; \
	done
	cp -r .reference/* results/

schema: $(DEMO)/installed ## Write the scenario language's JSON Schema for editors
	$(DEMO)/bin/python -m infertuner.scenario schema > scenarios/scenario.schema.json

clean: ## Remove environments and caches; results and calibrations stay
	rm -rf $(DEMO) $(TEST) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "InferTuner needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.12 demo" % sys.version.split()[0])'

$(DEMO)/installed: pyproject.toml | python
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/pip install $(PIP_QUIET) -e .
	@touch $@

$(TEST)/installed: pyproject.toml tests/constraints.txt | python
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/pip install $(PIP_QUIET) -c tests/constraints.txt -e '.[calibrate,test]'
	@touch $@
