"""Ranks of a script that does not declare them, in more ways than `tests/steersman/test_undeclared.py` has time for."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.steersman.test_undeclared import WORKER, ask, marked, reach, start, torchrun
from tests.support.stack import Stack, free_port, run_row, wait_for


def test_a_second_interrupt_kills_ranks_in_sessions_of_their_own(offline_stack: Stack):
    run_id, training = start(offline_stack, *torchrun())
    reach(offline_stack, run_id, 5)
    processes = marked(offline_stack, run_id)
    (rank_1,) = [process for process in processes if process.environ().get("RANK") == "1"]
    # Rank 0 receives neither commands nor signals.
    for process in processes:
        if process.environ().get("RANK") == "0":
            process.suspend()
    training.send_signal(signal.SIGINT)
    wait_for(lambda: "Ctrl-C again" in offline_stack.log(), "the first interrupt")
    training.send_signal(signal.SIGINT)
    assert training.wait(60) == 130
    psutil.wait_procs([rank_1], timeout=60)
    assert marked(offline_stack, run_id) == []


@pytest.mark.parametrize("mode", ["gloo", "siblings"], ids=["known to PyTorch alone", "side by side without a rank"])
def test_undeclared_ranks_are_seen_when_a_command_comes(offline_stack: Stack, mode: str):
    run_id, training = start(offline_stack, WORKER, mode, *([str(free_port())] if mode == "gloo" else []))
    reach(offline_stack, run_id, 5)
    assert "2 undeclared processes" in ask(offline_stack, run_id, "set_knob", "rate=0.5")
    assert "applied" in ask(offline_stack, run_id, "stop")
    assert training.wait(120) == 0, offline_stack.log()
    assert run_row(offline_stack, run_id)["state"] == "stopped"
    assert marked(offline_stack, run_id) == []


def test_a_helper_that_attaches_keeps_nobody_from_commanding(offline_stack: Stack):
    run_id, training = start(offline_stack, WORKER, "helper")
    reach(offline_stack, run_id, 5)
    assert "applied" in ask(offline_stack, run_id, "set_knob", "rate=0.5")
    assert "applied" in ask(offline_stack, run_id, "stop")
    assert training.wait(60) == 0, offline_stack.log()
    assert not list((offline_stack.data / "runs" / str(run_id)).rglob("stopping.json"))
