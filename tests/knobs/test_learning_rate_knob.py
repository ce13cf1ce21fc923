"""The learning rate of a script as a knob under its schedule: by parameter group, as in recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.files.mailbox import Mailbox
from steersman.knobs import learning_rate_knob
from steersman.records.kinds import EffectRecord, KnobsRecord, OutcomeRecord
from steersman.records.posted import PostedCommand
from steersman.records.record import Record
from steersman.run import Run, worker_lock_path
from steersman.spec import SpecError

CHANGED_AT = 7
STEPS = 30


def plateau(optimizer: torch.optim.Optimizer) -> Any:
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)


SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=[0.1, 0.01], total_steps=STEPS + 1),
    "warm restarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=5, T_mult=2),
    "plateau": plateau,
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "warm-up, then cosine": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4), lr_scheduler.CosineAnnealingLR(optimizer, 20)],
        [4],
    ),
    # As Accelerate wraps the objects that it prepares.
    "wrapped": lambda optimizer: SimpleNamespace(scheduler=lr_scheduler.ExponentialLR(optimizer, 0.9)),
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    return Run(tmp_path, 0, lock)


def records(folder: Path, kind: type[Record]) -> list[Any]:
    found = JournalReader(segment_path(folder, 0, 0)).read(4 << 20, ended=True)
    return [record for record in found if isinstance(record, kind)]


def built(schedule: str, names: tuple[str, ...] = ("body", "head")) -> tuple[torch.optim.Optimizer, Any]:
    groups: list[dict[str, Any]] = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.01)]
    for group, name in zip(groups, names, strict=False):
        group["name"] = name
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    return optimizer, SCHEDULES[schedule](optimizer)


def step(optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
    optimizer.step()
    scheduler = getattr(scheduler, "scheduler", scheduler)
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(1.0)
    else:
        scheduler.step()


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_goes_on_from_the_new_base(run: Run, tmp_path: Path, schedule: str) -> None:
    """With half the base, the head has half its learning rate from there on, and the body's does not change."""
    kept, moved = built(schedule), built(schedule)
    knob = run.learning_rate_knob(*moved)
    assert knob.values == {"body": 0.1, "head": 0.01}
    for number in range(1, STEPS + 1):
        run.step = number
        for each in (kept, moved):
            step(*each)
        if number == CHANGED_AT:
            arguments = {"knob": "learning_rate", "group": "head", "factor": 0.5}
            Mailbox(tmp_path).post(PostedCommand(id="c", command="set_knob", arguments=arguments))
        assert not run.stopping
        body, head = rates(kept[0])
        assert rates(moved[0]) == pytest.approx([body, head * (0.5 if number >= CHANGED_AT else 1.0)]), number
        if number == CHANGED_AT:
            in_effect = rates(moved[0])[1]
    assert knob.values == {"body": 0.1, "head": 0.005}
    (outcome,) = records(tmp_path, OutcomeRecord)
    assert (outcome.state, outcome.old, outcome.new) == ("applied", 0.01, 0.005)
    assert outcome.effective == pytest.approx(in_effect)
    # One step later the rate may have advanced along the schedule, but it is on the same schedule.
    for corrected in records(tmp_path, EffectRecord):
        assert corrected.step == CHANGED_AT + 1
    # All values that depend on the base were scaled, so the state of a checkpoint contains it.
    assert [group.get("max_lr", group["initial_lr"]) for group in moved[0].param_groups] == [0.1, 0.005]


def test_a_change_of_all_groups_gives_each_the_new_base(run: Run, tmp_path: Path) -> None:
    optimizer, scheduler = built("lambda")
    knob = run.learning_rate_knob(optimizer, scheduler)
    knob.change(value=0.2)
    assert knob.values == {"body": 0.2, "head": 0.2} and scheduler.base_lrs == [0.2, 0.2]


def test_groups_without_names_keep_their_ratio(run: Run, tmp_path: Path) -> None:
    optimizer, scheduler = built("lambda", names=())
    knob = run.learning_rate_knob(optimizer, scheduler)
    assert knob.value == 0.1 and not knob.spec.groups
    step(optimizer, scheduler)
    assert knob.change(value=0.2).effective == pytest.approx(0.1)
    assert rates(optimizer) == pytest.approx([0.1, 0.01]) and scheduler.base_lrs == pytest.approx([0.2, 0.02])


def test_it_stands_where_a_reduction_has_led_and_where_a_checkpoint_was_saved() -> None:
    optimizer, scheduler = built("plateau")
    knob = learning_rate_knob(optimizer, scheduler)
    for _ in range(8):
        step(optimizer, scheduler)
    assert rates(optimizer) == pytest.approx([0.025, 0.0025])
    knob.change(value=0.2, group="body")
    saved = optimizer.state_dict(), scheduler.state_dict()
    later = built("plateau")
    for each, state in zip(later, saved, strict=True):
        each.load_state_dict(state)
    again = learning_rate_knob(*later)
    assert again.values == knob.values == {"body": 0.2, "head": 0.01}
    assert again.effective() == pytest.approx({"body": 0.05, "head": 0.0025})


def test_without_a_schedule_it_is_the_learning_rate_itself(run: Run, tmp_path: Path) -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.003)
    knob = run.learning_rate_knob(optimizer, minimum=1e-5, maximum=0.1, series="optimizer/lr")
    knob.change(value=0.01)
    assert rates(optimizer) == [0.01] and "initial_lr" not in optimizer.param_groups[0]
    (declared,) = records(tmp_path, KnobsRecord)
    (told,) = declared.knobs
    assert (told["value"], told["minimum"], told["maximum"], told["scale"], told["series"]) == (
        0.003, 1e-5, 0.1, "log", "optimizer/lr",
    )  # fmt: skip


def test_a_rate_that_lies_on_a_gpu_is_read_at_a_change_alone() -> None:
    """Reading it each second would make the training wait for its GPU."""

    class Device(float):
        is_cuda = True
        reads = 0

        def __float__(self) -> float:
            Device.reads += 1
            return float.__float__(self)

        def fill_(self, value: float) -> Device:
            return Device(value)

        def mul_(self, factor: float) -> Device:
            return Device(float.__float__(self) * factor)

    optimizer = SimpleNamespace(param_groups=[{"lr": Device(0.5)}])
    knob = learning_rate_knob(optimizer)
    reads = Device.reads
    assert knob.effect_shown(0.25) == 0.25 and Device.reads == reads
    assert knob.change(value=1.0).effective == 1.0 and Device.reads > reads


@pytest.mark.parametrize("names", [("body", "head"), ()])
def test_groups_that_torch_gave_one_tensor_move_once_each(names: tuple[str, ...]) -> None:
    """torch puts the tensor given for all groups into each of them, and into a group that is added later."""
    groups: list[dict[str, Any]] = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    for group, name in zip(groups, names, strict=False):
        group["name"] = name
    optimizer = torch.optim.Adam(groups, lr=torch.tensor(0.5))
    knob = learning_rate_knob(optimizer)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "name": "late"})
    knob.change(factor=0.5, group=names[0] if names else "")
    assert rates(optimizer) == ([0.25, 0.5, 0.5] if names else [0.25, 0.25, 0.25])
    knob.change(value=0.125, group=names[0] if names else "")
    assert rates(optimizer) == ([0.125, 0.5, 0.5] if names else [0.125, 0.125, 0.125])


@pytest.mark.parametrize("added", [{}, {"name": "late"}, {"name": "head"}])
def test_groups_may_come_and_go(added: dict[str, Any]) -> None:
    """As when layers are unfrozen: groups that the knob knows continue, with or without a name for the new group."""
    optimizer, scheduler = built("lambda")
    knob = learning_rate_knob(optimizer, scheduler)
    if added.get("name") == "head":
        optimizer.param_groups.pop()
    else:
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.7, **added})
    knob.change(value=0.2)
    assert knob.values == {"body": 0.2, "head": 0.2}
    assert rates(optimizer) == ([0.2] if added.get("name") == "head" else [0.2, 0.2, 0.7])


def test_schedules_of_other_libraries_and_several_in_a_list_are_moved() -> None:
    """timm keeps its bases as `base_values`; Lightning wraps its schedules in a list."""
    optimizer, scheduler = built("lambda")
    of_timm = SimpleNamespace(step=lambda epoch: None, base_values=[0.1, 0.01])
    learning_rate_knob(optimizer, [scheduler, of_timm]).change(value=0.02, group="body")
    assert of_timm.base_values == [0.02, 0.01] and scheduler.base_lrs == [0.02, 0.01]


@pytest.mark.parametrize("given", ["cosine", 5, {"scheduler": None}])
def test_what_is_no_schedule_is_refused(run: Run, given: Any) -> None:
    with pytest.raises(
        TypeError, match=r"learning_rate_knob\(optimizer, scheduler\) takes a PyTorch learning-rate scheduler"
    ):
        run.learning_rate_knob(built("lambda")[0], given)


@pytest.mark.parametrize("given", [None, "adam", nn.Linear(1, 1), SimpleNamespace(param_groups=[{}])])
def test_what_is_no_optimizer_is_refused(run: Run, given: Any) -> None:
    with pytest.raises(TypeError, match=r"learning_rate_knob\(optimizer, scheduler\) takes an optimizer of torch, not"):
        run.learning_rate_knob(given)


@pytest.mark.parametrize("limits", [{"minimum": 0.0}, {"minimum": "low"}, {"minimum": 2.0}])
def test_limits_that_fit_no_scale_are_refused(run: Run, limits: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="learning_rate"):
        run.learning_rate_knob(built("lambda")[0], **limits)
