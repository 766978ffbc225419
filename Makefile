.DEFAULT_GOAL := help
.PHONY: help up down test test-neighbours test-containers check fmt bench docs lock
BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-annotate --python-version 3.11

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

up: ## a running stack: broker, mailbox, all services; Ctrl-C ends it
	@ops/bootstrap && exec $(BIN)/ops up

down: ## end a stack that was left behind
	@ops/bootstrap && exec $(BIN)/ops down

test: ## all tests, on a broker and a database of their own
	@ops/bootstrap dev && exec $(BIN)/pytest -q -n 3 --dist loadfile -m "not container and not alone"

test-neighbours: ## hostile clients beside a steady stream of mail; needs the machine for itself
	@ops/bootstrap dev && exec $(BIN)/pytest -q -m alone -o log_cli=true -o log_cli_level=INFO

test-containers: ## the tests that need a Docker engine
	@ops/bootstrap dev && exec $(BIN)/pytest -q -m container

check: ## lint, formatting, types, rules of imports and words, links and names in the docs, unused code
	@ops/bootstrap dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py tests/test_docs.py tests/test_wording.py
	$(BIN)/vulture

fmt: ## formatting and ruff's automatic fixes
	@ops/bootstrap dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: ## measure sender, gateway, codes and domains beside what bounds them, or what else one could take
	@ops/bootstrap dev bench && exec $(BIN)/python -m benchmarks

docs: ## renew the generated contracts
	@ops/bootstrap dev && exec $(BIN)/python -m ops.docs

lock: ## renew the lock files from pyproject.toml
	@ops/bootstrap dev
	$(COMPILE) -o requirements.lock pyproject.toml
	$(COMPILE) -c requirements.lock --group dev -o requirements-dev.lock
	$(COMPILE) -c requirements.lock -c requirements-dev.lock --group bench -o requirements-bench.lock
