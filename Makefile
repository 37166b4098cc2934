# Everything runs inside $(VENV). `make` alone lists the targets.
#
#   PYTHON=python3.12   the Python that a new $(VENV) is made of
#   VENV=.venv-3.13     another environment, say for another Python
#   ARGS="-k lease"     further arguments for pytest (make test), the harness (make chaos) or the
#                       suite (make bench)

.DEFAULT_GOAL := help
.PHONY: help setup run up down test model-check chaos bench check lint fmt docs-check clean

VENV ?= .venv
JOBS ?= 4
BIN := $(VENV)/bin
PY := $(BIN)/python
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV := $(shell command -v uv 2>/dev/null)

# The stamp's name is a checksum of what was installed, not a time: switching between branches and
# back installs nothing again, and needs no network.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the virtual environment and install everything into it (only if it changed)
	@echo "$(VENV) is ready."

run: $(STAMP) ## Show the whole system once: Redis, workers, a run watched live; leaves nothing behind
	@$(PY) -m examples.quickstart

up: $(STAMP) ## Start the system of `make run` and leave it running
	@$(PY) -m examples.quickstart up

# Without $(STAMP): after a change of what is installed, it must neither install first nor fail.
down: ## Stop what `make up` started
	@test ! -x $(PY) || $(PY) -m examples.quickstart down

# Most of the time tests wait, for a lease to end or a process to start: more of them at once than
# there are processors. All tests of a file run in one process, which keeps what they share; files
# are begun in the order of tests/conftest.py.
test: $(STAMP) ## Run the tests (ARGS="-k lease" for some of them, JOBS=0 one by one)
	@$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: $(STAMP) ## Harm a whole system for a minute and verify what is left (ARGS="--seed 2 --broker rabbitmq")
	@$(PY) -m benchmarks.chaos --runs 100 --workers 3 --minutes 0.8 $(ARGS)

bench: $(STAMP) ## Measure everything, beside other systems; writes benchmarks/results (ARGS="--only throughput")
	@$(PY) -m benchmarks.suite $(ARGS)

# 50 steps each, over the stores in memory and in Redis; a quarter of an hour.
model-check: export AGENTS_TEST_EXAMPLES ?= 2000
model-check: $(STAMP) ## Try whole workers in 2,000 random orders of steps (AGENTS_TEST_EXAMPLES=300 for fewer)
	@$(PY) -m pytest tests/contract/test_state_machine.py -s $(ARGS)

check: lint ## Everything that needs no running: format, lint, types, import rules
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

lint: $(STAMP) ## Format and lint, without changing anything
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

fmt: $(STAMP) ## Format, and fix what ruff can fix by itself
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

docs-check: $(STAMP) ## Links between documents lead somewhere, and Python in them parses
	@$(PY) -c "$$DOCS_CHECK"

clean: ## Remove caches and builds; the virtual environment stays
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@rm -rf build dist htmlcov .coverage .coverage.*
	@find agent_client agent_worker shared tests examples benchmarks -name __pycache__ -prune \
		-exec rm -rf {} + 2>/dev/null || true

# An environment whose Python has gone (the machine's was upgraded) is made anew, stamp or not.
ifeq ($(shell test -x $(PY) && echo usable),)
.PHONY: $(STAMP)
endif

# An environment that uv made has no pip of its own, hence ensurepip.
$(STAMP):
	@test -n "$(PYTHON)$(UV)" || { echo "No Python 3.11 or later found; name one: make PYTHON=..."; exit 1; }
	@echo "Installing into $(VENV) with $(if $(UV),uv,pip); the first time takes a minute or two ..."
	@if [ -n "$(UV)" ]; then \
		{ test -x $(PY) || "$(UV)" venv --quiet --clear --python "$(or $(PYTHON),>=3.11)" $(VENV); } && \
		"$(UV)" pip install --quiet --python $(PY) --constraint constraints.txt --editable '.[dev]'; \
	else \
		{ test -x $(PY) || $(PYTHON) -m venv --clear $(VENV); } && \
		{ $(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; } && \
		$(PY) -m pip install --quiet --quiet --disable-pip-version-check \
			--constraint constraints.txt --editable '.[dev]'; \
	fi
	@rm -f $(VENV)/.installed-* && touch $@

define DOCS_CHECK
import ast, pathlib, re, sys, textwrap
wrong = []
sources = [*pathlib.Path().glob("*.md"), *pathlib.Path("docs").rglob("*.md")]
for source in sources:
    text = source.read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        try:
            compile(code, str(source), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            wrong.append(f"{source}: Python that does not parse: {error}")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if not re.match(r"[a-z]+:", target) and not (source.parent / target).exists():
            wrong.append(f"{source}: a link that leads nowhere: {target}")
print("\n".join(wrong) or f"{len(sources)} documents are fine.")
sys.exit(bool(wrong))
endef
export DOCS_CHECK
