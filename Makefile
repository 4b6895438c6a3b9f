# Everything sets itself up: `make demo` and `make test` work in a fresh clone with Python 3.11, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help venv demo test lint bench clean

help:
	@echo "make demo   raw recordings to a judged encoder, in a few minutes"
	@echo "make test   the whole test suite"
	@echo "make lint   ruff and mypy"
	@echo "make bench  the benchmarks behind BENCHMARKS.md"

venv: $(STAMP)

# torch goes first: the pinned version is the CPU build here, and nothing later may pull in another.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[plot,dev]'
	touch $@

demo: venv
	$(BIN)/python train/demo.py --out demo

test: venv
	$(BIN)/pytest -n 2 tests

# mypy cannot follow the folder mapping of an editable install, so it checks the installed wheel.
lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf $(VENV)/lint build
	$(BIN)/pip install -q --no-deps --no-build-isolation --target $(VENV)/lint .
	MYPYPATH=$(VENV)/lint $(BIN)/mypy -p skelpipe

bench: venv
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/run.py

clean:
	rm -rf $(VENV) build *.egg-info demo
