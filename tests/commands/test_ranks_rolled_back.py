"""Two ranks roll back together, and continue bit for bit as a training that was never rolled back."""

from __future__ import annotations

import json
from typing import Any

from tests.support.stack import Stack, events, run_row, wait_for

SAVED = 12


def losses(stack: Stack, run_id: int) -> dict[int, dict[int, float]]:
    """Return the training loss by lap and step."""
    found: dict[int, dict[int, float]] = {}
    for told in events(stack, run_id, "metrics"):
        for block in told["blocks"]:
            if "train/loss" in block["values"]:
                lap = (block.get("laps") or {}).get("train/loss", 0)
                found.setdefault(lap, {}).update(zip(block["steps"], block["values"]["train/loss"], strict=True))
    return found


def test_two_ranks_go_back_to_the_same_step_and_train_on_bit_for_bit(offline_stack: Stack) -> None:
    stack = offline_stack
    words = ("create_run", "--quiet", "--project", "lab", "--user", "operator", "--recipe", "digits", "--device", "cpu")

    def begin() -> int:
        return int(stack.manage(*words, "--set", "epochs=1000", "--start-paused").stdout)

    def ask(run_id: int, *command: str) -> dict[str, Any]:
        done = stack.manage("command", str(run_id), *command, "--json", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def is_paused(run_id: int) -> bool:
        return bool(run_row(stack, run_id)["state"] == "paused")

    back, whole = begin(), begin()
    training = stack.train(back, "--quiet", "--nproc", "2")
    wait_for(lambda: is_paused(back), lambda: f"the first pause\n{stack.log()}")
    ask(back, "save_checkpoint", "name=good", "--at-step", str(SAVED))
    left = SAVED + 20
    ask(back, "pause", "--at-step", str(left))
    ask(back, "resume", "--wait", "60")
    wait_for(lambda: is_paused(back) and run_row(stack, back)["step"] == left, lambda: f"step {left}\n{stack.log()}")
    told = ask(back, "roll_back", "checkpoint=good", "--wait", "60")
    assert told["state"] == "applied", told
    assert (told["old"], told["new"]) == ({"step": left}, {"step": SAVED})
    assert (told["step"], told["ranks"]) == (left, 2)
    end = left + 10
    ask(back, "stop", "--at-step", str(end))
    ask(back, "resume")
    assert training.wait(60) == 0, stack.log()

    reference = stack.train(whole, "--quiet", "--nproc", "2")
    wait_for(lambda: is_paused(whole), lambda: f"the pause of the other\n{stack.log()}")
    ask(whole, "stop", "--at-step", str(end))
    ask(whole, "resume")
    assert reference.wait(60) == 0, stack.log()

    ((_, expected),) = losses(stack, whole).items()
    laps = losses(stack, back)
    assert max(expected) == max(laps[1]) == end
    assert laps[0] == {step: loss for step, loss in expected.items() if step <= left}
    assert laps[1] == {step: loss for step, loss in expected.items() if step > SAVED}
