# Everything a newcomer needs: `make demo` and `make test`, each on a fresh machine in one command.
PYTHON ?= python3
VENV ?= .venv
VENV_OLDEST ?= .venv-oldest
PIP_FLAGS ?= --quiet --disable-pip-version-check
# Tests and demo use models made on the spot: nothing is downloaded but Python packages.
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: help demo test test-fast test-oldest lint format benchmark clean

help:
	@echo "make demo         set up and tag the example pictures"
	@echo "make test         set up, lint, check types and run every test"
	@echo "make test-fast    the same without the tests marked slow"
	@echo "make test-oldest  the tests not marked slow, on the oldest supported transformers"
	@echo "make benchmark    parity table and speed of the model (minutes)"
	@echo "make format       let Ruff rewrite the code"

# A stamp for each environment, so that it is made once and made again when its inputs change.
$(VENV)/.demo: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt torch
	$(VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	touch $@

# The oldest transformers that is supported, with the Hub client and the tokenizers that it asks for.
$(VENV_OLDEST)/.test: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV_OLDEST)
	grep -vE '^(transformers|huggingface_hub|tokenizers)==' constraints.txt > $(VENV_OLDEST)/constraints.txt
	echo 'transformers==5.17.0' >> $(VENV_OLDEST)/constraints.txt
	$(VENV_OLDEST)/bin/pip install $(PIP_FLAGS) -c $(VENV_OLDEST)/constraints.txt torch
	$(VENV_OLDEST)/bin/pip install $(PIP_FLAGS) -c $(VENV_OLDEST)/constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/.demo
	$(VENV)/bin/python examples/demo.py

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint
	$(VENV)/bin/pytest -n 2

test-fast: lint
	$(VENV)/bin/pytest -n 2 -m "not slow"

test-oldest: $(VENV_OLDEST)/.test
	$(VENV_OLDEST)/bin/pytest -n 2 -m "not slow"

benchmark: $(VENV)/.demo
	$(VENV)/bin/python benchmarks/parity.py
	$(VENV)/bin/python benchmarks/model_speed.py

format: $(VENV)/.dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) $(VENV_OLDEST)
