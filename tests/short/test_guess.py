"""The short form of `python -m tests.chaos.guess`; only a quiet machine can judge its times."""

from __future__ import annotations

from tests.chaos.guess import WRONG
from tests.support.stack import run_check


def test_guesses_are_refused_and_the_right_password_too_until_the_lock_ends() -> None:
    outcome = run_check("guess", "--seconds", "1", "--guessers", "3")
    assert outcome["guesses"] > outcome["right_after_lock"] >= 3
    assert {name: outcome[name] for name in WRONG} == WRONG
