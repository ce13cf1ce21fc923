# The whole interface of a clone. `make` lists the targets.
SHELL := /bin/sh
PYTHON ?=
VENV := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-postgres chaos gpu-check image-check lint docs bench client lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-15s %s\n", $$1, $$2}'

setup: ## make .venv, install what requirements.lock pins, the embedded server and what browsers load
	@python="$(PYTHON)"; \
	for name in python3 python3.13 python3.12 python3.11; do \
		if [ -z "$$python" ] && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$name; fi; done; \
	python="$${python:-python3}"; \
	command -v "$$python" >/dev/null 2>&1 || { \
		echo "$$python is not there: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)," \
			"or name one: make setup PYTHON=/path/to/python3.12" >&2; exit 2; }; \
	exec "$$python" scripts/setup.py

demo: setup ## start portal, embedded server and a training, with accounts to look around
	@exec $(VENV)/python manage.py demo

serve: setup ## start portal, embedded server and watch for daily use (STEERSMAN_BIND=0.0.0.0: for other machines too)
	@exec $(VENV)/python manage.py serve

test: setup ## install what the tests need, then lint and all tests
	@$(VENV)/python scripts/debian_packages.py
	@$(MAKE) --no-print-directory lint
	@scripts/run_tests.sh

test-postgres: setup ## all tests on a PostgreSQL server of their own (make test runs a part of them on it)
	@$(VENV)/python scripts/debian_packages.py
	@$(VENV)/python scripts/postgres.py scripts/run_tests.sh

chaos: setup ## the tests that take long or repeat, on SQLite and on PostgreSQL
	@$(VENV)/python scripts/debian_packages.py
	@$(VENV)/pytest tests/chaos
	@$(VENV)/python scripts/postgres.py $(VENV)/pytest tests/chaos

gpu-check: setup ## what needs an NVIDIA GPU, on this machine (docs/gpu.md)
	@$(VENV)/python -m tests.gpu_check

image-check: setup ## build and try every target of the Dockerfile with buildah (as root; docs/deployment.md)
	@$(VENV)/python -m tests.image_check

lint: setup ## ruff, codespell, mypy, missing migrations, deployment checks
	@scripts/lint.sh

docs: setup ## build the site of the documents in build/documents/site; any warning fails
	@$(VENV)/python scripts/documents.py

bench: setup ## run every bench; each prints one JSON object as its last line
	@for bench in bench/*.py bench/costs/*.py; do \
		[ -e "$$bench" ] || continue; echo "$$bench" >&2; $(VENV)/python "$$bench" || exit 1; done

client: setup ## build the client package, and collect the wheels that it needs (docs/client.md)
	@$(VENV)/python scripts/client.py

lock: ## pin in requirements.lock what .venv holds now
	@$(VENV)/python scripts/lock.py

clean: ## remove what set-up, tests and tools made (not the data folder)
	rm -rf .venv node_modules static/vendor staticfiles build .mypy_cache .ruff_cache .pytest_cache .hypothesis
