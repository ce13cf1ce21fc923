"""Branches that train: a recipe's continues bit for bit like its source, a script's from the objects that it saved."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from numpy import float32

from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

SCRIPT = str(ROOT / "tests" / "branching" / "branched_training.py")


def points(stack: Stack, run_id: int, name: str) -> dict[int, float]:
    """Return the points of a series by step, as they were logged."""
    found: dict[int, float] = {}
    for told in events(stack, run_id, "metrics"):
        for block in told["blocks"]:
            if name in block["values"]:
                found |= dict(zip(block["steps"], block["values"][name], strict=True))
    return found


def branch(stack: Stack, source: int, *words: str) -> int:
    return int(stack.manage("branch", str(source), "--quiet", *words).stdout)


def ledger(stack: Stack, run_id: int) -> list[dict[str, Any]]:
    found = rows(stack, "SELECT * FROM runs_command WHERE run_id = ? AND kind = 'branch' ORDER BY sent_at", run_id)
    return [each | {"arguments": json.loads(each["arguments"])} for each in found]


def origin_of(stack: Stack, run_id: int) -> Path:
    (checkpoint,) = rows(stack, "SELECT path FROM runs_checkpoint WHERE run_id = ? AND attempt = 0", run_id)
    return stack.data / "runs" / str(run_id) / str(checkpoint["path"])


@pytest.fixture(scope="module")
def published(offline_stack: Stack) -> Stack:
    offline_stack.manage("recipes", "--publish")
    return offline_stack


def test_a_branch_of_a_recipe_goes_on_bit_for_bit_and_takes_what_it_changes(published: Stack) -> None:
    stack = published
    created = stack.manage(
        "create_run", "--quiet", "--project", "lab", "--user", "operator", "--recipe", "digits", "--seed", "7",
        "--set", "epochs=3", "--start-paused",
    )  # fmt: skip
    source = int(created.stdout)

    def command(*words: str) -> None:
        stack.manage("command", str(source), *words)

    stack.train(source, "--quiet")
    wait_for(lambda: run_row(stack, source)["state"] == "paused", lambda: f"the source\n{stack.log()}")
    # In the middle of the second epoch, with 24 steps per epoch; the knob has been changed by then.
    command("set_knob", "learning_rate=0.004", "--at-step", "20")
    command("save_checkpoint", "middle", "--at-step", "30")
    command("pause", "--at-step", "33")
    command("resume")
    wait_for(lambda: run_row(stack, source)["step"] == 33 and run_row(stack, source)["state"] == "paused", "step 33")
    steps = run_row(stack, source)["steps_per_epoch"]
    assert 15 < steps < 30, steps

    same = branch(stack, source, "--from", "middle", "--user", "operator", "--reason", "is it the same?")
    other = branch(
        stack, source, "--from", "30", "--set", "learning_rate=0.002", "--set", "batch_size=128", "--set", "epochs=4",
        "--name", "slower",
    )  # fmt: skip
    row = run_row(stack, same)
    assert (row["state"], row["step"], row["epoch"], row["total_steps"]) == ("created", 30, 1, 3 * steps)
    assert row["best_epoch"] == 1 and row["best_metric"] == run_row(stack, source)["best_metric"]
    (told,), (of_source, _) = ledger(stack, same), ledger(stack, source)
    assert told["arguments"] == of_source["arguments"] and told["arguments"]["changes"] == []
    assert (of_source["arguments"]["run"], of_source["step"], of_source["author_name"]) == (same, 30, "Operator Lab")
    assert of_source["reason"] == told["reason"] == "is it the same?"

    # The branches need nothing from the source, which continues to train.
    middle = rows(stack, "SELECT * FROM runs_checkpoint WHERE run_id = ? AND name = 'middle'", source)[0]
    shutil.rmtree(stack.data / "runs" / str(source) / middle["path"])
    stack.manage("train", "--run-id", str(same), "--quiet")
    stack.manage("train", "--run-id", str(other), "--quiet")
    command("resume")
    wait_for(lambda: run_row(stack, source)["state"] == "finished", "the source's end")

    for series in ("train/loss", "optimizer/learning_rate", "optimizer/gradient_norm"):
        whole, rest = points(stack, source, series), points(stack, same, series)
        assert list(rest) == list(range(31, 3 * steps + 1)), series
        # Some are sent with fewer digits, which are those of the same float32.
        assert [float32(each) for each in rest.values()] == [float32(whole[step]) for step in rest], series
    epochs = (
        "SELECT epoch, step, train_loss, validation_loss, best FROM runs_epochmetric WHERE run_id = ? AND epoch > 1"
    )
    assert rows(stack, epochs, same) == rows(stack, epochs, source)
    assert run_row(stack, same)["state"] == "finished" and run_row(stack, same)["total_steps"] == 3 * steps
    (attempt,) = rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ?", same)
    assert attempt["resumed_step"] == 30

    # Half as many steps of each epoch are left, with the requested rate instead of the one at the checkpoint.
    row = run_row(stack, other)
    half = -(-steps // 2)
    assert row["steps_per_epoch"] == half and row["name"] == "slower"
    left = 3 * half - (30 - steps) * half // steps
    assert row["step"] == row["total_steps"] == 30 + left and row["epoch"] == 4
    assert set(points(stack, other, "optimizer/learning_rate").values()) == {0.002}
    told = ledger(stack, other)[0]
    changes = {each["name"]: (each["kind"], each["old"], each["new"]) for each in told["arguments"]["changes"]}
    assert changes["batch_size"] == ("parameter", 64, 128) and changes["epochs"] == ("parameter", 3, 4)
    assert changes["learning_rate"] == ("parameter", 0.003, 0.002)


def test_a_branch_of_a_script_begins_with_its_objects_and_knobs_at_the_checkpoint(offline_stack: Stack) -> None:
    stack = offline_stack
    source = create_run(stack, start_paused=True)
    stack.train(source, "--quiet", "--", SCRIPT, "45")
    wait_for(lambda: run_row(stack, source)["state"] == "paused", lambda: f"the source\n{stack.log()}")
    for words in (("set_knob", "rate=2", "--at-step", "10"), ("set_knob", "momentum=0.75", "--at-step", "5"),
                  ("set_knob", "rate=3", "--at-step", "42"), ("resume",)):  # fmt: skip
        stack.manage("command", str(source), *words)
    wait_for(lambda: run_row(stack, source)["state"] == "finished", "the source's end")

    refused = stack.manage("branch", str(source), "--set", "rate=2", check=False)
    assert refused.returncode == 2 and "change the arguments of its script" in refused.stderr
    refused = stack.manage("branch", str(source), "--knob", "rate=1000", check=False)
    assert refused.returncode == 2 and "rate" in refused.stderr and "100" in refused.stderr
    queued = stack.manage("branch", str(source), "--queue", check=False)
    assert queued.returncode == 2 and "start it on the host of the script" in queued.stderr
    assert not list((stack.data / "runs").glob(".branch-*")), "what was staged stays behind"

    told = stack.manage("branch", str(source), "--from", "40", "--knob", "rate=5").stdout
    run_id = int(told.split()[1])
    assert f"train --run-id {run_id} -- " in told and "knob rate: 2.0 → 5.0" in told, told
    stack.manage("train", "--run-id", str(run_id), "--quiet", "--", SCRIPT, "45")
    # 10 steps of 1 and 30 of 2 led to the checkpoint.
    assert points(stack, run_id, "weight") == {40 + step: 70.0 + 5 * step for step in range(1, 6)}
    assert set(points(stack, run_id, "momentum").values()) == {0.75}
    assert run_row(stack, run_id)["epoch"] == 4

    # A branch of the branch, trained at once. If its checkpoint is gone, it does not begin at step 1.
    third = branch(stack, run_id, "--from", "40", "--start", "--", SCRIPT, "41")
    assert points(stack, third, "weight") == {41: 72.0}
    fourth = branch(stack, source, "--from", "40")
    # A backup includes the checkpoint of a branch that never started, and treats no part of it as an orphan.
    archive = stack.folder / "branched.tar"
    stack.manage("backup", str(archive))
    with tarfile.open(archive) as held:
        assert any(
            name.endswith(f"runs/{fourth}/attempts/0/checkpoints/step-00000040/model.pt") for name in held.getnames()
        )
    findings = json.loads(stack.manage("verify", "--json", check=False).stdout)["findings"]
    assert [each for each in findings if each["run"] in (run_id, third, fourth) or "branch" in each["text"]] == []
    shutil.rmtree(origin_of(stack, fourth))
    lost = stack.manage("train", "--run-id", str(fourth), "--quiet", "--", SCRIPT, "45", check=False)
    assert lost.returncode == 2 and f"branch run {source} again" in lost.stderr
    assert run_row(stack, fourth)["attempt"] == 0
