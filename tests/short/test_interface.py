"""The short form of `python -m tests.chaos.interface`."""

from __future__ import annotations

from tests.chaos.interface import WRONG
from tests.support.stack import run_check


def test_over_a_websocket_whose_portal_and_recorder_are_killed_nothing_is_lost_or_doubled():
    sizes = ("--faults", "40", "--points", "2000", "--commands", "15")
    outcome = run_check("interface", "--over", "websocket", *sizes, timeout_s=480.0)
    assert outcome["over"] == "websocket" and outcome["faults"] >= 40 and outcome["points"] >= 2000
    assert outcome["kills"] > 0 and outcome["commands_applied"] > 0 and outcome["finished"]
    assert {name: outcome[name] for name in WRONG} == dict.fromkeys(WRONG, 0)


def test_between_two_sides_whose_link_fails_nothing_is_lost_or_doubled():
    outcome = run_check("interface", "--faults", "60", "--points", "3000", "--commands", "30")
    assert outcome["faults"] >= 60 and outcome["points"] >= 3000 and outcome["commands_applied"] > 0
    assert outcome["kills"] > 0 and outcome["finished"]
    assert {name: outcome[name] for name in WRONG} == dict.fromkeys(WRONG, 0)
