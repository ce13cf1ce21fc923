"""The short form of `python -m tests.chaos.remote`."""

from __future__ import annotations

from typing import Any

from tests.chaos.remote.remote_run import OF_DATABASE, OF_EACH, WRONG
from tests.outage.frozen_postgres import skip_without_postgres
from tests.support.stack import run_check


def check(outcome: dict[str, Any], faults: int) -> None:
    assert outcome["faults"] == faults and outcome["points"] > 0 and outcome["commands"] > 0 and outcome["stopped"]
    assert outcome["repeated"] and outcome["attempts"] > 1
    # How long a command is on its way depends on the speed of the machine.
    wrong = [name for name in WRONG if name != "taken_late"]
    assert {name: outcome[name] for name in wrong} == dict.fromkeys(wrong, 0)


def test_a_training_behind_a_failing_link_loses_and_doubles_nothing():
    outcome = run_check("remote", "--faults", "6", "--longest", "1", "--once", "0")
    check(outcome, 6)
    assert all(outcome.get(f"fault_{name}") for name in OF_EACH)


def test_a_training_whose_database_restarts_loses_and_doubles_nothing():
    skip_without_postgres()
    outcome = run_check("remote", "--postgres", "--faults", "7", "--longest", "1", "--once", "0")
    check(outcome, 7)
    assert all(outcome.get(f"fault_{name}") for name in OF_EACH + OF_DATABASE)
