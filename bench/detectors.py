"""Measure the detectors on 200 labelled curves: faults found, delays and false alarms.

usage: python bench/detectors.py [--misses]

The norms of layers of other trainings (bench/support/record_layers.py) are judged too: those of small recipes whose
layers grow by a fault, and of healthy ones.

102 curves are recordings of real trainings (bench/support/record_curves.py); a generator makes the others. One half of
each kind, chosen by a seed, served to choose the defaults ("tuned"); the other half only checks them ("checked").

Prints one JSON object as its last line:
curves, recall           number of curves; share of the faults that a fitting detector found, at most 2 points early
recall_worst_kind        the lowest recall of a kind of fault
false_per_20_healthy     alarms per 20 healthy curves; `false_before_faults` counts alarms before a fault
median_delay_points      points of the curve until the alarm: values that are not finite, and spikes
median_delay_share       the same for divergence, as a share of the curve's length
us_per_point             CPU time of all detectors together, microseconds per point
tuned, checked           the same figures for each half
layers                   trainings with watched layers, of them those with a layer that grew by a fault, how many of
                         these faults were found, with the right layer, and the false alarms in the others and before
                         the faults; the most observations from the fault to its alarm
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.support.curve_files import HEALTHY, LAYERS, Curve, read_curves  # noqa: E402  needs the path, as what follows
from bench.support.generated_curves import generated  # noqa: E402
from runs.alerts.detectors.judge import Judge  # noqa: E402
from runs.alerts.detectors.points import Alarm, Point  # noqa: E402

SPLIT_SEED = 20
TOLERANCE_POINTS = 2
# Findings that count for a fault besides the detector of its name.
ALSO_FITS = {"divergence": {"non-finite"}}
SUDDEN = {"non-finite", "spike"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings in a curve. `delay_points` is None if no detector found its fault."""

    curve: Curve
    alarms: list[Alarm]
    early: list[Alarm]
    delay_points: float | None
    points: int
    seconds: float


def judged(curve: Curve) -> Verdict:
    judge = Judge()
    alarms: list[Alarm] = []
    turned = list(curve.turned)
    points = [Point(*each) for each in curve.points()]
    began = time.process_time()
    for point in points:
        if turned and point.step >= turned[0]:
            turned.pop(0)
            judge.turned()
        # Use the step of the report: the detector reports an outlier that came back a few points later.
        alarms += [replace(alarm, step=point.step) for alarm in judge.judge(point)]
    seconds = time.process_time() - began
    if judge.messages:
        sys.exit(f"{curve.name}: {judge.messages}")
    if curve.begins is None:
        return Verdict(curve, alarms, alarms, None, len(points), seconds)
    # Recorded curves are thinned, and the steps of epochs are far apart, so the densest series gives the length of a
    # point.
    densest = max(curve.groups, key=lambda group: len(group.steps)).steps
    spacing = (densest[-1] - densest[0]) / (len(densest) - 1)
    earliest = curve.begins - TOLERANCE_POINTS * spacing
    fitting = ALSO_FITS.get(curve.kind, set()) | {curve.kind}
    found = [alarm for alarm in alarms if alarm.step >= earliest and alarm.detector in fitting]
    delay = max(0.0, (found[0].step - curve.begins) / spacing) if found else None
    return Verdict(curve, alarms, [each for each in alarms if each.step < earliest], delay, len(points), seconds)


def figures(verdicts: Sequence[Verdict]) -> dict[str, float]:
    faults = [each for each in verdicts if each.curve.kind != HEALTHY]
    healthy = [each for each in verdicts if each.curve.kind == HEALTHY]
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for each in faults:
        by_kind[each.curve.kind].append(each.delay_points is not None)
    delays = [(each.curve, each.delay_points) for each in faults if each.delay_points is not None]
    return {
        "curves": len(verdicts),
        "recall": rounded(statistics.mean(each.delay_points is not None for each in faults)),
        "recall_worst_kind": rounded(min(statistics.mean(found) for found in by_kind.values())),
        "false_per_20_healthy": rounded(20 * sum(len(each.early) for each in healthy) / len(healthy)),
        "false_before_faults": sum(len(each.early) for each in faults),
        "median_delay_points": rounded(statistics.median(delay for curve, delay in delays if curve.kind in SUDDEN)),
        "median_delay_share": rounded(
            statistics.median(delay / curve.length for curve, delay in delays if curve.kind == "divergence")
        ),
        "us_per_point": rounded(sum(each.seconds for each in verdicts) / sum(each.points for each in verdicts) * 1e6),
    }


def of_layers(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Return the figures of trainings whose layers were watched."""
    grown = [each for each in verdicts if each.curve.kind != HEALTHY]
    right = [each for each in grown for alarm in each.alarms[:1] if alarm.series.endswith(f"/{layer_of(each.curve)}")]
    return {
        "trainings": len(verdicts),
        "faults": len(grown),
        "found": sum(each.delay_points is not None for each in grown),
        "right_layer": len(right),
        "false_alarms": sum(len(each.early) for each in verdicts),
        "most_observations": max(math.ceil(each.delay_points or 0) for each in grown),
    }


def layer_of(curve: Curve) -> str:
    """Return the layer that grew by the fault of a recorded training."""
    return curve.name.partition(":")[2]


def rounded(value: float) -> float:
    return round(value, 4)


def halves(curves: Sequence[Curve]) -> tuple[set[str], set[str]]:
    """Return the names of the curves used for tuning, and of those used for checking: a half of each kind."""
    draw = random.Random(SPLIT_SEED)
    tuned: set[str] = set()
    for kind in sorted({curve.kind for curve in curves}):
        names = [curve.name for curve in curves if curve.kind == kind]
        tuned.update(draw.sample(names, len(names) // 2))
    return tuned, {curve.name for curve in curves} - tuned


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--misses", action="store_true", help="name the faults of the tuned half that were not found")
    show = parser.parse_args().misses
    curves = [*read_curves(), *generated()]
    verdicts = [judged(curve) for curve in curves]
    tuned, checked = halves(curves)
    if show:
        for each in verdicts:
            wrong = bool(each.early) or (each.curve.kind != HEALTHY and each.delay_points is None)
            if wrong and each.curve.name in tuned:
                alarms = [(alarm.detector, alarm.series, alarm.step) for alarm in each.alarms]
                print(f"{each.curve.name}: {each.curve.kind} at {each.curve.begins}, found {alarms}", file=sys.stderr)
    parts = {
        name: figures([each for each in verdicts if each.curve.name in half])
        for name, half in (("tuned", tuned), ("checked", checked))
    }
    layers = of_layers([judged(curve) for curve in read_curves(LAYERS)])
    print(json.dumps(figures(verdicts) | parts | {"layers": layers}))


if __name__ == "__main__":
    main()
