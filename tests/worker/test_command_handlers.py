"""Commands to a recipe's training: the effect of each, its time, and that nothing else is affected."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from steersman.files.checkpoint import verify_checkpoint
from steersman.records.kinds import KnobsRecord, QuietRecord
from tests.support.remembering import one_thread
from tests.support.steered import Asks, Steerable, Steered, asked, steerable
from trainer.worker.randomness import capture

__all__ = ["one_thread"]


def test_it_declares_the_knobs_of_the_recipe_with_what_they_take(tmp_path: Path) -> None:
    steered = Steered(tmp_path, steerable(learning_rate=0.2)).train()
    first = steered.records(KnobsRecord)[0].knobs
    knobs = {each["name"]: each for each in first}
    assert list(knobs) == [
        "learning_rate", "weight_decay", "dropout", "gradient_clip", "noise", "activation", "loud", "fragile",
    ]  # fmt: skip
    assert knobs["learning_rate"]["value"] == knobs["learning_rate"]["effective"] == 0.2
    assert knobs["learning_rate"]["series"] == "optimizer/learning_rate" and knobs["learning_rate"]["scale"] == "log"
    assert knobs["activation"]["kind"] == "choice" and knobs["activation"]["choices"] == ["relu", "tanh"]
    assert knobs["loud"]["kind"] == "bool" and knobs["loud"]["effective"] is None


def test_a_new_learning_rate_moves_base_and_schedule_at_once(tmp_path: Path) -> None:
    steered = asked(tmp_path, 7, "set_knob", knob="learning_rate", value=0.01)
    assert steered.only["state"] == "applied" and steered.only["step"] == 7
    assert (steered.only["old"], steered.only["new"]) == (0.1, 0.01)
    assert steered.only["effective"] == pytest.approx(0.01 * 0.9**2)
    rates = steered.series("optimizer/learning_rate")
    assert rates[7] == pytest.approx(0.1 * 0.9**2) and rates[8] == pytest.approx(0.01 * 0.9**2)
    assert rates[20] == pytest.approx(0.01 * 0.9**6)
    scheduler = steered.recipe.scheduler
    assert scheduler is not None and scheduler.base_lrs == [0.01]
    assert steered.recipe.optimizer.param_groups[0]["initial_lr"] == 0.01
    told = {each["name"]: each for each in steered.records(KnobsRecord)[-1].knobs}["learning_rate"]
    assert told["value"] == 0.01


def test_a_factor_is_taken_of_the_base_value(tmp_path: Path) -> None:
    steered = asked(tmp_path, 7, "set_knob", knob="learning_rate", factor=0.5)
    assert (steered.only["old"], steered.only["new"]) == (0.1, 0.05)
    assert steered.only["effective"] == pytest.approx(0.05 * 0.9**2)


@pytest.mark.parametrize(
    ("knob", "value", "held"),
    [
        ("weight_decay", 0.3, lambda recipe: recipe.optimizer.param_groups[0]["weight_decay"] == 0.3),
        ("dropout", 0.1, lambda recipe: recipe.model[1].p == 0.1),
        ("gradient_clip", 0.05, lambda recipe: recipe.gradient_clip == 0.05),
        ("noise", 0.0, lambda recipe: recipe.noise == 0.0),
        ("activation", "tanh", lambda recipe: recipe.activation == "tanh"),
        ("loud", True, lambda recipe: recipe.loud is True),
        ("fragile", 2.0, lambda recipe: recipe.inside == recipe.fragile == 2.0),
    ],
)
def test_every_knob_takes_effect_with_the_next_step_and_not_before(
    tmp_path: Path, plain: dict[int, float], knob: str, value: Any, held: Any
) -> None:
    steered = asked(tmp_path, 6, "set_knob", knob=knob, value=value)
    assert steered.only["state"] == "applied" and steered.only["new"] == value
    assert held(steered.recipe)
    losses = steered.series()
    assert all(losses[step] == plain[step] for step in range(1, 7))
    # A shorter gradient shows in the loss one step later.
    assert losses[8] != plain[8]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"knob": "learning_rate", "value": 2.0}, "learning_rate takes a number from 0.000001 to 1, not 2."),
        ({"knob": "learning_rate", "value": "fast"}, "learning_rate takes a number from 0.000001 to 1, not 'fast'."),
        ({"knob": "learning_rate", "value": float("nan")}, "learning_rate takes a number from 0.000001 to 1, not nan."),
        ({"knob": "learning_rate", "factor": 1e9}, "learning_rate takes a number from 0.000001 to 1"),
        ({"knob": "loud", "value": 1}, "loud takes true or false, not 1."),
        ({"knob": "activation", "value": "sine"}, "activation takes one of relu, tanh, not 'sine'."),
        ({"knob": "warmth", "value": 1.0}, "This training has no knob 'warmth': it has learning_rate,"),
        ({"knob": "dropout", "value": 0.1, "group": "head"}, "dropout has no parameter group 'head'"),
        ({"knob": "dropout", "value": 0.1, "expected_value": 0.4}, "dropout was expected to be 0.4, but it is 0.5."),
        ({"knob": "dropout", "value": 0.1, "expected_state": "paused"}, "expected to be paused, but it is running"),
        ({"knob": "fragile", "value": 7.0}, "ZeroDivisionError: the recipe cannot do that"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_the_training_does_not_notice(
    tmp_path: Path, plain: dict[int, float], fields: dict[str, Any], sentence: str
) -> None:
    steered = asked(tmp_path, 6, "set_knob", **fields)
    assert steered.only["state"] == "refused" and sentence in steered.only["reason"]
    assert steered.recipe.inside == steered.recipe.fragile == 1.0
    assert steered.series() == plain


@pytest.mark.parametrize(
    ("fields", "takes_effect"),
    [({"at_step": 9}, 9), ({"at_step": 10}, 10), ({"at_epoch": 2}, 10), ({"at_epoch": 4}, 20), ({"at_step": 20}, 20)],
)
def test_a_command_for_later_waits_for_its_step_or_the_end_of_its_epoch(
    tmp_path: Path, fields: dict[str, Any], takes_effect: int
) -> None:
    steered = asked(tmp_path, 3, "note", text="now", **fields)
    assert steered.only["state"] == "applied" and steered.only["step"] == takes_effect


@pytest.mark.parametrize("fields", [{}, {"at_step": 12}, {"at_epoch": 3}])
def test_what_has_expired_is_not_applied(tmp_path: Path, plain: dict[int, float], fields: dict[str, Any]) -> None:
    steered = asked(
        tmp_path, 3, "set_knob", knob="loud", value=True, expires_monotonic_s=time.monotonic() - 1, **fields
    )
    assert steered.only["state"] == "expired"
    assert steered.series() == plain


def test_an_evaluation_on_demand_leaves_no_trace_in_the_training(tmp_path: Path, plain: dict[int, float]) -> None:
    steered = asked(tmp_path, 7, "evaluate")
    assert steered.only["state"] == "applied"
    found = steered.series("evaluation/validation_loss")
    assert list(found) == [7] and steered.only["new"]["validation_loss"] == found[7]
    assert list(steered.series("evaluation/validation_accuracy")) == [7]
    assert steered.series() == plain


def test_an_evaluation_puts_back_the_mode_of_each_module_and_the_generators(tmp_path: Path) -> None:
    class Frozen(Steerable):
        """Trains with its dropout switched off."""

        def train_batches(self, epoch: int, first: int) -> Any:
            self.model[1].eval()
            return super().train_batches(epoch, first)

        def loss(self, batch: Any) -> Any:
            modes.append([module.training for module in self.model.modules()])
            states.append(capture()["torch"])
            return super().loss(batch)

    modes: list[list[bool]] = []
    states: list[torch.Tensor] = []
    asked(tmp_path, 2, "evaluate", steerable(Frozen, epochs=1))
    # The step, the requested evaluation, the next step.
    assert modes[1] == modes[3] == [True, True, False, True] and modes[2] == [False] * 4
    assert torch.equal(states[1], states[3])


def test_an_evaluation_that_fails_is_refused_and_leaves_no_trace(tmp_path: Path, plain: dict[int, float]) -> None:
    recipe = steerable()
    evaluate, calls = recipe.evaluate, []

    def failing() -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no validation data left")
        return evaluate()

    recipe.evaluate = failing  # type: ignore[method-assign]
    steered = asked(tmp_path, 7, "evaluate", recipe)
    assert steered.only["state"] == "refused" and "no validation data left" in steered.only["reason"]
    assert steered.series() == plain


def test_a_named_checkpoint_is_saved_between_two_steps_and_kept(tmp_path: Path, plain: dict[int, float]) -> None:
    steered = asked(tmp_path, 7, "save_checkpoint", name="before the jump")
    assert steered.only["state"] == "applied" and steered.only["new"] == "before the jump"
    (named,) = [each for each in steered.checkpoints() if each["reason"] == "named"]
    assert (named["name"], named["step"], named["epoch"]) == ("before the jump", 7, 2)
    manifest = verify_checkpoint(steered.folder / named["path"], named["sha256"])
    assert manifest.name == "before the jump" and set(manifest.metrics) == {"train_loss", "train_accuracy"}
    assert steered.series() == plain


def test_a_checkpoint_that_cannot_be_saved_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer.worker.checkpoints.write_manifest", full)
    steered = asked(tmp_path, 7, "save_checkpoint", name="mine")
    assert steered.only["state"] == "refused" and "No space left on device" in steered.only["reason"]
    assert steered.outcome == "finished" and list((tmp_path / "checkpoints").iterdir()) == []


def test_a_signal_saves_a_checkpoint_at_the_next_step(tmp_path: Path) -> None:
    recipe = steerable(save_every=100)
    steered = Steered(tmp_path, recipe)
    loss = recipe.loss

    def signalled(batch: Any) -> Any:
        if steered.step == 6:
            steered.run.request("save_checkpoint")
        return loss(batch)

    recipe.loss = signalled  # type: ignore[method-assign]
    steered.train()
    assert [(each["step"], each["name"]) for each in steered.checkpoints() if each["name"] == "signal"] == [
        (7, "signal")
    ]


def test_everything_works_while_it_is_paused(tmp_path: Path, plain: dict[int, float]) -> None:
    steered = Steered(tmp_path, steerable(), {5: [{"command": "pause"}]})
    thread = steered.while_paused(
        lambda: steered.ask("pause"),
        lambda: steered.ask("evaluate"),
        lambda: steered.ask("save_checkpoint", name="paused"),
        lambda: steered.ask("note", text="looks good"),
        lambda: steered.ask("set_knob", knob="loud", value=True),
        lambda: steered.ask("set_knob", knob="loud", value="very"),
        lambda: steered.ask("set_knob", knob="loud", value=False),
        lambda: steered.ask("extend", epochs=1),
        lambda: steered.ask("resume"),
    )
    steered.train()
    thread.join(60)
    outcomes = [steered.outcomes()[each] for each in steered.asked]
    refused = ["applied", "refused", *["applied"] * 4, "refused", *["applied"] * 3]
    assert [each["state"] for each in outcomes] == refused
    assert {each["step"] for each in outcomes} == {5}
    assert steered.states() == ["paused", "running"]
    losses = steered.series()
    assert {step: losses[step] for step in plain} == plain and max(losses) == 25


def test_it_starts_paused_and_can_be_set_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: dict[int, float]
) -> None:
    monkeypatch.setenv("STEERSMAN_START_PAUSED", "1")
    steered = Steered(tmp_path, steerable())
    thread = steered.while_paused(
        lambda: steered.ask("set_knob", knob="learning_rate", value=0.02), lambda: steered.ask("resume")
    )
    steered.train()
    thread.join(60)
    assert {each["step"] for each in steered.outcomes().values()} == {0}
    assert steered.series("optimizer/learning_rate")[1] == 0.02
    assert steered.series()[1] == plain[1] and steered.series()[2] != plain[2]


def test_a_checkpoint_at_one_step_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    asks: Asks = {
        5: [
            {"command": "save_checkpoint", "name": "one"},
            {"command": "set_knob", "knob": "loud", "value": True},
            {"command": "save_checkpoint", "name": "two"},
        ]
    }
    steered = Steered(tmp_path, steerable(), asks).train()
    one, two = (each for each in steered.checkpoints() if each["reason"] == "named")
    assert one["step"] == two["step"] == 5 and one["path"] != two["path"]
    starts = [(steered.folder / each["path"], each["sha256"]) for each in (one, two)]
    again = [Steered(tmp_path / str(n), steerable(), start=start).train() for n, start in enumerate(starts)]
    assert [each.recipe.loud for each in again] == [False, True]


def test_no_training_without_an_hour_saves_one_for_the_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.worker.checkpoints.HOURLY_S", 0.0)
    steered = Steered(tmp_path, steerable(save_every=100, epochs=1)).train()
    assert [each["step"] for each in steered.checkpoints() if each["reason"] == "hourly"] == [1, 2, 3, 4, 5]


def test_it_says_how_long_an_evaluation_may_take_without_a_sign(tmp_path: Path) -> None:
    steered = asked(tmp_path, 7, "evaluate", steerable(epochs=2))
    said = [each.seconds for each in steered.records(QuietRecord)]
    # At the end of the first epoch, at the request, at the end of the second epoch.
    assert len(said) == 3 and said[0] == 600.0 and all(0 < each < 60 for each in said[1:])
