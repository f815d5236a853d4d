# Each target sets up what it needs in .venv; nothing else is touched. Run `make help` for the list.
PYTHON ?= python3
VENV ?= .venv
JAX ?=
WORKERS ?= 2
BENCH ?=
FUZZ ?=
NOTEBOOKS ?=

bin := $(VENV)/bin
# $(VENV)/.installed-X says that the extra X is installed, as of pyproject.toml.

.PHONY: help demo test slow nightly fuzz gpu notebooks outputs docs lint format bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(bin)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml | $(bin)/python
	$(bin)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]' $(JAX)
	@touch $@

demo: $(VENV)/.installed-plot  ## fit Old Faithful two ways, print a table, write demo.png
	$(bin)/python -m otmix_jax.cli.demo

test: $(VENV)/.installed-test  ## the default test suite
	$(bin)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not nightly and not gpu"

slow: $(VENV)/.installed-test  ## the tests marked slow
	$(bin)/python -m pytest -n $(WORKERS) --dist loadfile -m "slow and not nightly and not gpu"

nightly: $(VENV)/.installed-test  ## the longest tests: bootstraps, coverage, large batches, basins
	$(bin)/python -m pytest -n $(WORKERS) --dist loadfile -m "nightly and not gpu"

fuzz: $(VENV)/.installed-test  ## thousands of random inputs: the properties, and fits of adversarial data
	HYPOTHESIS_PROFILE=long $(bin)/python -m pytest -n $(WORKERS) tests/test_properties.py
	$(bin)/python tests/fuzz.py $(FUZZ)

gpu: $(VENV)/.installed-test  ## the tests for an accelerator; give its JAX, as in JAX='jax[cuda13]'
	$(bin)/python -m pytest -m gpu

notebooks: $(VENV)/.installed-notebooks  ## execute every notebook, and change none
	$(bin)/python -m pytest -p no:cacheprovider --nbmake --nbmake-timeout=900 notebooks

outputs: $(VENV)/.installed-notebooks  ## execute every notebook, and keep its outputs
	$(bin)/python notebooks/store.py $(NOTEBOOKS)

docs: $(VENV)/.installed-docs  ## build the site into docs/_build/html; a warning is an error
	$(bin)/python -m sphinx -q -W --keep-going -c docs . docs/_build/html

lint: $(VENV)/.installed-lint  ## ruff and pyright
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/pyright --pythonpath $(bin)/python

format: $(VENV)/.installed-lint  ## let ruff rewrite
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

bench: $(VENV)/.installed-bench  ## time against the peers and the floor, write benchmarks/results.json
	$(bin)/python -m benchmarks.run $(BENCH)

clean:  ## remove what the targets made
	rm -rf $(VENV) demo.png benchmarks/results.json tests/.jax_cache docs/_build docs/api/*.rst
