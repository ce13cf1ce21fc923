"""Chooses the detectors of a series, by what it measures."""

from __future__ import annotations

import re

from runs.alerts.detectors import limits
from runs.alerts.detectors.kinds import is_validation
from runs.alerts.detectors.losses import Divergence, NonFinite, Plateau
from runs.alerts.detectors.overfitting import Overfitting
from runs.alerts.detectors.pace import Throughput
from runs.alerts.detectors.seen import Seen, SeriesDetector
from runs.alerts.detectors.spikes import Spike, SpikeDefaults

GPU_SERIES = re.compile(r"gpu/(?P<gpu>[^/]+)/(?P<what>\w+)$")
RANK_SERIES = re.compile(r"(?:^|/)ranks?[/_-]?(\d+)/")
GPU_IDLE = "gpu-idle"
# Twice the usual band, because such losses rise and fall in healthy trainings.
FREE_SPIKE = SpikeDefaults(
    deviations=20.0, log_deviations=8.0, ratio=5.0, ratio_at_start=5.0, of_fall=0.2, beyond_outliers=3.0
)


def detectors_of(seen: Seen) -> list[SeriesDetector]:
    """Return new detectors for a series: those that judge it alone, and `Overfitting` for a validation loss."""
    if seen.kind == "layer":
        # Hundreds of series: `Judge` compares those of weights with one another, and only these raise an alarm.
        return []
    found: list[SeriesDetector] = [NonFinite(gradient=seen.kind == "gradient")]
    if seen.kind == "loss":
        divergence = Divergence()
        found += [Spike(), divergence, Plateau(divergence)]
        if is_validation(seen.series):
            found.append(Overfitting())
    elif seen.kind == "free_loss":
        found.append(Spike(FREE_SPIKE))
    elif seen.kind == "score":
        divergence = Divergence()
        found += [divergence, Plateau(divergence)]
    elif seen.kind in ("speed", "duration"):
        # The step times of ranks are only compared with one another; the speed of the run shows a slowdown.
        found += [] if RANK_SERIES.search(seen.series) else [Throughput()]
    elif seen.kind == "data_wait":
        found.append(limits.Limit("data-bound", limits.DATA_BOUND))
    elif seen.kind == "machine":
        found += of_machine(seen.series)
    return found


def of_machine(series: str) -> list[SeriesDetector]:
    """Return the detectors of a GPU's series. `Judge` compares its memory with the total."""
    gpu = GPU_SERIES.match(series)
    what = gpu["what"] if gpu else ""
    if what == "utilisation":
        return [limits.Limit(GPU_IDLE, limits.GPU_IDLE)]
    if what == "temperature_c":
        return [limits.Limit("gpu-hot", limits.GPU_HOT)]
    if what == "throttle_reasons":
        return [limits.Limit("gpu-throttled", limits.GPU_THROTTLED, measure=limits.harmful)]
    return []
