# Every target works on a clean clone: .venv is made when it is missing or older than what it is made from.
.DEFAULT_GOAL := help
.PHONY: help venv dev demo test soak check docs bench lock

# Without byte code on disk, each process that is started compiles everything again, for longer than it needs to start.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
ARGS ?=
WORKERS ?= auto
MINUTES ?= 60
SEED ?=
ONLY ?=

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile
	@echo "Options: ARGS='…' for dev, test, bench and lock; PYTHON=… chooses the Python that .venv is made with."

venv: .venv/.installed ## create .venv from requirements.lock

.venv/.installed: requirements.lock pyproject.toml scripts/bootstrap
	@PYTHON="$(PYTHON)" sh scripts/bootstrap

demo: venv ## the whole service on this machine, shown from the first command to the rolled-up status
	@$(BIN)/foldwork demo $(ARGS)

dev: venv ## the whole service on this machine, until Ctrl-C
	@$(BIN)/foldwork dev $(ARGS)

test: venv ## all tests; needs neither docker nor a network
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

soak: venv ## inject faults under load on servers of its own, and check every invariant (MINUTES=60 SEED=… ONLY=…)
	@$(BIN)/python -m tests.faults --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(ARGS)

check: venv ## lint, format, types, the boundaries between the packages, code that nothing uses, generated documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.dead_code
	@$(BIN)/python -m tests.documents --check

docs: venv ## write the documents that are made from the code
	@$(BIN)/python -m tests.documents

bench: venv ## measure throughput and latency
	@$(BIN)/python -m bench $(ARGS)

lock: ## resolve requirements.lock again from pyproject.toml (needs uv; ARGS=--upgrade for newer versions)
	@sh scripts/lock $(ARGS)
