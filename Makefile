# Needs make and Python 3.11 or newer with pip and venv: `make PYTHON=python3.12 test` names one.
# All else is in .venv, made from requirements/dev.txt: pinned, with hashes, wheels only.

PYTHON ?= python3
UV ?= uv

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help serve demo test check lint types layers wheel screenshots lock clean

BIN := .venv/bin
CODE := schema ingest projections audit tests $(if $(wildcard bench/*.py),bench)

# In the stamp's name, so that another Python means another .venv.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
PINNED := .venv/python-$(PYTHON_VERSION).stamp
READY := .venv/simtrail.stamp

# A source distribution would bring build dependencies that nothing pins: wheels only.
# -qq: once every file is pinned, a warning can change nothing; errors still show.
PIP_PINNED := -m pip install -qq --only-binary :all: --require-hashes --requirement

# --no-config: no machine's settings decide what the files say.
LOCK := $(UV) --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock'

help: ## show this
	@echo "simtrail: an event-sourced audit store for the webhooks of a SIM-card platform"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: $(READY) ## receive, project and publish until Ctrl-C (DATA=folder, ARGS="--port 9000")
	@exec $(BIN)/simtrail serve $(if $(DATA),--data "$(DATA)") $(ARGS)

demo: $(READY) ## serve a throwaway data folder with some weeks of a simulated platform (ARGS as for serve)
	@demo=$$(mktemp -d) || exit; serve=; \
	trap 'test -z "$$serve" || { kill $$serve 2>/dev/null; wait $$serve; }; rm -rf "$$demo"' EXIT; \
	trap 'exit 0' INT TERM; \
	$(BIN)/simtrail simulate --into-log --data "$$demo/data" >/dev/null || exit; \
	echo "Some weeks of a simulated platform, which end now. In another terminal, for every command of README.md:"; \
	echo "  export SIMTRAIL_DATA=$$demo/data"; \
	echo "  $(BIN)/simtrail status"; \
	echo "  $(BIN)/simtrail simulate --seed 2 --rate 2    # if more is to come in"; \
	echo "Look at the Datasette URL with a browser. Ctrl-C takes it all away."; \
	$(BIN)/simtrail serve --no-delivery-lines --data "$$demo/data" $(ARGS) & serve=$$!; \
	wait $$serve

test: $(READY) ## run the tests (ARGS="-k job" for some)
	@$(BIN)/python -m pytest $(ARGS)

check: lint types layers wheel ## run every check but the tests

lint: $(READY) ## rules and format, by ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY) ## types, by mypy
	@$(BIN)/mypy $(CODE)

layers: $(READY) ## which package may import which
	@$(BIN)/python -m pytest -q tests/test_layers.py

wheel: $(READY) ## build the wheel and try it in an environment with nothing else
	@rm -rf build
	@$(BIN)/python -m build -qq --wheel --no-isolation --outdir build .
	@$(BIN)/python -m venv build/bare
	@build/bare/bin/python $(PIP_PINNED) requirements/run.txt
	@build/bare/bin/python -m pip install -qq --no-index --no-deps build/*.whl
	@build/bare/bin/python -m pip check
	@build/bare/bin/python -I -c "$$IMPORT_ALL" schema ingest projections audit
	@cd build/bare && bin/simtrail --help >/dev/null
	@echo "$$(ls build/*.whl): installed alone, every module imports, simtrail --help runs"

# A module that a command imports late is not reached by --help.
define IMPORT_ALL
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        importlib.import_module(module.name)
endef
export IMPORT_ALL

screenshots: $(READY) ## take the documentation's pictures of the pages anew, of a simulated month; needs chromium
	@SIMTRAIL_SCREENSHOTS=docs/screenshots $(BIN)/python -m pytest -q tests/audit/site/test_browser.py -k read_by_all

lock: ## pin the dependencies anew, with uv (ARGS=--upgrade for newer ones)
	@$(LOCK) pyproject.toml --output-file requirements/run.txt $(ARGS)
	@$(LOCK) pyproject.toml --group test --group check --constraint requirements/run.txt \
		--output-file requirements/dev.txt $(ARGS)
	@$(LOCK) pyproject.toml --extra timestamps --constraint requirements/dev.txt --output-file requirements/timestamps.txt $(ARGS)

clean: ## remove what can be made again; never a data folder
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

$(PINNED): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "simtrail needs Python 3.11 or newer; $(PYTHON) is $(or $(PYTHON_VERSION),not to be found)." \
			"Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up .venv with Python $(PYTHON_VERSION) from requirements/dev.txt"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python $(PIP_PINNED) requirements/dev.txt
	@touch $@

$(READY): $(PINNED) pyproject.toml
	@$(BIN)/python -m pip install -qq --no-index --no-deps --no-build-isolation --editable .
	@touch $@
