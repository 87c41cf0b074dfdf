# make demo | make test | make test-slow | make lint | make docs
# make papers-tables | make papers-quick | make papers-train
# make bench [TUNIX=PYTHON] [TORCH_INDEX=] | make bench-report
# [PYTHON=python3.12]
PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(notdir $(PYTHON))),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint format docs papers-tables papers-quick \
  papers-train bench bench-report clean

# Reproductions of papers: scripts of experiments/papers that end in a table of
# claims. The page of loss shapes has none.
PAPERS_OUT := runs/papers
PAPERS := nlhf mirror_prox ipo_md updates sampling_laws distributional safety \
  decoding estimators rankings likelihoods regret entanglement kl_reward \
  simulated_judges
# CI runs these. tests/papers checks the claims of the others, some on smaller
# games and on fewer points.
PAPERS_IN_CI := nlhf updates sampling_laws entanglement
# Those that train policies, in minutes; their results are in the repository, and
# their run folders in runs/papers, where they are gone on with.
TRAINED := entanglement_trained rankings_trained likelihoods_trained \
  kl_reward_trained online_rows raters noisy_labels reward_models_trained learned_judges \
  nlhf_table remax_ppo reward_curves

demo: $(VENV)/.installed
	$(BIN)/jalign train --config=demo --workdir=runs/demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --durations=15

# Slow tests run one by one: they are large, and some of them measure memory.
# Programs are optimised as users' are; in `make test`, little (tests/conftest.py).
test-slow: export JAX_DISABLE_MOST_OPTIMIZATIONS := 0
test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow --durations=0
	$(BIN)/python -m pytest --hypothesis-profile=new -m "not slow" \
	  tests/losses tests/training tests/decode tests/models \
	  tests/logprobs tests/diagnostics

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
papers-quick: $(PAPERS_IN_CI:%=papers-%)
papers-train: $(TRAINED:%=papers-%)
$(TRAINED:%=papers-%): PAPERS_OUT := experiments/results
papers-%: $(VENV)/.installed
	$(BIN)/python -m experiments.papers.$* --out=$(PAPERS_OUT)

# Benchmarks have an environment of their own: PyTorch stays out of the tests'.
# Its CPU build comes from PyTorch's index; TORCH_INDEX= takes pip's own instead.
# They run one by one, on a machine with nothing else to do, and add lines to
# files of RESULTS; `make bench-decode` runs one. Tunix takes part if TUNIX is a
# Python that has google-tunix==0.1.7.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
RESULTS ?= experiments/bench/results
BENCHES ?= decode mixture logprobs train_step refill prefix cache products \
  load diagnostics
FLAGS_decode = --tunix=$(TUNIX)
FLAGS_train_step = --sizes=s,s152k
FLAGS_diagnostics = --sizes=s
BENCH_BIN := .venv-bench/bin

bench: .venv-bench/.installed
	mkdir -p $(RESULTS)
	for name in $(BENCHES); do $(MAKE) bench-$$name || exit 1; done
	$(MAKE) bench-report

bench-report: .venv-bench/.installed
	$(BENCH_BIN)/python -m experiments.bench.report \
	  --plot=$(RESULTS)/roofline.png $(RESULTS)/*.jsonl

bench-prefix: .venv-bench/.installed
	$(BENCH_BIN)/python -m experiments.bench.prefix >>$(RESULTS)/prefix.jsonl

bench-%: .venv-bench/.installed
	$(BENCH_BIN)/python -m experiments.bench.$* --out=$(RESULTS)/$*.jsonl \
	  $(FLAGS_$*)

.venv-bench/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-bench
	$(BENCH_BIN)/python -m pip install -qq --upgrade pip
	$(BENCH_BIN)/python -m pip install -qq --editable ".[bench]" \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python .ci/install.py .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python .ci/install.py ".[test]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: setup.cfg pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python .ci/install.py ".[docs]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf .venv .venv-* build dist *.egg-info
