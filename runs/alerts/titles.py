"""What an alert of each detector is called, and what it means."""

from __future__ import annotations

from runs.alerts.rules import CRASH, DISK, LOST, RESTART
from steersman.marked_text import gettext_noop

# By detector: the title, then what it means in a sentence.
TITLES: dict[str, tuple[str, str]] = {
    "non-finite": (gettext_noop("Not finite"), gettext_noop("A value is NaN or infinite.")),
    "spike": (gettext_noop("Spike"), gettext_noop("The loss jumped far above what was usual.")),
    "divergence": (gettext_noop("Divergence"), gettext_noop("It gets worse instead of better.")),
    "plateau": (gettext_noop("Plateau"), gettext_noop("It has not improved for long.")),
    "overfitting": (
        gettext_noop("Overfitting"),
        gettext_noop("The validation loss rises while the training loss falls."),
    ),
    "throughput": (gettext_noop("Slower"), gettext_noop("Speed fell below half of what was usual.")),
    "stall": (gettext_noop("Stalled"), gettext_noop("No step for far longer than usual.")),
    "rank-lag": (gettext_noop("A rank lags"), gettext_noop("Steps of this rank take longer than those of the others.")),
    "data-bound": (gettext_noop("Waits for data"), gettext_noop("Most of the time goes into waiting for data.")),
    "gpu-idle": (gettext_noop("GPU idle"), gettext_noop("The GPU hardly works while the training runs.")),
    "gpu-hot": (gettext_noop("GPU hot"), gettext_noop("The GPU is close to where it slows itself down.")),
    "gpu-throttled": (gettext_noop("GPU throttled"), gettext_noop("The GPU slows down because of heat or power.")),
    "gpu-memory": (gettext_noop("GPU memory nearly full"), gettext_noop("Little is left of the memory of the GPU.")),
    CRASH: (gettext_noop("Crashed"), gettext_noop("An attempt has failed.")),
    RESTART: (gettext_noop("Started again"), gettext_noop("The training starts again after a failure.")),
    LOST: (gettext_noop("Lost"), gettext_noop("Nothing is heard of the run.")),
    DISK: (gettext_noop("Disk nearly full"), gettext_noop("The disk that the run writes to is nearly full.")),
    "threshold": (gettext_noop("Beyond its limit"), gettext_noop("The value is beyond the limit that was set.")),
}


def title_of(detector: str) -> tuple[str, str]:
    """Return title and meaning; a detector without an entry is its own title."""
    return TITLES.get(detector, (detector, ""))
