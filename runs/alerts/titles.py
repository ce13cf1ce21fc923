"""The title of the alerts of each detector, and their meaning."""

from __future__ import annotations

from runs.alerts.rules import CRASH, DISK, LOST, RESTART
from steersman.marked_text import gettext_noop

# By detector: the title, and a sentence about its meaning.
TITLES: dict[str, tuple[str, str]] = {
    "non-finite": (gettext_noop("Not finite"), gettext_noop("A value is NaN or infinite.")),
    "spike": (gettext_noop("Spike"), gettext_noop("The loss jumped far above its usual level.")),
    "divergence": (gettext_noop("Divergence"), gettext_noop("The metric gets worse instead of better.")),
    "weight-growth": (
        gettext_noop("Weights grew"),
        gettext_noop("The weights of a layer grew far beyond their usual size."),
    ),
    "plateau": (gettext_noop("Plateau"), gettext_noop("The metric has not improved for a long time.")),
    "overfitting": (
        gettext_noop("Overfitting"),
        gettext_noop("The validation loss rises while the training loss falls."),
    ),
    "throughput": (gettext_noop("Slower"), gettext_noop("The speed fell below half of the usual speed.")),
    "stall": (gettext_noop("Stalled"), gettext_noop("No step was completed for far longer than usual.")),
    "rank-lag": (gettext_noop("Slow rank"), gettext_noop("This rank takes longer per step than the others.")),
    "data-bound": (
        gettext_noop("Waiting for data"),
        gettext_noop("The training spends most of its time waiting for data."),
    ),
    "gpu-idle": (gettext_noop("GPU idle"), gettext_noop("The GPU is almost idle while the training runs.")),
    "gpu-hot": (gettext_noop("GPU hot"), gettext_noop("The GPU is close to the temperature at which it throttles.")),
    "gpu-throttled": (gettext_noop("GPU throttled"), gettext_noop("The GPU is throttled because of heat or power.")),
    "gpu-memory": (gettext_noop("GPU memory nearly full"), gettext_noop("Almost all memory of the GPU is in use.")),
    CRASH: (gettext_noop("Crashed"), gettext_noop("An attempt has failed.")),
    RESTART: (gettext_noop("Started again"), gettext_noop("The training restarted after a failure.")),
    LOST: (gettext_noop("Lost"), gettext_noop("The run sends no heartbeats.")),
    DISK: (gettext_noop("Disk nearly full"), gettext_noop("The disk that the run writes to is almost full.")),
    "threshold": (gettext_noop("Beyond its limit"), gettext_noop("The value is beyond the limit.")),
}


def title_of(detector: str) -> tuple[str, str]:
    """Return title and meaning; a detector without an entry is its own title."""
    return TITLES.get(detector, (detector, ""))
