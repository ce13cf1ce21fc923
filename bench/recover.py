"""How many trainings recover by themselves from injected faults, with the recovery rules that the page offers.

usage: python bench/recover.py [--faults N] [--at-once N] [--misses]

Every run is a real training under a real supervisor: processes, journal, detectors, rules, commands and rollbacks are
those of the product. Four trainings (digits, MNIST and the Transformer as recipes, and one script of its own) are small
enough to end in seconds on a CPU. No step is shorter than 15 ms, so that their steps are as far apart as those of
larger ones. Each is trained with five seeds: without a fault, and with five kinds of fault at a random step, with the
rules and without them. Workers are forks of a process that has loaded torch, because loading it takes longer than some
of these trainings (`bench/support/recovery/warm.py`). Without rules nothing acts on a training, so it needs no
supervisor, and is trained once up to where each of its faults begins (`bench/support/recovery/alone.py`).

`bench/support/recovery/faults.py` causes the faults: a gradient that is not finite; a learning rate × 100; five corrupt
batches, which for every other seed are in the data of the recipes and return when it is read again; a layer whose
weights grow; an attempt that resumes with its weights in the wrong order. The last seed is held out: nothing was chosen
by it. `--faults` takes N of the 100 faults, spread over the kinds. `--at-once` is how many train at the same time: most
of a step is a pause, so there are three per core. The figures are those of a machine that does nothing else: on a busy
one, short trainings end before a command reaches them.

Prints a line on stderr for each training that has ended, and one JSON object as its last line:
faults                   runs with a fault
recovered                of them, those that ended with a validation loss of at most 1.02 times that of the run with
                         the same seed without a fault, with the rules on (aim: 95 of 100)
recovered_without        the same with the rules off
false_roll_backs         rollbacks in runs without a fault, and before the fault of the others (aim: 0)
clean_runs               runs without a fault
median_steps_lost        steps that a recovered run trained twice: the median of the runs with a rollback (aim: 200)
layer_right              share of the layers that grew which an alert of the run named (aim: 0.95)
step_ratio_watch_layers  of `bench/costs/watch_layers.py`, on the CPU (aim: 1.01)
by_kind, by_training     recovered with the rules, without them, and runs
tuned, held_out          recovered and runs of the first four seeds, and of the last one
seconds                  how long all of it took
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.stack import Stack, last_json  # noqa: E402  needs the path

SEEDS, HELD_OUT = (1, 2, 3, 4, 5), 5
KINDS = ("non_finite", "rate", "corrupt_batches", "exploding_layer", "bad_restart")
# The fault begins in this part of the training.
EARLIEST, LATEST = 0.5, 0.75
WITHIN = 1.02
STEP_MS = 15
TIMEOUT_S = 240.0
# Several wait in each other's pauses.
AT_ONCE = 3 * (os.cpu_count() or 1)
SCRIPT = "script"
# The last validation loss of a training and seed without a fault.
Usual = dict[tuple[str, int], float]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Training:
    """A recipe with its parameters, or the script; `steps` is its length."""

    spec: str
    steps: int
    parameters: dict[str, Any] = field(default_factory=dict)


PLACE = "bench.support.recovery.recipes"
TRAININGS = {
    "digits": Training(f"{PLACE}:FaultyDigits", 630, {"epochs": 14, "batch_size": 32}),
    "mnist": Training(f"{PLACE}:FaultyMnist", 630, {"epochs": 10, "batch_size": 64, "width": 4}),
    "transformer": Training(
        f"{PLACE}:FaultyTransformer",
        648,
        {"epochs": 8, "batch_size": 32, "context": 32, "layers": 1, "heads": 2, "head_width": 16, "sample_length": 0},
    ),
    SCRIPT: Training("", 640),
}


@dataclass(frozen=True, slots=True)
class Story:
    """A training with a seed and a fault; "" is none. The fault begins at `step`, in the layer at `part` of the
    model."""

    training: str
    seed: int
    kind: str = ""
    step: int = 0
    part: float = 0.0
    lasts: bool = False

    @property
    def is_held_out(self) -> bool:
        return self.seed == HELD_OUT

    @property
    def name(self) -> str:
        return f"{self.training} {self.kind or 'clean'} {self.seed}"


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a story: its last validation loss, its rollbacks, and the layers that its alerts named."""

    story: Story
    run_id: int
    loss: float
    roll_backs: tuple[tuple[int, int], ...]
    layers: tuple[str, ...]
    alerts: tuple[str, ...]

    def __str__(self) -> str:
        backs = ", ".join(f"{left} → {step}" for left, step in self.roll_backs)
        return f"loss {self.loss:.4f}, rolled back: {backs or 'never'}"

    @property
    def steps_lost(self) -> int:
        return sum(left - step for left, step in self.roll_backs)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=int, default=100, help="how many of the 100 faults")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="how many train at the same time")
    parser.add_argument("--misses", action="store_true", help="print the runs that did not recover")
    asked = parser.parse_args()
    began = time.monotonic()
    faulty = chosen(asked.faults)
    clean = [Story(training, seed) for training, seed in sorted({(each.training, each.seed) for each in faulty})]
    with Stack() as stack:
        stack.forks = True
        stack.warm = "bench.support.recovery.warm"
        stack.migrate()
        stack.start_redis()
        stack.use()
        prepare()
        with ThreadPoolExecutor(asked.at_once) as pool:
            ended = list(told([*clean, *faulty], pool.map(lambda story: trained(stack, story), [*clean, *faulty])))
    unruled = trained_alone(faulty, min(asked.at_once, os.cpu_count() or 1))
    usual = {(each.story.training, each.story.seed): each.loss for each in ended[: len(clean)]}
    ruled = ended[len(clean) :]
    if asked.misses:
        show_misses(ruled, unruled, usual)
    found = figures(ended[: len(clean)], ruled, unruled, usual)
    found["step_ratio_watch_layers"] = step_ratio()
    print(json.dumps(found | {"seconds": round(time.monotonic() - began)}))
    return 0


def told(trained: Sequence[Story], results: Iterable[Found]) -> Iterator[Found]:
    """Yield the results of stories; print each on stderr when it is there."""
    began = time.monotonic()
    for number, (story, result) in enumerate(zip(trained, results, strict=True), 1):
        what = f"without rules: loss {result:.4f}" if isinstance(result, float) else str(result)
        print(f"{number}/{len(trained)} {time.monotonic() - began:.0f} s: {story.name}: {what}", file=sys.stderr)
        yield result


def stories() -> list[Story]:
    """Return the 100 faults, those of all kinds and trainings mixed."""
    found = []
    for seed in SEEDS:
        for name, training in TRAININGS.items():
            for kind in KINDS:
                chance = random.Random(f"{seed} {name} {kind}")
                step = chance.randint(int(EARLIEST * training.steps), int(LATEST * training.steps))
                # A script has no position in its data.
                lasts = kind == "corrupt_batches" and name != SCRIPT and bool(seed % 2)
                found.append(Story(name, seed, kind, step, chance.random(), lasts))
    return random.Random(1).sample(found, len(found))


def chosen(count: int) -> list[Story]:
    """Return `count` of the stories, as many of each kind as possible."""
    found = stories()
    places = {each: sum(other.kind == each.kind for other in found[:place]) for place, each in enumerate(found)}
    return sorted(found, key=lambda each: places[each])[:count]


def prepare() -> None:
    """Make a project with the rules that the page offers, switched from dry run to acting."""
    from runs.alerts.rules import RECOVERED, recovery_rule
    from runs.models import AlertRule, Project
    from runs.recording.alert_rules import fields_of
    from trainer.control.publish import publish

    project = Project.objects.create(name="Recovery", slug="recovery")
    for detector in RECOVERED:
        fields = fields_of(recovery_rule(detector)) | {"dry_run": False}
        AlertRule.objects.create(project=project, detector=detector, **fields)
    for training in TRAININGS.values():
        if training.spec:
            publish(training.spec)


def trained(stack: Stack, story: Story) -> Ended:
    """Train a story to its end, and read what was recorded of it."""
    from django.db import connection

    try:
        run_id = create(story)
        words: tuple[str, ...] = ("--quiet",)
        if story.training == SCRIPT:
            arguments = (
                story.kind or "none", story.step, story.part, int(story.lasts), story.seed, STEP_MS,
            )  # fmt: skip
            words += ("--", "-m", "bench.support.recovery.script", *map(str, arguments))
        for _ in range(2 if story.kind == "bad_restart" else 1):
            code = stack.train(run_id, *words, cwd=ROOT).wait(TIMEOUT_S)
            if code:
                print(f"run {run_id} ({story}) exited {code}\n{stack.log()}", file=sys.stderr)
        return read(story, run_id)
    finally:
        connection.close()


def trained_alone(faulty: Sequence[Story], at_once: int) -> list[float]:
    """Return the last validation losses of stories without rules."""
    pairs = sorted({(each.training, each.seed) for each in faulty})
    together = [[each for each in faulty if (each.training, each.seed) == pair] for pair in pairs]
    with ProcessPoolExecutor(at_once, get_context("spawn")) as processes:
        losses = (loss for found in processes.map(trained_together, together) for loss in found)
        ordered = [each for stories in together for each in stories]
        of_story = dict(zip(ordered, told(ordered, losses), strict=True))
    return [of_story[each] for each in faulty]


def trained_together(faulty: Sequence[Story]) -> list[float]:
    """Return the last validation losses of stories of one training and seed without rules."""
    from bench.support.recovery.alone import last_losses
    from bench.support.recovery.faults import Fault

    first = faulty[0]
    faults = [Fault(each.kind, each.step, each.part, each.lasts) for each in faulty]
    clean = parameters_of(Story(first.training, first.seed), 0)
    return last_losses(TRAININGS[first.training].spec, clean, faults, first.seed)


def parameters_of(story: Story, step_ms: int) -> dict[str, Any]:
    """Return the parameters of a recipe's story."""
    return TRAININGS[story.training].parameters | {
        "fault": story.kind, "fault_step": story.step, "fault_part": story.part, "fault_lasts": story.lasts,
        "step_ms": step_ms, "watch_layers": 10, "threads": 1,
    }  # fmt: skip


def create(story: Story) -> int:
    from runs.models import Project, Recipe, Run

    training = TRAININGS[story.training]
    fields: dict[str, Any] = {}
    if training.spec:
        fields = {"recipe": Recipe.objects.get(spec=training.spec), "parameters": parameters_of(story, STEP_MS)}
    run = Run.objects.create(project=Project.objects.get(), name=story.name, seed=story.seed, device="cpu", **fields)
    return run.pk


def read(story: Story, run_id: int) -> Ended:
    from runs.models import Alert, Command, EpochMetric, Run
    from runs.recording.checkpoints import FAULTS

    run = Run.objects.get(pk=run_id)
    last = EpochMetric.objects.filter(run=run, abandoned=False).order_by("-step").first()
    loss = last.validation_loss if last is not None and run.state == "finished" else None
    applied = Command.objects.filter(run=run, kind="roll_back", state="applied").order_by("applied_at")
    alerts = Alert.objects.filter(run=run, detector__in=FAULTS).order_by("began_at", "pk")
    return Ended(
        story,
        run_id,
        math.inf if loss is None else loss,
        tuple((each.old_value["step"], each.new_value["step"]) for each in applied),
        tuple(each.cause["layer"] for each in alerts if each.cause.get("kind") == "layer"),
        tuple(f"{each.detector} {each.series} {each.step} {each.action_text or each.held_back}" for each in alerts),
    )


def is_recovered(story: Story, loss: float, usual: Usual) -> bool:
    return loss <= WITHIN * usual[story.training, story.seed]


def figures(clean: Sequence[Ended], ruled: Sequence[Ended], unruled: Sequence[float], usual: Usual) -> dict[str, Any]:
    results = [
        (each.story, is_recovered(each.story, each.loss, usual), is_recovered(each.story, loss, usual))
        for each, loss in zip(ruled, unruled, strict=True)
    ]

    def part(**fields: Any) -> list[int]:
        found = [each for each in results if all(getattr(each[0], name) == value for name, value in fields.items())]
        return [sum(with_rules for _, with_rules, _ in found), sum(without for *_, without in found), len(found)]

    early = sum(left < each.story.step for each in ruled for left, _ in each.roll_backs)
    lost = [each.steps_lost for each in ruled if each.roll_backs and is_recovered(each.story, each.loss, usual)]
    grew = [each for each in ruled if each.story.kind == "exploding_layer"]
    named = sum(layer_of(each.story) in each.layers[:1] for each in grew)
    return {
        "faults": len(ruled),
        "recovered": part()[0],
        "recovered_without": part()[1],
        "false_roll_backs": early + sum(len(each.roll_backs) for each in clean),
        "clean_runs": len(clean),
        "median_steps_lost": statistics.median(lost) if lost else None,
        "layer_right": round(named / len(grew), 3) if grew else None,
        "by_kind": {kind: part(kind=kind) for kind in KINDS},
        "by_training": {name: part(training=name) for name in TRAININGS},
        "tuned": part(is_held_out=False),
        "held_out": part(is_held_out=True),
    }


def layer_of(story: Story) -> str:
    """Return the name of the layer in which the fault of a story begins."""
    import torch

    from bench.support.recovery import script
    from bench.support.recovery.faults import layer_name
    from trainer.worker.recipe import load_recipe

    training = TRAININGS[story.training]
    if not training.spec:
        return layer_name(story.part, script.network(64, 1))
    recipe = load_recipe(training.spec)(training.parameters, device=torch.device("cpu"))
    recipe.build()
    return layer_name(story.part, recipe.model)


def show_misses(ruled: Sequence[Ended], unruled: Sequence[float], usual: Usual) -> None:
    for one, without in zip(ruled, unruled, strict=True):
        story = one.story
        expected = usual[story.training, story.seed]
        grew = story.kind == "exploding_layer" and layer_of(story) not in one.layers[:1]
        recovered = is_recovered(story, one.loss, usual)
        if grew or not recovered:
            print(
                f"{'recovered' if recovered else 'MISSED'} {story} loss {one.loss:.4f} without "
                f"{without:.4f} usual {expected:.4f} rolled back {one.roll_backs} layers {one.layers} "
                f"of {layer_of(story)} alerts {one.alerts}",
                file=sys.stderr,
            )


def step_ratio() -> float:
    command = [sys.executable, str(ROOT / "bench" / "costs" / "watch_layers.py"), "--device", "cpu"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return float(last_json(printed)["step_ratio_watch_layers"])


if __name__ == "__main__":
    sys.exit(main())
