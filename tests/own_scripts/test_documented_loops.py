"""The loops of docs/own_scripts.md, unchanged: recorded, stopped from outside, and resumed.

Small libraries of the same shape replace the large ones that three of them need; see `stand_ins`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

TEXT = (ROOT / "docs" / "own_scripts.md").read_text()
STAND_INS = Path(__file__).parent / "stand_ins"
# Loops this small end before a command could reach them: this one waits for a file in its 11th step.
HELD = """
import os, time, torch
zero_grad, calls = torch.optim.Optimizer.zero_grad, 0

def held(*given, **named):
    global calls
    calls += 1
    while calls > 10 and not os.path.exists({go_on!r}):
        time.sleep(0.01)
    return zero_grad(*given, **named)

torch.optim.Optimizer.zero_grad = held
"""


@dataclass(frozen=True)
class Loop:
    steps: int
    series: dict[str, int]
    epochs: int


LOOPS = {
    "train_gpt.py": Loop(60, {"train/loss": 12, "learning_rate": 12, "norm/gradient": 12}, 3),
    "train_hf.py": Loop(80, {"loss": 16, "grad_norm": 16, "learning_rate": 16, "eval_loss": 5}, 5),
    "train_lightning.py": Loop(80, {"train/loss": 80}, 5),
    "train_accelerate.py": Loop(40, {"train/loss": 40, "learning_rate": 40}, 5),
}


def test_each_loop_of_the_document_is_tried():
    assert sorted(re.findall(r"```python\n# (\w+\.py)\n", TEXT)) == sorted(LOOPS)


def write(name: str, folder: Path, is_held: bool = False) -> str:
    (code,) = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", TEXT, re.DOTALL)
    path = folder / name
    path.write_text(HELD.format(go_on=str(folder / "go on")) + code if is_held else code)
    return str(path)


def steps_of(stack: Stack, run_id: int, attempt: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in events(stack, run_id, "metrics"):
        for block in event["blocks"] if event["attempt"] == attempt else []:
            for name in block["values"]:
                found.setdefault(name, []).extend(block["steps"])
    return found


def ask_for_stop(stack: Stack, run_id: int, folder: Path, *options: str) -> None:
    """Send a stop to a held loop, and release the loop once its training has the command."""
    stack.manage("command", str(run_id), "stop", *options)
    arrived = "SELECT 1 FROM runs_command WHERE run_id = ? AND state IN ('delivered', 'applied')"
    wait_for(lambda: rows(stack, arrived, run_id), lambda: f"the command to be delivered\n{stack.log()}")
    (folder / "go on").touch()


def test_a_stop_at_the_last_batch_of_an_epoch_is_resumed(offline_stack: Stack, tmp_path: Path) -> None:
    name = "train_accelerate.py"
    with_stand_ins = {"PYTHONPATH": os.pathsep.join([str(STAND_INS), offline_stack.environment.get("PYTHONPATH", "")])}
    run_id = create_run(offline_stack, name)
    held = write(name, tmp_path, is_held=True)
    training = offline_stack.train(run_id, "--quiet", "--start-over", "--", held, **with_stand_ins)
    wait_for(lambda: run_row(offline_stack, run_id)["step"] >= 1, lambda: f"points\n{offline_stack.log()}")
    an_epoch = LOOPS[name].steps // LOOPS[name].epochs
    ask_for_stop(offline_stack, run_id, tmp_path, "--at-step", str(an_epoch * 2))
    assert training.wait(60) == 0, offline_stack.log()
    assert an_epoch * 2 <= run_row(offline_stack, run_id)["step"] < LOOPS[name].steps
    quick = write(name, tmp_path)
    assert offline_stack.train(run_id, "--quiet", "--", quick, **with_stand_ins).wait(60) == 0, offline_stack.log()
    assert (run_row(offline_stack, run_id)["state"], run_row(offline_stack, run_id)["step"]) == (
        "finished", LOOPS[name].steps,
    )  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_documented_loop_is_recorded_stopped_and_resumed(offline_stack: Stack, tmp_path: Path, name: str) -> None:
    loop = LOOPS[name]
    with_stand_ins = {"PYTHONPATH": os.pathsep.join([str(STAND_INS), offline_stack.environment.get("PYTHONPATH", "")])}
    run_id = create_run(offline_stack, name)
    held = write(name, tmp_path, is_held=True)
    training = offline_stack.train(run_id, "--quiet", "--start-over", "--", held, **with_stand_ins)
    wait_for(lambda: run_row(offline_stack, run_id)["step"] >= 5, lambda: f"points\n{offline_stack.log()}")
    ask_for_stop(offline_stack, run_id, tmp_path)
    assert training.wait(60) == 0, offline_stack.log()
    stopped = run_row(offline_stack, run_id)
    assert stopped["state"] == "stopped" and 5 <= stopped["step"] < loop.steps

    quick = write(name, tmp_path)
    assert offline_stack.train(run_id, "--quiet", "--", quick, **with_stand_ins).wait(60) == 0, offline_stack.log()
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"]) == ("finished", loop.steps)
    first, second = steps_of(offline_stack, run_id, 1), steps_of(offline_stack, run_id, 2)
    assert min(min(steps) for steps in second.values()) > 1, "it goes on"
    for series, count in loop.series.items():
        together = {*first.get(series, []), *second[series]}
        assert len(together) == count and max(together) == loop.steps, series
    epochs = {
        row["epoch"] for row in rows(offline_stack, "SELECT epoch FROM runs_epochmetric WHERE run_id = ?", run_id)
    }
    assert epochs == set(range(1, loop.epochs + 1))
    said = [line for event in events(offline_stack, run_id, "log") for line in event["lines"]]
    assert [line["text"] for line in said if line["level"] == "error" or "Warning" in line["text"]] == []
