# `make demo` and `make test` do everything on a machine that has only Python >= 3.10 and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
# What COVERAGE=1 adds to the tests: which lines they run, and a failure below the floor. It takes a third longer.
MEASURED := --cov=diffhmr --cov-report=term:skip-covered --cov-fail-under=85
# The environments of the shell and of other checkouts must not leak into the checks.
export PYTHONPATH :=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo demo-video test test-all lint clean

help:
	@echo "make setup       install into $(VENV)"
	@echo "make demo        run the demo on the sample photo and print where the results are"
	@echo "make demo-video  the demo on the sample video and its keypoints"
	@echo "make test        run the default tests (no GPU, licensed file or network); COVERAGE=1 measures what they cover"
	@echo "make test-all    run every test that this machine can run"
	@echo "make lint        ruff and mypy"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: Python 3.10 or newer is needed; call make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

$(DEV): pyproject.toml $(RUNTIME)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $@

setup: $(RUNTIME)

demo: $(RUNTIME)
	$(BIN)/python demo.py --image data/samples/photographer.jpg --boxes data/samples/photographer.json \
		--num-samples 25 --mesh glb --out out/demo

demo-video: $(RUNTIME)
	$(BIN)/python demo.py --video data/samples/walker.mp4 --keypoints data/samples/walker.json \
		--num-samples 10 --mesh glb bvh --out out/video

test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile $(if $(COVERAGE),$(MEASURED))

test-all: $(DEV)
	$(BIN)/python -m pytest -q -m ""

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) out
