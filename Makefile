# make demo | make test | make test-slow | make lint | make docs
# make papers-tables
# [PYTHON=python3.12]
PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(notdir $(PYTHON))),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint format docs papers-tables clean

# Reproductions of papers: scripts of experiments/papers that end in a table of
# claims. The page of loss shapes has none.
PAPERS := nlhf mirror_prox ipo_md updates sampling_laws distributional safety \
  decoding estimators

demo: $(VENV)/.installed
	$(BIN)/python experiments/demo.py --workdir=runs/demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=15

# Slow tests run one by one: they are large, and some of them measure memory.
# Programs are optimised as users' are; in `make test`, little (tests/conftest.py).
test-slow: export JAX_DISABLE_MOST_OPTIMIZATIONS := 0
test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow --durations=0
	$(BIN)/python -m pytest --hypothesis-profile=new -m "not slow" \
	  tests/losses tests/training tests/decode tests/models \
	  tests/logprobs

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Everything is read anew: pages are made of docstrings, too.
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -q -E -W --keep-going -d build/doctrees docs build/docs
	@echo "open build/docs/index.html"

# A claim that doesn't hold fails its target; -k goes on with the others.
papers-tables: $(PAPERS:%=papers-%)
papers-%: $(VENV)/.installed
	$(BIN)/python -m experiments.papers.$* --out=runs/papers

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf .venv .venv-* build dist *.egg-info
