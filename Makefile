# Everything that a person or a machine does with this repository. `make` alone lists it.
# Needs make and Python 3.11 or newer; the first target that needs more sets up .venv by itself.

# The system's own Python first: distributions build theirs with all optimisations, and whoever compiles one often leaves
# them out, which makes everything here slower by a fifth. The first that will do is taken, once, when .venv is made.
PYTHONS := /usr/bin/python3.11 /usr/bin/python3 python3.11 python3 python3.12 python3.13 python3.14
PYTHON = $(eval PYTHON := $$(shell for python in $(PYTHONS); do \
	$$$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$$$python && exit; done; echo python3))$(PYTHON)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test verify fix fuzz mutants bench clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## kill primaries under load and count what is lost (PROTOCOL=vsr by default)
	@$(BIN)/viewstamp demo $(if $(PROTOCOL),--protocol $(PROTOCOL))

# These tests but for one file take one core for as long as all the rest takes, and run beside it: see tests/side_by_side.py.
BESIDE := tests/simulation tests/viewstamp
MUTANTS := tests/simulation/test_stack_mutants.py
test: verify ## verify, then run all tests, soak for a minute, and play 100 seeds of each protocol in simulation, 15 also through the Trio shell
	$(BIN)/python -m tests.side_by_side $(BIN)/python -m pytest $(BESIDE) --ignore $(MUTANTS) \
		-- $(BIN)/viewstamp soak --minutes 1 \
		-- $(BIN)/python -m pytest $(addprefix --ignore ,$(BESIDE)) \
		-- $(BIN)/python -m pytest $(MUTANTS) \
		-- $(BIN)/viewstamp fuzz --protocol both --seeds 0:100 --jobs 2 \
		-- $(BIN)/viewstamp fuzz --protocol both --seeds 0:15 --jobs 2 --shell trio

verify: $(INSTALLED) ## check formatting, lint, types and import layers; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(INSTALLED) ## format, and repair what the linter can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(INSTALLED) ## simulate whole clusters of both protocols with new seeds for two minutes
	@$(BIN)/viewstamp fuzz --protocol both --minutes 2 --jobs 2

mutants: $(INSTALLED) ## put hand-made bugs into the code one by one, and print what finds each
	@$(BIN)/python -m tests.simulation.mutants_table

bench: $(INSTALLED) ## measure beside etcd, PySyncObj and the floor, in ten minutes (ARGS="--full", "--list", ...)
	@$(BIN)/python -c 'import matplotlib, pysyncobj' 2>/dev/null || $(BIN)/python -m pip install --quiet \
		--disable-pip-version-check --root-user-action=ignore --editable '.[bench]' \
		|| echo "Without matplotlib and PySyncObj there is no chart, and a column is missing."
	@$(BIN)/python -m bench $(ARGS)

clean: ## remove .venv and everything that was generated
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A failed set-up leaves no stamp and is done again. The stamp names its folder: scripts of an environment hold the
# full path of their Python, so that a folder that was moved or copied needs a new one. So does whoever names another
# Python than the environment has, and one whose Python is gone.
ifeq ($(origin PYTHON),command line)
BUILD := -c 'import sys; print(sys.version)' 2>&1
ANEW := $(shell test "$$($(BIN)/python $(BUILD))" = "$$($(PYTHON) $(BUILD))" || echo anew)
endif
ifneq ($(ANEW)$(shell test -x $(BIN)/python && cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c '' 2>/dev/null || { echo "Python 3.11 or newer is needed, and '$(PYTHON)' does not run." \
		"Name another with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed;" \
		"'$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments;" \
		"install its venv module (on Debian and Ubuntu the package python3-venv)." >&2; exit 1; }
	@echo "Setting up .venv with $(PYTHON), once; this takes a minute."
	@test -z '$(ANEW)' && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		&& grep -qsF "$$(pwd -P)/$(BIN)/python" $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --editable '.[dev]'
	@pwd -P > $@
