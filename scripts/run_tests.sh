#!/bin/sh
# All tests. Browser tests are a pytest call of their own: Playwright's event loop runs in the thread that
# also uses the database, which Django allows only when told so.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/pytest --ignore=tests/browser
if [ -d tests/browser ]; then
	DJANGO_ALLOW_ASYNC_UNSAFE=true .venv/bin/pytest tests/browser
fi
# What depends on the database most, once more on PostgreSQL; `make test-postgres` runs all of it there.
if [ -z "${COXSWAIN_TEST_POSTGRES:-}" ]; then
	.venv/bin/python scripts/postgres.py .venv/bin/pytest -q \
		tests/test_live.py tests/test_series.py tests/test_admin.py tests/test_portal.py tests/test_train.py
fi
