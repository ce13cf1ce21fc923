"""Measure what `run.watch_layers(model, every=50)` costs a training: blocks of steps with it and without.

usage: python bench/costs/watch_layers.py [--device cpu] [--every 50] [--pairs 30]

The model is a small language model of 12 blocks. In blocks of steps without the watch its hooks stay, but measure
nothing. A block has as many steps as lie between two observations, so each block with the watch has one observation.

Prints one JSON object as its last line:
device                    device of the training
layers, parameters        size of the model
step_ms                   time of a step without the watch: the median over blocks
observation_ms            time of one observation: the median difference of a pair of blocks
step_ratio_watch_layers   step time with the watch divided by step time without: the median of the pairs
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402  needs the path, as what follows
from torch import nn  # noqa: E402

import steersman  # noqa: E402


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


def block_s(
    run: steersman.Run, model: nn.Module, optimizer: torch.optim.Optimizer, first: int, steps: int, batch: int
) -> float:
    """Return the seconds that `steps` steps take, including the work of the device."""
    device = next(model.parameters()).device
    began = time.perf_counter()
    for step in range(first + 1, first + steps + 1):
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=30)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Model(512 if device.type == "cuda" else 64).to(device)
    batch = 32 if device.type == "cuda" else 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    times: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEERSMAN_ATTEMPT_FOLDER"] = folder
        run = steersman.attach()
        run.watch_layers(model, every=asked.every)
        watch = run._layers
        assert watch is not None
        models, step = watch._models, 0
        for pair in range(asked.pairs + 1):
            # The order alternates from pair to pair.
            for watches in (True, False) if pair % 2 else (False, True):
                watch._models = models if watches else []
                took = block_s(run, model, optimizer, step, asked.every, batch)
                step += asked.every
                # The first pair fills caches, so it does not count.
                times[watches] += [took] * bool(pair)
        run.finish()
    pairs = list(zip(times[True], times[False], strict=True))
    found = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "layers": len({name.rpartition(".")[0] for name, _ in model.named_parameters()}),
        "parameters": sum(each.numel() for each in model.parameters()),
        "step_ms": round(statistics.median(times[False]) / asked.every * 1e3, 3),
        "observation_ms": round(statistics.median(one - other for one, other in pairs) * 1e3, 3),
        "step_ratio_watch_layers": round(statistics.median(one / other for one, other in pairs), 4),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
