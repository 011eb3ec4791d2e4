# Everything runs from .venv, which the first target that needs it makes; afterwards no network is needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.made
VIDEOS ?=

.PHONY: help demo fetch test test-slow bench bench-pipeline bench-real bench-rendered bench-scale cases lint format wheel-check audit clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

demo: $(STAMP)  ## annotate videos, pack a dataset, train, dance: make demo [VIDEOS=DIR]
	$(BIN)/opendance demo $(if $(VIDEOS),'$(VIDEOS)') --out demo

fetch: $(STAMP)  ## fetch every model weight now, for a machine that will be offline
	$(BIN)/opendance fetch --all

# A file's tests stay in one process, for their fixtures; two processes with a thread each keep two cores busy.
test: lint  ## all checks but the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

test-slow: $(STAMP)  ## only the slow tests
	$(BIN)/python -m pytest -m slow

bench: $(STAMP)  ## measure what is meant to be fast beside its plain version: make bench [SECTIONS=...]
	$(BIN)/python -m benchmarks $(SECTIONS)

bench-scale: $(STAMP)  ## a million inputs, 28,051 sequences, kills, faults, fuzzing: make bench-scale VIDEOS='A.mp4 ...' [PARTS=...]
	$(BIN)/python -m benchmarks.scale $(VIDEOS) $(if $(PARTS),--parts $(PARTS))

cases: $(STAMP)  ## faults learnt from public reports: what each gives now, beside the right value
	$(BIN)/python -m benchmarks.cases $(CASES)

bench-pipeline: $(STAMP)  ## errors against the truth of twenty rendered clips: make bench-pipeline [MOCAP=DIR]
	$(BIN)/python -m benchmarks.pipeline_truth $(if $(MOCAP),--mocap '$(MOCAP)')

bench-rendered: $(STAMP)  ## the same of rendered clips in all conditions: rolled cameras, backs, blur ...: make bench-rendered [MOCAP=DIR]
	$(BIN)/python -m benchmarks.pipeline_truth conditions $(if $(MOCAP),--mocap '$(MOCAP)')

bench-real: $(STAMP)  ## errors against the truth of one real man, seen from four sides; needs the reference files
	$(BIN)/python -m benchmarks.real_truth

lint: $(STAMP)  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p opendance_hf
	$(BIN)/lint-imports

format: $(STAMP)  ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel-check: $(STAMP)  ## install the wheel in a clean environment, import every module, run the packaged weights and body
	$(BIN)/python tests/wheel_check.py

audit:  ## ask the advisory database for known faults of the pinned versions; needs a network
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --no-deps --disable-pip -r constraints.txt

clean:  ## remove what the targets made, .venv included
	rm -rf $(VENV) $(VENV)-audit demo build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  f"OpenDance-HF needs Python 3.11 or newer; {sys.executable} is {v.major}.{v.minor}. Try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[all,dev]'
	@touch $@
