# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The oldest supported Lightning lies in a folder of its own, in front of the newest on the path.
OLDEST := $(VENV)/oldest

.PHONY: help demo test lint fast slow oldest benchmarks clean

help:
	@echo "make demo        set up, then tune the digits example with grid, random and Bayesian search"
	@echo "make test        set up, then lint, type-check and run all tests"
	@echo "make lint        ruff and mypy"
	@echo "make fast        the fast tests only"
	@echo "make benchmarks  run every benchmark beside its peer and print the ratios"
	@echo "make clean       remove what the above made"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing torch, Lightning and W&B into $(VENV); this takes a minute."
	$(PIP) torch
	$(PIP) -e '.[lightning,wandb]' scikit-learn
	@touch $@

$(VENV)/test: $(VENV)/demo
	$(PIP) -e '.[all,test]'
	@touch $@

$(OLDEST)/ready: constraints.txt | $(VENV)/test
	rm -rf $(OLDEST)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(OLDEST) \
		lightning==2.1.0 pytorch-lightning==2.1.0 'setuptools<81'
	@touch $@

demo: $(VENV)/demo
	$(BIN)/python examples/lightning_digits.py grid random bayes

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(VENV)/test
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

slow: $(VENV)/test
	$(BIN)/python -m pytest -q -n 2 -m slow

oldest: $(OLDEST)/ready
	PYTHONPATH=$(OLDEST) $(BIN)/python -m pytest -q -n 2 -m "not slow" tests/integrations

test: lint fast slow oldest

benchmarks: $(VENV)/test
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
