"""The message about a training that does not read commands, for the terminal of its host and for viewers."""

from __future__ import annotations

from steersman.marked_text import gettext_noop

NOT_LOOKING = gettext_noop(
    "The training does not read run.stopping, so commands wait. To end the training, end its process."
)
LOOKS_AGAIN = gettext_noop("The training reads run.stopping again.")
