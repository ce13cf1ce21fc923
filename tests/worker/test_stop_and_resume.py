"""A recipe's training that is stopped, extended and resumed is bit for bit the same as without interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steersman.records.kinds import EpochRecord, KnobsRecord, PlanRecord
from tests.support.remembering import one_thread
from tests.support.steered import Asks, Steered, asked, steerable

__all__ = ["one_thread"]


def test_one_that_starts_paused_may_be_stopped_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: dict[int, float]
) -> None:
    monkeypatch.setenv("STEERSMAN_START_PAUSED", "1")
    steered = Steered(tmp_path / "1", steerable(), {0: [{"command": "stop"}]}).train()
    assert steered.outcome == "stopped" and steered.series() == {}
    monkeypatch.delenv("STEERSMAN_START_PAUSED")
    again = Steered(tmp_path / "2", steerable(), start=steered.checkpoint()).train()
    assert again.series() == plain


@pytest.mark.parametrize(
    ("ask", "last"),
    [
        ({7: [{"command": "stop"}]}, 7),
        ({10: [{"command": "stop"}]}, 10),
        ({20: [{"command": "stop"}]}, 20),
        ({3: [{"command": "stop", "at_epoch": 2}]}, 10),
        ({3: [{"command": "stop", "at_step": 12}]}, 12),
        ({5: [{"command": "pause"}, {"command": "stop"}]}, 5),
    ],
)
def test_a_stop_is_gone_on_from_bit_for_bit_wherever_it_falls(
    tmp_path: Path, plain: dict[int, float], ask: Asks, last: int
) -> None:
    first = Steered(tmp_path / "1", steerable(), ask).train()
    assert first.outcome == "stopped" and max(first.series()) == last
    assert first.checkpoints()[-1]["reason"] == "stop" and first.checkpoints()[-1]["step"] == last
    second = Steered(tmp_path / "2", steerable(), start=first.checkpoint()).train(segment=2)
    assert first.series() | second.series() == plain
    epochs = [each.epoch for run in (first, second) for each in run.records(EpochRecord)]
    assert epochs == [1, 2, 3, 4]
    assert all(each["step"] == last for each in second.outcomes().values())


def test_a_stop_while_an_epoch_is_evaluated_is_taken_right_after(tmp_path: Path) -> None:
    recipe = steerable()
    steered = Steered(tmp_path, recipe)
    evaluate = recipe.evaluate

    def stopping() -> Any:
        steered.ask("stop")
        return evaluate()

    recipe.evaluate = stopping  # type: ignore[method-assign]
    steered.train()
    assert steered.outcome == "stopped" and max(steered.series()) == 5
    assert len(steered.records(EpochRecord)) == 1


def test_a_stop_after_the_last_epoch_finds_a_finished_training(tmp_path: Path) -> None:
    steered = asked(tmp_path, 3, "stop", at_epoch=4)
    assert steered.only["state"] == "applied" and steered.outcome == "finished"


def test_a_stop_without_a_checkpoint_saves_none(tmp_path: Path) -> None:
    steered = asked(tmp_path, 3, "stop", checkpoint=False)
    assert steered.outcome == "stopped" and steered.checkpoints() == []


@pytest.mark.parametrize("ask", [{2: [{}]}, {20: [{}]}, {3: [{"at_epoch": 4}]}])
def test_it_trains_longer_when_extended_and_the_schedule_stays(
    tmp_path: Path, plain: dict[int, float], ask: dict[int, list[dict[str, Any]]]
) -> None:
    asks: Asks = {step: [{"command": "extend", "epochs": 2, **each} for each in fields] for step, fields in ask.items()}
    steered = Steered(tmp_path, steerable(), asks).train()
    assert (steered.only["old"], steered.only["new"]) == (4, 6)
    losses = steered.series()
    assert max(losses) == 30 and {step: losses[step] for step in plain} == plain
    plans = [each.total_steps for each in steered.records(PlanRecord)]
    assert plans == [20, 30]
    assert len(steered.records(EpochRecord)) == 6


def test_epochs_that_were_added_outlive_the_attempt(tmp_path: Path) -> None:
    whole = Steered(tmp_path / "0", steerable()).train(extra_epochs=2)
    asks: Asks = {3: [{"command": "extend", "epochs": 2}], 17: [{"command": "stop"}]}
    first = Steered(tmp_path / "1", steerable(), asks).train()
    second = Steered(tmp_path / "2", steerable(), start=first.checkpoint()).train(extra_epochs=2)
    assert second.outcome == "finished" and max(second.series()) == 30
    assert first.series() | second.series() == whole.series()


WORKED: Asks = {
    3: [{"command": "set_knob", "knob": "learning_rate", "value": 0.03}],
    4: [{"command": "set_knob", "knob": "dropout", "value": 0.2}],
    6: [{"command": "set_knob", "knob": "noise", "value": 0.5}, {"command": "set_knob", "knob": "loud", "value": True}],
    8: [{"command": "evaluate"}, {"command": "save_checkpoint", "name": "mine"}],
    11: [{"command": "set_knob", "knob": "noise", "value": 1.5}],
    14: [{"command": "set_knob", "knob": "learning_rate", "factor": 2.0}],
}


@pytest.mark.parametrize(
    "loading",
    [{"use_loader": True}, {"loader_workers": 2}],
    ids=["0 loader workers", "2 loader workers"],
)
def test_it_goes_on_bit_for_bit_after_knobs_evaluation_and_checkpoints(tmp_path: Path, loading: dict[str, Any]) -> None:
    whole = Steered(tmp_path / "0", steerable(**loading), WORKED).train()
    assert {each["state"] for each in whole.outcomes().values()} == {"applied"}
    losses: dict[int, float] = {}
    start = None
    for number, last in enumerate((2, 7, 12, 15, 20), start=1):
        asks = {step: list(asks) for step, asks in WORKED.items()}
        asks.setdefault(last, []).append({"command": "stop"})
        part = Steered(tmp_path / str(number), steerable(**loading), asks, start=start).train(segment=number)
        losses |= part.series()
        start = part.checkpoint()
    assert losses == whole.series()
    assert part.run.knobs == whole.run.knobs
    assert part.recipe.optimizer.param_groups[0]["lr"] == whole.recipe.optimizer.param_groups[0]["lr"]


def test_batches_come_out_the_same_however_they_are_loaded(tmp_path: Path, plain: dict[int, float]) -> None:
    """Creating the batches also draws nothing from the generators of the model."""
    for number, loading in enumerate(({"use_loader": True}, {"loader_workers": 2})):
        assert Steered(tmp_path / str(number), steerable(**loading)).train().series() == plain


def test_what_is_asked_before_the_first_step_of_a_later_attempt_is_told_at_the_step_it_goes_on_from(
    tmp_path: Path,
) -> None:
    first = asked(tmp_path / "1", 7, "stop")
    asks: Asks = {0: [{"command": "note", "text": "again"}, {"command": "note", "text": "later", "at_epoch": 2}]}
    second = Steered(tmp_path / "2", steerable(), asks, start=first.checkpoint()).train()
    assert [second.outcomes()[each]["step"] for each in second.asked] == [7, 10]
    assert second.records(KnobsRecord)[0].step == 7
