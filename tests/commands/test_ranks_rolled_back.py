"""Two ranks are rolled back together, and go on bit for bit as a training that was never rolled back."""

from __future__ import annotations

import json

from tests.support.stack import Stack, events, run_row, wait_for

LEFT, SAVED = 30, 12


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
    whole = int(stack.manage(*words, "--set", "epochs=4").stdout)
    back = int(stack.manage(*words, "--set", "epochs=4", "--start-paused").stdout)

    def ask(*command: str) -> None:
        stack.manage("command", str(back), *command)

    training = stack.train(back, "--quiet", "--nproc", "2")
    wait_for(lambda: run_row(stack, back)["state"] == "paused", f"the first pause\n{stack.log()}")
    ask("save_checkpoint", "name=good", "--at-step", str(SAVED))
    ask("resume")
    ask("pause", "--at-step", str(LEFT))
    wait_for(lambda: run_row(stack, back)["step"] == LEFT, f"the second pause\n{stack.log()}")
    done = stack.manage("command", str(back), "roll_back", "checkpoint=good", "--wait", "60", "--json", check=False)
    told = json.loads(done.stdout)
    assert told["state"] == "applied", told
    assert (told["old"], told["new"]) == ({"step": LEFT}, {"step": SAVED})
    # Each rank did it, at the same step.
    assert [each["step"] for each in told["ranks"]] == [LEFT] * len(told["ranks"])
    ask("resume")
    assert training.wait(60) == 0, stack.log()
    assert stack.train(whole, "--quiet", "--nproc", "2").wait(60) == 0, stack.log()

    ((_, reference),) = losses(stack, whole).items()
    laps = losses(stack, back)
    assert laps[0] == {step: loss for step, loss in reference.items() if step <= LEFT}
    assert laps[1] == {step: loss for step, loss in reference.items() if step > SAVED}
