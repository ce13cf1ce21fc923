"""The short form of `python -m tests.chaos.race`."""

from __future__ import annotations

from tests.support.stack import run_check


def test_of_racing_holders_one_wins_and_the_others_write_nothing():
    outcome = run_check("race", "--races", "40", "--trains", "2", "--fences", "0")
    assert outcome["races"] == 42 and outcome["attempts"] == 40 and outcome["fewer_wins"] > 0
    assert {name: outcome[name] for name in ("winners_not_one", "fenced_writes")} == {
        "winners_not_one": 0, "fenced_writes": 0
    }  # fmt: skip
