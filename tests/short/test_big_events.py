"""The short form of `python -m tests.chaos.big_events`."""

from __future__ import annotations

from tests.support.stack import run_check


def test_large_events_stop_no_viewer_and_lose_nothing():
    outcome = run_check("big_events", "--short")
    assert outcome["cases"] == 1 and outcome["viewers"] == 4 and outcome["largest_frame_bytes"] > 50_000
    wrong = ("viewers_stuck", "viewers_not_greeted", "missing_in_database")
    assert {name: outcome[name] for name in wrong} == dict.fromkeys(wrong, 0)
