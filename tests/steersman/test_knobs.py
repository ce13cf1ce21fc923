"""What a knob takes and how a change of it goes, or is put back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from steersman.files.locks import try_lock
from steersman.knobs import LARGEST_INT, Change, Knob, KnobError, Knobs, KnobSpec, groups_of, kind_of
from steersman.run import Run, worker_lock_path

RATE = KnobSpec("learning_rate", "float", minimum=1e-6, maximum=1.0, scale="log", unit="1/step")
LAYERS = KnobSpec("layers", "int", minimum=1, maximum=8)
AUGMENT = KnobSpec("augment", "bool")
MODE = KnobSpec("mode", "choice", choices=("fast", "slow", 1))
BY_GROUP = KnobSpec("rate", "float", minimum=0.0, maximum=1.0, groups=("body", "head"))


class Setter:
    """A setter of the training's own, which fails at the values it is told to."""

    def __init__(self, *failing: Any) -> None:
        self.failing = failing
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> None:
        self.calls.append(arguments)
        if arguments[0] in self.failing:
            raise RuntimeError(f"cannot be {arguments[0]}")


@pytest.mark.parametrize(
    ("spec", "given", "kept"),
    [
        (RATE, 0.5, 0.5),
        (RATE, 1, 1.0),
        (LAYERS, 3, 3),
        (LAYERS, 3.0, 3),
        (AUGMENT, False, False),
        (MODE, "slow", "slow"),
        (MODE, 1, 1),
        (KnobSpec("free", "float"), -1e300, -1e300),
    ],
)
def test_it_takes_values_in_its_own_type(spec: KnobSpec, given: Any, kept: Any) -> None:
    checked = spec.check(given)
    assert checked == kept and type(checked) is type(kept)


@pytest.mark.parametrize(
    ("spec", "given", "sentence"),
    [
        (RATE, 2.0, r"takes 1e-06 to 1\.0, not 2\.0"),
        (RATE, 0, "takes 1e-06 to"),
        (RATE, math.nan, "finite"),
        (RATE, math.inf, "finite"),
        (RATE, -math.inf, "finite"),
        (RATE, 10**400, "finite"),
        (RATE, True, "takes a number, not True"),
        (RATE, "0.1", "takes a number, not '0.1'"),
        (RATE, None, "takes a number, not None"),
        (RATE, [0.1], "takes a number"),
        (LAYERS, 2.5, "whole number"),
        (LAYERS, False, "takes a number, not False"),
        (KnobSpec("free", "int"), LARGEST_INT + 1, "whole number"),
        (KnobSpec("free", "int"), 1e300, "whole number"),
        (KnobSpec("low", "int", minimum=2), 1, "takes at least 2"),
        (KnobSpec("high", "int", maximum=2), 3, "takes at most 2"),
        (AUGMENT, 1, "takes true or false, not 1"),
        (AUGMENT, "true", "takes true or false, not 'true'"),
        (MODE, True, "takes one of fast, slow, 1, not True"),
        (MODE, "slower", "takes one of"),
    ],
)
def test_it_refuses_what_it_does_not_take_and_names_itself(spec: KnobSpec, given: Any, sentence: str) -> None:
    with pytest.raises(KnobError, match=sentence) as refusal:
        spec.check(given)
    assert str(refusal.value).startswith(f"{spec.name} takes")


@pytest.mark.parametrize(
    ("spec", "typed", "value"),
    [(RATE, "1e-3", 0.001), (LAYERS, "4", 4), (AUGMENT, " True ", True), (MODE, "1", 1), (MODE, "fast", "fast")],
)
def test_it_reads_what_a_person_typed(spec: KnobSpec, typed: str, value: Any) -> None:
    assert spec.parse(typed) == value and type(spec.parse(typed)) is type(value)


@pytest.mark.parametrize(
    ("spec", "typed"), [(RATE, "much"), (RATE, "nan"), (LAYERS, "2.5"), (AUGMENT, "1"), (MODE, "")]
)
def test_it_refuses_what_a_person_mistyped(spec: KnobSpec, typed: str) -> None:
    with pytest.raises(KnobError, match="takes"):
        spec.parse(typed)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "", "kind": "float"}, "name"),
        ({"name": "x" * 61, "kind": "float"}, "60 characters"),
        ({"name": "x", "kind": "list"}, "one of float"),
        ({"name": "x", "kind": "choice"}, "needs choices"),
        ({"name": "x", "kind": "float", "scale": "log"}, "minimum above 0"),
        ({"name": "x", "kind": "float", "scale": "log", "minimum": 0}, "minimum above 0"),
        ({"name": "x", "kind": "float", "maximum": math.inf}, "finite limits"),
        ({"name": "x", "kind": "float", "minimum": 2, "maximum": 1}, "minimum is above"),
    ],
)
def test_it_refuses_a_declaration_that_contradicts_itself(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(KnobError, match=sentence):
        KnobSpec(**fields)


@pytest.mark.parametrize(
    ("default", "options", "kind"),
    [
        (0.1, {}, "float"),
        (1, {}, "int"),
        (True, {}, "bool"),
        ("a", {"choices": ("a", "b")}, "choice"),
        ({"x": 0.1, "y": 0.2}, {}, "float"),
    ],
)
def test_its_kind_follows_from_its_default(default: Any, options: dict[str, Any], kind: str) -> None:
    assert kind_of("knob", default, **options) == kind
    assert groups_of(default) == (tuple(default) if isinstance(default, dict) else ())


def test_a_default_without_a_kind_is_refused() -> None:
    with pytest.raises(KnobError, match="starts as a number or a truth value, or has choices"):
        kind_of("knob", "text")
    with pytest.raises(KnobError, match="takes 1 to 8"):
        Knob(LAYERS, 9)


@pytest.mark.parametrize("spec", [RATE, LAYERS, AUGMENT, MODE, BY_GROUP])
def test_its_spec_survives_the_wire(spec: KnobSpec) -> None:
    import json

    wire = json.loads(json.dumps(spec.to_wire() | {"value": 1, "effective": None}))
    assert KnobSpec.from_wire(wire) == spec


def test_a_change_puts_the_value_to_work_and_tells_old_new_and_effect() -> None:
    setter = Setter()
    knob = Knob(RATE, 0.1, apply=setter, effective=lambda: knob.value / 2)
    assert knob.change(value=0.2) == Change(0.1, 0.2, 0.1)
    assert knob.value == 0.2 and setter.calls == [(0.2,)]
    assert knob.change(factor=0.5).new == pytest.approx(0.1)


def test_a_factor_rounds_whole_numbers_and_needs_a_number() -> None:
    assert Knob(LAYERS, 3).change(factor=2).new == 6
    assert Knob(LAYERS, 5).change(factor=0.7).new == 4
    with pytest.raises(KnobError, match="takes 1 to 8"):
        Knob(LAYERS, 5).change(factor=2)
    with pytest.raises(KnobError, match="finite"):
        Knob(KnobSpec("free", "float"), 1e300).change(factor=1e300)
    with pytest.raises(KnobError, match="whole|finite"):
        Knob(KnobSpec("free", "int"), 1000).change(factor=1e308)
    for spec, value in ((AUGMENT, True), (MODE, "fast")):
        with pytest.raises(KnobError, match="value instead of a factor"):
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
    with pytest.raises(KnobError, match="no parameter group 'tail': use one of body, head"):
        knob.change(value=0.1, group="tail")
    with pytest.raises(KnobError, match="leave the group out"):
        Knob(RATE, 0.1).change(value=0.2, group="body")
    with pytest.raises(KnobError, match="one value for each"):
        Knob(BY_GROUP, {"body": 0.1})


def test_one_group_alone_travels_as_an_object_too() -> None:
    knob = Knob(KnobSpec("rate", "float", groups=("all",)), {"all": 0.5}, effective=lambda group: 0.25)
    assert knob.to_wire()["value"] == {"all": 0.5} and knob.to_wire()["effective"] == {"all": 0.25}


def test_a_change_is_refused_where_another_value_was_expected() -> None:
    knob = Knob(RATE, 0.1 + 0.2)
    assert knob.change(value=0.5, expect=0.3).old == pytest.approx(0.3)
    with pytest.raises(KnobError, match=r"expected to be 0\.3, it is 0\.5"):
        knob.change(value=0.9, expect=0.3)
    assert knob.value == 0.5
    with pytest.raises(KnobError, match="expected to be 1"):
        Knob(AUGMENT, True).change(value=False, expect=1)
    with pytest.raises(KnobError, match="expected"):
        Knob(BY_GROUP, {"body": 0.1, "head": 0.2}).change(value=0.5, expect=0.1)


def test_a_checkpoint_restores_what_is_still_known() -> None:
    setter = Setter()
    knob = Knob(BY_GROUP, {"body": 0.1, "head": 0.2}, apply=setter)
    knob.restore({"head": 0.7, "tail": 0.9})
    assert knob.values == {"body": 0.1, "head": 0.7} and setter.calls == [(0.7, "head")]


def test_a_knob_that_is_not_there_is_refused_with_those_that_are() -> None:
    knobs = Knobs()
    with pytest.raises(KnobError, match="it declares none"):
        knobs.named("learning_rate")
    knobs.add(Knob(RATE, 0.1))
    knobs.add(Knob(LAYERS, 2))
    assert len(knobs) == 2 and knobs.named("layers").value == 2
    with pytest.raises(KnobError, match="no knob 'lr': it has learning_rate, layers"):
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
    with pytest.raises(KnobError):
        Run(tmp_path, 0, lock).knob("k", default, **named)


def test_choices_may_be_an_array(tmp_path):
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    assert Run(tmp_path, 0, lock).knob("k", np.int64(2), choices=np.array([1, 2])).value == 2
