"""Measure what `run.watch_layers(model, every=50)` costs a training: the steps with an observation against the others.

usage: python bench/costs/watch_layers.py [--device cpu] [--every 50] [--observations 40]

The model is a small language model of 12 blocks. The speed of a machine changes within seconds, so a step is compared
with those just before and after it: an observation costs what its step and the `AFTER` next ones, in which it is
written to the journal, take longer than the median of the other steps between two observations. Each step includes the
work of the device.

Prints one JSON object as its last line:
device                    device of the training
layers, parameters        size of the model
step_ms                   time of a step without an observation: the median
observation_ms            time of one observation: the median
step_ratio_watch_layers   step time with the watch divided by step time without: the median over the observations
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402  needs the path, as what follows
from torch import nn  # noqa: E402

import steersman  # noqa: E402

# The steps after an observation whose time counts as its own.
AFTER = 3


class Model(nn.Module):
    """A causal transformer of width `size`."""

    def __init__(self, size: int, blocks: int = 12, words: int = 512) -> None:
        super().__init__()
        self.words = nn.Embedding(words, size)
        layer = nn.TransformerEncoderLayer(size, 4, 4 * size, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
        self.head = nn.Linear(size, words)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        return self.head(self.blocks(self.words(tokens), mask=mask, is_causal=True))


def step_s(run: steersman.Run, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, batch: int) -> float:
    """Return the seconds that a step takes, including the work of the device."""
    device = next(model.parameters()).device
    began = time.perf_counter()
    tokens = torch.randint(0, 512, (batch, 64), device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    run.log(step, loss=loss)
    assert not run.stopping
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def costs(seconds: list[float], every: int) -> Iterator[tuple[float, float]]:
    """Yield the cost of each observation and the usual time of the steps around it, both in seconds.

    `seconds` are the times of steps 1, 2, …; every step whose number is a multiple of `every` has an observation.
    """
    half = every // 2
    for observed in range(every - 1, len(seconds) - half, every):
        with_it = seconds[observed : observed + 1 + AFTER]
        others = seconds[observed - half : observed] + seconds[observed + 1 + AFTER : observed + half]
        usual = statistics.median(others)
        yield sum(with_it) - usual * len(with_it), usual


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--observations", type=int, default=40)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Model(512 if device.type == "cuda" else 64).to(device)
    batch = 32 if device.type == "cuda" else 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEERSMAN_ATTEMPT_FOLDER"] = folder
        run = steersman.attach()
        run.watch_layers(model, every=asked.every)
        # The first observation fills caches, so it does not count.
        steps = (asked.observations + 2) * asked.every
        seconds = [step_s(run, model, optimizer, step, batch) for step in range(1, steps + 1)]
        run.finish()
    found_costs = list(costs(seconds, asked.every))[1:]
    found = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "layers": len({name.rpartition(".")[0] for name, _ in model.named_parameters()}),
        "parameters": sum(each.numel() for each in model.parameters()),
        "step_ms": round(statistics.median(usual for _, usual in found_costs) * 1e3, 3),
        "observation_ms": round(statistics.median(cost for cost, _ in found_costs) * 1e3, 3),
        "step_ratio_watch_layers": round(
            statistics.median(1 + cost / (usual * asked.every) for cost, usual in found_costs), 4
        ),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
