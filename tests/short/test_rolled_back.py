"""The short form of `python -m tests.chaos.processes.rolled_back`."""

from __future__ import annotations

from tests.chaos.processes.rolled_back import WRONG
from tests.support.stack import run_check


def test_a_training_that_is_killed_around_roll_backs_and_branches_goes_on_from_the_right_checkpoint() -> None:
    outcome = run_check("processes.rolled_back", "--kills", "4")
    assert outcome["kills"] == 4 and outcome["points"] > 2 and outcome["branches"] > 0
    assert {name: outcome[name] for name in WRONG} == dict.fromkeys(WRONG, 0), outcome
