# What a person types. `make` alone lists it. Needs Python 3.11 or newer and git; everything else goes into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
UV := uv==0.13.9
STAMP := $(VENV)/.atelier-setup

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1

.PHONY: help repository setup art test quick lint bench lock

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 14

setup: $(STAMP)  ## the tools, into .venv (once; later calls are instant and need no network)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Atelier needs Python 3.11 or newer, and this is " + sys.version.split()[0] + ": make setup PYTHON=python3.12, say")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || { $(VENV)/bin/python -m ensurepip >/dev/null && $(VENV)/bin/python -m pip install -q $(UV); }
	@# compiled once: a stage is a new process, and loading torch uncompiled takes it seconds
	$(VENV)/bin/uv pip install -q --python $(VENV) --compile-bytecode --require-hashes -r requirements.lock
	@# without isolation: the build backend is in the lock, so this step needs no network
	$(VENV)/bin/uv pip install -q --python $(VENV) --no-deps --no-build-isolation -e .
	@touch $@

repository:
	@command -v git >/dev/null || { echo 'git is not installed: install it, then run make again'; exit 1; }
	@git rev-parse --git-dir >/dev/null || { echo 'This folder is no git repository, and DVC needs one: get Atelier with `git clone` instead of as a ZIP, or make it one: git init && git add . && git commit -m "My studio"'; exit 1; }

art: repository setup  ## the whole way: scrape, download, train, generate, upscale; what is fresh is kept
	dvc repro
	@echo "Look at file://$$PWD/data/page/index.html"

# a file stays with one process, which starts its servers once; the longest file comes first
PYTEST = python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup  ## every test: some nine minutes on two idle cores
	$(PYTEST) -m 'slow or not slow'

quick: setup  ## the tests without those that run whole pipelines or kill them: half of that time
	$(PYTEST)

lint: setup  ## style, types, and the arrows between the three floors
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python tools/code_deps.py --check

bench: setup  ## every benchmark but those that take an hour (trials, leaks, time_to_barrat, kills, gate, upscaler) or a GPU; each prints its ratios
	set -e; for script in $(filter-out bench/trials.py bench/leaks.py bench/time_to_barrat.py bench/kills.py bench/gate.py bench/upscaler.py bench/gpu.py,$(wildcard bench/*.py)); do echo "== $$script"; python $$script; done

lock: setup  ## requirements.lock again from pyproject.toml, keeping what still fits
	uv pip compile -q --universal --generate-hashes --python-version 3.11 --extra dev \
		--custom-compile-command 'make lock' pyproject.toml -o requirements.lock
