"""The values that a spec accepts, how they are typed and displayed, and which declarations contradict themselves."""

from __future__ import annotations

import enum
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from steersman.kinds import KINDS, LARGEST_INT, choice_text, number_text
from steersman.spec import SpecError, ValueSpec, specs_from_wire, typed_values

RATE = ValueSpec("rate", "float", minimum=1e-6, maximum=1.0, scale="log", unit="1/step")
LAYERS = ValueSpec("layers", "int", minimum=1, maximum=8)
AUGMENT = ValueSpec("augment", "bool")
MODE = ValueSpec("mode", "choice", choices=("fast", "slow", 1, 0.001, True))
NOTE = ValueSpec("note", "str", maximum=5)
BY_GROUP = ValueSpec("rate", "float", minimum=0.0, maximum=1.0, groups=("body", "head"))
FREE = ValueSpec("free", "float")
COUNT = ValueSpec("count", "int")


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("spec", "given", "kept"),
    [
        (RATE, 0.5, 0.5),
        (RATE, 1, 1.0),
        (RATE, np.float32(0.5), 0.5),
        (RATE, torch.tensor(0.5), 0.5),
        (FREE, -1e300, -1e300),
        (FREE, 2**60, float(2**60)),
        (LAYERS, 3.0, 3),
        (LAYERS, np.int64(3), 3),
        (LAYERS, torch.tensor([3]), 3),
        (LAYERS, Level.HIGH, 3),
        (COUNT, LARGEST_INT, LARGEST_INT),
        (COUNT, -LARGEST_INT, -LARGEST_INT),
        (AUGMENT, False, False),
        (AUGMENT, np.bool_(True), True),
        (MODE, "slow", "slow"),
        (MODE, 1, 1),
        (MODE, 1.0, 1),
        (MODE, True, True),
        (NOTE, "", ""),
        (NOTE, "12345", "12345"),
        (NOTE, Colour.RED, "red"),
    ],
)
def test_it_takes_values_in_the_type_of_its_kind(spec: ValueSpec, given: Any, kept: Any) -> None:
    checked = spec.check(given)
    assert checked == kept and type(checked) is type(kept)
    assert spec.take(given) == kept


@pytest.mark.parametrize(
    ("spec", "typed", "value"),
    [
        (RATE, "1e-3", 0.001),
        (RATE, " .5 ", 0.5),
        (RATE, "1", 1.0),
        (FREE, "+1e300", 1e300),
        (FREE, "0e99999999999999999999", 0.0),
        (LAYERS, "4", 4),
        (LAYERS, "4.0", 4),
        (LAYERS, "40e-1", 4),
        (COUNT, "1e3", 1000),
        (COUNT, "9007199254740992", LARGEST_INT),
        (COUNT, "0.99999999999999999999", 1),  # as JSON reads it
        (AUGMENT, " Yes ", True),
        (AUGMENT, "1", True),
        (AUGMENT, "off", False),
        (AUGMENT, "FALSE", False),
        (MODE, "1", 1),
        (MODE, "1e-3", 0.001),
        (MODE, " fast", "fast"),
        (MODE, "yes", True),
        (NOTE, " a ", " a "),
        (NOTE, "12", "12"),
    ],
)
def test_it_reads_what_a_person_typed(spec: ValueSpec, typed: str, value: Any) -> None:
    assert spec.parse(typed) == value and type(spec.parse(typed)) is type(value)
    assert spec.take(typed) == value
    assert spec.parse(spec.text(value)) == value


RANGE = "rate takes a number from 0.000001 to 1, not "
WHOLE = "layers takes a whole number from 1 to 8, not "
ONE_OF = "mode takes one of fast, slow, 1, 0.001, true, not "


@pytest.mark.parametrize(
    ("spec", "given", "sentence"),
    [
        (RATE, 2.0, RANGE + "2."),
        (RATE, "2", RANGE + "2."),
        (RATE, 0, RANGE + "0."),
        (RATE, math.nan, RANGE + "nan."),
        (RATE, "NaN", RANGE + "nan."),
        (RATE, -math.inf, RANGE + "-inf."),
        (RATE, "1e999", RANGE + "inf."),
        (RATE, True, RANGE + "true."),
        (RATE, None, RANGE + "None."),
        (RATE, "much", RANGE + "'much'."),
        (RATE, "", RANGE + "''."),
        (RATE, "0x1", RANGE + "'0x1'."),
        (RATE, "1_0", RANGE + "'1_0'."),
        (RATE, "٣", RANGE + "'٣'."),
        (FREE, math.inf, "free takes a finite number, not inf."),
        (LAYERS, 9, WHOLE + "9."),
        (LAYERS, "9", WHOLE + "9."),
        (LAYERS, 2.5, WHOLE + "2.5."),
        (LAYERS, "2.5", WHOLE + "2.5."),
        (LAYERS, True, WHOLE + "true."),
        (LAYERS, "true", WHOLE + "'true'."),
        (LAYERS, math.nan, WHOLE + "nan."),
        (COUNT, LARGEST_INT + 1, f"whole number from -{LARGEST_INT} to {LARGEST_INT}, not 9007199254740993."),
        (COUNT, "9007199254740993.0", f"whole number from -{LARGEST_INT} to {LARGEST_INT}, not 9007199254740993."),
        (COUNT, 1e300, "count takes a whole number from -9007199254740992 to 9007199254740992, not "),
        (AUGMENT, 1, "augment takes true or false, not 1."),
        (AUGMENT, "maybe", "augment takes true or false, not 'maybe'."),
        (MODE, "slower", ONE_OF + "'slower'."),
        (MODE, 2, ONE_OF + "2."),
        (MODE, False, ONE_OF + "false."),
        (MODE, "no", ONE_OF + "'no'."),
        (MODE, ["fast"], ONE_OF + "['fast']."),
        (ValueSpec("bits", "choice", choices=("1", "2")), True, "bits takes one of 1, 2, not true."),
        (ValueSpec("bits", "choice", choices=(1, 2)), True, "bits takes one of 1, 2, not true."),
        (NOTE, "123456", "note takes text of at most 5 characters, not '123456'."),
        (NOTE, 5, "note takes text of at most 5 characters, not 5."),
        (NOTE, "a\0", "note contains an invalid character: remove it."),
        (NOTE, "\ud800", "note contains an invalid character: remove it."),
        (ValueSpec("note", "str"), "x" * 2001, "note takes text of at most 2000 characters, not 'xxx"),
        (ValueSpec("note", "str", minimum=1), "", "note takes text of 1 to 2000 characters, not ''."),
        (ValueSpec("low", "int", minimum=2), 1, "low takes a whole number of at least 2, not 1."),
        (ValueSpec("high", "float", maximum=2), 3, "high takes a number of at most 2, not 3."),
    ],
)  # fmt: skip
def test_it_refuses_the_rest_in_one_sentence(spec: ValueSpec, given: Any, sentence: str) -> None:
    with pytest.raises(SpecError) as refused:
        spec.take(given)
    assert sentence in str(refused.value) and refused.value.name == spec.name
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("value", [10**400, 10**5000, -(10**400)], ids=["400", "5000", "-400"])
def test_a_number_beyond_all_others_is_refused_without_its_digits(value: int) -> None:
    for spec in (RATE, LAYERS, FREE, COUNT, MODE):
        with pytest.raises(SpecError, match="takes .*, not ") as refused:
            spec.check(value)
        assert len(str(refused.value)) < 250


def test_a_sentence_is_translated_with_what_stands_in_it() -> None:
    words = {"a whole number from %(minimum)s to %(maximum)s": "%(minimum)s–%(maximum)s",
             "%(name)s takes %(allowed)s, not %(value)s.": "%(name)s: %(value)s ≠ %(allowed)s"}  # fmt: skip
    with pytest.raises(SpecError) as refused:
        LAYERS.check(9)
    assert refused.value.said.translated(lambda text: words[text]) == "layers: 9 ≠ 1–8"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "", "kind": "float"}, "name"),
        ({"name": "x" * 61, "kind": "float"}, "60 characters"),
        ({"name": "x", "kind": "list"}, "its kind must be one of float"),
        ({"name": "x", "kind": []}, "its kind must be one of float"),
        ({"name": "x", "kind": "choice"}, "needs a list of choices"),
        ({"name": "x", "kind": "float", "choices": (1.0,)}, "the kind float does not allow choices"),
        ({"name": "x", "kind": "float", "scale": "log"}, "minimum above 0"),
        ({"name": "x", "kind": "float", "scale": "log", "minimum": 0}, "minimum above 0"),
        ({"name": "x", "kind": "float", "scale": "steep"}, "linear or log"),
        ({"name": "x", "kind": "str", "scale": "log", "minimum": 1}, "only numbers"),
        ({"name": "x", "kind": "float", "maximum": math.inf}, "finite limits"),
        ({"name": "x", "kind": "int", "maximum": LARGEST_INT + 1}, "limits from -2"),
        ({"name": "x", "kind": "int", "maximum": 10**400}, "finite limits"),
        ({"name": "x", "kind": "float", "minimum": True}, "finite limits, not True"),
        ({"name": "x", "kind": "float", "minimum": 2, "maximum": 1}, "minimum is above"),
        ({"name": "x", "kind": "bool", "minimum": 0}, "does not allow a minimum"),
        ({"name": "x", "kind": "choice", "choices": (1, "1")}, "two choices look the same: '1'"),
        ({"name": "x", "kind": "choice", "choices": (True, "true")}, "two choices look the same: 'true'"),
        ({"name": "x", "kind": "choice", "choices": (None,)}, "numbers, truth values or text"),
        ({"name": "x", "kind": "choice", "choices": (math.nan,)}, "finite numbers from"),
        ({"name": "x", "kind": "choice", "choices": (LARGEST_INT + 1,)}, "finite numbers from"),
        ({"name": "x", "kind": "choice", "choices": ("y" * 201,)}, "at most 200 characters"),
        ({"name": "x", "kind": "choice", "choices": tuple(range(201))}, "at most 200 choices"),
        ({"name": "x", "kind": "float", "groups": ("a", "")}, "names of parameter groups must be text"),
        ({"name": "x", "kind": "int", "default": 0, "minimum": 1}, "x takes a whole number of at least 1, not 0."),
        ({"name": "x", "kind": "int", "default": True}, "x takes a whole number, not true."),
    ],
)
def test_it_refuses_a_declaration_that_contradicts_itself(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        ValueSpec(**fields)


def test_choices_of_one_value_are_one() -> None:
    assert ValueSpec("x", "choice", choices=(1, 1.0, True)).check(1) == 1


def test_a_default_has_the_type_of_its_kind() -> None:
    assert type(ValueSpec("x", "float", default=np.int64(1)).default) is float
    assert type(ValueSpec("x", "int", default=1.0).default) is int
    assert ValueSpec("x", "bool", default=torch.tensor(True)).default is True


@pytest.mark.parametrize("spec", [RATE, LAYERS, AUGMENT, MODE, NOTE, BY_GROUP, ValueSpec("x", "int", default=3)])
def test_it_survives_the_wire(spec: ValueSpec) -> None:
    wire = json.loads(json.dumps(spec.to_wire() | {"value": 1, "effective": None}))
    assert ValueSpec.from_wire(wire) == spec


def test_a_kind_that_this_process_does_not_know_is_left_to_the_training() -> None:
    spec = ValueSpec.from_wire({"name": "x", "kind": "tensor", "minimum": "low", "help": "…", "input": "matrix"})
    assert (spec.name, spec.help, str(spec.takes())) == ("x", "…", "a value")
    assert [spec.take(value) for value in ("1", 1, True)] == ["1", 1, True]
    with pytest.raises(SpecError, match="x takes a value, not None."):
        spec.take(None)


def test_it_checks_a_group() -> None:
    assert BY_GROUP.check_group("") == ("body", "head") and BY_GROUP.check_group("body") == ("body",)
    assert LAYERS.check_group("") == ("",)
    with pytest.raises(SpecError, match="rate has no parameter group 'tail': use one of body, head"):
        BY_GROUP.check_group("tail")


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e-6, "0.000001"), (1e-7, "1e-7"), (0.1 + 0.2, "0.30000000000000004"), (1.0, "1"), (-0.0, "-0"),
     (1e20, "1" + "0" * 20), (1.5e22, "1.5e+22"), (2**53, "9007199254740992"), (100.0, "100"), (True, "true")],
)  # fmt: skip
def test_numbers_are_written_as_a_browser_writes_them(number: float, text: str) -> None:
    assert number_text(number) == choice_text(number) == text


@pytest.mark.parametrize(
    "row",
    [5, None, {}, {"name": 5}, {"name": "y" * 61, "kind": "int"}, {"name": ["x"], "kind": "int"}],
    ids=str,
)
def test_a_stored_row_without_a_name_is_left_out(row: Any) -> None:
    assert list(specs_from_wire([row, {"name": "epochs", "kind": "int"}])) == ["epochs"]


@pytest.mark.parametrize(
    "fields",
    [{"minimum": "~"}, {"choices": 5}, {"choices": ["<secret>"]}, {"scale": "<user>"}, {"groups": 7}, {"default": "x"}],
    ids=str,
)
def test_a_stored_row_that_contradicts_itself_is_one_of_any_value(fields: dict[str, Any]) -> None:
    spec = specs_from_wire([{"name": "x", "kind": "int"} | fields])["x"]
    assert spec.kind == "any" and spec.take("7") == "7"


SPECS = specs_from_wire(
    [
        {"name": "epochs", "kind": "int", "default": 3, "minimum": 1, "maximum": 100, "help": "passes"},
        {"name": "learning_rate", "kind": "float", "default": 0.1, "minimum": 0.0},
        {"name": "augment", "kind": "bool", "default": False},
        {"name": "optimizer", "kind": "choice", "default": "adam", "choices": ["adam", "sgd"]},
    ]
)


def test_parameters_that_are_left_out_get_their_defaults() -> None:
    assert typed_values(SPECS, {"epochs": "20", "augment": "yes", "learning_rate": 1}) == {
        "epochs": 20, "learning_rate": 1.0, "augment": True, "optimizer": "adam",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "name", "sentence"),
    [
        ({"epochs": 0}, "epochs", "epochs takes a whole number from 1 to 100, not 0."),
        ({"epochs": None}, "epochs", "epochs takes a whole number from 1 to 100, not None."),
        ({"epoch": 3}, "epoch", "epoch: there is no such parameter; choose one of: epochs, learning_rate, augment,"),
    ],
)
def test_a_wrong_parameter_is_named(values: dict[str, Any], name: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence) as refused:
        typed_values(SPECS, values)
    assert refused.value.name == name


def test_a_parameter_without_a_default_is_asked_for() -> None:
    with pytest.raises(SpecError, match="folder has no default: give a value"):
        typed_values({"folder": ValueSpec("folder", "str")}, {})
    with pytest.raises(SpecError, match="folder: there is no such parameter; the recipe has none"):
        typed_values({}, {"folder": "x"})


def test_two_kinds_of_one_type_are_refused_where_the_second_is_declared() -> None:
    with pytest.raises(TypeError, match="the kind 'int' already has this type"):
        type("Second", (type(KINDS["int"]),), {"name": "second", "python_type": int})
    assert "second" not in KINDS


def test_a_kind_of_numbers_with_a_text_of_its_own_takes_another_control() -> None:
    number = type(KINDS["float"])
    fields = {"name": "percent", "python_type": None, "parse": lambda self, spec, text: float(text.rstrip("%"))}
    with pytest.raises(TypeError, match=r"a kind with its own parse\(\) cannot use the number field"):
        type("Percent", (number,), fields)
    assert "percent" not in KINDS
