"""Train the stories of `bench/recover.py` without rules, healthy ones and those whose layer explodes, and record norms.

usage: python bench/support/record_layers.py

Writes bench/data/layers.jsonl.gz for `bench/detectors.py`: a line of JSON for each training, see `curve_files.Curve`.
The name of a curve with a fault ends with ":" and the layer that grew. Seeds are fixed. Takes about two minutes on two
cores.
"""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.recover import TRAININGS, Story, layer_of, parameters_of, stories  # noqa: E402  needs the path, as below
from bench.support.curve_files import HEALTHY, LAYERS, Curve, Group, write_curves  # noqa: E402
from bench.support.recovery import alone  # noqa: E402
from bench.support.recovery.faults import EXPLODING, Fault, Injection  # noqa: E402
from steersman.layers.watching import LayerWatch, Observation  # noqa: E402
from steersman.values.remarks import Remarks  # noqa: E402

EVERY = 10
GROWN = "weight-growth"
HEALTHY_SEEDS, GROWN_SEEDS = (1, 2, 3), (1, 2, 4, 5)


class Watching(alone.LastLoss):
    """Keeps the norms of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.observations: list[Observation] = []
        self._watch = LayerWatch(self.observations.append, end_at, keeps=True)

    def watch_layers(self, model: Any, /, *, every: int = EVERY, name: str = "") -> None:
        self._watch.add(model, EVERY, None, [])

    def log(self, step: int, /, *arguments: Any, **values: Any) -> None:  # type: ignore[override]
        super().log(step, *arguments, **values)
        self._watch.settle(step)

    def end_watch(self) -> None:
        """Remove the hooks, which are torch's global ones."""
        self._watch.end()


def end_at(remarks: Remarks) -> None:
    """End the program if the layers cannot be watched."""
    if remarks:
        sys.exit(f"the layers are not watched: {remarks}")


def record(story: Story) -> Curve:
    """Train a story, and return the norms of its layers; one step takes a tenth of a second in their times."""
    fault = Fault(story.kind, story.step, story.part, story.lasts)

    def begin(injection: Injection, batch: int) -> None:
        if batch == story.step:
            injection.begin(fault)

    Injection.before_batch = begin
    run = Watching()
    clean = parameters_of(Story(story.training, story.seed), 0)
    alone.last_loss(run, TRAININGS[story.training].spec, clean, story.seed)
    run.end_watch()
    found = [(each.step, each.values([])) for each in run.observations if each.step is not None]
    steps = [step for step, _ in found]
    values = {name: [norms[name] for _, norms in found] for name in found[0][1]}
    group = Group(steps, [step / 10 for step in steps], values)
    if not story.kind:
        return Curve(f"{story.training}-healthy-{story.seed}", HEALTHY, None, [group])
    return Curve(f"{story.training}-grown-{story.seed}:{layer_of(story)}", GROWN, story.step, [group])


def main() -> None:
    os.environ.setdefault("STEERSMAN_DATA", tempfile.mkdtemp(prefix="layers-"))
    healthy = [Story(training, seed) for training in TRAININGS for seed in HEALTHY_SEEDS]
    grown = [each for each in stories() if each.kind == EXPLODING and each.seed in GROWN_SEEDS]
    curves = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        for curve in processes.map(record, [*healthy, *sorted(grown, key=lambda each: each.name)]):
            curves.append(curve)
            print(f"{curve.name:50} {len(curve.groups[0].steps)} observations", file=sys.stderr)
    write_curves(curves, LAYERS)


if __name__ == "__main__":
    main()
