"""Alerts of a real training, recorded by a real supervisor."""

from __future__ import annotations

import signal

from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

EXPLODING = str(ROOT / "tests" / "alerts" / "exploding_training.py")


def alerts_of(stack: Stack, run_id: int) -> list[dict[str, object]]:
    return rows(stack, "SELECT * FROM runs_alert WHERE run_id = ? AND detector = 'non-finite'", run_id)


def test_a_loss_that_explodes_is_an_alert_while_it_trains_and_is_cleared_after(offline_stack: Stack) -> None:
    run_id = create_run(offline_stack)
    supervisor = offline_stack.train(run_id, "--quiet", "--", EXPLODING, "200", "20")
    wait_for(
        lambda: any(row["state"] == "cleared" for row in alerts_of(offline_stack, run_id)),
        f"an alert that is over\n{offline_stack.log()}",
    )
    assert run_row(offline_stack, run_id)["state"] == "running"
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(120) == 0, offline_stack.log()
    (row,) = alerts_of(offline_stack, run_id)
    assert (row["series"], row["step"], row["nonfinite"], row["attempt"]) == ("train/loss", 201, "nan", 1)
    assert "±" in str(row["usual"]) and not row["late"]
    told = [event["state"] for event in events(offline_stack, run_id, "alert") if event["id"] == row["id"]]
    assert told == ["open", "cleared"]
    # What the training's own code says is not taken back by the end of the attempt.
    (lasting,) = rows(offline_stack, "SELECT * FROM runs_alert WHERE run_id = ? AND state != 'cleared'", run_id)
    assert (lasting["detector"], lasting["title"], lasting["step"]) == ("code", "It explodes soon", 200)
    assert (lasting["severity"], lasting["text"], lasting["series"]) == ("critical", "All values become NaN.", "")
