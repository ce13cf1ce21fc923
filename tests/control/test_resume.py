"""A recipe's run from outside: created, trained, stopped with a checkpoint, resumed to its end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
from typing import Any

import pytest

from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

SHORT = str(ROOT / "tests" / "trainings" / "short.py")


@pytest.fixture(scope="module")
def published(offline_stack: Stack) -> Stack:
    offline_stack.manage("recipes", "--publish")
    return offline_stack


def create(stack: Stack, *arguments: str) -> int:
    return int(stack.manage("create_run", "--quiet", "--project", "lab", "--user", "operator", *arguments).stdout)


@pytest.fixture(scope="module")
def finished(published: Stack) -> int:
    run_id = create(published, "--recipe", "digits", "--set", "epochs=3", "--set", "save_every=2", "--seed", "7")
    published.manage("train", "--run-id", str(run_id))
    return run_id


def attempt(stack: Stack, run_id: int, number: int) -> dict[str, Any]:
    (found,) = rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ? AND number = ?", run_id, number)
    return found


def first_step(stack: Stack, run_id: int, number: int) -> int:
    """Return the first step that an attempt logged."""
    first = next(event for event in events(stack, run_id, "metrics") if event["attempt"] == number)
    return int(first["blocks"][0]["steps"][0])


def test_it_trains_a_recipe_to_its_end_and_records_every_part(published, finished):
    run_id = finished
    run = run_row(published, run_id)
    assert run["state"] == "finished" and run["step"] == run["total_steps"] == 3 * run["steps_per_epoch"]
    assert run["best_metric_name"] == "validation_accuracy" and run["best_metric"] > 0.5
    epochs = rows(published, "SELECT * FROM runs_epochmetric WHERE run_id = ? ORDER BY epoch", run_id)
    assert [row["epoch"] for row in epochs if row["attempt"] == 1] == [1, 2, 3]
    assert sum(row["best"] for row in epochs) == 1
    for column in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate"):
        assert all(row[column] is not None for row in epochs), column
    series = {row["name"] for row in rows(published, "SELECT name FROM runs_series WHERE run_id = ?", run_id)}
    assert series >= {
        "train/loss", "train/accuracy", "optimizer/learning_rate", "optimizer/gradient_norm",
        "speed/samples_per_second", "speed/step_ms", "speed/data_wait_fraction",
    }  # fmt: skip
    assert "torch" in attempt(published, run_id, 1)["environment"]
    result = published.manage("train", "--run-id", str(run_id), check=False)
    assert result.returncode == 2 and "has finished" in result.stderr


def test_it_goes_on_from_the_checkpoint_that_is_named(published, finished):
    older = rows(published, "SELECT * FROM runs_checkpoint WHERE run_id = ? ORDER BY step", finished)[0]
    rows(published, "UPDATE runs_run SET state = 'stopped' WHERE id = ?", finished)
    refused = published.manage("train", "--run-id", str(finished), "--from", "nothing", check=False)
    assert refused.returncode == 2 and "has no checkpoint nothing; it has" in refused.stderr
    published.manage("train", "--run-id", str(finished), "--quiet", "--from", str(older["step"]))
    newest = run_row(published, finished)["attempt"]
    assert attempt(published, finished, newest)["resumed_from_id"] == older["id"]
    assert first_step(published, finished, newest) == older["step"] + 1


def test_it_stops_with_a_checkpoint_goes_on_from_it_and_passes_over_a_damaged_one(published):
    run_id = create(published, "--recipe", "digits", "--set", "epochs=100000", "--set", "save_every=100000")

    def train_until(reached) -> None:
        supervisor = published.train(run_id, "--quiet")
        wait_for(lambda: reached(run_row(published, run_id)), lambda: f"the training\n{published.log()}")
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0

    train_until(lambda run: run["step"] > 50)
    stopped = run_row(published, run_id)
    assert stopped["state"] == "stopped"
    # The stop may have come at the end of an epoch, where the training saves anyway.
    query = "SELECT * FROM runs_checkpoint WHERE run_id = ? ORDER BY step DESC, id DESC"
    of_first = rows(published, query, run_id)[0]
    assert of_first["name"] == "stop" and of_first["step"] == stopped["step"]

    train_until(lambda run: run["step"] > stopped["step"] + 50)
    assert first_step(published, run_id, 2) == stopped["step"] + 1
    assert attempt(published, run_id, 2)["resumed_from_id"] == of_first["id"]

    newest, before = rows(published, query, run_id)[:2]
    assert newest["attempt"] == 2
    file = published.data / "runs" / str(run_id) / newest["path"] / "training.pt"
    file.write_bytes(file.read_bytes()[:-100])
    train_until(lambda run: any(event["attempt"] == 3 for event in events(published, run_id, "metrics")))
    assert first_step(published, run_id, 3) == before["step"] + 1
    assert attempt(published, run_id, 3)["resumed_from_id"] == before["id"]


def test_a_run_that_starts_paused_waits(published):
    run_id = create(published, "--recipe", "digits", "--set", "epochs=1")
    rows(published, "UPDATE runs_run SET start_paused = ? WHERE id = ?", True, run_id)
    supervisor = published.train(run_id, "--quiet")
    wait_for(lambda: run_row(published, run_id)["state"] == "paused", lambda: f"the pause\n{published.log()}")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0
    assert run_row(published, run_id)["state"] == "stopped" and run_row(published, run_id)["step"] == 0


def test_it_trains_a_recipe_of_ones_own_from_where_it_is_started(published, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from trainer.recipes.digits import Digits\n\n\n"
        "class Wide(Digits):\n"
        '    """Digits with a wider layer."""\n\n'
        '    title = "Wide digits"\n'
        "    hidden = 128\n"
    )
    command = ("create_run", "--quiet", "--project", "lab", "--recipe", "mine:Wide", "--set", "epochs=1")
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


def train_at_a_terminal(
    stack: Stack, run_id: int, answer: bytes, *arguments: str, shell: str = 'exec "$@"'
) -> tuple[int, str]:
    """Start a script at a pseudo-terminal, type `answer` when it asks; return the exit code and the output.

    `shell` is the bash code that runs the command.
    """
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash"]
        + stack.command("train", "--run-id", str(run_id), "--quiet", *arguments, "--", SHORT, "20"),
        env=stack.environment, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        # Make the pseudo-terminal the controlling terminal, as a terminal window does for its shell.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(follower)
    shown = b""
    try:
        while select.select([leader], [], [], 60)[0] and (chunk := os.read(leader, 65536)):
            shown += chunk
            if shown.endswith(b"[y/N] "):
                os.kill(process.pid, signal.SIGINT) if answer == b"\x03" else os.write(leader, answer)
    except OSError:  # on Linux, this is the end of a pseudo-terminal
        pass
    finally:
        code = process.wait(60)
        os.close(leader)
    return code, shown.decode()


@pytest.fixture(scope="module")
def script_run(offline_stack: Stack) -> int:
    """A run whose script was stopped before its end."""
    run_id = create_run(offline_stack)
    supervisor = offline_stack.train(run_id, "--quiet", "--", SHORT, "1000000", "0.01")
    wait_for(lambda: run_row(offline_stack, run_id)["step"] > 3, lambda: f"points\n{offline_stack.log()}")
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == 0
    return run_id


@pytest.fixture
def stopped(offline_stack: Stack, script_run: int) -> int:
    """The same run, stopped again if it has finished since."""
    rows(offline_stack, "UPDATE runs_run SET state = 'stopped' WHERE id = ?", script_run)
    return script_run


def new_attempts(stack: Stack, run_id: int, began: int) -> int:
    return int(run_row(stack, run_id)["attempt"]) - began


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 2), (b"\n", 2), (b"\x04", 2), (b"\x03", 130)], ids=repr)
def test_a_person_is_asked_before_a_script_starts_over(
    offline_stack: Stack, stopped: int, answer: bytes, code: int
) -> None:
    began = run_row(offline_stack, stopped)["attempt"]
    exit_code, shown = train_at_a_terminal(offline_stack, stopped, answer)
    assert (exit_code, new_attempts(offline_stack, stopped, began)) == (code, 0), shown
    assert f"Run {stopped} was trained up to step" in shown and "begins at step 1" in shown


def test_a_run_starts_over_for_a_person_who_wants_it(offline_stack: Stack, stopped: int) -> None:
    began = run_row(offline_stack, stopped)["attempt"]
    exit_code, shown = train_at_a_terminal(offline_stack, stopped, b"y\n")
    assert (exit_code, new_attempts(offline_stack, stopped, began)) == (0, 1), shown
    assert shown.count("[y/N] ") == 1


def test_nobody_is_asked_who_said_so(offline_stack: Stack, stopped: int) -> None:
    began = run_row(offline_stack, stopped)["attempt"]
    exit_code, shown = train_at_a_terminal(offline_stack, stopped, b"", "--start-over")
    assert exit_code == 0 and "[y/N]" not in shown
    assert new_attempts(offline_stack, stopped, began) == 1


def test_nobody_is_asked_who_is_not_there(offline_stack: Stack, stopped: int) -> None:
    began = run_row(offline_stack, stopped)["attempt"]
    assert offline_stack.train(stopped, "--quiet", "--", SHORT, "20").wait(60) == 0
    assert new_attempts(offline_stack, stopped, began) == 1


@pytest.mark.parametrize("shell", ['set -m; "$@" & wait $!', 'exec "$@" <&-'], ids=["background", "no stdin"])
def test_nobody_is_asked_who_cannot_answer(offline_stack: Stack, stopped: int, shell: str) -> None:
    began = run_row(offline_stack, stopped)["attempt"]
    # End a command that asks, so that it does not wait for ever.
    exit_code, shown = train_at_a_terminal(offline_stack, stopped, b"\x03", shell=shell)
    assert exit_code == 0 and "[y/N]" not in shown, shown
    assert new_attempts(offline_stack, stopped, began) == 1
