"""A backup while two trainings run, restored elsewhere: its contents, and how both runs continue."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

from tests.support.stack import ROOT, Stack, create_run, kill, rows, run_row, seed_stack, wait_for

KEEPING = str(ROOT / "tests" / "serving" / "archive" / "keeping_training.py")
RECIPE = "tests.recipes.lasting:Lasting"
ROWS = {
    # Without the column that marks the best epoch, which changes while the original trains.
    "epochs": "SELECT id, attempt, epoch, step, train_loss, validation_loss, at FROM runs_epochmetric "
    "WHERE run_id = ? ORDER BY id",
    "series": "SELECT name, axis FROM runs_series WHERE run_id = ? ORDER BY name",
    "commands": "SELECT * FROM runs_command WHERE run_id = ? ORDER BY sent_at",
}


def frames(stack: Stack, run_id: int) -> dict[int, str]:
    found = rows(stack, "SELECT seq, frame FROM runs_storedevent WHERE run_id = ? ORDER BY seq", run_id)
    return {row["seq"]: row["frame"] for row in found}


def findings(stack: Stack) -> list[dict[str, Any]]:
    done = stack.manage("verify", "--json", check=False)
    assert done.returncode == bool(json.loads(done.stdout)["findings"]), done.stderr
    return list(json.loads(done.stdout)["findings"])


def start(stack: Stack, note: Path) -> tuple[int, int]:
    """Start a recipe and a script; return their runs once both have saved, and a command was applied."""
    stack.environment |= {"STEERSMAN_RECIPES": RECIPE, "LASTING_NOTE": str(note)}
    stack.manage("recipes", "--publish")
    made = stack.manage(
        "create_run", "--quiet", "--project", "lab", "--recipe", RECIPE, "--set", "save_every=1", "--device", "cpu"
    )
    recipe, script = int(made.stdout), create_run(stack)
    stack.train(recipe, "--quiet")
    stack.train(script, "--quiet", "--", KEEPING, "1000000", "0.005")
    for run_id in (recipe, script):
        wait_for_checkpoints(stack, run_id)
    stack.manage("command", str(recipe), "set_knob", "learning_rate=0.002", "--wait", "30")
    return recipe, script


def wait_for_checkpoints(stack: Stack, run_id: int) -> None:
    saved = "SELECT id FROM runs_checkpoint WHERE run_id = ?"
    wait_for(lambda: len(rows(stack, saved, run_id)) > 1, lambda: f"checkpoints of run {run_id}\n{stack.log()}")


def resume(stack: Stack, run_id: int, *script: str) -> None:
    """Resume a restored run from its newest checkpoint, check that it trains, and stop it."""
    newest = rows(stack, "SELECT MAX(step) AS step FROM runs_checkpoint WHERE run_id = ?", run_id)[0]["step"]
    training = stack.train(run_id, "--quiet", *script)
    log = f"steps of run {run_id}\n{stack.log()}"
    told = wait_for(lambda: of_second_attempt(stack, run_id), log)
    assert told[0]["blocks"][0]["steps"][0] > newest
    training.send_signal(signal.SIGTERM)
    assert training.wait(60) == 0
    assert run_row(stack, run_id)["state"] == "stopped"


def of_second_attempt(stack: Stack, run_id: int) -> list[dict[str, Any]]:
    told = [json.loads(frame) for frame in frames(stack, run_id).values()]
    return [event for event in told if event["kind"] == "metrics" and event["attempt"] == 2]


def end(stack: Stack) -> None:
    """Kill every training of a stack, as a host failure would."""
    for process in stack.trainings:
        process.kill()
        process.wait()
    for worker in (stack.data / "runs").glob("*/attempts/*/worker*.json"):
        kill(int(json.loads(worker.read_text())["pid"]), of=stack.data)


def test_a_backup_of_running_trainings_is_resumed_elsewhere(tmp_path: Path) -> None:
    archive = tmp_path / "all.tar"
    with Stack() as original, Stack() as copy:
        seed_stack(original)
        runs = start(original, tmp_path / "note")
        assert findings(original) == []
        original.manage("backup", str(archive))
        assert archive.stat().st_mode & 0o777 == 0o600
        assert not list(original.data.glob("backup-held")) and sorted(tmp_path.glob(".*")) == []
        again = original.manage("backup", str(archive), check=False)
        assert again.returncode == 2 and "already exists" in again.stderr
        end(original)
        before = {run_id: frames(original, run_id) for run_id in runs}
        kept = {run_id: {what: rows(original, sql, run_id) for what, sql in ROWS.items()} for run_id in runs}

        copy.environment["STEERSMAN_RECIPES"] = RECIPE
        copy.manage("restore", str(archive))
        assert (copy.data / "secret_key").read_text() == (original.data / "secret_key").read_text()
        assert not list((copy.data / "runs").glob("*/attempts/*/worker*.json"))
        assert findings(copy) == []
        for run_id in runs:
            run = run_row(copy, run_id)
            assert run["state"] == "lost" and "restored from a backup" in run["reason"]
            # The restore adds an event with the state.
            restored = frames(copy, run_id)
            (told,) = [seq for seq, frame in restored.items() if before[run_id].get(seq) != frame]
            assert told == run["last_seq"] and len(restored) > 10
            for what, sql in ROWS.items():
                found = rows(copy, sql, run_id)
                assert found == [row for row in kept[run_id][what] if row in found]
                assert found or (what, run_id) == ("commands", runs[1])
            # The original's retention rule has removed some of them since.
            saved = [json.loads(frame) for frame in before[run_id].values()]
            hashes = {event["id"]: event["sha256"] for event in saved if event["kind"] == "checkpoint"}
            listed = rows(copy, "SELECT id, sha256 FROM runs_checkpoint WHERE run_id = ?", run_id)
            assert listed and all(hashes[row["id"]] == row["sha256"] for row in listed)
        over = copy.manage("restore", str(archive), check=False)
        assert over.returncode == 2 and "already contains rows" in over.stderr

        resume(copy, runs[0])
        resume(copy, runs[1], "--", KEEPING, "1000000", "0.005")
        assert findings(copy) == []
        plant_and_find(copy, runs[0])


def plant_and_find(stack: Stack, run_id: int) -> None:
    """Plant a gap, a wrong hash and an orphan; check that each is found, and nothing else."""
    middle = rows(stack, "SELECT last_seq FROM runs_run WHERE id = ?", run_id)[0]["last_seq"] - 5
    rows(stack, "DELETE FROM runs_storedevent WHERE run_id = ? AND seq = ?", run_id, middle)
    (newest,) = rows(stack, "SELECT path FROM runs_checkpoint WHERE run_id = ? ORDER BY id DESC LIMIT 1", run_id)
    model = stack.data / "runs" / str(run_id) / newest["path"] / "model.pt"
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    shutil.copytree(stack.data / "runs" / str(run_id), stack.data / "runs" / "4711")
    found = findings(stack)
    assert sorted(each["kind"] for each in found) == ["gap", "hash", "orphan"], found
    assert str(middle) in next(each["text"] for each in found if each["kind"] == "gap")
