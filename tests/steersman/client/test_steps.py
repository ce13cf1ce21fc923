"""The step boundary of a script: commands, and the current step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from steersman.files.mailbox import Mailbox
from steersman.records.kinds import (
    NoteRecord,
    OutcomeRecord,
    PointRecord,
)
from steersman.records.posted import PostedCommand
from tests.steersman.client.running import DeviceValue, records


def test_it_applies_a_stop_at_the_step_boundary_once(run, tmp_path):
    mailbox = Mailbox(tmp_path)
    run.log(7, loss=0.5)
    assert not run.stopping
    mailbox.post(PostedCommand(id="c1", command="stop", arguments={}))
    assert run.stopping
    assert run.stopping
    run.log(8, loss=0.5)
    mailbox.post(PostedCommand(id="c2", command="stop", arguments={}))
    assert run.stopping
    outcomes = [record for record in records(tmp_path) if isinstance(record, OutcomeRecord)]
    assert [(record.step, record.id) for record in outcomes] == [(7, "c1"), (8, "c2")]
    assert all(record.state == "applied" for record in outcomes)


def test_what_was_logged_before_a_roll_back_stands_before_it_though_its_value_was_still_on_the_gpu(run, tmp_path, cuda):
    run.on("roll_back", lambda arguments: None)
    (tmp_path / "own").mkdir()
    given = {"checkpoint": "own", "path": "own", "sha256": "", "step": 3, "epoch": 1, "has_manifest": False}
    run.log(7, loss=DeviceValue(0.5, cuda))
    Mailbox(tmp_path).post(PostedCommand(id="c1", command="roll_back", arguments=given))
    assert not run.stopping
    assert run.step == 3
    found = [each for each in records(tmp_path) if isinstance(each, (PointRecord, OutcomeRecord))]
    assert [(type(each), each.step) for each in found] == [(PointRecord, 7), (OutcomeRecord, 7)]


def test_a_loop_that_logs_rarely_says_its_step_and_commands_are_done_there(run, tmp_path):
    mailbox = Mailbox(tmp_path)
    run.on("evaluate", lambda arguments: "0.5")
    mailbox.post(PostedCommand(id="at 145", command="evaluate", at_step=145))
    for step in range(1, 301):
        run.step = step
        if step % 100 == 0:
            run.log(step, loss=0.5)
        if step == 234:
            mailbox.post(PostedCommand(id="now", command="evaluate"))
        assert not run.stopping
        if step == 250:
            run.note("here")
    run.finish()
    found = records(tmp_path)
    outcomes = [(each.id, each.step) for each in found if isinstance(each, OutcomeRecord)]
    assert outcomes == [("at 145", 145), ("now", 234)]
    assert [each.step for each in found if isinstance(each, NoteRecord)] == [250]
    assert [each.step for each in found if isinstance(each, PointRecord)] == [100, 200, 300]


@pytest.mark.parametrize(("given", "kept"), [(np.int64(9), 9), (9.0, 9), (True, 1)])
def test_a_step_of_another_type_is_the_same_whole_number(run, tmp_path, given, kept):
    run.step = given
    run.note("here")
    assert [each.step for each in records(tmp_path)] == [kept]


@pytest.mark.parametrize("given", [2.5, "two", math.nan, 2**70, [1]])
def test_a_step_that_cannot_be_stored_is_the_last_one_that_could_with_one_note(run, tmp_path, given):
    run.step = 7
    run.note("before")
    for _ in range(2):
        run.step = given
        run.note("after")
        assert not run.stopping
    before, *notes, last = records(tmp_path)
    told = [each.text for each in (*notes, last) if each.text != "after"]
    assert {each.step for each in (before, *notes, last)} == {7}
    assert len(told) == 1 and told[0].startswith("run.step takes a ")


def test_it_refuses_a_command_that_it_does_not_know(run, tmp_path):
    Mailbox(tmp_path).post(PostedCommand(id="c2", command="dance", arguments={}))
    assert not run.stopping
    (outcome,) = records(tmp_path)
    assert outcome.state == "refused" and "dance" in outcome.reason
