# All commands of a clone. `make` lists the targets.
SHELL := /bin/sh
PYTHON ?=
VENV := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-postgres chaos gpu-check image-check lint docs bench client lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

setup: ## make .venv, and install the locked packages, the embedded server and the browser libraries
	@python="$(PYTHON)"; \
	for name in python3 python3.13 python3.12 python3.11; do \
		if [ -z "$$python" ] && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$name; fi; done; \
	python="$${python:-python3}"; \
	command -v "$$python" >/dev/null 2>&1 || { \
		echo "$$python is not there: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)," \
			"or name one: make setup PYTHON=/path/to/python3.12" >&2; exit 2; }; \
	exec "$$python" scripts/setup.py

demo: setup ## start portal, embedded server and a training, with demo accounts
	@exec $(VENV)/python manage.py demo

serve: setup ## start portal, embedded server and scheduler for daily use (STEERSMAN_BIND=0.0.0.0 admits other machines)
	@exec $(VENV)/python manage.py serve

test: setup ## install the packages of the tests, then run lint and all tests
	@$(VENV)/python scripts/debian_packages.py
	@$(MAKE) --no-print-directory lint
	@scripts/run_tests.sh

test-postgres: setup ## run all tests on a PostgreSQL server of their own (make test runs a part of them on one)
	@$(VENV)/python scripts/debian_packages.py
	@$(VENV)/python scripts/postgres.py scripts/run_tests.sh

chaos: setup ## run the long and repeated tests, on SQLite and on PostgreSQL
	@$(VENV)/python scripts/debian_packages.py
	@$(VENV)/pytest tests/chaos
	@$(VENV)/python scripts/postgres.py $(VENV)/pytest tests/chaos

gpu-check: setup ## run the checks that need an NVIDIA GPU, on this machine (docs/gpu.md)
	@$(VENV)/python -m tests.gpu_check

image-check: setup ## build and try every target of the Dockerfile with buildah (as root; docs/deployment.md)
	@$(VENV)/python -m tests.image_check

lint: setup ## run ruff, codespell, mypy and the checks of migrations and deployment
	@scripts/lint.sh

docs: setup ## build the site of the documents in build/documents/site; any warning fails
	@$(VENV)/python scripts/documents.py

bench: setup ## run every bench; each prints one JSON object as its last line
	@for bench in bench/*.py bench/costs/*.py; do \
		[ -e "$$bench" ] || continue; echo "$$bench" >&2; $(VENV)/python "$$bench" || exit 1; done; \
	for bench in hosts latency; do \
		echo "bench.remote.$$bench" >&2; $(VENV)/python -m "bench.remote.$$bench" || exit 1; done

client: setup ## build the client package, and collect its wheels (docs/client.md)
	@$(VENV)/python scripts/client.py

lock: ## pin the versions in .venv in requirements.lock
	@$(VENV)/python scripts/lock.py

clean: ## remove the files of set-up, tests and tools (not the data folder)
	rm -rf .venv node_modules static/vendor staticfiles build .mypy_cache .ruff_cache .pytest_cache .hypothesis
