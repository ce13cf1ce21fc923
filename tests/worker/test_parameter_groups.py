"""Base values of parameter groups: what a knob changes in an optimizer and in schedules of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from steersman.optimizers.parameter_groups import base_learning_rate, change_learning_rate, group_names
from steersman.records.kinds import KnobsRecord
from tests.support.remembering import one_thread
from tests.support.steered import Steerable, Steered, steerable
from trainer.worker.command_handlers import knobs_of
from trainer.worker.recipe import parameter

__all__ = ["one_thread"]

SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "steps": lambda optimizer: lr_scheduler.StepLR(optimizer, 3, 0.5),
    "exponential": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.9),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 20),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=[0.1, 0.01], total_steps=30),
    "cyclic": lambda optimizer: lr_scheduler.CyclicLR(optimizer, [0.01, 0.001], [0.1, 0.01], 5, cycle_momentum=False),
    "sequence": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4), lr_scheduler.ExponentialLR(optimizer, 0.9)],
        [4],
    ),
    "chain": lambda optimizer: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer, 0.5, 4), lr_scheduler.StepLR(optimizer, 5, 0.5)]
    ),
}


def scheduled(schedule: str, factor: float = 1.0) -> tuple[torch.optim.Optimizer, Any]:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate * factor} for rate in (0.1, 0.01)]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    return optimizer, SCHEDULES[schedule](optimizer)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_goes_on_as_if_it_had_been_built_with_the_new_value(schedule: str) -> None:
    """With half the base value at step 7, every group has half the learning rate from there on."""
    kept, kept_schedule = scheduled(schedule)
    moved, moved_schedule = scheduled(schedule)
    for step in range(20):
        if step == 7:
            change_learning_rate(moved, moved_schedule, 0.1, 0.05)
        fraction = 0.5 if step >= 7 else 1.0
        for before, after in zip(kept.param_groups, moved.param_groups, strict=True):
            assert after["lr"] == pytest.approx(before["lr"] * fraction), step
        for optimizer, each in ((kept, kept_schedule), (moved, moved_schedule)):
            optimizer.step()
            each.step()


def test_it_moves_one_named_group_and_sets_the_exact_value() -> None:
    optimizer, schedule = scheduled("lambda")
    for group, name in zip(optimizer.param_groups, ("head", "body"), strict=True):
        group["name"] = name
    assert group_names(optimizer) == ("head", "body")
    change_learning_rate(optimizer, schedule, 0.01, 0.003, "body")
    assert [base_learning_rate(group) for group in optimizer.param_groups] == schedule.base_lrs == [0.1, 0.003]


def test_groups_without_names_of_their_own_have_none() -> None:
    optimizer, _ = scheduled("lambda")
    assert group_names(optimizer) == ()
    optimizer.param_groups[0]["name"] = optimizer.param_groups[1]["name"] = "same"
    assert group_names(optimizer) == ()


def test_it_moves_a_tensor_in_place() -> None:
    rate = torch.tensor(0.1)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=rate, capturable=False, foreach=False)
    change_learning_rate(optimizer, None, 0.1, 0.05)
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == pytest.approx(0.05)


class Grouped(Steerable):
    """Two named groups; the second begins with a learning rate of 0."""

    def build(self) -> None:
        super().build()
        groups = [
            {"params": self.model[0].parameters(), "name": "body", "weight_decay": 0.1},
            {"params": self.model[2].parameters(), "name": "head", "lr": 0.0, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=self.learning_rate, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=3, gamma=0.9)


def test_a_knob_has_a_value_for_each_named_group(tmp_path: Path) -> None:
    asks = {
        4: [
            {"command": "set_knob", "knob": "learning_rate", "value": 0.2, "group": "head"},
            {"command": "set_knob", "knob": "learning_rate", "factor": 0.5, "group": "body"},
            {"command": "set_knob", "knob": "weight_decay", "value": 0.3, "group": "head"},
            {"command": "set_knob", "knob": "learning_rate", "value": 0.2, "group": "tail"},
        ],
        9: [{"command": "set_knob", "knob": "learning_rate", "value": 0.01}],
    }
    steered = Steered(tmp_path, steerable(Grouped), asks).train()
    head, body, decay, tail, both = (steered.outcomes()[each] for each in steered.asked)
    assert (head["old"], head["new"], body["old"], body["new"]) == (0.0, 0.2, 0.1, 0.05)
    assert (decay["old"], decay["new"]) == (0.0, 0.3)
    assert tail["state"] == "refused" and "use one of body, head" in tail["reason"]
    assert both["old"] == {"body": 0.05, "head": 0.2} and both["new"] == {"body": 0.01, "head": 0.01}
    assert steered.series("optimizer/learning_rate/body")[10] == pytest.approx(0.01 * 0.9**3)
    # A rate of 0 has no fraction of a schedule: it begins with the new value, and the schedule multiplies it from there
    # on.
    assert steered.series("optimizer/learning_rate/head")[5] == 0.2
    assert steered.series("optimizer/learning_rate/head")[10] == pytest.approx(0.01 * 0.9**2)
    assert steered.recipe.optimizer.param_groups[1]["weight_decay"] == 0.3
    (first, *_) = steered.records(KnobsRecord)
    rate = next(each for each in first.knobs if each["name"] == "learning_rate")
    assert rate["value"] == {"body": 0.1, "head": 0.0} and rate["groups"] == ["body", "head"]


class Chosen(Grouped):
    """Offers a few learning rates; no group begins with 0."""

    learning_rate: float = parameter(0.1, choices=(0.1, 0.2), knob=True)


def test_choices_have_room_for_what_the_groups_begin_with() -> None:
    recipe = steerable(Chosen)
    recipe.build()
    (knob,) = (each for each in knobs_of(recipe) if each.spec.name == "learning_rate")
    assert knob.values == {"body": 0.1, "head": 0.0} and knob.spec.choices == (0.1, 0.2, 0.0)
    knob.change(value=0.2, group="head")
    assert knob["head"] == 0.2 and recipe.optimizer.param_groups[1]["lr"] == 0.2


def test_groups_are_gone_on_with_exactly(tmp_path: Path) -> None:
    change = {"command": "set_knob", "knob": "learning_rate", "value": 0.2, "group": "head"}
    whole = Steered(tmp_path / "0", steerable(Grouped), {4: [change]}).train()
    first = Steered(tmp_path / "1", steerable(Grouped), {4: [change], 8: [{"command": "stop"}]}).train()
    second = Steered(tmp_path / "2", steerable(Grouped), start=first.checkpoint()).train()
    assert first.series() | second.series() == whole.series()
    assert second.run.knobs == whole.run.knobs


def test_weight_decay_leaves_groups_alone_that_were_built_without() -> None:
    recipe = steerable(weight_decay=0.1)
    recipe.build()
    recipe.optimizer.param_groups[0]["weight_decay"] = 0.1
    recipe.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "weight_decay": 0.0})
    (knob,) = (each for each in knobs_of(recipe) if each.spec.name == "weight_decay")
    knob.change(value=0.2)
    assert [group["weight_decay"] for group in recipe.optimizer.param_groups] == [0.2, 0.0]
