"""The values that a knob accepts, and how a change succeeds or is undone."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import numpy as np
import pytest

from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.knobs import Change, Knob, Knobs, groups_of, kind_of
from steersman.records.kinds import KnobsRecord, NoteRecord
from steersman.run import Run, worker_lock_path
from steersman.spec import SpecError, ValueSpec

RATE = ValueSpec("learning_rate", "float", minimum=1e-6, maximum=1.0, scale="log", unit="1/step")
LAYERS = ValueSpec("layers", "int", minimum=1, maximum=8)
AUGMENT = ValueSpec("augment", "bool")
MODE = ValueSpec("mode", "choice", choices=("fast", "slow", 1))
BY_GROUP = ValueSpec("rate", "float", minimum=0.0, maximum=1.0, groups=("body", "head"))


class Setter:
    """A setter of the training, which fails at given values."""

    def __init__(self, *failing: Any) -> None:
        self.failing = failing
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> None:
        self.calls.append(arguments)
        if arguments[0] in self.failing:
            raise RuntimeError(f"cannot be {arguments[0]}")


@pytest.mark.parametrize(
    ("default", "options", "kind"),
    [
        (0.1, {}, "float"),
        (1, {}, "int"),
        (True, {}, "bool"),
        ("a", {"choices": ("a", "b")}, "choice"),
        ("a", {}, "str"),
        ({"x": 0.1, "y": 0.2}, {}, "float"),
    ],
)
def test_its_kind_follows_from_its_default(default: Any, options: dict[str, Any], kind: str) -> None:
    assert kind_of("knob", default, **options) == kind
    assert groups_of(default) == (tuple(default) if isinstance(default, dict) else ())


def test_a_default_without_a_kind_is_refused() -> None:
    with pytest.raises(SpecError, match="knob: the default must be an int, float, bool or str, not None"):
        kind_of("knob", None)
    with pytest.raises(SpecError, match="takes a whole number from 1 to 8, not"):
        Knob(LAYERS, 9)


def test_a_change_puts_the_value_to_work_and_tells_old_new_and_effect() -> None:
    setter = Setter()
    knob = Knob(RATE, 0.1, apply=setter, effective=lambda: knob.value / 2)
    assert knob.change(value=0.2) == Change(0.1, 0.2, 0.1)
    assert knob.value == 0.2 and setter.calls == [(0.2,)]
    assert knob.change(factor=0.5).new == pytest.approx(0.1)


def test_a_change_takes_the_text_of_a_value() -> None:
    assert Knob(RATE, 0.1).change(value="2e-1").new == 0.2
    assert Knob(LAYERS, 1).change(value="3").new == 3
    assert Knob(AUGMENT, False).change(value="on").new is True
    with pytest.raises(SpecError, match="layers takes a whole number from 1 to 8, not 9."):
        Knob(LAYERS, 1).change(value="9")


def test_a_factor_rounds_whole_numbers_and_needs_a_number() -> None:
    assert Knob(LAYERS, 3).change(factor=2).new == 6
    assert Knob(LAYERS, 5).change(factor=0.7).new == 4
    with pytest.raises(SpecError, match="takes a whole number from 1 to 8, not"):
        Knob(LAYERS, 5).change(factor=2)
    with pytest.raises(SpecError, match="finite"):
        Knob(ValueSpec("free", "float"), 1e300).change(factor=1e300)
    with pytest.raises(SpecError, match="whole|finite"):
        Knob(ValueSpec("free", "int"), 1000).change(factor=1e308)
    for spec, value in ((AUGMENT, True), (MODE, "fast")):
        with pytest.raises(SpecError, match="value instead of a factor"):
            Knob(spec, value).change(factor=2)


def test_a_setter_that_raises_puts_the_old_value_back() -> None:
    setter = Setter(0.2)
    knob = Knob(RATE, 0.1, apply=setter)
    with pytest.raises(RuntimeError, match=r"cannot be 0\.2"):
        knob.change(value=0.2)
    assert knob.value == 0.1 and setter.calls == [(0.2,), (0.1,)]
    assert knob.change(value=0.3) == Change(0.1, 0.3, None)


def test_a_setter_that_fails_in_one_group_puts_all_groups_back() -> None:
    at_work = {"body": 0.1, "head": 0.2}

    def apply(value: float, group: str) -> None:
        if group == "head" and value == 0.5:
            raise ValueError("not the head")
        at_work[group] = value

    knob = Knob(BY_GROUP, dict(at_work), apply=apply)
    with pytest.raises(ValueError, match="not the head"):
        knob.change(value=0.5)
    assert knob.values == at_work == {"body": 0.1, "head": 0.2}


def test_an_effect_that_cannot_be_told_puts_the_old_value_back() -> None:
    def effective() -> float:
        if knob.value > 0.5:
            raise ZeroDivisionError("no scheduler")
        return 1.0

    setter = Setter()
    knob = Knob(RATE, 0.1, apply=setter, effective=effective)
    with pytest.raises(ZeroDivisionError):
        knob.change(value=0.9)
    assert knob.value == 0.1 and setter.calls[-1] == (0.1,)


def test_what_is_shown_does_not_fail_for_an_effect_that_cannot_be_told() -> None:
    assert Knob(RATE, 0.1, effective=lambda: 1 / 0).to_wire()["effective"] is None
    assert Knob(RATE, 0.1, effective=lambda: math.nan).to_wire()["effective"] is None


def test_it_has_a_value_for_each_parameter_group() -> None:
    knob = Knob(BY_GROUP, {"body": 0.1, "head": 0.2}, effective=lambda group: knob[group] * 10)
    assert knob.change(value=0.3, group="head") == Change(0.2, 0.3, 3.0)
    both = knob.change(factor=2)
    assert both.old == {"body": 0.1, "head": 0.3}
    assert both.new == {"body": 0.2, "head": 0.6} and both.effective == {"body": 2.0, "head": 6.0}
    wire = knob.to_wire()
    assert wire["value"] == {"body": 0.2, "head": 0.6} and wire["effective"] == {"body": 2.0, "head": 6.0}
    with pytest.raises(SpecError, match="no parameter group 'tail': use one of body, head"):
        knob.change(value=0.1, group="tail")
    with pytest.raises(SpecError, match="leave the group out"):
        Knob(RATE, 0.1).change(value=0.2, group="body")
    with pytest.raises(SpecError, match="one value for each"):
        Knob(BY_GROUP, {"body": 0.1})


def test_one_group_alone_travels_as_an_object_too() -> None:
    knob = Knob(ValueSpec("rate", "float", groups=("all",)), {"all": 0.5}, effective=lambda group: 0.25)
    assert knob.to_wire()["value"] == {"all": 0.5} and knob.to_wire()["effective"] == {"all": 0.25}


def test_a_change_is_refused_where_another_value_was_expected() -> None:
    knob = Knob(RATE, 0.1 + 0.2)
    assert knob.change(value=0.5, expect=0.3).old == pytest.approx(0.3)
    with pytest.raises(SpecError, match=r"expected to be 0\.3, but it is 0\.5"):
        knob.change(value=0.9, expect=0.3)
    assert knob.value == 0.5
    with pytest.raises(SpecError, match="expected to be 1"):
        Knob(AUGMENT, True).change(value=False, expect=1)
    assert Knob(AUGMENT, True).change(value="off", expect="yes").new is False
    with pytest.raises(SpecError, match="expected to be 'maybe', but it is True"):
        Knob(AUGMENT, True).change(value=False, expect="maybe")
    with pytest.raises(SpecError, match="expected"):
        Knob(BY_GROUP, {"body": 0.1, "head": 0.2}).change(value=0.5, expect=0.1)


def test_a_checkpoint_restores_what_is_still_known() -> None:
    setter = Setter()
    knob = Knob(BY_GROUP, {"body": 0.1, "head": 0.2}, apply=setter)
    knob.restore({"head": 0.7, "tail": 0.9})
    assert knob.values == {"body": 0.1, "head": 0.7} and setter.calls == [(0.7, "head")]


def test_a_value_of_a_checkpoint_that_a_knob_no_longer_takes_is_noted_and_left_out(tmp_path):
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    run, setter = Run(tmp_path, 0, lock), Setter()
    knob = run.knob("layers", 2, maximum=4, apply=setter)
    other = run.knob("rate", {"body": 0.1, "head": 0.2}, maximum=1.0)
    run.restore_knobs({"layers": {"": 9}, "rate": {"body": 5.0, "head": 0.5}})
    assert knob.value == 2 and setter.calls == [] and other.values == {"body": 0.1, "head": 0.5}
    records = JournalReader(segment_path(tmp_path, 0, 0)).read(4 << 20)
    assert [each.text for each in records if isinstance(each, NoteRecord)] == [
        "layers takes a whole number of at most 4, not 9. The value stays 2.",
        "rate takes a number of at most 1, not 5. The value stays 0.1.",
    ]
    for saved in (5, {"layers": 3}, {"layers": "3"}, [("layers", {"": 3})]):
        with pytest.raises(
            TypeError,
            match=r"restore_knobs\(\) takes what run.knobs returned, in the form \{knob: \{group: value\}\}, not",
        ):
            run.restore_knobs(saved)
    assert knob.value == 2


def test_a_knob_that_is_not_there_is_refused_with_those_that_are() -> None:
    knobs = Knobs()
    with pytest.raises(SpecError, match="it declares none"):
        knobs.named("learning_rate")
    knobs.add(Knob(RATE, 0.1))
    knobs.add(Knob(LAYERS, 2))
    assert len(knobs) == 2 and knobs.named("layers").value == 2
    with pytest.raises(SpecError, match="no knob 'lr': it has learning_rate, layers"):
        knobs.named("lr")


@pytest.mark.parametrize(
    ("default", "named"),
    [
        (np.array([1, 2]), {}),
        (10**5000, {}),
        (5, {"minimum": 10**5000}),
        (5, {"choices": [5, 10**5000]}),
        (1, {"choices": list(range(6000))}),
        (1, {"choices": 5}),
        (np.array([1, 2]), {"choices": (1, 2)}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_whatever_is_given_to_a_knob_is_refused_with_its_own_error(default, named, tmp_path):
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    with pytest.raises(SpecError):
        Run(tmp_path, 0, lock).knob("k", default, **named)


def test_choices_and_value_of_an_enumeration_of_texts_are_recorded_as_its_texts():
    class Optimizer(str, Enum):  # noqa: UP042, the text of a StrEnum is its value anyway
        ADAM = "adam"
        SGD = "sgd"

    spec = ValueSpec("optimizer", "choice", choices=tuple(Optimizer))
    knob = Knob(spec, Optimizer.SGD)
    (recorded,) = KnobsRecord.of([knob.to_wire()], step=0).knobs
    assert recorded["choices"] == ["adam", "sgd"] and recorded["value"] == "sgd"


def test_choices_that_are_no_sequence_are_refused_with_the_name_of_the_knob(tmp_path):
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    with pytest.raises(SpecError, match="k: choices must be a sequence, not 5") as caught:
        Run(tmp_path, 0, lock).knob("k", 1, choices=5)  # type: ignore[arg-type]
    assert caught.value.name == "k"


def test_choices_may_be_an_array(tmp_path):
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    assert Run(tmp_path, 0, lock).knob("k", np.int64(2), choices=np.array([1, 2])).value == 2
