# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The oldest supported Lightning lies in a folder of its own, in front of the newest on the path.
OLDEST := $(VENV)/oldest
# TensorFlow lies in an environment of its own on top of the first, where the other backends are tested without it.
TENSORFLOW := $(VENV)/tensorflow
FAULTS := tests/integrations/wandb/test_faults.py
# What a process has loaded is loaded for its trials too: without frameworks a study with trial processes takes a second.
LAUNCH := $(addprefix tests/launch/test_,launch.py machines.py chaos.py pause_chaos.py every_call.py)
# A process that the kernel kills for memory counts for all studies of the machine, so this test is alone.
ALONE := tests/launch/test_out_of_memory.py
# In the oldest Lightning, what one test has logged in a namespace changes which logger the other one speaks through.
ONCE := tests/integrations/lightning/test_once.py
OTHERS := tests $(addprefix --ignore ,$(LAUNCH) $(ALONE) tests/integrations/keras tests/snapshot/test_frameworks.py)
BACKEND := tests/integrations/keras $(addprefix tests/contract/test_,agent.py contract.py snapshots.py values.py) \
	tests/snapshot/test_frameworks.py

# Each begins with a part of the files of its own, so that what a file needs, such as a cluster, is set up once. Two keep
# two cores busy with training; of tests that wait for processes, for the disk and for the clock, it takes a third.
BOTH := -n 2 --dist worksteal
THREE := -n 3 --dist worksteal

# Compiled once, and not in each of the hundreds of processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint fast whole oldest keras faults gpu site benchmarks clean

help:
	@echo "make demo        set up, then tune the digits example with grid, random and Bayesian search"
	@echo "make test        set up, then lint, type-check and run all tests"
	@echo "make lint        ruff and mypy"
	@echo "make fast        the fast tests only"
	@echo "make keras       the tests of the Keras adapter on torch, JAX and TensorFlow"
	@echo "make faults      put a fault at each call that changes a file, read 10,000 documents with each reader (an hour or two)"
	@echo "make gpu         run the tests of Lightning on a GPU, and time trainings with snapshots there"
	@echo "make site        train for the figures of the documentation, and build it into build/site"
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
	$(PIP) -e '.[test]'
	@touch $@

$(OLDEST)/ready: constraints.txt | $(VENV)/test
	rm -rf $(OLDEST)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(OLDEST) \
		lightning==2.1.0 pytorch-lightning==2.1.0 jsonargparse==4.27.7 'setuptools<81'
	@touch $@

$(TENSORFLOW)/ready: constraints.txt | $(VENV)/test
	$(PYTHON) -m venv $(TENSORFLOW)
	$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
		> $$($(TENSORFLOW)/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth
	$(TENSORFLOW)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt tensorflow-cpu
	@touch $@

demo: $(VENV)/demo
	$(BIN)/python examples/lightning_digits.py grid random bayes

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(VENV)/test
	$(BIN)/python -m pytest -q $(ALONE)
	$(BIN)/python -m pytest -q $(THREE) -m "not slow" $(LAUNCH)
	$(BIN)/python -m pytest -q $(THREE) -m "not slow" $(OTHERS)

# All of them, fast and slow. The tests of W&B's faults measure what a step waits for, so they run after the others, on
# cores of their own.
whole: $(VENV)/test
	$(BIN)/python -m pytest -q $(ALONE)
	$(BIN)/python -m pytest -q $(THREE) $(LAUNCH)
	$(BIN)/python -m pytest -q $(THREE) $(OTHERS) --ignore $(FAULTS)
	$(BIN)/python -m pytest -q $(BOTH) $(FAULTS)

oldest: $(OLDEST)/ready
	PYTHONPATH=$(OLDEST) $(BIN)/python -m pytest -q $(BOTH) -m "not slow" -k lightning tests/contract \
		$(filter-out $(ONCE),$(wildcard tests/integrations/lightning/test_*.py)) tests/integrations/wandb/test_with_lightning.py
	PYTHONPATH=$(OLDEST) $(BIN)/python -m pytest -q -m "not slow" $(ONCE)

# Keras has one backend in a process. Each backend has its own way of training, so each has the tests of the adapter and
# those of the contract that train; recorders and launchers know no backend. That TensorFlow is installed can change what
# Keras on torch imports and how a fit begins and ends, not more, so beside it torch has the first file of the contract.
# JAX and TensorFlow have threads, so what forks is not tested beside them.
keras: $(TENSORFLOW)/ready
	KERAS_BACKEND=torch $(BIN)/python -m pytest -q $(BOTH) tests/integrations/keras
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q $(BOTH) $(BACKEND) -k "not lightning"
	KERAS_BACKEND=tensorflow $(TENSORFLOW)/bin/python -m pytest -q $(BOTH) $(BACKEND) -k "not lightning"
	KERAS_BACKEND=torch $(TENSORFLOW)/bin/python -m pytest -q $(BOTH) tests/contract/test_contract.py \
		tests/integrations/wandb/test_with_keras.py \
		-k "test_contract and not lightning or test_with_keras and (tensorflow or callbacks or logger)"

# While mypy has one core, the other environments are set up on the second.
test: $(VENV)/test
	$(MAKE) -j 3 lint $(OLDEST)/ready $(TENSORFLOW)/ready
	$(MAKE) whole keras oldest

# A sample of these is in `test`. Here each call that changes a file is tried, each sync and each size of a disk, with
# 10,000 documents for each reader: an hour or two.
faults: $(VENV)/test
	TUNEHOOK_TEST_FAULTS=all $(BIN)/python -m pytest -q -rP tests/launch/test_every_call.py tests/study/test_containers.py
	TUNEHOOK_TEST_EXAMPLES=10000 $(BIN)/python -m pytest -q -n 2 tests/test_fuzz.py tests/integrations/wandb/test_fuzz.py \
		tests/test_hostile_names.py tests/integrations/wandb/test_hostile_names.py

# The adapter's tests train on the GPU then, and those run that only a GPU can show, which `test` skips without one.
gpu: $(VENV)/test
	TUNEHOOK_TEST_ACCELERATOR=gpu $(BIN)/python -m pytest -q -n 4 tests/test_gpu.py tests/contract \
		$(addprefix tests/integrations/lightning/test_,callback.py snapshots.py slots.py exact.py made.py loaders.py checkpoint.py) \
		tests/integrations/test_checkpoint_killed.py \
		tests/integrations/test_launch_frameworks.py -k "not keras"
	$(BIN)/python benchmarks/snapshot_steps.py

site: $(VENV)/test
	$(BIN)/python docs/_build/figures.py
	$(BIN)/python docs/_build/terminal.py
	$(BIN)/python -m mkdocs build

# `search.py` needs data that it says where to get.
benchmarks: $(VENV)/test
	for file in $(filter-out benchmarks/search%,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
