"""Generated curves with seeds: healthy ones that look alarming, and faults that no recipe shows quickly."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator

from bench.support.curve_files import HEALTHY, Curve, Group

STEP_S = 0.1
Values = dict[str, list[float]]
Shape = Callable[[random.Random], Curve]
# Learning rates over one cycle.
WAVES: list[Callable[[float], float]] = [
    lambda part: 1 - abs(2 * part - 1),
    lambda part: (1 - math.cos(2 * math.pi * part)) / 2,
    lambda part: (1 + math.cos(math.pi * part)) / 2,
]


def curve(name: str, kind: str, begins: int | None, values: Values, step_s: float = STEP_S) -> Curve:
    """Return a curve whose series have a point at each step from 1 on, `step_s` seconds apart."""
    steps = list(range(1, 1 + max(map(len, values.values()))))
    groups = [Group(steps, [step * step_s for step in steps], values)]
    return Curve(name, kind, begins, groups)


def falling(draw: random.Random, length: int, *, noise: float | None = None, tail: float = 0.02) -> list[float]:
    """Return a loss that falls fast and then slowly, with noise in proportion to it and outliers of 2 to 3 times it."""
    start = draw.uniform(1.5, 8)
    floor = start * draw.uniform(0.01, 0.4)
    power, scale = draw.uniform(0.4, 1.3), length * draw.uniform(0.005, 0.08)
    noise = draw.uniform(0.02, 0.3) if noise is None else noise
    values = []
    for step in range(length):
        level = floor + (start - floor) / (1 + step / scale) ** power
        values.append(level * (draw.uniform(2, 3) if draw.random() < tail else math.exp(draw.gauss(0, noise))))
    return values


def healthy_loss(draw: random.Random) -> Curve:
    return curve("loss", HEALTHY, None, {"train/loss": falling(draw, draw.choice((300, 1000, 3000)))})


def healthy_validation(draw: random.Random) -> Curve:
    epochs = draw.randint(10, 60)
    values = {
        "val_loss": falling(draw, epochs, noise=0.05, tail=0.0),
        "loss": falling(draw, epochs, noise=0.02, tail=0),
    }
    return curve("validation", HEALTHY, None, values)


def healthy_accuracy(draw: random.Random) -> Curve:
    pace = draw.uniform(20, 100)
    values = [min(1.0, 1 - 0.9 * math.exp(-step / pace) + draw.gauss(0, 0.03)) for step in range(600)]
    return curve("accuracy", HEALTHY, None, {"train/accuracy": values})


def healthy_constant(draw: random.Random) -> Curve:
    values = {
        "loss": [0.0] * 500,
        "epoch": [float(step // 50) for step in range(500)],
        "tokens": [64.0 * n for n in range(500)],
    }
    return curve("constant", HEALTHY, None, values)


def healthy_reward(draw: random.Random) -> Curve:
    pace = draw.uniform(100, 400)
    values = [200 * (1 - math.exp(-step / pace)) + draw.gauss(0, 30) - 20 for step in range(1000)]
    return curve("reward", HEALTHY, None, {"episode_reward": values})


def healthy_adversarial(draw: random.Random) -> Curve:
    period = draw.uniform(40, 120)
    values = {
        name: [1.2 + 0.6 * math.sin(step / period + shift) + draw.gauss(0, 0.15) for step in range(1000)]
        for name, shift in (("g_loss", 0.0), ("d_loss", 2.0))
    }
    return curve("adversarial", HEALTHY, None, values)


def healthy_decay(draw: random.Random) -> Curve:
    """The learning rate falls to a tenth twice; the loss falls by a third each time."""
    losses = [value * (2 / 3) ** (step // 300) for step, value in enumerate(falling(draw, 900))]
    return curve("decay", HEALTHY, None, {"loss": losses, "lr": [0.1 * 0.1 ** (step // 300) for step in range(900)]})


def healthy_restarts(draw: random.Random) -> Curve:
    """Cosine restarts, at each of which the loss rises by a tenth to a fifth.

    Half of the curves do not contain the rate.
    """
    period, bump = 250, draw.uniform(0.1, 0.2)
    rates = [0.5 * (1 + math.cos(math.pi * (step % period) / period)) for step in range(1000)]
    losses = [
        value * (1 + bump * rate * (step >= period))
        for step, (value, rate) in enumerate(zip(falling(draw, 1000, noise=0.08), rates, strict=True))
    ]
    return curve("restarts", HEALTHY, None, {"loss": losses} | ({"lr": rates} if draw.random() < 0.5 else {}))


def healthy_cycles(draw: random.Random) -> Curve:
    """The learning rate, which is not logged, follows triangles, sines or cosine restarts; at its peak the loss rises
    back by up to two fifths of its first value.

    The loss follows the rate at once or within a twentieth of the cycle.
    """
    length, start = draw.choice((600, 1000, 2000)), draw.uniform(1.5, 8)
    period, wave = length // draw.randint(3, 10), draw.choice(WAVES)
    floor, lift, noise = start * draw.uniform(0.02, 0.3), start * draw.uniform(0.05, 0.4), draw.uniform(0.02, 0.12)
    power, scale = draw.uniform(0.5, 1.2), length * draw.uniform(0.005, 0.05)
    lag = max(1.0, period * draw.uniform(0.005, 0.05))
    level, losses = start, []
    for step in range(length):
        fallen = floor + (start - floor) / (1 + step / scale) ** power
        level += (min(start, fallen + lift * wave(step % period / period)) - level) / lag
        losses.append(level * math.exp(draw.gauss(0, noise)))
    return curve("cycles", HEALTHY, None, {"loss": losses})


def healthy_warmup(draw: random.Random) -> Curve:
    """The loss stays level, or even rises by a tenth, while the learning rate rises."""
    start = draw.uniform(2, 10)
    warm = [start * (1 + 0.1 * step / 100) * math.exp(draw.gauss(0, 0.03)) for step in range(100)]
    rest = falling(draw, 900, noise=0.1)
    factor = start * 1.1 / statistics.median(rest[:5])
    return curve("warmup", HEALTHY, None, {"train_loss": [*warm, *(each * factor for each in rest)]})


def healthy_turn(draw: random.Random) -> Curve:
    """A person changes a knob at step 400; the loss rises by 40 % and falls again."""
    losses = falling(draw, 1000, noise=0.08)
    losses = [value * (1 + 0.4 * math.exp(-(step - 400) / 20) * (step >= 400)) for step, value in enumerate(losses)]
    found = curve("turn", HEALTHY, None, {"loss": losses})
    return Curve(found.name, found.kind, None, found.groups, turned=(400,))


def healthy_speed(draw: random.Random) -> Curve:
    """Speeds with slow first steps, single slow steps, and pauses for an evaluation every 100 steps."""
    values = [
        draw.gauss(1000, 60) * (0.2 if step < 5 or draw.random() < 0.02 or step % 100 == 0 else 1)
        for step in range(800)
    ]
    waits = [min(1.0, abs(draw.gauss(0.1, 0.1)) + (draw.random() < 0.03)) for _ in range(800)]
    return curve("speed", HEALTHY, None, {"speed/samples_per_second": values, "speed/data_wait_fraction": waits})


def healthy_machine(draw: random.Random) -> Curve:
    """A GPU under load: briefly hot, idle at evaluations, at its power limit, with its memory almost full."""
    length = 600
    values = {
        "train/loss": falling(draw, length),
        "gpu/0/utilisation": [0.0 if step % 120 < 20 else draw.uniform(70, 100) for step in range(length)],
        "gpu/0/temperature_c": [draw.gauss(78, 2) for _ in range(length)],
        "gpu/0/throttle_reasons": [draw.choice((0.0, 1.0, 4.0)) for _ in range(length)],
        "gpu/0/memory_total_mib": [81_559.0] * length,
        "gpu/0/memory_used_mib": [draw.uniform(74_000, 77_000) for _ in range(length)],
        "train/gradient_norm": [draw.lognormvariate(0, 1) for _ in range(length)],
    }
    return curve("machine", HEALTHY, None, values, step_s=1.0)


def nonfinite(draw: random.Random) -> Curve:
    losses, begins = falling(draw, 800), draw.randint(5, 750)
    bad = draw.choice((math.nan, math.inf, -math.inf))
    stays = draw.random() < 0.7
    losses = [bad if step == begins or (step > begins and stays) else value for step, value in enumerate(losses, 1)]
    return curve("nonfinite", "non-finite", begins, {draw.choice(("train/loss", "grad", "kl")): losses})


def spike(draw: random.Random) -> Curve:
    length = draw.choice((200, 800, 3000))
    losses, begins = falling(draw, length, noise=draw.uniform(0.02, 0.15)), draw.randint(length // 10, length - 20)
    for place in range(draw.randint(1, 8)):
        losses[begins - 1 + place] *= draw.uniform(8, 30)
    return curve("spike", "spike", begins, {"train/loss": losses})


def divergence(draw: random.Random) -> Curve:
    """The loss grows exponentially, or jumps above its first value and stays there."""
    length = draw.choice((300, 1000, 3000))
    losses, begins = falling(draw, length), draw.randint(length // 5, length * 4 // 5)
    pace, jumps = length * draw.uniform(0.01, 0.03), draw.random() < 0.4
    for step in range(begins - 1, length):
        since = step - begins + 1
        factor = draw.uniform(4, 5) if jumps else min(30.0, math.exp(since / pace))
        losses[step] *= factor
    return curve("divergence", "divergence", begins, {"train/loss": losses})


def collapse(draw: random.Random) -> Curve:
    """A policy forgets what it has learnt."""
    begins = draw.randint(400, 700)
    values = [180 * (1 - math.exp(-step / 100)) + draw.gauss(0, 15) for step in range(1000)]
    values = [value if step < begins else value * 0.1 for step, value in enumerate(values, 1)]
    return curve("collapse", "divergence", begins, {"episode_return": values})


def plateau(draw: random.Random) -> Curve:
    level, noise = draw.uniform(1, 5), draw.uniform(0.01, 0.1)
    return curve("plateau", "plateau", 1, {"loss": [level * math.exp(draw.gauss(0, noise)) for _ in range(1200)]})


def overfitting(draw: random.Random) -> Curve:
    epochs, begins = draw.randint(40, 100), draw.randint(10, 20)
    training = [2.3 * math.exp(-epoch / 8) * math.exp(draw.gauss(0, 0.03)) + 0.001 for epoch in range(1, epochs + 1)]
    rising = draw.uniform(0.02, 0.06)
    validation = [
        (0.5 + 1.8 * math.exp(-epoch / (begins / 5)) + rising * max(0, epoch - begins)) * math.exp(draw.gauss(0, 0.02))
        for epoch in range(1, epochs + 1)
    ]
    return curve("overfitting", "overfitting", begins, {"train_loss": training, "validation_loss": validation})


def stall(draw: random.Random) -> Curve:
    losses, begins = falling(draw, 300), draw.randint(50, 280)
    found = curve("stall", "stall", begins, {"loss": losses})
    (group,) = found.groups
    times = [time + (600.0 if step > begins else 0.0) for step, time in zip(group.steps, group.times, strict=True)]
    return Curve(found.name, found.kind, begins, [Group(group.steps, times, group.values)])


def throughput(draw: random.Random) -> Curve:
    begins, part, inverse = draw.randint(200, 500), draw.uniform(0.15, 0.4), draw.random() < 0.5
    speeds = [draw.gauss(1000, 80) * (part if step >= begins else 1) for step in range(1, 801)]
    values = {"speed/step_ms": [64e3 / each for each in speeds]} if inverse else {"tokens_per_second": speeds}
    return curve("throughput", "throughput", begins, values)


def data_bound(draw: random.Random) -> Curve:
    begins = draw.randint(200, 500)
    waits = [min(1.0, abs(draw.gauss(0.8 if step >= begins else 0.1, 0.1))) for step in range(1, 801)]
    return curve("data-bound", "data-bound", begins, {"speed/data_wait_fraction": waits})


def machine_fault(
    name: str, series: str, healthy: Callable[[random.Random], float], bad: float, **more: float
) -> Shape:
    def shape(draw: random.Random) -> Curve:
        begins = draw.randint(100, 400)
        values = [bad + draw.uniform(0, 0.01) * bad if step >= begins else healthy(draw) for step in range(1, 601)]
        if series.endswith("reasons"):
            values = [float(int(value)) for value in values]
        others = {other: [value] * 600 for other, value in more.items()}
        return curve(name, name, begins, {"loss": falling(draw, 600), **others, series: values}, step_s=1.0)

    return shape


def rank_lag(draw: random.Random) -> Curve:
    begins, slow = draw.randint(150, 400), draw.randrange(4)
    values = {
        f"rank/{rank}/step_ms": [
            draw.gauss(50, 4) * (2.2 if rank == slow and step >= begins else 1) for step in range(1, 601)
        ]
        for rank in range(4)
    }
    return curve("rank-lag", "rank-lag", begins, values)


# The number of curves of each shape.
SHAPES: dict[Shape, int] = {
    healthy_loss: 5,
    healthy_validation: 4,
    healthy_accuracy: 3,
    healthy_constant: 1,
    healthy_reward: 3,
    healthy_adversarial: 2,
    healthy_decay: 3,
    healthy_restarts: 4,
    healthy_warmup: 2,
    healthy_turn: 2,
    healthy_speed: 3,
    healthy_machine: 2,
    nonfinite: 5,
    spike: 9,
    divergence: 10,
    collapse: 3,
    plateau: 4,
    overfitting: 6,
    stall: 4,
    throughput: 4,
    data_bound: 2,
    machine_fault("gpu-idle", "gpu/0/utilisation", lambda draw: draw.uniform(60, 100), 0.0): 2,
    machine_fault("gpu-hot", "gpu/0/temperature_c", lambda draw: draw.gauss(70, 3), 90.0): 2,
    machine_fault("gpu-throttled", "gpu/0/throttle_reasons", lambda draw: draw.choice((0.0, 4.0)), 64.0): 2,
    machine_fault(
        "gpu-memory", "gpu/0/memory_used_mib", lambda draw: draw.uniform(50e3, 60e3), 80_600.0,
        **{"gpu/0/memory_total_mib": 81_559.0},
    ): 2,
    rank_lag: 2,
    healthy_cycles: 6,
}  # fmt: skip


def generated() -> Iterator[Curve]:
    """Yield the curves of all shapes, each from a separate seed."""
    for place, (shape, count) in enumerate(SHAPES.items()):
        for number in range(count):
            found = shape(random.Random(1000 * place + number))
            yield Curve(f"{found.name}-{number}", found.kind, found.begins, found.groups, found.turned)
