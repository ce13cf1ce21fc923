"""A knob that somebody changed keeps its value when the training starts again, and that is said."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steersman.checkpoints.resumed_knobs import write_resumed_knobs
from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.records.kinds import NoteRecord
from steersman.run import Run, worker_lock_path
from tests.support.stack import ROOT, Stack, create_run, events, run_row, wait_for

STEERED = str(ROOT / "tests" / "trainings" / "steered.py")


@pytest.fixture
def resumed(tmp_path: Path) -> Callable[[dict[str, Any]], Run]:
    """Return the run of an attempt that begins after knobs were set."""

    def begin(knobs: dict[str, Any]) -> Run:
        write_resumed_knobs(tmp_path, knobs)
        lock = try_lock(worker_lock_path(tmp_path, 0))
        assert lock is not None
        return Run(tmp_path, 0, lock)

    return begin


def notes(folder: Path) -> list[str]:
    found = JournalReader(segment_path(folder, 0, 0)).read(4 << 20, ended=True)
    return [record.text for record in found if isinstance(record, NoteRecord)]


def logged(stack: Stack, run_id: int) -> list[str]:
    return [line["text"] for event in events(stack, run_id, "log") for line in event["lines"]]


def test_what_was_set_is_put_to_work_and_said(resumed: Callable[[dict[str, Any]], Run], tmp_path: Path) -> None:
    run = resumed({"rate": {"": 0.001}, "decay": {"biases": 0.2}, "same": {"": 4}, "each": {"": 3}, "gone": {"": 1}})
    put: list[float] = []
    rate = run.knob("rate", 0.01, minimum=0.0, maximum=1.0, apply=put.append)
    decay = run.knob("decay", {"matrices": 0.1, "biases": 0.0}, minimum=0.0, maximum=0.5)
    each = run.knob("each", {"one": 1, "two": 2}, minimum=0, maximum=9)
    run.knob("same", 4)
    run.knob("new", 5)
    assert (rate.value, put) == (0.001, [0.001])
    assert decay.values == {"matrices": 0.1, "biases": 0.2}
    assert each.values == {"one": 3, "two": 3}
    said = notes(tmp_path)
    assert [text.split(" goes on")[0] for text in said] == ["rate", "decay of biases", "each of one", "each of two"]
    assert "0.001" in said[0] and "0.01" in said[0]


def test_what_cannot_be_put_to_work_is_said_and_left(resumed: Callable[[dict[str, Any]], Run], tmp_path: Path) -> None:
    def refuse(value: float) -> None:
        if value > 0.5:
            raise RuntimeError("too steep")

    run = resumed({"rate": {"": 7.0}, "weight": {"": 0.9}, "mode": {"": ["sum"]}})
    rate = run.knob("rate", 0.01, minimum=0.0, maximum=1.0)
    weight = run.knob("weight", 0.1, apply=refuse)
    mode = run.knob("mode", "mean", choices=("mean", "sum"))
    assert (rate.value, weight.value, mode.value) == (0.01, 0.1, "mean")
    said = notes(tmp_path)
    assert len(said) == 3 and all("cannot be put to work" in text for text in said)
    assert "too steep" in said[1]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"rate": 3}', '{"rate": null}'])
def test_a_damaged_file_ends_no_training(
    resumed: Callable[[dict[str, Any]], Run], tmp_path: Path, content: str
) -> None:
    run = resumed({})
    (tmp_path / "knobs.json").write_text(content)
    assert run.knob("rate", 0.01).value == 0.01


def test_a_command_holds_over_a_crash_and_is_left_by_a_new_beginning(offline_stack: Stack) -> None:
    run_id = create_run(offline_stack)
    supervisor = offline_stack.train(
        run_id, "--quiet", "--restarts", "1", "--", STEERED, "100000", "0.01", STEERSMAN_RESTART_PAUSE_S="0"
    )

    def knobs(attempt: int) -> dict[str, Any]:
        """Return the knobs of an attempt once all are declared."""
        row = run_row(offline_stack, run_id)
        found = {knob["name"]: knob["value"] for knob in json.loads(row["knobs"])}
        return found if row["attempt"] == attempt and "loss_weight" in found else {}

    try:
        wait_for(lambda: knobs(1), f"knobs\n{offline_stack.log()}")
        for name, value in (("learning_rate", "0.001"), ("weight_decay", "0.25"), ("mode", "sum")):
            offline_stack.manage("command", str(run_id), "set_knob", f"{name}={value}", "--wait", "60")
        pid = offline_stack.worker_pid(run_id)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        found = wait_for(lambda: knobs(2), f"knobs of the second attempt\n{offline_stack.log()}")
        assert (found["learning_rate"], found["mode"], found["accumulate"]) == (0.001, "sum", 4)
        assert found["weight_decay"] == {"matrices": 0.25, "biases": 0.25}
        lines = wait_for(
            lambda: [line for line in logged(offline_stack, run_id) if "goes on with" in line], "the notes"
        )
        assert any("learning_rate goes on with 0.001" in text for text in lines)
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(60)
    again = offline_stack.train(run_id, "--quiet", "--start-over", "--", STEERED, "100000", "0.01")
    try:
        assert wait_for(lambda: knobs(3), "knobs of a new beginning")["learning_rate"] == 0.003
    finally:
        again.send_signal(signal.SIGTERM)
        again.wait(60)
