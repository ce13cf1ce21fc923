#!/bin/sh
# `make lint` runs this: style, types, migrations, and Django's checks with the settings of a public portal.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export STEERSMAN_DATA="$scratch/data"

# Separate lines, because `set -e` ignores a failure before the last command of a chain with `&&`.
echo "ruff"
.venv/bin/ruff check --quiet .
.venv/bin/ruff format --quiet --check .
echo "codespell"
# Without tests, which contain deliberate misspellings.
.venv/bin/codespell *.md *.yaml *.toml Dockerfile Makefile bench deploy docs monitor_site runs scripts static/css static/js \
	steersman templates trainer
echo "mypy"
.venv/bin/mypy
# Check the code that a training imports against the oldest Python that it supports.
.venv/bin/mypy --python-version 3.10 -p steersman
echo "makemigrations --check"
$python manage.py makemigrations --check --dry-run
echo "check --deploy"
STEERSMAN_TLS=1 STEERSMAN_HOSTS=steersman.example STEERSMAN_SECRET_KEY="$($python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
	$python manage.py check --deploy --fail-level WARNING
