"""The trainings to record: recipe, schedule, fault and seed of each.

This module imports neither torch nor the recipes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# The label of a curve by its fault.
KIND_OF_FAULT = {
    "": "healthy",
    "learning_rate": "divergence",
    "shuffled_labels": "divergence",
    "bad_inputs": "spike",
    "bad_labels": "spike",
    "overflow": "non-finite",
    "vanishing_rate": "plateau",
    "few_samples": "overfitting",
    "slow_loader": "data-bound",
}
DIGITS_STEPS_PER_EPOCH = {16: 90, 32: 45, 64: 23, 128: 12}
TEXT_STEPS_PER_EPOCH = {8: 647, 16: 324, 32: 162}


def warmup(done: float) -> float:
    return min(1.0, done / 0.1 + 0.01)


def step_decay(done: float) -> float:
    return 1.0 if done < 0.4 else 0.1 if done < 0.7 else 0.01


def cosine_restarts(done: float) -> float:
    """Return four periods of half a cosine: SGDR (Loshchilov and Hutter, 2017) with cycles of one length."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * ((done * 4) % 1)))


def cyclic(done: float) -> float:
    """Return five periods of a triangle: cyclical learning rates (Smith, 2017)."""
    place = (done * 5) % 1
    return 0.1 + 0.9 * (1 - abs(2 * place - 1))


def warmup_cosine(done: float) -> float:
    return warmup(done) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "warmup": warmup,
    "step_decay": step_decay,
    "cosine_restarts": cosine_restarts,
    "cyclic": cyclic,
    "warmup_cosine": warmup_cosine,
}


@dataclass(frozen=True, slots=True)
class Story:
    """One training.

    `begins` is the step of the fault, or of the harmless resume or change of a knob; 0 without either.
    """

    name: str
    recipe: str
    seed: int
    total: int
    optimizer: str = "adam"
    schedule: str = ""
    fault: str = ""
    healthy_change: str = ""
    begins: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return KIND_OF_FAULT[self.fault]

    @property
    def with_speed(self) -> bool:
        return self.fault == "slow_loader" or (not self.fault and self.seed % 4 == 0)


def digits(name: str, seed: int, **given: Any) -> Story:
    """Return a training of the digits of about 700 steps; its seed chooses batch size, width and optimizer."""
    batch_size = (16, 32, 64, 128)[seed % 4]
    per_epoch = DIGITS_STEPS_PER_EPOCH[batch_size]
    epochs = 700 // per_epoch + 1
    optimizer = "sgd" if seed % 3 == 0 else "adam"
    rate = (0.02, 0.05)[seed % 2] if optimizer == "sgd" else (0.001, 0.003, 0.01)[seed % 3]
    parameters = {"epochs": epochs, "batch_size": batch_size, "hidden": (32, 64, 128)[seed % 3], "learning_rate": rate}
    return _story(name, "digits", seed, epochs * per_epoch, optimizer, parameters, given)


def text(name: str, seed: int, **given: Any) -> Story:
    """Return a training of a small Transformer on text of about 330 or 650 steps."""
    batch_size = (16, 32)[seed % 2]
    epochs = 2 if batch_size == 32 else 1 + seed % 4 // 2
    parameters = {
        "epochs": epochs,
        "batch_size": batch_size,
        "context": 64 if batch_size == 16 else 32,
        "layers": 1,
        "heads": 2,
        "sample_length": 0,
        "learning_rate": (0.001, 0.003)[seed % 2],
    }
    per_epoch = TEXT_STEPS_PER_EPOCH[batch_size] * 64 // parameters["context"]
    return _story(name, "text", seed, epochs * per_epoch, "adam", parameters, given)


def _story(name: str, recipe: str, seed: int, total: int, optimizer: str, parameters: Any, given: Any) -> Story:
    given = dict(given)
    share = given.pop("share", 0.0)
    parameters = parameters | given.pop("parameters", {})
    begins = max(1, int(total * share)) if share else 0
    full = f"{recipe}-{name}-{seed}"
    return Story(full, recipe, seed, total, begins=begins, parameters=parameters, **{"optimizer": optimizer} | given)


def stories() -> Iterator[Story]:
    """Yield the trainings to record, in a fixed order."""
    yield from (digits("plain", seed) for seed in range(8))
    for place, schedule in enumerate(SCHEDULES):
        yield from (digits(schedule, 10 + 4 * place + each, schedule=schedule) for each in range(4))
    yield from (digits("resume", 40 + each, healthy_change="resume", share=0.4 + 0.1 * each) for each in range(3))
    yield from (digits("cold-resume", 44 + each, healthy_change="cold_resume", share=0.5) for each in range(2))
    yield from (digits("turned", 48 + each, healthy_change="turned", share=0.3 + 0.1 * each) for each in range(3))
    faults = ("learning_rate", "shuffled_labels", "bad_inputs", "bad_labels", "overflow")
    for place, fault in enumerate(faults):
        for each in range(6):
            yield digits(fault, 60 + 6 * place + each, fault=fault, share=0.3 + 0.1 * each)
    yield from (digits("vanishing_rate", 100 + each, fault="vanishing_rate", share=0.001) for each in range(3))
    few = {"epochs": 120, "batch_size": 16, "learning_rate": 0.01, "hidden": 256}
    for each in range(3):
        yield digits("few_samples", 110 + each, fault="few_samples", optimizer="adam", parameters=few)
    yield from (digits("slow_loader", 120 + each, fault="slow_loader", share=0.4 + 0.1 * each) for each in range(4))

    yield from (text("plain", seed) for seed in range(200, 203))
    for place, schedule in enumerate(SCHEDULES):
        yield from (text(schedule, 210 + 2 * place + each, schedule=schedule) for each in range(2))
    for place, fault in enumerate(faults):
        for each in range(2):
            yield text(fault, 230 + 2 * place + each, fault=fault, share=0.35 + 0.3 * each)
    few_bytes = {"epochs": 40, "learning_rate": 0.003}
    yield from (text("few_samples", 240 + each, fault="few_samples", parameters=few_bytes) for each in range(2))
    yield from (text("vanishing_rate", 250 + each, fault="vanishing_rate", share=0.001) for each in range(2))
