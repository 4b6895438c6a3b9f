# Everything sets itself up: `make demo` and `make test` work in a fresh clone with Python 3.11, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PLAIN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
# The object store that the tests run: an environment of its own, since nothing else needs its libraries.
SWIFT := .venv-swift/.installed
# Compiling all of torch's modules takes longer than the demo imports; Python compiles what it uses.
PIP := $(BIN)/pip install -q --no-compile -c constraints.txt

# Where the environment forbids Python to keep what it compiled, each of the many processes that the tests start would
# compile torch again, for seconds. An empty value allows it.
export PYTHONDONTWRITEBYTECODE :=

# What `make check` runs. Left to `make test`: buckets and servers, killed or interrupted processes, groups of ranks,
# whole training runs by their scripts, all names of NTU's facts, released checkpoints, and benchmarks.
CHECK := $(addprefix tests/,test_layout.py test_documentation.py manifests models \
	$(addprefix pipeline/,augment raw preprocess loader dataset/test_dataset.py dataset/test_hdf5.py \
		dataset/test_mapped_clips.py dataset/test_tar_shard.py dataset/test_untrimmed.py prepare/test_run.py \
		prepare/test_run_formats.py cli/test_cli.py test_manifest_file.py test_skeleton.py test_views.py) \
	$(addprefix train/,evaluation papers recipes running/test_checkpoint.py running/test_loop.py test_pretrain.py)) \
	$(addprefix --ignore=tests/,manifests/test_ntu_facts.py models/released pipeline/loader/test_dali.py \
		pipeline/loader/test_prefetch.py pipeline/raw/test_archive.py train/evaluation/test_recogniser.py)

.PHONY: help venv demo check test docs-commands wheel-check fuzz lint docs bench bench-gpu clean

help:
	@echo "make demo   raw recordings to an evaluated encoder, in a few minutes"
	@echo "make check  the fast half of the tests: most mistakes, in two minutes on two cores"
	@echo "make test   all tests, in about a quarter of an hour"
	@echo "make docs-commands  every command and all Python of README and docs, on small inputs"
	@echo "make wheel-check  the wheel in an empty environment: README's quick starts, start-up times"
	@echo "make fuzz   damaged files for every parser, for ten minutes (FUZZ='--seconds 60 --kind yaml': otherwise)"
	@echo "make lint   ruff, mypy, the order of imports (import-linter), and the links of the docs"
	@echo "make docs   the documentation as a site, in site/"
	@echo "make bench  the benchmarks behind BENCHMARKS.md"
	@echo "make bench-gpu  everything worth measuring on a GPU, in ten minutes, to bench-gpu.json (docs/gpu.md)"

venv: $(DEV)

# torch goes first and by its pinned version, so that nothing later pulls in another build of it.
$(PLAIN): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[plot]'
	touch $@

$(DEV): $(PLAIN)
	$(PIP) -e '.[plot,dask,dali,docs,dev]'
	touch $@

# All of it are wheels: no compiler is needed.
$(SWIFT): tests/swift/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --no-compile --only-binary :all: --no-deps -r $<
	touch $@

demo: $(PLAIN)
	$(BIN)/python train/demo.py --out demo

# Each worker keeps to its half of the files for as long as it can, so that few heavy fixtures are set up twice.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

check: $(DEV)
	$(PYTEST) $(CHECK)

test: $(DEV) $(SWIFT)
	$(PYTEST) tests

docs-commands: $(DEV) $(SWIFT)
	$(BIN)/python tests/documentation/run_commands.py

wheel-check: $(DEV) $(SWIFT)
	$(BIN)/python tests/documentation/wheel_check.py

fuzz: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzzing/campaign.py $(FUZZ)

# mypy, import-linter and the reference of the docs cannot follow the folder mapping of an editable install: they read
# the installed wheel.
define installed
	rm -rf $(VENV)/lint build
	$(BIN)/pip install -q --no-deps --no-build-isolation --target $(VENV)/lint .
	rm -rf build
endef
MKDOCS := NO_MKDOCS_2_WARNING=1 SKELPIPE_INSTALLED=$(VENV)/lint $(BIN)/mkdocs build --strict

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(installed)
	MYPYPATH=$(VENV)/lint $(BIN)/mypy -p skelpipe
	PYTHONPATH=$(VENV)/lint $(BIN)/lint-imports --no-cache --no-logo
	$(MKDOCS) -d $(VENV)/site

docs: $(DEV)
	$(installed)
	$(MKDOCS)
	@echo "site/index.html; with search: $(BIN)/python -m http.server -d site"

bench: $(DEV) $(SWIFT)
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/run.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/methods.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/absent_bodies.py
	$(BIN)/python tests/benchmarks/evaluation.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/live.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/streaming.py

# An environment of its own, whose torch is that for GPUs: the pinned one is for CPUs.
.venv-gpu/.installed: setup.cfg
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --no-compile -e '.[dali]'
	touch $@

bench-gpu: .venv-gpu/.installed
	.venv-gpu/bin/python tests/benchmarks/gpu.py --out bench-gpu.json $(GPU)

clean:
	rm -rf $(VENV) $(dir $(SWIFT)) build *.egg-info demo site
