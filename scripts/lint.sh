#!/bin/sh
# What `make lint` runs: style, types, migrations, and Django's checks as a portal on the net would be set.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export STEERSMAN_DATA="$scratch/data"

# Not joined by `&&`: `set -e` passes over a failure before the last of them.
echo "ruff"
.venv/bin/ruff check --quiet .
.venv/bin/ruff format --quiet --check .
echo "codespell"
# Not tests: they misspell on purpose.
.venv/bin/codespell *.md *.yaml *.toml Dockerfile Makefile bench deploy docs monitor_site runs scripts static/css static/js \
	steersman templates trainer
echo "mypy"
.venv/bin/mypy
# What a training imports, as the oldest Python that it may run on has it.
.venv/bin/mypy --python-version 3.10 -p steersman
echo "makemigrations --check"
$python manage.py makemigrations --check --dry-run
echo "check --deploy"
STEERSMAN_TLS=1 STEERSMAN_HOSTS=steersman.example STEERSMAN_SECRET_KEY="$($python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
	$python manage.py check --deploy --fail-level WARNING
