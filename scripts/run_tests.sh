#!/bin/sh
# All tests. Browser tests are a pytest call of their own: Playwright's event loop runs in the thread that
# also uses the database, which Django allows only when told so.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/pytest --ignore=tests/browser
if [ -d tests/browser ]; then
	DJANGO_ALLOW_ASYNC_UNSAFE=true .venv/bin/pytest tests/browser
fi
