"""Parameters against a published schema: every refusal names the parameter and says what to give."""

from __future__ import annotations

import math
from typing import Any

import pytest

from steersman.parameters import ParameterError, validate

SCHEMA: list[dict[str, Any]] = [
    {"name": "epochs", "type": "int", "default": 3, "minimum": 1, "maximum": 100, "help": "passes"},
    {"name": "learning_rate", "type": "float", "default": 0.1, "minimum": 0.0},
    {"name": "augment", "type": "bool", "default": False},
    {"name": "optimizer", "type": "str", "default": "adam", "choices": ["adam", "sgd"]},
]


def test_it_fills_in_defaults_and_parses_text() -> None:
    assert validate(SCHEMA, {"epochs": "20", "augment": "yes", "learning_rate": 1}) == {
        "epochs": 20,
        "learning_rate": 1.0,
        "augment": True,
        "optimizer": "adam",
    }


@pytest.mark.parametrize(
    ("values", "name", "remedy"),
    [
        ({"epochs": "many"}, "epochs", "not a whole number"),
        ({"epochs": 2.5}, "epochs", "not a whole number"),
        ({"epochs": True}, "epochs", "not a whole number"),
        ({"epochs": None}, "epochs", "not a whole number"),
        ({"epochs": 0}, "epochs", "too small; give 1 to 100"),
        ({"epochs": 101}, "epochs", "too large; give 1 to 100"),
        ({"learning_rate": math.nan}, "learning_rate", "not a finite number"),
        ({"learning_rate": "inf"}, "learning_rate", "not a finite number"),
        ({"learning_rate": 10**400}, "learning_rate", "not a finite number"),
        ({"augment": "perhaps"}, "augment", "not true or false"),
        ({"optimizer": "lion"}, "optimizer", "use one of adam, sgd"),
        ({"optimizer": ["adam"]}, "optimizer", "not text"),
        ({"epoch": 3}, "epoch", "known ones: epochs, learning_rate, augment, optimizer"),
    ],
)
def test_it_refuses_with_the_name_and_the_remedy(values: dict[str, Any], name: str, remedy: str) -> None:
    with pytest.raises(ParameterError, match=remedy) as refused:
        validate(SCHEMA, values)
    assert refused.value.name == name
    assert refused.value.sentence.startswith(f"{name}: ")
    assert len(refused.value.sentence) < 200


def test_it_asks_for_what_has_no_default() -> None:
    with pytest.raises(ParameterError, match="folder: has no default"):
        validate([{"name": "folder", "type": "str"}], {})
