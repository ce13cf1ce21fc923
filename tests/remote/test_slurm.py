"""The short form of `python -m tests.chaos.slurm`, and what is read from Slurm's answers."""

from __future__ import annotations

import pytest

from steersman.agent.launchers.slurm import reason_in
from tests.chaos.slurm.__main__ import WRONG
from tests.support.hosts.slurm import why_not_here
from tests.support.stack import run_check


@pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())
def test_jobs_that_slurm_ends_and_requeues_lose_and_double_nothing():
    # One of each kind, but the one whose time is over: a minute is the shortest.
    outcome = run_check("slurm", "--jobs", "5", timeout_s=900.0)
    assert (outcome["jobs"], outcome["runs"], outcome["requeued"]) == (5, 5, 2) and outcome["points"] > 100
    assert {name: outcome[name] for name in WRONG} == dict.fromkeys(WRONG, 0)


@pytest.mark.parametrize(
    ("line", "turn", "reason"),
    [
        ("JobId=7 JobState=RUNNING Reason=None Restarts=0 PreemptTime=None", 0, ""),
        ("JobId=7 JobState=SIGNALING Reason=None Restarts=0 PreemptTime=2026-11-30T03:13:17", 0, "preempted"),
        ("JobId=7 JobState=COMPLETING Reason=TimeLimit Restarts=0 PreemptTime=None", 0, "out_of_time"),
        ("JobId=7 JobState=COMPLETING Reason=None Restarts=1", 0, "requeued"),
        ("JobId=7 JobState=COMPLETING Reason=None Restarts=1", 1, "cancelled"),
        ("JobId=7 JobState=CANCELLED Reason=None Restarts=0", 0, "cancelled"),
        ("JobId=7 JobState=NODE_FAIL Reason=None Restarts=0", 0, "node_failed"),
        ("JobId=7 JobState=COMPLETED Reason=None Restarts=0", 0, ""),
        ("", 0, ""),
    ],
)
def test_the_reason_is_what_scontrol_tells(line: str, turn: int, reason: str):
    assert reason_in(line, turn) == reason
