# Loraplex: `make` lists the targets. Each one sets up what it needs.
# Overrides: PYTHON=/path/to/python3.11  ACCEL=cpu|cuda  ARGS="further arguments"

SHELL := /bin/bash
VENV := .venv
# Empty where ACCEL is neither cpu nor cuda; the reason has been printed then.
ACCELERATOR := $(shell ACCEL='$(ACCEL)' scripts/find-accelerator.sh)
# Written at the very end of a set-up, so an interrupted one is done again.
STAMP := $(VENV)/.setup-$(ACCELERATOR)
SHELL_SCRIPTS := $(wildcard scripts/*.sh requirements/*.sh .ci/run)
export PYTHON

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo serve test lint bench clean libraries accelerator

help: ## List the targets
	@awk -F ': .*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: libraries $(STAMP) ## Install everything into .venv, nothing else

demo: libraries $(STAMP) ## Two tenants, two real adapters, one vLLM: show it all working
	@$(VENV)/bin/loraplex demo $(ARGS)

serve: libraries $(STAMP) ## Start vLLM on the embedded model and the gateway, and leave them running
	@$(VENV)/bin/loraplex serve $(ARGS)

test: libraries $(STAMP) ## Run the whole test-suite
	$(VENV)/bin/pytest $(ARGS)

lint: $(STAMP) ## Check style, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	@if command -v shellcheck >/dev/null; then shellcheck $(SHELL_SCRIPTS); else \
		echo "shellcheck is not installed: shell scripts were not checked"; fi

bench: ## Run every benchmark in benchmarks/
	@shopt -s nullglob; files=(benchmarks/*.py); \
	if [ $${#files[@]} -eq 0 ]; then echo "benchmarks/ is empty: there is no benchmark yet."; exit 0; fi; \
	$(MAKE) --no-print-directory libraries $(STAMP) && \
	for file in "$${files[@]}"; do echo "== $$file"; $(VENV)/bin/python "$$file" $(ARGS) || exit 1; done

clean: ## Remove what was built here: .venv, caches, wheels; never the data dir
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

libraries: accelerator
	@scripts/check-libraries.sh $(ACCELERATOR)

accelerator:
	@[ -n "$(ACCELERATOR)" ]

$(STAMP): pyproject.toml $(wildcard requirements/*.txt) scripts/setup.sh scripts/install-requirements.sh
	@[ -n "$(ACCELERATOR)" ]
	@scripts/setup.sh $(VENV) $(ACCELERATOR)
	@touch $@
