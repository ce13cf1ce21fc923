"""Steersman in a training process: three lines join any PyTorch script to the portal.

run = steersman.attach()
run.log(step, loss=loss)
if run.stopping: break

A notebook, or a script that nobody supervises, begins with steersman.start() instead.

Imports only the standard library (and torch if the training has loaded it). The supervisor is in `steersman.agent`.
"""

from steersman.attaching import attach, start
from steersman.checkpoints.saved import SavedCheckpoint
from steersman.commands import Done, Refusal
from steersman.files.checkpoint import Damaged
from steersman.knobs import Knob
from steersman.run import Run
from steersman.spec import SpecError

__version__ = "0.1.0"

__all__ = [
    "Damaged",
    "Done",
    "Knob",
    "Refusal",
    "Run",
    "SavedCheckpoint",
    "SpecError",
    "__version__",
    "attach",
    "start",
]
