"""What a script was started and configured with, as it stands in the record of its run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.stack import ROOT, create_run, events, rows, run_row

SCRIPT = str(ROOT / "tests" / "commands" / "configured_training.py")


def test_the_record_has_command_line_and_parameters_without_what_must_not_leave(offline_stack):
    run_id = create_run(offline_stack)
    out = str(Path.home() / "a" / "b")
    trained = offline_stack.train(run_id, "--quiet", "--", SCRIPT, f"--out={out}", "--lr", "0.2")
    assert trained.wait(60) == 0, offline_stack.log()
    run = run_row(offline_stack, run_id)
    parameters = json.loads(run["parameters"])
    assert parameters["lr"] == 0.3 and parameters["layers"] == [64, 64]
    assert parameters["out"] == "~/a/b" and parameters["data"]["root"] == "~/a/b"
    assert parameters["api_key"] == parameters["data"]["password"] == "<secret>"
    (attempt,) = rows(offline_stack, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    words = json.loads(attempt["command_line"])
    assert words[1:] == ["--out=~/a/b", "--lr", "0.2"] and words[0].endswith("tests/commands/configured_training.py")
    assert str(Path.home()) not in attempt["command_line"] + run["parameters"]
    assert events(offline_stack, run_id, "environment"), "pages read the parameters again"
    lines = [line["text"] for event in events(offline_stack, run_id, "log") for line in event["lines"]]
    assert any("configure() takes a mapping" in line for line in lines)
