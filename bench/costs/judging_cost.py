"""Measure what the detectors cost a training on the same host when they run in a separate process.

usage: python bench/costs/judging_cost.py [--series 16] [--steps-per-second 50] [--rounds 20]

One process times steps of fixed work. Another process passes ticks of 80 ms to the detectors in one round and skips
them in the next. Nothing is stored.

Prints one JSON object as its last line:
points_per_second   points of all series together
rounds              pairs of rounds
step_ratio          step time with the detectors divided by step time without: the median of the pairs
us_per_point        CPU time of the detectors, microseconds per point; `train` judges at most 50 a series and second
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from steersman.agent.machine.redactor import Redactor  # noqa: E402  needs the path, as what follows
from steersman.records.kinds import PointRecord  # noqa: E402
from steersman.records.point_blocks import in_blocks  # noqa: E402

ROUND_S = 0.5
TICK_S = 0.08
WORK = 20_000


def judge_rounds(orders: Connection, series: int, steps_per_second: int, data: str) -> None:
    """Receive, for each round, whether to judge in it; reply with CPU seconds and points at its end."""
    os.environ |= {"DJANGO_SETTINGS_MODULE": "monitor_site.settings", "STEERSMAN_DATA": data}
    django.setup()
    from steersman.agent.reporting.redacted_records import SeriesNames
    from trainer.alerts.judging import Batch, RunJudge

    draw, judge, step = random.Random(1), RunJudge(SeriesNames(Redactor(Path("/data"), Path("/code"), {}))), 0
    names = [f"train/{number}/loss" for number in range(series)]
    while (judges := orders.recv()) is not None:
        ends, spent, count = time.perf_counter() + ROUND_S, 0.0, 0
        while time.perf_counter() < ends:
            records = []
            for _ in range(max(1, round(steps_per_second * TICK_S))):
                step += 1
                level = 0.3 + 2 / (1 + step / 500)
                values = {name: level * math.exp(draw.gauss(0, 0.05)) for name in names}
                records.append(PointRecord(step=step, time=step / steps_per_second, values=values))
            count += series * len(records)
            if judges:
                began = time.process_time()
                for point in judge.points(Batch(records=in_blocks(records))):
                    judge.see(point, point.time)
                spent += time.process_time() - began
            time.sleep(TICK_S)
        orders.send((spent, count))


def step_time() -> float:
    """Return the mean time of a step over a round, in seconds."""
    began = time.perf_counter()
    steps = 0
    while time.perf_counter() - began < ROUND_S:
        sum(range(WORK))
        steps += 1
    return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=16)
    parser.add_argument("--steps-per-second", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    orders, theirs = context.Pipe()
    folder = tempfile.TemporaryDirectory()
    arguments = (theirs, asked.series, asked.steps_per_second, folder.name)
    beside = context.Process(target=judge_rounds, args=arguments, daemon=True)
    beside.start()
    ratios, spent, points = [], 0.0, 0
    for pair in range(asked.rounds + 1):
        times: dict[bool, float] = {}
        # The order alternates from pair to pair.
        for judges in (True, False) if pair % 2 else (False, True):
            orders.send(judges)
            times[judges] = step_time()
            seconds, count = orders.recv()
            # The first pair imports modules and fills caches, so it does not count.
            spent, points = spent + seconds * bool(pair), points + count * judges * bool(pair)
        ratios += [times[True] / times[False]] * bool(pair)
    orders.send(None)
    beside.join(10)
    folder.cleanup()
    found = {
        "points_per_second": asked.series * asked.steps_per_second,
        "rounds": asked.rounds,
        "step_ratio": round(statistics.median(ratios), 4),
        "us_per_point": round(spent / points * 1e6, 3),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
