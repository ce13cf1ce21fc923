"""The declarations of a recipe, and how it is found."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steersman import Run
from steersman.spec import SpecError, ValueSpec, specs_from_wire, typed_values
from trainer.recipe_names import BUILT_IN, source_sha256
from trainer.worker.loop import train
from trainer.worker.recipe import Batch, Recipe, RecipeError, load_recipe, parameter

CPU = torch.device("cpu")


class Declared(Recipe):
    """One line.

    And a second paragraph.
    """

    epochs: int = parameter(3, minimum=1, maximum=9, help="passes")
    rate: float = parameter(0.1, minimum=0.0, help="speed")
    kind: str = parameter("red", choices=("red", "green"))
    loud: bool = parameter(False)

    def build(self) -> None: ...

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def evaluate(self) -> dict[str, float | Tensor]:
        raise NotImplementedError


def test_it_publishes_each_declaration_once_with_the_base_ones_first() -> None:
    schema = Declared.schema()
    assert json.loads(json.dumps(schema)) == schema
    usual = ["epochs", "batch_size", "precision", "threads", "save_every", "watch_layers"]
    assert [entry["name"] for entry in schema] == [*usual, "rate", "kind", "loud"]
    assert schema[0] == {
        "name": "epochs", "kind": "int", "minimum": 1, "maximum": 9, "choices": [], "scale": "linear", "unit": "",
        "help": "passes", "groups": [], "series": "", "default": 3, "input": "number", "step": 1,
    }  # fmt: skip
    assert list(specs_from_wire(schema).values()) == list(Declared.declared.values())
    assert Declared.description() == "One line.\n\nAnd a second paragraph."


def test_it_takes_typed_values_and_text_and_fills_in_defaults() -> None:
    recipe = Declared({"epochs": "7", "rate": 1, "loud": "yes"}, device=CPU)
    assert (recipe.epochs, recipe.rate, recipe.kind, recipe.loud) == (7, 1.0, "red", True)
    assert recipe.parameters == typed_values(Declared.declared, {"epochs": 7, "rate": 1.0, "loud": True})
    assert Declared.epochs == 3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", "0", "1 to 9"),
        ("epochs", "10", "1 to 9"),
        ("epochs", "many", "whole number"),
        ("rate", "-1", "takes a number of at least 0, not -1."),
        ("rate", "nan", "a number of at least 0, not nan."),
        ("kind", "blue", "red, green"),
        ("loud", "perhaps", "true or false"),
        ("epoch", "1", "no such parameter"),
    ],
)
def test_it_names_the_parameter_and_what_it_takes(name: str, value: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        Declared({name: value}, device=CPU)
    assert caught.value.name == name
    assert name in str(caught.value)
    assert words in str(caught.value)


def test_it_refuses_a_declaration_that_contradicts_itself() -> None:
    with pytest.raises(TypeError, match="size takes a whole number of at least 1, not 0"):
        type("Bad", (Declared,), {"__annotations__": {"size": "int"}, "size": parameter(0, minimum=1)})
    with pytest.raises(TypeError, match="size takes a whole number, not None"):
        type("Bad", (Declared,), {"__annotations__": {"size": "int"}, "size": parameter(None)})  # type: ignore[type-var]
    with pytest.raises(TypeError, match="annotate it with"):
        type("Bad", (Declared,), {"size": parameter(0)})
    with pytest.raises(TypeError, match="size: choices must be a sequence, not 5"):
        type("Bad", (Declared,), {"__annotations__": {"size": "int"}, "size": parameter(0, choices=5)})  # type: ignore[arg-type]
    for name in ("build", "seed", "model"):
        with pytest.raises(TypeError, match="has an attribute of this name"):
            type("Bad", (Declared,), {"__annotations__": {name: "int"}, name: parameter(0)})


def test_it_names_the_class_that_still_says_optimiser() -> None:
    words = "recipe: the attribute optimiser of Former is called optimizer now; rename it."
    bodies: list[dict[str, object]] = [
        {"optimiser": None},
        {"optimiser": lambda recipe: None},
        {"__annotations__": {"optimiser": "object"}},
    ]
    for body in bodies:
        with pytest.raises(RecipeError) as caught:
            type("Former", (Declared,), body)
        assert str(caught.value) == words

    class Former(Declared):
        def build(self) -> None:
            self.optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    with pytest.raises(RecipeError) as caught:
        train(Former({}, device=CPU), Run())
    assert str(caught.value) == words


class Turnable(Declared):
    """Has knobs."""

    learning_rate: float = parameter(0.1, minimum=1e-5, maximum=1, help="speed", knob=True, scale="log")
    mode: str = parameter("a", choices=("a", "b"), knob=True)
    layers: int = parameter(2, minimum=1)
    loud: bool = parameter(True, knob=True, unit="times")


def test_it_publishes_what_may_be_changed_while_it_trains() -> None:
    knobs = {each["name"]: each for each in Turnable.knobs()}
    assert list(knobs) == ["learning_rate", "mode", "loud"]
    assert json.loads(json.dumps(Turnable.knobs())) == Turnable.knobs()
    rate = ValueSpec.from_wire(knobs["learning_rate"])
    assert (rate.kind, rate.scale, rate.minimum, rate.maximum, rate.help) == ("float", "log", 1e-5, 1, "speed")
    assert rate.series == "optimizer/learning_rate"
    assert (knobs["mode"]["kind"], knobs["loud"]["kind"], knobs["loud"]["unit"]) == ("choice", "bool", "times")
    assert Declared.knobs() == []


def test_a_subclass_keeps_a_knob_with_a_new_default_and_may_take_it_away() -> None:
    class Faster(Turnable):
        learning_rate = 0.5
        mode: str = parameter("b", choices=("b", "c"))

    assert [each["name"] for each in Faster.knobs()] == ["learning_rate", "loud"]
    assert Faster({}, device=CPU).learning_rate == 0.5


def test_it_refuses_a_knob_that_cannot_be_one() -> None:
    with pytest.raises(TypeError, match="tone: the kind bool does not allow a minimum"):
        limited = parameter(True, minimum=0, knob=True)
        type("Bad", (Declared,), {"__annotations__": {"tone": "bool"}, "tone": limited})
    with pytest.raises(TypeError, match="tone takes a whole number, not 'two'"):
        mixed = parameter(1, choices=(1, "two"), knob=True)
        type("Bad", (Declared,), {"__annotations__": {"tone": "int"}, "tone": mixed})
    with pytest.raises(TypeError, match="tone: a logarithmic"):
        bad = parameter(1.0, minimum=0.0, knob=True, scale="log")
        type("Bad", (Declared,), {"__annotations__": {"tone": "float"}, "tone": bad})


@pytest.mark.parametrize(
    ("kind", "default", "choices", "expected"),
    [(int, 2.0, (2.0, 4.0), (2, 4)), (int, 2, (2.0, 4.0), (2, 4)), (float, 1, (1, 2), (1.0, 2.0))],
)
def test_choices_and_default_have_the_annotated_type(kind: type, default: Any, choices: Any, expected: Any) -> None:
    body = {"__annotations__": {"tone": kind.__name__}, "tone": parameter(default, choices=choices)}
    spec: ValueSpec = type("Toned", (Declared,), body).declared["tone"]  # type: ignore[attr-defined]
    assert [(each, type(each)) for each in (*spec.choices, spec.default)] == [
        (each, kind) for each in (*expected, expected[0])
    ]


def test_the_built_in_recipes_have_their_knobs() -> None:
    expected = {
        "digits": ["learning_rate"],
        "mnist": ["learning_rate", "weight_decay", "gradient_clip", "dropout", "label_smoothing", "augment"],
        "transformer": ["dropout", "learning_rate", "weight_decay", "gradient_clip", "temperature"],
    }
    assert {name: [each["name"] for each in load_recipe(name).knobs()] for name in expected} == expected


def test_it_takes_a_plain_value_in_a_subclass_as_the_new_default() -> None:
    class Longer(Declared):
        epochs = 5

    assert Longer({}, device=CPU).epochs == 5
    assert Declared({}, device=CPU).epochs == 3
    assert Longer.schema()[0] == Declared.schema()[0] | {"default": 5}
    with pytest.raises(TypeError, match="epochs takes a whole number from 1 to 9, not 50"):
        type("Bad", (Declared,), {"epochs": 50})


def test_it_says_in_words_what_a_parameter_takes() -> None:
    assert {name: str(spec.takes()) for name, spec in Declared.declared.items()} == {
        "epochs": "a whole number from 1 to 9",
        "batch_size": "a whole number from 1 to 65536",
        "precision": "one of auto, float32, float16, bfloat16",
        "threads": "a whole number from 0 to 1024",
        "save_every": "a whole number from 1 to 100000",
        "watch_layers": "a whole number from 0 to 100000",
        "rate": "a number of at least 0",
        "kind": "one of red, green",
        "loud": "true or false",
    }


def test_it_visits_every_sample_once_an_epoch_and_skips_what_was_seen() -> None:
    recipe = Declared({"batch_size": 4}, device=CPU, seed=2)
    recipe.train_size = 10
    whole = [batch.tolist() for batch in recipe.shuffled(1, 0)]
    assert [len(batch) for batch in whole] == [4, 4, 2]
    assert recipe.steps_per_epoch == 3
    assert sorted(sum(whole, [])) == list(range(10))
    assert [batch.tolist() for batch in recipe.shuffled(1, 2)] == whole[2:]
    assert list(recipe.shuffled(1, 3)) == []
    assert [batch.tolist() for batch in recipe.shuffled(2, 0)] != whole


@pytest.mark.parametrize("spec", BUILT_IN)
def test_it_finds_the_built_in_recipes(spec: str) -> None:
    recipe = load_recipe(spec)
    assert recipe.title
    assert recipe.description()
    assert all(entry["help"] for entry in recipe.schema())
    assert len(source_sha256(spec)) == 64


def test_it_finds_a_recipe_by_dotted_path_in_both_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_recipes.py").write_text(
        "from trainer.recipes.digits import Digits\n\nclass Mine(Digits):\n    '''My own.'''\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_recipe("own_recipes:Mine") is load_recipe("own_recipes.Mine")
    assert load_recipe("own_recipes:Mine").description() == "My own."


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("minst", "name a built-in one (mnist, digits, transformer)"),
        ("no_such_package.mine:Thing", "no module no_such_package.mine"),
        ("trainer.worker.recipe:Nothing", "has no class Nothing"),
        ("json:JSONDecoder", "has no class JSONDecoder derived from trainer.recipes.Recipe"),
        ("trainer.worker.recipe:Recipe", "is not complete; define build, evaluate, loss, train_batches"),
        ("", "there is no"),
        (".mine:Thing", "there is no"),
    ],
)
def test_it_says_why_a_spec_is_no_recipe(spec: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(spec)
    assert words in str(caught.value)


def test_it_shows_a_mistake_inside_a_persons_module_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_recipe.py").write_text("import package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="package_that_is_not_there"):
        load_recipe("broken_recipe:Mine")


def test_the_recipe_of_the_documentation_trains_with_its_knobs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    (code,) = re.findall(r"```python\n(# turned.py\n.*?)```", text, re.DOTALL)
    module = types.ModuleType("turned")
    monkeypatch.setitem(sys.modules, "turned", module)
    exec(compile(code, "turned.py", "exec"), module.__dict__)
    recipe = module.Turned({"epochs": 8, "batch_size": 32}, device=CPU, seed=1)
    run = Run()
    rows: list[dict[str, Any]] = []
    run.log_epoch = lambda epoch, /, **values: rows.append(values)  # type: ignore[method-assign]
    torch.manual_seed(1)
    assert train(recipe, run) == "finished"
    assert rows[-1]["validation_loss"] < 0.1
    assert run.knobs == {
        "learning_rate": {"": 0.01}, "gradient_clip": {"": 1.0}, "robust": {"": False}, "noise": {"": 0.1},
    }  # fmt: skip
