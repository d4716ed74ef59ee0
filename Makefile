PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# modules are compiled once, at installation: a third of what a short question costs where Python may not write them
COMPILE = $(BIN)/python -m compileall -q planner kernels
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run app docs outputs notebooks test tests checks fuzz lint bench mutants load versions measure records harness screenshots clean

run: $(VENV)/.base
	$(BIN)/planner compare scenarios/chatlaw2-moe.toml --plot chatlaw2-moe.png

app: $(VENV)/.app
	$(BIN)/python -m planner.web

test: checks tests

# formatting, imports, types
checks: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

tests: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# the documentation into build/site, for a browser without a network; a broken link or an undocumented public name fails
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# what the commands and programs in the documentation print, written into it; after a fit or a change of the output
outputs: $(VENV)/.test notebooks
	$(BIN)/python -m doctools.blocks --write

# what the notebooks print and draw, written into them
notebooks: $(VENV)/.test
	$(BIN)/python -m doctools.notebooks

# good questions, configurations and files, changed at random: FUZZ_EXAMPLES of each kind, other ones each time
FUZZ_EXAMPLES ?= 2000
fuzz: $(VENV)/.test
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/test_fuzz.py

# BASE is the commit that start-up times are compared with
BASE ?=
bench: $(VENV)/.test
	$(BIN)/python benchmarks/against.py $(BASE)
	$(BIN)/python benchmarks/layouts_per_second.py
	$(BIN)/python benchmarks/plans_per_second.py
	$(BIN)/python benchmarks/serving_queue.py
	$(BIN)/python benchmarks/app_latency.py

# which of MUTANTS random changes of the numeric modules their tests notice; an hour or two
MUTANTS ?= 200
mutants: $(VENV)/.test
	$(PIP) --editable '.[mutants]'
	$(BIN)/python benchmarks/mutants.py --mutants $(MUTANTS) --out build/mutants.json

# the page under VISITORS at once for MINUTES: errors, seconds of a slider, growth of the server's memory
VISITORS ?= 50
MINUTES ?= 10
load: $(VENV)/.test
	$(PIP) --editable '.[load]'
	$(BIN)/python benchmarks/visitors.py --visitors $(VISITORS) --minutes $(MINUTES)

# the core of the suite under other Pythons and with the lowest versions allowed; known faults of what is installed
versions:
	PYTHON=$(PYTHON) .ci/versions

# every page, light and dark, both languages, and on a phone; needs chromium and chromedriver
screenshots: $(VENV)/.test
	$(BIN)/python benchmarks/screenshots.py

# on a GPU box: measures, calibrates and writes measured/measured.md; MEASURE_PYTHON is the python that has torch for its GPUs
BUDGET ?= 15m
MEASURE_PYTHON ?= $(PYTHON)
measure: $(VENV)/.base
	$(BIN)/planner measure --budget $(BUDGET) --python $(MEASURE_PYTHON)

# the records alone, with torch and numpy only: nothing is installed, calibration follows elsewhere
records:
	$(MEASURE_PYTHON) -m kernels run --out record.json --resume --budget $(BUDGET)

# the harness's tests under another release of torch, in an environment of its own (several gigabytes)
TORCH ?= 2.11.0
harness:
	$(PYTHON) -m venv build/torch-$(TORCH)
	build/torch-$(TORCH)/bin/python -m pip --disable-pip-version-check install --quiet torch==$(TORCH) pytest hypothesis --editable .
	build/torch-$(TORCH)/bin/python -m pytest -p no:cacheprovider tests/kernels/test_pretended_gpu.py tests/calibration/test_trace.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "planner needs Python >= 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	$(COMPILE)
	@touch $@

$(VENV)/.app: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[app]'
	$(COMPILE)
	@touch $@ $(VENV)/.base

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[test]'
	$(COMPILE)
	@touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
