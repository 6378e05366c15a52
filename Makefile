# `make repro` and `make test` are all a newcomer needs; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PYTHONUNBUFFERED := 1
# Stages run `python` from .venv; a PYTHONPATH of the caller's could shadow the locked packages.
unexport PYTHONPATH
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_INDEX := $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL),)
PROOF := tmp/proof
SBOM := sbom.cdx.json
SBOM_VENV := .venv-sbom
AUDIT_S := 25
SITE := NO_MKDOCS_2_WARNING=1 mkdocs build --quiet
# Two processes halve the time of the tests; a file's tests stay in one. pytest-xdist comes with `make extras`.
WORKERS = $(shell $(BIN)/python -c 'import xdist; print("-n 2 --dist loadfile")' 2>/dev/null)

.PHONY: help install extras repro test test-long bench check audit sbom docs format clean proof proof-status

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

install: $(STAMP)  ## make .venv and install the pinned packages

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else f"Python {sys.version.split()[0]} found, 3.11 to 3.13 needed: make PYTHON=python3.11 ...")'
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	@echo "Installing the locked packages; torch alone takes minutes ..."
	@$(PIP) install --quiet --upgrade "pip>=25"
	@$(PIP) install --progress-bar on $(TORCH_INDEX) -r requirements.lock | sed -u -n '/^Collecting/p;/━/p;/^Installing/s/:.*/ .../p;/^Successfully/s/ installed.*/ installed./p'
	@$(PIP) install --quiet --no-deps --editable .
	@mark plots --setup
	@touch $(STAMP)

extras: $(STAMP)  ## the optional packages too: text recognition (ocr), masking of personal data (pii), S3 (s3), searching settings (tune), other stores and engines (pgvector, ray, qlora), the tests of the web page (browser) and of deploy/ (deploy), tests in two processes (parallel), audits (audit), fuzzing (fuzz), what `make bench` compares with (bench), the documentation's site (docs)
	@$(PIP) install --quiet -c requirements.lock -r requirements-extras.lock
	@for program in tesseract gs; do command -v $$program >/dev/null || echo "$$program is missing: apt-get install tesseract-ocr ghostscript"; done

repro: $(STAMP)  ## run the pipeline: PDFs, model, questions, training, evaluation, one table
	@mark params --check
	@dvc repro
	@mark report
	@mark models promote --if-better

test: check  ## static checks and the test suite
	@pytest -rs $(WORKERS) -m "not long and not gpu and not hub"

test-long: $(STAMP)  ## the tests that take minutes, a file at a time; goes on where it was interrupted, writes docs/results/long.md
	@python -m tests.long

bench: $(STAMP)  ## compare with other tools on this machine; writes bench/results.json (after `make repro` and `make extras`)
	@python -m bench.run

check: $(STAMP)  ## ruff, mypy, import order, params.yaml against conf/, known vulnerabilities (about a minute)
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@mark params --check
	@mark held-out --check
	@mark reference --check
	@if python -c 'import mkdocs' 2>/dev/null; then $(SITE) --site-dir .cache/site; else echo "docs are not built: make extras"; fi
	@python .ci/audit.py --limit $(AUDIT_S)

audit: $(STAMP)  ## known vulnerabilities of the locked packages, by pip-audit (after `make extras`; needs a network)
	@python .ci/audit.py

sbom: $(SBOM_VENV)/.installed  ## write sbom.cdx.json: the locked packages as CycloneDX
	@cat requirements.lock requirements-extras.lock | PYTHONWARNINGS=ignore "$(SBOM_VENV)/bin/cyclonedx-py" requirements --pyproject pyproject.toml --output-reproducible --output-format JSON --output-file "$(SBOM)" -
	@echo "$(SBOM) names the locked packages"

$(SBOM_VENV)/.installed: requirements-sbom.lock
	@$(PYTHON) -m venv --clear $(SBOM_VENV)
	@$(SBOM_VENV)/bin/python -m pip --disable-pip-version-check install --quiet -r requirements-sbom.lock
	@touch $@

docs: $(STAMP)  ## build the documentation into site/ (after `make extras`); `python -m http.server -d site` shows it
	@mark reference
	@$(SITE)

format: $(STAMP)  ## rewrite the code in the project's format
	@ruff check --fix . ; ruff format .

proof: $(STAMP)  ## run the proof profile in the background in a clone of its own; resumes when run again
	@mark proof --start

proof-status: $(STAMP)  ## how far the proof is
	@mark proof

clean:  ## remove .venv, caches and what the pipeline wrote (never data/pdfs, feedback or the DVC cache)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build site $(SBOM) *.egg-info chroma_db .chroma_db.* .ckpt .cache logs
	rm -rf data/raw data/pages.jsonl data/chunks.jsonl data/embeddings.npy data/index.json data/ingest_report.json data/.ingest.part data/token_vectors data/.token_vectors.*
	rm -rf data/train_sft.jsonl data/val_sft.jsonl data/test_sft.jsonl data/ledger.json data/practice_passages.jsonl reports/eval reports/rlhf reports/compare reports/timing_*.json
	rm -rf models/base models/embedder models/reranker models/*_lora models/*_lora_* plots/train runs
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
