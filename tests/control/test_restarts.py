"""A failed training restarts automatically: when, how often, after which pause, and who ends the pause."""

from __future__ import annotations

import signal
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.utils import timezone

from runs.models import Project, Run, RunState
from runs.recording.restart_policy import Fault, Restart, plan_restart
from steersman.agent.supervise.interrupts import Interrupts
from tests.support.stack import ROOT, Stack, create_run, events, kill, rows, run_row, wait_for
from trainer.control import restart
from trainer.control.display import QuietDisplay
from trainer.control.restart import Start

FAILING = str(ROOT / "tests" / "trainings" / "failing.py")
QUICK = {"STEERSMAN_RESTART_PAUSE_S": "0.05"}


def plan(*faults: Fault, allowed: int = 9, used: int = 0) -> Restart | str:
    return plan_restart(faults, allowed=allowed, used=used, first_pause_s=5.0)


def pause(*steps: int) -> float:
    planned = plan(*[Fault(step, f"error {chr(97 + index)}") for index, step in enumerate(steps)])
    assert isinstance(planned, Restart)
    return planned.pause_s


def test_pauses_grow_until_there_is_progress() -> None:
    assert [pause(7), pause(7, 7), pause(7, 7, 7), pause(9, 7, 5, 3), pause(*[7] * 9)] == [5, 15, 45, 135, 300]
    assert pause(7, 7, 7, 8) == 5
    assert pause(7, 7, 8, 8) == 15


def test_it_starts_again_as_often_as_it_may() -> None:
    fault = Fault(3, "RuntimeError: no")
    assert plan(fault, allowed=0) == ""
    assert plan(fault, allowed=2, used=1) == Restart(number=2, of=2, pause_s=5.0)
    assert plan(fault, allowed=2, used=2) == "Not started again: all 2 restarts are used."
    assert plan(fault, allowed=1, used=1) == "Not started again: the one restart is used."
    assert Restart(2, 3, 15.0).sentence == "Starts again in 15 s (restart 2 of 3)."


def test_bad_input_is_as_bad_the_second_time() -> None:
    assert plan(Fault(0, "There is no device cuda:9", exit_code=2)) == ""


def test_the_same_fault_at_the_same_step_ends_it() -> None:
    first = Fault(412, "IndexError: index 10 is out of bounds (at 0x7f01)")
    again = Fault(412, "IndexError: index 12 is out of bounds (at 0x7fff)")
    assert plan(first, again) == "Not started again: the same error has already occurred at step 412."
    assert isinstance(plan(first, Fault(413, first.error)), Restart)
    assert isinstance(plan(first, Fault(412, "KeyError: 'x'")), Restart)
    assert isinstance(plan(first, Fault(500, "KeyError: 'x'"), first), Restart)


def test_how_it_was_started_is_kept_for_the_next(tmp_path: Any) -> None:
    start = Start(["train.py", "--size", "3"], "/srv", "cuda:1", environment={"HOME": "/home/ada"})
    start.record(tmp_path)
    assert Start.recorded(tmp_path) == start
    assert (tmp_path / "start.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "start.json").write_text("{")
    assert Start.recorded(tmp_path) is None


# The real process


def train(stack: Stack, plan: str, restarts: int, **variables: str) -> tuple[int, Any]:
    run_id = create_run(stack)
    words = ("--quiet", "--restarts", str(restarts), "--", FAILING, plan)
    return run_id, stack.train(run_id, *words, **(QUICK | variables))


def attempts(stack: Stack, run_id: int) -> list[dict[str, Any]]:
    return rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ? ORDER BY number", run_id)


def told(stack: Stack, run_id: int) -> list[tuple[str, str]]:
    """Return the state of each status event, and its remark or the end of its reason."""
    return [
        (event["state"], event["remark"] or event["reason"].rpartition(". ")[2])
        for event in events(stack, run_id, "status")
    ]


def test_it_starts_again_until_it_finishes(offline_stack: Stack) -> None:
    run_id, supervisor = train(offline_stack, "5:fail,3:kill,4:finish", 3)
    assert supervisor.wait(60) == 0, offline_stack.log()
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"], run["restarts"], run["restarts_used"]) == ("finished", 12, 3, 2)
    ended = [(each["outcome"], each["signal"], each["last_step"]) for each in attempts(offline_stack, run_id)]
    assert ended == [("failed", "", 5), ("failed", "SIGKILL", 8), ("finished", "", 12)]
    assert [state for state, _ in told(offline_stack, run_id)] == [
        "running", "failed", "queued", "running", "failed", "queued", "running", "finished"
    ]  # fmt: skip
    assert told(offline_stack, run_id)[2][1].endswith("Starts again in 0 s (restart 1 of 3).")


def test_a_fault_that_repeats_at_its_step_ends_it_early(offline_stack: Stack) -> None:
    run_id, supervisor = train(offline_stack, "5:fail,0:fail,0:fail", 5)
    assert supervisor.wait(60) == 1, offline_stack.log()
    # The second attempt made no step, so only the third fails at the same place as an earlier one.
    assert [each["last_step"] for each in attempts(offline_stack, run_id)] == [5, 0, 0]
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["restarts_used"]) == ("failed", 2)
    assert (
        run["reason"]
        == "RuntimeError: attempt 3 broke Not started again: the same error has already occurred at step 0."
    )


def test_bad_input_is_not_tried_again(offline_stack: Stack) -> None:
    run_id, supervisor = train(offline_stack, "1:bad", 5)
    assert supervisor.wait(60) == 2
    assert (run_row(offline_stack, run_id)["state"], len(attempts(offline_stack, run_id))) == ("failed", 1)


def test_a_signal_ends_the_waiting(offline_stack: Stack) -> None:
    run_id, supervisor = train(offline_stack, "1:fail", 5, STEERSMAN_RESTART_PAUSE_S="100")
    wait_for(lambda: run_row(offline_stack, run_id)["state"] == "queued", lambda: f"the pause\n{offline_stack.log()}")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 1
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["restarts_used"], run["reason"]) == ("failed", 0, "RuntimeError: attempt 1 broke")
    assert told(offline_stack, run_id)[-1][1].endswith("Not started again: SIGTERM was received before the restart.")


def test_a_stop_ends_the_waiting(offline_stack: Stack) -> None:
    run_id, supervisor = train(offline_stack, "1:fail", 5, STEERSMAN_RESTART_PAUSE_S="100")
    wait_for(lambda: run_row(offline_stack, run_id)["state"] == "queued", lambda: f"the pause\n{offline_stack.log()}")
    code = (
        "from uuid import UUID; from runs.commands.record import record; "
        "from runs.protocol.commands import Request, Stop; "
        f"record({run_id}, Request(id=UUID('{uuid4()}'), command=Stop()), author_id=None, author_name='anna')"
    )
    offline_stack.manage("shell", "-v", "0", "-c", code)
    assert supervisor.wait(60) == 1
    assert run_row(offline_stack, run_id)["state"] == "failed"
    (command,) = rows(offline_stack, "SELECT state FROM runs_command WHERE run_id = ?", run_id)
    assert command["state"] == "applied"
    assert told(offline_stack, run_id)[-1][1].endswith("Not started again: the run was stopped while it waited.")


def test_whoever_comes_next_takes_over_the_restart_and_knows_the_script(offline_stack: Stack) -> None:
    """This also works from another directory than the one in which the script was started."""
    run_id, supervisor = train(offline_stack, "1:fail,1:finish", 5, STEERSMAN_RESTART_PAUSE_S="100")
    wait_for(lambda: run_row(offline_stack, run_id)["state"] == "queued", lambda: f"the pause\n{offline_stack.log()}")
    supervisor.kill()
    supervisor.wait()
    offline_stack.manage("train", "--run-id", str(run_id), "--quiet", cwd="/")
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"], run["restarts_used"]) == ("finished", 2, 1)


def test_a_dead_attempt_that_is_found_later_starts_again(offline_stack: Stack) -> None:
    """The host crashed: supervisor and worker are gone, and `train --adopt`, as watch calls it, finds the remains.

    The training continues in its original environment, not in that of the process that found it.
    """
    own = {"DATA_SET": "small", "STEERSMAN_MAIL_KEY": "secret"}
    run_id, supervisor = train(offline_stack, "1:wait,1:finish", 1, STEERSMAN_RESTART_PAUSE_S="100", **own)
    wait_for(lambda: run_row(offline_stack, run_id)["step"] == 1, lambda: f"a point\n{offline_stack.log()}")
    worker = offline_stack.worker_pid(run_id)
    assert worker is not None
    supervisor.kill()
    supervisor.wait()
    kill(worker)
    environment = offline_stack.environment | QUICK | {"DATA_SET": "large", "OF_THE_WATCH": "1"}
    offline_stack.environment, kept = environment, offline_stack.environment
    try:
        offline_stack.manage("train", "--run-id", str(run_id), "--quiet", "--adopt")
    finally:
        offline_stack.environment = kept
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"], run["restarts_used"]) == ("finished", 2, 1)
    assert [each["outcome"] for each in attempts(offline_stack, run_id)] == ["failed", "finished"]
    folder = offline_stack.data / "runs" / str(run_id) / "attempts"
    assert "DATA_SET small, OF_THE_WATCH None" in (folder / "2" / "console.log").read_text()
    assert "secret" not in (folder / "1" / "start.json").read_text()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_while_a_restart_waits_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    project = Project.objects.create(name="Lab", slug="lab")
    run = Run.objects.create(
        project=project, state=RunState.QUEUED, restarts=1, restarts_used=1, queued_at=timezone.now()
    )
    read, looks = Run.refresh_from_db, iter([True, True, True, False])

    def look(self: Run) -> None:
        if next(looks):
            raise OperationalError("connection refused")
        read(self)

    monkeypatch.setattr(Run, "refresh_from_db", look)
    monkeypatch.setattr(restart, "RESTART_POLL_INTERVAL_S", 0.0)
    assert restart.wait_to_restart(run, Interrupts(), QuietDisplay()) is True
    away, back = caplog.messages
    assert "the restart waits for the database" in away and "the database is back" in back
