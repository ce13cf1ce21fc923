#!/bin/sh
# Run all tests. Browser tests run in a separate pytest call, because Playwright's event loop runs in the thread that also
# uses the database, which Django only allows with DJANGO_ALLOW_ASYNC_UNSAFE. This call runs beside the others, because
# both wait more than they work; the long checks follow it, so that both end at about the same time. tests/chaos has
# further long tests (`make chaos`).
set -eu
cd "$(dirname "$0")/.."
# Tests start hundreds of Python processes; without byte code on disk, each would compile the whole project.
unset PYTHONDONTWRITEBYTECODE
mkdir -p build
checks="tests/short/test_kill.py tests/short/test_race.py tests/short/test_truth.py tests/short/test_big_events.py"
(
	failed=0
	trap 'kill "$pytest"; exit 1' TERM
	DJANGO_ALLOW_ASYNC_UNSAFE=true .venv/bin/pytest tests/browser &
	pytest=$!
	wait "$pytest" || failed=1
	# shellcheck disable=SC2086  these are words
	.venv/bin/pytest $checks &
	pytest=$!
	wait "$pytest" || failed=1
	exit $failed
) >build/tests_beside.log 2>&1 &
beside=$!
trap 'kill "$beside" 2>/dev/null || true' EXIT
failed=0
ignored=$(printf -- ' --ignore=%s' tests/browser tests/chaos $checks)
# Three processes on two cores, because tests of processes wait a third of their time.
# shellcheck disable=SC2086
.venv/bin/pytest $ignored -n 3 --dist loadfile --no-loadscope-reorder || failed=1
wait "$beside" || failed=1
trap - EXIT
cat build/tests_beside.log
# Repeat the tests that depend most on the database on PostgreSQL; `make test-postgres` runs all tests there.
if [ -z "${STEERSMAN_TEST_POSTGRES:-}" ]; then
	train=tests/control/test_train.py
	.venv/bin/python scripts/postgres.py .venv/bin/pytest -n 3 --dist load tests/live/test_live.py \
		tests/commands/test_command_log.py tests/series/test_series.py tests/series/test_charts.py tests/series/test_exports.py tests/api/test_points.py tests/admin/test_admin.py \
		tests/admin/test_admin_delete.py tests/control/test_setting_aside.py tests/steersman/test_widest_records.py tests/portal/test_unstorable_text.py \
		tests/alerts/sending/test_sender.py tests/alerts/sending/test_fake_senders.py tests/alerts/sending/test_told_together.py \
		$train::test_it_records_a_script_from_start_to_end $train::test_it_adopts_a_living_worker \
		$train::test_a_database_that_is_away_costs_no_point \
		$train::test_an_owner_that_was_fenced_out_changes_nothing_of_the_run_and_exits_4 || failed=1
fi
exit $failed
