"""The short form of `tests/big_events_test.py`."""

from __future__ import annotations

from tests.stack import run_check


def test_large_events_stop_no_viewer_and_lose_nothing():
    outcome = run_check("big_events_test.py", "--short")
    assert outcome["cases"] == 1 and outcome["viewers"] == 4 and outcome["largest_frame_bytes"] > 50_000
    wrong = ("viewers_stuck", "viewers_not_greeted", "missing_in_database")
    assert {name: outcome[name] for name in wrong} == dict.fromkeys(wrong, 0)
