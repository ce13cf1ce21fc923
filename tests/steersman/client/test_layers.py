"""`run.watch_layers()`: norms of layers, with the optimizers that trainings use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from steersman.layers.measuring import MOST_PLACES
from steersman.layers.naming import MOST_LAYERS, layer_names
from steersman.records.kinds import NoteRecord, PointRecord
from steersman.run import Run
from tests.steersman.client.running import records

WIDTH = 12


class Network(nn.Module):
    """Two blocks, a direct parameter, and one that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(2)])
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x * self.scale)
        return self.head(self.frozen(x))


def points(folder: Path) -> dict[int, dict[str, float]]:
    """Return the norms of layers by step, names without `layers/`."""
    found: dict[int, dict[str, float]] = {}
    for record in records(folder):
        if isinstance(record, PointRecord) and any(name.startswith("layers/") for name in record.values):
            assert record.step not in found
            found[record.step] = {name.removeprefix("layers/"): value for name, value in record.values.items()}
    return found


def notes(folder: Path) -> list[str]:
    return [record.text for record in records(folder) if isinstance(record, NoteRecord)]


def train(run: Run, model: nn.Module, optimizers: list[Any], steps: int = 6, **more: Any) -> None:
    """Train a few steps in the order of most loops; `scaler`, `forward` and `logs` change the parts that they name."""
    scaler, forward = more.get("scaler"), more.get("forward", model)
    torch.manual_seed(1)
    for step in range(1, steps + 1):
        run.step = step
        loss = forward(torch.randn(8, WIDTH)).square().mean()
        (loss if scaler is None else scaler.scale(loss)).backward()
        for optimizer in optimizers:
            optimizer.step() if scaler is None else scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        if scaler is not None:
            scaler.update()
        if more.get("logs", True):
            run.log(step, loss=loss)
        assert not run.stopping
    run.finish()


class Expected:
    """The same norms, computed as simply as possible with hooks of the optimizer."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, layers: dict[str, str]) -> None:
        self.steps: list[dict[str, float]] = []
        named = [(layers[name], each) for name, each in model.named_parameters() if name in layers]

        def before(*_: Any) -> None:
            self._before = [each.detach().clone() for _, each in named]
            self.steps.append({})
            for (layer, each), weight in zip(named, self._before, strict=True):
                self._add(f"weight/{layer}", weight)
                if each.grad is not None:
                    self._add(f"gradient/{layer}", each.grad)

        def after(*_: Any) -> None:
            for (layer, each), weight in zip(named, self._before, strict=True):
                self._add(f"update/{layer}", each.detach() - weight)

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    def _add(self, name: str, tensor: torch.Tensor) -> None:
        self.steps[-1][name] = math.hypot(self.steps[-1].get(name, 0.0), float(tensor.double().norm()))


LAYERS = {
    "scale": "model",
    **{f"blocks.{block}.0.{part}": f"blocks.{block}.0" for block in (0, 1) for part in ("weight", "bias")},
    "head.weight": "head",
    "head.bias": "head",
}


def close(found: dict[str, float], expected: dict[str, float]) -> bool:
    return found.keys() == expected.keys() and all(
        math.isclose(found[name], expected[name], rel_tol=1e-4, abs_tol=1e-12) for name in expected
    )


@pytest.fixture
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("logs", [True, False])
def test_every_so_many_steps_it_records_the_norms_of_each_layer(run, tmp_path, seeded, logs):
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    expected = Expected(model, optimizer, LAYERS)
    run.watch_layers(model, every=2)
    train(run, model, [optimizer], logs=logs)
    found = points(tmp_path)
    assert list(found) == [2, 4, 6]
    assert all(close(found[step], expected.steps[step - 1]) for step in found)
    assert not notes(tmp_path)


def test_several_optimizers_of_one_model_make_one_point(run, tmp_path, seeded):
    model = Network()
    biases = [each for name, each in model.named_parameters() if name.endswith("bias") and each.requires_grad]
    others = [each for name, each in model.named_parameters() if not name.endswith("bias") and each.requires_grad]
    optimizers = [torch.optim.SGD(others, lr=0.1), torch.optim.Adam(biases, lr=0.01)]
    run.watch_layers(model, every=3)
    train(run, model, optimizers)
    found = points(tmp_path)
    assert list(found) == [3, 6]
    assert set(found[3]) == {
        f"{what}/{layer}" for what in ("weight", "gradient", "update") for layer in LAYERS.values()
    }
    whole = math.hypot(*(found[6][f"weight/{layer}"] for layer in set(LAYERS.values())))
    parameters = [each for each in model.parameters() if each.requires_grad]
    assert math.isclose(whole, float(torch.cat([each.detach().flatten() for each in parameters]).norm()), rel_tol=0.05)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_unscaled(run, tmp_path, seeded, fused):
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    run.watch_layers(model, every=1)
    train(run, model, [optimizer], steps=1, scaler=torch.amp.GradScaler("cpu", init_scale=2.0**14))
    torch.manual_seed(0)
    other = Network()
    torch.manual_seed(1)
    other(torch.randn(8, WIDTH)).square().mean().backward()
    gradient = torch.cat([each.grad.flatten() for each in other.head.parameters()]).norm()
    assert math.isclose(points(tmp_path)[1]["gradient/head"], float(gradient), rel_tol=1e-4)


def test_gradients_that_are_missing_or_sparse_leave_out_themselves(run, tmp_path, seeded):
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(5, WIDTH, sparse=True)
            self.used, self.unused = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(self.words(torch.arange(len(x)) % 5))

    model = Words()
    run.watch_layers(model, every=1)
    train(run, model, [torch.optim.SGD(model.parameters(), lr=0.1)], steps=2)
    assert set(points(tmp_path)[2]) == {
        "weight/words", "update/words", "weight/used", "update/used", "gradient/used", "weight/unused", "update/unused",
    }  # fmt: skip
    assert points(tmp_path)[2]["update/unused"] == 0.0 and not notes(tmp_path)


def test_a_compiled_model_is_watched(run, tmp_path, seeded):
    model = Network()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.watch_layers(compiled, every=2)
    train(run, model, [optimizer], steps=2, forward=compiled)
    assert set(points(tmp_path)[2]) == {
        f"{what}/{layer}" for what in ("weight", "gradient", "update") for layer in LAYERS.values()
    }


def test_a_step_that_is_compiled_costs_the_record_and_not_the_training(run, tmp_path, seeded):
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.watch_layers(model, every=1)
    step = torch.compile(optimizer.step, backend="eager")
    model(torch.randn(8, WIDTH)).square().mean().backward()
    step()
    run.finish()
    assert not points(tmp_path)
    assert any("observed no step of a torch optimizer" in note for note in notes(tmp_path))


def test_large_parameters_are_measured_at_evenly_spread_places(run, tmp_path, seeded):
    model = nn.Sequential(nn.Linear(WIDTH, MOST_PLACES), nn.Linear(MOST_PLACES, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    layers = {f"{layer}.{part}": str(layer) for layer in (0, 1) for part in ("weight", "bias")}
    expected = Expected(model, optimizer, layers)
    run.watch_layers(model, every=1)
    train(run, model, [optimizer], steps=2)
    found = points(tmp_path)[2]
    assert math.isclose(found["update/0"], expected.steps[1]["update/0"], rel_tol=0.1)
    assert math.isclose(found["weight/0"], expected.steps[1]["weight/0"], rel_tol=1e-4)


def test_half_precision_is_summed_in_32_bits(run, tmp_path, seeded):
    model = nn.Linear(WIDTH, 1).half()
    with torch.no_grad():
        model.weight.fill_(60_000)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    run.watch_layers(model, every=1)
    model.weight.grad = torch.full_like(model.weight, 50_000)
    optimizer.step()
    run.log(1, loss=0.5)
    assert not run.stopping
    found = points(tmp_path)[1]
    assert math.isclose(found["weight/model"], 60_000 * math.sqrt(WIDTH), rel_tol=0.001)
    assert math.isclose(found["gradient/model"], 50_000 * math.sqrt(WIDTH), rel_tol=0.001)


def test_two_models_are_told_apart_and_the_same_model_is_watched_once(run, tmp_path, seeded):
    first, second, third = Network(), Network(), Network()
    for model in (first, second, first):
        run.watch_layers(model, every=1)
    run.watch_layers(third, every=1, name="critic")
    for model in (first, second, third):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.randn(8, WIDTH)).square().mean().backward()
        optimizer.step()
    run.log(1, loss=0.5)
    assert not run.stopping
    assert {name for name in points(tmp_path)[1] if name.startswith("weight/") and name.endswith("head")} == {
        "weight/head", "weight/Network.head", "weight/critic.head",
    }  # fmt: skip


class Unreadable(torch.Tensor):
    """A parameter whose norm cannot be computed."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        if "norm" in getattr(function, "__name__", ""):
            raise NotImplementedError("no norm")
        return super().__torch_function__(function, types, arguments, named or {})


def test_what_cannot_be_measured_ends_the_record_with_one_note_and_not_the_training(run, tmp_path, seeded):
    model = nn.Linear(WIDTH, 1)
    weight = model.weight.detach().clone().as_subclass(Unreadable)
    del model.weight
    model.weight = weight.requires_grad_()
    model._parameters["weight"] = weight  # type: ignore[assignment]
    run.watch_layers(model, every=1)
    train(run, model, [torch.optim.SGD([weight, model.bias], lr=0.1, foreach=False)], steps=3)
    assert [each for each in notes(tmp_path) if "no longer recorded" in each] == notes(tmp_path) != []
    assert sum("loss" in each.values for each in records(tmp_path) if isinstance(each, PointRecord)) == 3


@pytest.mark.parametrize("model", [None, "model", 5, nn.ReLU(), [nn.Linear(1, 1)], nn.Linear])
def test_what_is_no_model_with_parameters_is_left_out_with_a_note(run, tmp_path, model):
    run.watch_layers(model)
    run.watch_layers(nn.Linear(1, 1), every="often")
    (first, second) = notes(tmp_path)
    assert "not watched" in first and "every" in second


def test_values_of_the_gpu_and_layers_are_written_in_the_order_of_the_calls_by_several_ranks(run, tmp_path, seeded):
    model = nn.Linear(WIDTH, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.ranks = 2
    run.watch_layers(model, every=1)
    model(torch.randn(8, WIDTH)).square().mean().backward()
    optimizer.step()
    run.log(1, loss=0.5)
    assert not run.stopping
    names = [next(iter(each.values)) for each in records(tmp_path) if isinstance(each, PointRecord)]
    assert names == ["layers/weight/model", "loss"]


def test_names_of_layers():
    assert layer_names(["weight", "a.weight", "a.bias", "a.b.weight"], "model") == ["model", "a", "a", "a.b"]
    wrapped = ["module._orig_mod.a._fsdp_wrapped_module.weight", "module._orig_mod.b._checkpoint_wrapped_module.bias"]
    assert layer_names(wrapped, "model") == ["a", "b"]
    deep = [
        f"layers.{number}.{part}.{sort}.weight"
        for number in range(40)
        for part in ("attention", "mlp")
        for sort in "ab"
    ]
    assert len(set(layer_names(deep, "model"))) == 80
    assert layer_names(deep, "model")[:4] == [
        "layers.0.attention",
        "layers.0.attention",
        "layers.0.mlp",
        "layers.0.mlp",
    ]
    wide = [f"{number}.weight" for number in range(250)]
    assert len(set(layer_names(wide, "model"))) <= MOST_LAYERS and layer_names(wide, "model")[0] == "0 to 2"
