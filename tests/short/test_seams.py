"""The short form of `python -m tests.chaos.seams`: one story."""

from __future__ import annotations

from tests.support.stack import run_check

WRONG = {"different": [], "doubled": 0, "gaps": 0, "stuck": 0}


def test_pages_hold_what_a_fresh_one_holds_whatever_is_cut_lost_or_stopped():
    outcome = run_check("seams", "--short", "--seed", "1")
    assert outcome["events"] and outcome["connections"] > 3 and outcome["torn"]
    assert {name: outcome[name] for name in WRONG} == WRONG, outcome
