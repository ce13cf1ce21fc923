"""A script that saves its objects rolls back without further code; its record continues from there."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from typing import Any

from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

EXPORT = """
from runs.models import Run
from runs.series.exports import {what}_csv
print("".join({what}_csv([Run.objects.get(pk={run_id})])))
"""
SCRIPT = str(ROOT / "tests" / "commands" / "rolled_back_training.py")


def weights(stack: Stack, run_id: int) -> dict[int, list[tuple[int, float]]]:
    """Return the points of the weight by lap of the first attempt: (step, value)."""
    found: dict[int, list[tuple[int, float]]] = {}
    for told in events(stack, run_id, "metrics"):
        for block in told["blocks"]:
            if told["attempt"] == 1 and "weight" in block["values"]:
                lap = (block.get("laps") or {}).get("weight", 0)
                found.setdefault(lap, []).extend(zip(block["steps"], block["values"]["weight"], strict=True))
    return found


def exported(stack: Stack, run_id: int, what: str) -> list[dict[str, str]]:
    """Return the rows of an export of a run."""
    written = stack.manage("shell", "-v", "0", "-c", EXPORT.format(run_id=run_id, what=what)).stdout
    return list(csv.DictReader(io.StringIO(written)))


def test_a_script_goes_on_from_its_checkpoint_and_all_that_is_recorded_of_it_too(offline_stack: Stack) -> None:
    stack = offline_stack
    run_id = create_run(stack)
    go = stack.data / "runs" / str(run_id) / "files" / "go"

    def command(*words: str) -> dict[str, Any]:
        done = stack.manage("command", str(run_id), *words, "--wait", "60", "--json", check=False)
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def let_it_go_to(step: int) -> None:
        # Replace the file atomically, because the script may read it at any time.
        go.with_suffix(".new").write_text(str(step))
        go.with_suffix(".new").replace(go)

    def epochs() -> list[tuple[int, int, int, bool]]:
        sql = "SELECT * FROM runs_epochmetric WHERE run_id = ? AND NOT abandoned ORDER BY epoch"
        return [(each["epoch"], each["order"], each["step"], bool(each["best"])) for each in rows(stack, sql, run_id)]

    def train_to(step: int) -> None:
        let_it_go_to(step)
        wait_for(lambda: run_row(stack, run_id)["step"] == step, f"step {step}")

    stack.train(run_id, "--quiet", "--restarts", "1", "--", SCRIPT)
    wait_for(lambda: go.parent.exists() and run_row(stack, run_id)["state"] == "running", "the training")
    assert "roll_back" not in events(stack, run_id, "status")[-1]["offers"]
    assert "saved no objects" in command("roll_back")["outcome"]
    train_to(35)
    wait_for(lambda: "roll_back" in events(stack, run_id, "status")[-1]["offers"], "it is offered")

    assert command("roll_back", "checkpoint=nowhere")["outcome"].startswith(
        "This run has no checkpoint nowhere to roll back to: choose one of"
    )
    let_it_go_to(15)
    done = command("roll_back", "checkpoint=middle", "knob=learning_rate", "factor=0.5")
    assert (done["state"], done["step"]) == ("applied", 35), done
    assert done["old"] == {"step": 35, "learning_rate": 0.5} and done["new"] == {"step": 15, "learning_rate": 0.25}
    run = run_row(stack, run_id)
    assert (run["step"], run["epoch"], run["best_epoch"], run["best_metric"]) == (15, 1, 1, 0.1)
    assert epochs() == [(1, 0, 10, True)]
    told = events(stack, run_id, "rolled_back")[-1]
    assert (told["step"], told["left"], told["epoch"], told["best"]["epoch"]) == (15, 35, 1, 1)

    # The second lap begins with the weight of step 15, and with half the rate.
    train_to(22)
    laps = weights(stack, run_id)
    assert [step for step, _ in laps[0]] == list(range(1, 36)) and [step for step, _ in laps[1]] == list(range(16, 23))
    assert laps[1][0][1] == 15 * 0.5 + 0.25 and laps[1][-1][1] == 15 * 0.5 + 7 * 0.25
    assert epochs() == [(1, 0, 10, True), (2, 1, 20, False)]

    # Roll back to a checkpoint before the abandoned one: the same step again, and one lap more.
    let_it_go_to(20)
    done = command("roll_back")
    assert done["new"] == {"step": 20} and done["arguments"]["checkpoint"] == "newest"
    train_to(24)
    assert [step for step, _ in weights(stack, run_id)[2]] == [21, 22, 23, 24]

    # The points that both rollbacks abandoned are marked in the export.
    abandoned = [
        (int(row["lap"]), int(row["step"]))
        for row in exported(stack, run_id, "series")
        if row["series"] == "weight" and row["abandoned"] == "1"
    ]
    assert abandoned == [*((0, step) for step in range(16, 36)), (1, 21), (1, 22)]
    assert [(row["epoch"], row["order"], row["abandoned"]) for row in exported(stack, run_id, "epochs")] == [
        ("1", "0", "0"), ("2", "0", "1"), ("2", "1", "0"), ("3", "0", "1"),
    ]  # fmt: skip

    # A crash resumes from the newest checkpoint that was not left, with the rate as it stood.
    worker = stack.worker_pid(run_id)
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    resumed = "SELECT resumed_step FROM runs_attempt WHERE run_id = ? AND number = 2"
    (again,) = wait_for(lambda: rows(stack, resumed, run_id), "the second attempt")
    assert again["resumed_step"] == 20
    train_to(25)
    last = events(stack, run_id, "metrics")[-1]["blocks"][-1]["values"]
    assert last["rate"] == [0.25] * len(last["rate"])
    # It has restored its objects, so it need not save a checkpoint first.
    done = command("roll_back")
    assert (done["state"], done["new"]) == ("applied", {"step": 20}), done
    command("stop")
    wait_for(lambda: run_row(stack, run_id)["state"] == "stopped", "the end")
