"""A recipe's run from outside: created, trained, stopped with a checkpoint, continued to its end."""

from __future__ import annotations

import json
import signal

import pytest

from tests.stack import Stack, events, rows, run_row, wait_for


@pytest.fixture(scope="module")
def published(offline_stack: Stack) -> Stack:
    offline_stack.manage("recipes", "--publish")
    return offline_stack


def create(stack: Stack, *arguments: str) -> int:
    return int(stack.manage("create_run", "--project", "lab", "--user", "operator", *arguments).stdout)


def test_it_trains_a_recipe_to_its_end_and_records_every_part(published):
    run_id = create(published, "--recipe", "digits", "--set", "epochs=3", "--seed", "7")
    result = published.manage("train", "--run-id", str(run_id), check=False)
    assert result.returncode == 0, result.stderr
    run = run_row(published, run_id)
    assert run["state"] == "finished" and run["step"] == run["total_steps"] == 3 * run["steps_per_epoch"]
    assert run["best_metric_name"] == "validation_accuracy" and run["best_metric"] > 0.5
    epochs = rows(published, "SELECT * FROM runs_epochmetric WHERE run_id = ? ORDER BY epoch", run_id)
    assert [row["epoch"] for row in epochs] == [1, 2, 3] and sum(row["best"] for row in epochs) == 1
    for column in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate"):
        assert all(row[column] is not None for row in epochs), column
    series = {row["name"] for row in rows(published, "SELECT name FROM runs_series WHERE run_id = ?", run_id)}
    assert series >= {
        "train/loss", "train/accuracy", "optimiser/learning_rate", "optimiser/gradient_norm",
        "speed/samples_per_second", "speed/step_ms", "speed/data_wait_share", "host/cpu", "host/worker_rss_mib",
    }  # fmt: skip
    (attempt,) = rows(published, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    assert "torch" in attempt["environment"]
    result = published.manage("train", "--run-id", str(run_id), check=False)
    assert result.returncode == 2 and "has finished" in result.stderr


def test_it_stops_with_a_checkpoint_and_goes_on_from_it(published):
    run_id = create(published, "--recipe", "digits", "--set", "epochs=100000", "--set", "save_every=100000")
    supervisor = published.train(run_id, "--quiet")
    wait_for(lambda: run_row(published, run_id)["step"] > 50, f"steps\n{published.log()}")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 0
    stopped = run_row(published, run_id)
    assert stopped["state"] == "stopped"
    # It may have been stopped at the end of an epoch, where one was saved anyway.
    newest = rows(published, "SELECT * FROM runs_checkpoint WHERE run_id = ? ORDER BY step DESC, id DESC", run_id)[0]
    assert newest["name"] == "stop" and newest["step"] == stopped["step"]

    supervisor = published.train(run_id, "--quiet")
    wait_for(lambda: run_row(published, run_id)["step"] > stopped["step"] + 50, "steps of the second attempt")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 0
    metrics = [event for event in events(published, run_id, "metrics") if event["attempt"] == 2]
    assert metrics[0]["blocks"][0]["steps"][0] == stopped["step"] + 1
    (second,) = rows(published, "SELECT * FROM runs_attempt WHERE run_id = ? AND number = 2", run_id)
    assert second["resumed_from_id"] == newest["id"]


def test_it_passes_over_a_damaged_checkpoint(published):
    run_id = create(published, "--recipe", "digits", "--set", "epochs=100000")
    supervisor = published.train(run_id, "--quiet")
    query = "SELECT * FROM runs_checkpoint WHERE run_id = ? ORDER BY step DESC"
    wait_for(lambda: len(rows(published, query, run_id)) >= 2, f"two checkpoints\n{published.log()}")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 0
    newest, before = rows(published, query, run_id)[:2]
    file = published.data / "runs" / str(run_id) / newest["path"] / "training.pt"
    file.write_bytes(file.read_bytes()[:-100])
    supervisor = published.train(run_id, "--quiet")
    wait_for(lambda: rows(published, "SELECT 1 FROM runs_attempt WHERE number = 2 AND run_id = ?", run_id), "attempt 2")
    wait_for(lambda: any(e["attempt"] == 2 for e in events(published, run_id, "metrics")), "its first point")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 0
    first = next(event for event in events(published, run_id, "metrics") if event["attempt"] == 2)
    assert first["blocks"][0]["steps"][0] == before["step"] + 1
    (second,) = rows(published, "SELECT * FROM runs_attempt WHERE run_id = ? AND number = 2", run_id)
    assert second["resumed_from_id"] == before["id"]


def test_it_goes_on_from_the_checkpoint_that_is_named(published):
    run_id = create(published, "--recipe", "digits", "--set", "epochs=6", "--set", "save_every=2")
    assert published.manage("train", "--run-id", str(run_id), "--quiet").returncode == 0
    older = rows(published, "SELECT * FROM runs_checkpoint WHERE run_id = ? ORDER BY step", run_id)[0]
    rows(published, "UPDATE runs_run SET state = 'stopped' WHERE id = ?", run_id)
    refused = published.manage("train", "--run-id", str(run_id), "--from", "nothing", check=False)
    assert refused.returncode == 2 and "has no checkpoint nothing; it has" in refused.stderr
    published.manage("train", "--run-id", str(run_id), "--quiet", "--from", str(older["step"]))
    (second,) = rows(published, "SELECT * FROM runs_attempt WHERE run_id = ? AND number = 2", run_id)
    assert second["resumed_from_id"] == older["id"]
    first = next(event for event in events(published, run_id, "metrics") if event["attempt"] == 2)
    assert first["blocks"][0]["steps"][0] == older["step"] + 1


def test_a_run_that_starts_paused_waits(published):
    run_id = create(published, "--recipe", "digits", "--set", "epochs=1")
    rows(published, "UPDATE runs_run SET start_paused = ? WHERE id = ?", True, run_id)
    supervisor = published.train(run_id, "--quiet")
    wait_for(lambda: run_row(published, run_id)["state"] == "paused", f"the pause\n{published.log()}")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == 0
    assert run_row(published, run_id)["state"] == "stopped" and run_row(published, run_id)["step"] == 0


def test_it_trains_a_recipe_of_ones_own_from_where_it_is_started(published, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from trainer.recipes.digits import Digits\n\n\n"
        "class Wide(Digits):\n"
        '    """Digits with a wider layer."""\n\n'
        '    title = "Wide digits"\n'
        "    hidden = 128\n"
    )
    command = ("create_run", "--project", "lab", "--recipe", "mine:Wide", "--set", "epochs=1")
    run_id = int(published.manage(*command, cwd=tmp_path).stdout)
    result = published.manage("train", "--run-id", str(run_id), "--quiet", check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = run_row(published, run_id)
    assert run["state"] == "finished" and json.loads(run["parameters"])["hidden"] == 128


def test_a_device_that_is_not_there_is_named_with_the_remedy(published):
    run_id = create(published, "--recipe", "digits")
    result = published.manage("train", "--run-id", str(run_id), "--device", "cuda:7", "--quiet", check=False)
    assert result.returncode == 2
    assert "cuda:7" in result.stderr and "cpu" in result.stderr and "Traceback" not in result.stderr
    assert "cuda:7" in run_row(published, run_id)["reason"]


def test_a_bad_parameter_is_named_before_anything_starts(published):
    run_id = create(published, "--recipe", "digits")
    rows(published, "UPDATE runs_run SET parameters = ? WHERE id = ?", '{"epochs": -1}', run_id)
    result = published.manage("train", "--run-id", str(run_id), check=False)
    assert result.returncode == 2 and "epochs" in result.stderr
    assert run_row(published, run_id)["state"] == "created"
