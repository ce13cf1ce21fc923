"""`train` ends on request, whatever state the database is in; the next `train` stores what this one could not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from django.utils import timezone

from runs.models import Project, Run
from runs.recording.lifecycle import open_attempt
from steersman.agent.journals.supervisor_deaths import MOST_DEATHS
from steersman.exit_codes import EXIT_HELD
from tests.control.test_train import is_gone, start_endless
from tests.support.locked_database import write_locked
from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for
from trainer.control import lease

INTERRUPTED = 130


def test_it_ends_on_the_second_interrupt_though_the_database_stays_away(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack, "deaf")
    with write_locked(offline_stack, run_id):
        interrupt_twice(offline_stack, run_id, supervisor)
        wait_for(lambda: is_gone(worker), "the worker to be ended", timeout_s=60)


def interrupt_twice(stack: Stack, run_id: int, supervisor: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C twice, the second time after the training received the first, so that they do not count as one."""
    supervisor.send_signal(signal.SIGINT)
    asked = stack.data / "runs" / str(run_id) / "attempts" / "1" / "commands.jsonl"
    wait_for(lambda: asked.exists() and b'"stop"' in asked.read_bytes(), "the stop to be handed on", timeout_s=60)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == INTERRUPTED


def test_a_record_that_supervisors_die_of_is_set_aside_after_five_deaths(offline_stack):
    stack = offline_stack
    run_id = create_run(stack)
    script = str(ROOT / "tests" / "trainings" / "deadly.py")
    dying = [sys.executable, "-m", "tests.trainings.dying_supervisor", str(run_id)]
    folder = stack.data / "runs" / str(run_id) / "attempts" / "1"
    deaths = []
    for _ in range(2 * MOST_DEATHS):
        command = dying if deaths else [*dying, script]
        process = subprocess.Popen(command, cwd=ROOT, env=stack.environment)
        stack.trainings.append(process)
        wait_for(
            lambda process=process: process.poll() is not None or run_row(stack, run_id)["step"] > 300,
            f"a death, or points behind the record\n{stack.log()}",
        )
        if process.returncode is None:
            break
        assert process.returncode == 1
        deaths.append(json.loads((folder / "deaths.json").read_text())["count"])
    # The first death occurs at the start of the batch that contains the record, the others at the record.
    assert deaths[-1] == MOST_DEATHS and len(deaths) <= MOST_DEATHS + 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    (attempt,) = rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    assert (attempt["set_aside_records"], attempt["unreadable_records"]) == (1, 0)
    blocks = [block for event in events(stack, run_id, "metrics") for block in event["blocks"]]
    steps = [step for block in blocks for step in block["steps"]]
    assert steps == list(range(1, steps[-1] + 1)) and steps[-1] > 300
    assert not events(stack, run_id, "text")


def test_sigterm_ends_a_training_that_never_looks(offline_stack):
    """Without a supervisor SIGTERM would end the training at once; a person expects the same with a supervisor."""
    run_id = create_run(offline_stack)
    script = str(ROOT / "tests" / "trainings" / "short.py")
    options = ("--quiet", "--", script, "1000000", "0.01", "deaf")
    supervisor = offline_stack.train(run_id, *options, STEERSMAN_STALLED_S="1")
    wait_for(lambda: run_row(offline_stack, run_id)["step"] > 3, lambda: f"points\n{offline_stack.log()}")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 1
    run = run_row(offline_stack, run_id)
    assert run["state"] == "failed" and "SIGTERM" in run["reason"]
    lines = [line["text"] for event in events(offline_stack, run_id, "log") for line in event["lines"]]
    assert any("does not read run.stopping" in line for line in lines)


@pytest.mark.django_db
def test_a_training_that_ends_while_it_is_taken_over_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.objects.create(project=Project.objects.create(name="lab", slug="ends"), name="short")
    open_attempt(run.pk, lease.myself(), 0, command_line=["train.py"])
    run.refresh_from_db()

    def ends_meanwhile(*_: object) -> bool:
        return bool(run.attempts.update(ended_at=timezone.now()))

    monkeypatch.setattr(lease, "is_of_this_host", lambda _: True)
    monkeypatch.setattr(lease, "living_worker", ends_meanwhile)
    with pytest.raises(lease.CannotTrain, match=rf"run {run.pk}: attempt 1 has ended; try again\.") as refused:
        lease.adoptable(run, "", torchrun=False)
    assert refused.value.exit_code == EXIT_HELD
