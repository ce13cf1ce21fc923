"""The short form of `python -m tests.chaos.repeated.replayed`."""

from __future__ import annotations

from tests.support.stack import run_check


def test_a_run_and_its_branch_are_run_again_bit_for_bit_with_roll_backs_and_restarts() -> None:
    outcome = run_check("repeated.replayed", "--ledgers", "2")
    assert (outcome["ledgers"], outcome["branches"], outcome["differing_values"]) == (2, 2, 0), outcome
    assert outcome["roll_backs"] >= 4 and outcome["values_compared"] > 8_000, outcome
