# `make demo` and `make test` are all that a fresh machine with Python >= 3.10 needs.

PYTHON ?= python3
VENV ?= .venv
# The line's tests run on these too, where they are present.
OTHERS ?= 3.10 3.12
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
LINE := $(VENV)/line.stamp
DEV := $(VENV)/dev.stamp

.PHONY: demo test check bench performance results-anomaly results-classifiers engines lock
.DELETE_ON_ERROR:

demo: $(LINE)
	$(BIN)/edge-inspector demo

test: $(DEV)
	@sh tests/interpreters.sh $(BIN)/python $(OTHERS)
	$(BIN)/python -m pytest

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Short benches against bench/budgets.toml.
bench: $(DEV)
	$(BIN)/python -m bench.check_budgets

# The page of speed, docs/performance.md, from what the benches kept; measures nothing.
performance: $(DEV)
	$(BIN)/python -m bench.performance_page bench/results/*.jsonl

# Long: each trains every row that has no result yet, and writes its page, docs/results-….md.
# ROWS='--only solder/CAE' for some, '--page' for the page alone.
results-anomaly: $(DEV)
	$(BIN)/python -m bench.results_run --data ../shared/data $(ROWS)

results-classifiers: $(DEV)
	$(BIN)/python -m bench.results_run --spec bench/results_classifiers.toml --data ../shared/data $(ROWS)

engines: $(DEV)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh engines/build.sh

# OLDER is a Python 3.10, PYTHON a newer one.
OLDER ?= python3.10
lock:
	$(PYTHON) requirements/lock.py $(PYTHON) $(OLDER)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: give PYTHON=python3.10 or newer" % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv is missing; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }

$(LINE): requirements/line.txt pyproject.toml | $(BIN)/python
	$(PIP) -r requirements/line.txt -e .
	@touch $@

# torch goes first, so that nothing else decides which build of it is taken.
$(DEV): requirements/dev.txt requirements/test.txt $(LINE)
	$(PIP) "$$(grep '^torch==' requirements/dev.txt)"
	$(PIP) -r requirements/dev.txt
	@touch $@
