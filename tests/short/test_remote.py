"""The short form of `python -m tests.chaos.remote`."""

from __future__ import annotations

from tests.chaos.remote.__main__ import WRONG
from tests.support.stack import run_check


def test_a_training_behind_a_failing_link_loses_and_doubles_nothing():
    # With this seed, each kind of fault occurs.
    outcome = run_check("remote", "--faults", "8", "--longest", "1", "--once", "0", "--seed", "0")
    assert outcome["faults"] == 8 and outcome["points"] > 0 and outcome["commands"] > 0 and outcome["stopped"]
    assert all(outcome.get(f"fault_{name}") for name in ("link", "portal", "record", "host", "database"))
    assert outcome["repeated"]
    assert {name: outcome[name] for name in WRONG} == dict.fromkeys(WRONG, 0)
