"""The short forms of `python -m tests.chaos.kill`: each kind of process is killed at least once."""

from __future__ import annotations

from tests.chaos.kill import WRONG, WRONG_RESUMED
from tests.support.stack import run_check


def test_it_loses_and_doubles_nothing_whatever_is_killed():
    outcome = run_check("kill", "--kills", "8")
    # Something new is logged before each kill.
    assert outcome["kills"] == 8 and outcome["points"] >= 8
    assert {name: outcome[name] for name in WRONG} == dict.fromkeys(WRONG, 0), outcome


def test_it_goes_on_bit_for_bit_whatever_is_killed():
    outcome = run_check("kill", "--kills", "2", "--resume")
    assert outcome["kills"] == 2 and outcome["resumed"] > 0 and outcome["points"] > 2
    assert {name: outcome[name] for name in WRONG_RESUMED} == dict.fromkeys(WRONG_RESUMED, 0), outcome
