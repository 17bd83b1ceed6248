# Two commands do everything on a fresh machine: `make quickstart` and `make test`.

# The first Python of 3.11 or newer; the versions in constraints.txt are tested with 3.11.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell $(p) -c \
	'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help quickstart install test test-slow smoke lint format docs docs-check golden bench clean

help:  ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quickstart,plot,dev]'
	@touch $(STAMP)

install: $(STAMP)  ## Make .venv and install finetune with everything the tests need

quickstart: install  ## Fine-tune a real checkpoint, its random-weights control, and compare them in a table and a page
	$(BIN)/finetune run quickstart
	$(BIN)/finetune run quickstart-scratch
	$(BIN)/finetune compare --last 2 --html $${FINETUNE_OUTPUT_DIR:-runs}/compare.html

test: install  ## The fast tests: no network, no GPU, under 5 minutes on 2 cores
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu" -q --durations=10

test-slow: install  ## The rest: kills, real checkpoints, whole runs
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not gpu" -q --durations=10

smoke: install  ## Try a shipped recipe with a tiny random model
	$(BIN)/finetune run quickstart --smoke --output-dir runs/smoke

lint: install docs-check  ## Format, lint, types, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install  ## Write the generated parts of the docs anew
	$(BIN)/python docs/generate.py

docs-check: install
	$(BIN)/python docs/generate.py --check

golden: install  ## Write the stored command-line output of the tests anew
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/cli tests/runs

bench: install  ## Measure; writes the tables of benchmarks/README.md (DATA=folder: on texts of yours)
	$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA))
	$(BIN)/python docs/generate.py

clean:  ## Remove the environment and the caches of the tools; runs/ stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
