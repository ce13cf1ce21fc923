"""A script that prints its configuration when it attaches and later, and accepts --out=PATH."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import NamedTuple

import steersman


class Betas(NamedTuple):
    first: float
    second: float


@dataclass
class Optimizer:
    name: str
    betas: Betas
    hub_token: str

    @property
    def lr(self) -> float:
        raise RuntimeError("no field")


parser = argparse.ArgumentParser()
parser.add_argument("--out", default="")
parser.add_argument("--lr", type=float, default=0.1)
arguments = parser.parse_args()
run = steersman.attach(**vars(arguments), layers=[64, 64], api_key="hf_abcdefghijklmnopqrstuv1234")
run.configure({"lr": 0.3, "data": {"root": arguments.out, "password": "correct-horse-battery-9"}})
run.configure(argparse.Namespace(seed=7, optimizer=Optimizer("adamw", Betas(0.9, 0.95), "correct-horse-battery-9")))
run.configure(Betas(0.8, 0.9))
run.configure(Optimizer)
run.configure("no mapping")
for step in range(1, 20):
    run.log(step, loss=1 / step)
    time.sleep(0.01)
