"""A run with interventions, and its replay from configuration, seed and command log: the same losses, bit for bit."""

from __future__ import annotations

import json
from typing import Any

from tests.support.stack import Stack, events, rows, run_row, wait_for
from tests.support.stored_points import exact_column


def ask(stack: Stack, *commands: str) -> None:
    """Send typed commands one after another, and wait for the outcome if a command says so."""
    calls = "\n".join(f"call_command('command', *{command.split()!r})" for command in commands)
    stack.manage("shell", "-v", "0", "-c", f"from django.core.management import call_command\n{calls}")


def paused(stack: Stack, run_id: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        run = run_row(stack, run_id)
        return run if run["state"] == "paused" else None

    return wait_for(look, lambda: f"run {run_id} to pause\n{stack.log()}")


def start(stack: Stack) -> int:
    arguments = ("--recipe", "digits", "--seed", "7", "--set", "epochs=16", "--set", "save_every=100", "--start-paused")
    run_id = int(stack.manage("create_run", "--quiet", "--project", "lab", *arguments).stdout)
    stack.train(run_id, "--quiet")
    paused(stack, run_id)
    return run_id


def finished_losses(stack: Stack, run_id: int) -> dict[tuple[int, int], float]:
    """Return the losses of a run by lap and step, once it has finished."""
    wait_for(lambda: run_row(stack, run_id)["state"] == "finished", lambda: f"run {run_id} to finish\n{stack.log()}")
    return {
        ((block.get("laps") or {}).get("train/loss", 0), step): loss
        for event in events(stack, run_id, "metrics")
        for block in event["blocks"]
        if "train/loss" in block["values"]
        for step, loss in zip(block["steps"], exact_column(block, "train/loss"), strict=True)
    }


def applied(stack: Stack, run_id: int) -> list[tuple[Any, ...]]:
    """Return what was applied in its order, without what changes no step, and checkpoints that only a replay names."""
    sql = (
        "SELECT kind, step, old_value, new_value FROM runs_command WHERE run_id = ? AND state = 'applied' "
        "AND kind NOT IN ('pause', 'resume', 'extend') ORDER BY applied_at"
    )
    found = [
        (row["kind"], row["step"], _json(row["old_value"]), _json(row["new_value"])) for row in rows(stack, sql, run_id)
    ]
    return [each for each in found if not str(each[3]).startswith("replayed ")]


def _json(stored: Any) -> Any:
    """Return the value of a JSON column, which SQLite keeps as text."""
    return json.loads(stored) if isinstance(stored, str) else stored


def test_the_command_log_gives_the_same_curve_again_in_every_lap(offline_stack: Stack) -> None:
    stack = offline_stack
    first = start(stack)
    ask(
        stack,
        f"{first} set_knob learning_rate=0.002 --wait 30",
        f"{first} save_checkpoint name=early --at-step 150",
        f"{first} set_knob learning_rate*=0.5 --at-step 200",
        f"{first} evaluate --at-step 201",
        f"{first} pause --at-step 300",
        f"{first} resume",
    )
    wait_for(lambda: run_row(stack, first)["step"] >= 300, lambda: f"step 300\n{stack.log()}")
    assert paused(stack, first)["step"] == 300
    # Nobody knew before at which step these would be done. The newest checkpoint has no name of its own.
    ask(
        stack,
        f"{first} set_knob learning_rate=0.01 --wait 30",
        f"{first} roll_back checkpoint=newest keep_knobs=true --wait 30",
        f"{first} extend 2 --wait 30",
        f"{first} pause --at-step 320",
        f"{first} resume",
    )
    wait_for(lambda: run_row(stack, first)["step"] >= 320, lambda: f"step 320\n{stack.log()}")
    paused(stack, first)
    ask(
        stack,
        f"{first} roll_back checkpoint=early knob=learning_rate factor=2 --wait 30",
        f"{first} set_knob learning_rate=0.003 --at-step 200",
        f"{first} resume",
    )
    losses = finished_losses(stack, first)
    done = applied(stack, first)
    went = [new["step"] for kind, _, _, new in done if kind == "roll_back"]
    assert [(kind, step) for kind, step, _, _ in done] == [
        ("set_knob", 0), ("save_checkpoint", 150), ("set_knob", 200), ("evaluate", 201), ("set_knob", 300),
        ("roll_back", 300), ("roll_back", 320), ("set_knob", 200),
    ]  # fmt: skip
    assert 201 < went[0] < 300 and went[1] == 150
    assert [new for kind, _, _, new in done if kind == "set_knob"] == [0.002, 0.001, 0.01, 0.003]

    again = start(stack)
    ask(stack, f"{again} --replay {first}", f"{again} resume")
    assert finished_losses(stack, again) == losses
    assert {lap for lap, _ in losses} == {0, 1, 2}
    assert max(step for lap, step in losses) == run_row(stack, first)["total_steps"] == run_row(stack, first)["step"]
    assert applied(stack, again) == done

    # One that is interrupted keeps what is still scheduled.
    third = start(stack)
    ask(stack, f"{third} --replay {first}", f"{third} pause --at-step 100", f"{third} resume")
    wait_for(lambda: run_row(stack, third)["step"] >= 100, lambda: f"step 100\n{stack.log()}")
    paused(stack, third)
    ask(stack, f"{third} stop --wait 60")
    assert stack.trainings[-1].wait(60) == 0 and run_row(stack, third)["state"] == "stopped", stack.log()
    scheduled = "SELECT kind FROM runs_command WHERE run_id = ? AND state = 'sent'"
    waiting = [row["kind"] for row in rows(stack, scheduled, third)]
    assert sorted(set(waiting)) == ["evaluate", "extend", "roll_back", "save_checkpoint", "set_knob"]
    stack.train(third, "--quiet")
    last_lap = {step: loss for (lap, step), loss in losses.items() if lap == 2}
    repeated = finished_losses(stack, third)
    newest = max(lap for lap, _ in repeated)
    assert {step: loss for (lap, step), loss in repeated.items() if lap == newest} == last_lap
    assert [each for each in applied(stack, third) if each[0] != "stop"] == done
    assert not rows(stack, "SELECT 1 FROM runs_command WHERE run_id = ? AND state = 'expired'", third)
